//! The server's own settings, read once from an environment that is handed in. One file per section.
//!
//! A bad value stops the start and is told by its variable, never by itself: it may be a secret. All bad ones are told at
//! once. An unknown `POND_*` is a warning, and so is one that this version does not serve yet, unless it guards something:
//! who sets that one relies on it.

mod bucket;
mod engine;
mod reader;
mod server;
mod shell;
mod sources;
mod store;
mod worker;

use std::collections::BTreeMap;

pub use self::reader::BadSetting;
use self::reader::Reader;
pub use self::server::ServerSettings;
pub use self::sources::SourceSettings;
pub use self::store::{Blobs, RootKey, StoreSettings};
pub use self::worker::PoolSettings;
use pond_core::EngineSettings;
use pond_worker::host::ShellSandbox;

/// An environment.
pub type Environment = BTreeMap<String, String>;

/// All settings of a server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The listener, and how the server presents itself.
    pub server: ServerSettings,
    /// Where everything is kept, and under which key.
    pub store: StoreSettings,
    /// What the engine is held to.
    pub engine: EngineSettings,
    /// How `shell` stages are confined, where they are allowed.
    pub shell: ShellSandbox,
    /// How sources are fetched.
    pub sources: SourceSettings,
    /// The embedded pool, where it is on.
    pub pool: Option<PoolSettings>,
    /// What is odd but no reason not to start.
    pub warnings: Vec<String>,
}

/// Which program reads the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `pond server`, `pond-server`.
    Server,
    /// `pond up`: everything in one process, so the embedded pool is on unless it is switched off.
    Up,
}

/// Names that other programs and the client verbs read.
const ELSEWHERE: [&str; 8] = [
    "POND_URL",
    "POND_TOKEN",
    "POND_TOKEN_FILE",
    "POND_PROJECT",
    "POND_POOL_SECRET",
    "POND_POOL_SECRET_FILE",
    "POND_INSECURE_NO_TLS",
    "POND_LOG",
];

/// Names of the contract whose part is not served yet.
const LATER: &[&str] = &[
    "POND_EXTERNAL_PROBE_SEC",
    "POND_METRICS_TOKEN",
    "POND_METRICS_TOKEN_FILE",
    "POND_OTEL_CONSOLE",
    "POND_OIDC_ISSUER",
    "POND_OIDC_AUDIENCE",
    "POND_OIDC_ADMIN_SUBS",
    "POND_OIDC_ROLES_CLAIM",
    "POND_ADMIN_AUTH0_SUBS",
];

const NOT_SERVED: &str = "not served by this version";

impl Settings {
    /// Lets the embedded worker take jobs of profile `none`. Beside it the engine must take them too
    /// (`POND_REQUIRE_SANDBOX`): two switches, so that no single one opens the host.
    pub fn allow_unconfined(&mut self) {
        match &mut self.pool {
            Some(pool) => pool.allow_unconfined = true,
            None => self
                .warnings
                .push("--allow-unconfined has no effect without the embedded pool".into()),
        }
    }

    /// Reads an environment.
    ///
    /// # Errors
    /// All bad settings.
    pub fn read(environment: &Environment, role: Role) -> Result<Self, Vec<BadSetting>> {
        let mut reader = Reader::new(environment);
        let mut store = store::read(&mut reader);
        let server = server::read(&mut reader);
        let engine = engine::read(&mut reader, &store);
        let shell = shell::read(&mut reader);
        let sources = sources::read(&mut reader, &engine);
        if let Blobs::Bucket(place) = &mut store.blobs {
            place.extra_ca.clone_from(&sources.dialer.extra_ca);
        }
        let pool = worker::read(&mut reader, role, &sources, &engine);
        refuse_unserved_guards(&mut reader);
        if store.is_shared() && server.service_token.is_none() {
            reader.bad(
                "POND_SERVICE_TOKEN",
                "is required with postgres://, as several servers share it",
            );
        }
        let mut warnings = odd(environment, &reader);
        warnings.extend(store.blobs.warning());
        reader.done()?;
        Ok(Self {
            server,
            store,
            engine,
            shell,
            sources,
            pool,
            warnings,
        })
    }
}

/// What limits spending, trust or keeping, and would be silently missing.
fn refuse_unserved_guards(reader: &mut Reader<'_>) {
    if reader.boolean("POND_REQUIRE_RECEIPT") == Some(true) {
        reader.bad("POND_REQUIRE_RECEIPT", NOT_SERVED);
    }
}

fn odd(environment: &Environment, reader: &Reader<'_>) -> Vec<String> {
    let ours = environment
        .keys()
        .filter(|name| name.starts_with("POND_") && !reader.knows(name));
    let told = ours.filter(|name| !ELSEWHERE.contains(&name.as_str())).map(|name| {
        if LATER.contains(&name.as_str()) {
            format!("{name} has no effect in this version")
        } else {
            format!("{} is no setting of Pond", name.escape_debug())
        }
    });
    told.collect()
}

#[cfg(test)]
mod tests;
