//! How the outside is reached.

use std::net::SocketAddr;
use std::path::PathBuf;

use pond_core::EngineSettings;
use pond_core::outbound::AllowPrivate;
use pond_core::sources::Caps;
use pond_worker::net::{DialerSettings, read_ca_file};

use super::reader::Reader;

/// How sources are fetched.
#[derive(Debug, Clone)]
pub struct SourceSettings {
    /// The one way out.
    pub dialer: DialerSettings,
    /// The root of folder sources; they are off without it.
    pub folder_root: Option<PathBuf>,
    /// The caps per kind.
    pub caps: Caps,
}

pub(super) fn read(reader: &mut Reader<'_>, engine: &EngineSettings) -> SourceSettings {
    let folder_root = reader.path("POND_LOCAL_SOURCE_ROOT");
    if folder_root.as_deref().is_some_and(|root| !root.is_dir()) {
        reader.bad("POND_LOCAL_SOURCE_ROOT", "there is no such folder");
    }
    let resolver: Option<SocketAddr> = reader.parsed("POND_RESOLVER", |text| text.parse().ok(), "address:port");
    let extra_ca = match reader.path("POND_EXTRA_CA_FILE") {
        None => Vec::new(),
        Some(path) => read_ca_file(&path).unwrap_or_else(|error| {
            reader.bad("POND_EXTRA_CA_FILE", error.to_string());
            Vec::new()
        }),
    };
    let allow: AllowPrivate = engine.outbound.clone();
    SourceSettings {
        dialer: DialerSettings {
            resolver,
            extra_ca,
            allow,
        },
        folder_root,
        caps: engine.source_caps,
    }
}
