//! The listener, and how the server presents itself.

use std::net::{Ipv4Addr, SocketAddr};

use pond_core::secret::Secret;
use url::Url;

use super::reader::Reader;
use crate::peer::TrustedProxies;

/// The listener, and how the server presents itself.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Where it listens, plain HTTP.
    pub bind: SocketAddr,
    /// Under which address callers reach it, where that is another.
    pub public_url: Option<Url>,
    /// The operator's name for this deployment.
    pub label: String,
    /// Proxies whose word on the client's address counts.
    pub proxies: TrustedProxies,
    /// The token that opens everything; made at the first start when absent.
    pub service_token: Option<Secret>,
}

const DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8001);
/// A shorter token could be guessed.
const MIN_TOKEN: usize = 16;

pub(super) fn read(reader: &mut Reader<'_>) -> ServerSettings {
    let bind = reader.parsed(
        "POND_BIND",
        |text| text.parse().ok(),
        "address:port, such as 127.0.0.1:8001",
    );
    let web = |text: &str| {
        let url = Url::parse(text).ok()?;
        (matches!(url.scheme(), "http" | "https") && url.has_host() && url.username().is_empty()).then_some(url)
    };
    let public_url = reader.parsed("POND_PUBLIC_URL", web, "an http or https URL");
    let label = reader.parsed(
        "POND_ENV_LABEL",
        |text| (text.chars().count() <= 64 && !text.contains(char::is_control)).then(|| text.to_owned()),
        "at most 64 characters",
    );
    let proxies = reader.parsed(
        "POND_TRUSTED_PROXIES",
        TrustedProxies::parse,
        "networks such as 10.0.0.0/8, separated by commas",
    );
    let service_token = reader.secret("POND_SERVICE_TOKEN");
    if let Some(token) = &service_token {
        let sane = token.expose().bytes().all(|b| b.is_ascii_graphic());
        if token.expose().len() < MIN_TOKEN || !sane {
            reader.bad(
                "POND_SERVICE_TOKEN",
                "expected at least 16 characters of ASCII without spaces",
            );
        }
    }
    ServerSettings {
        bind: bind.unwrap_or(DEFAULT),
        public_url,
        label: label.unwrap_or_else(|| "local".into()),
        proxies: proxies.unwrap_or_default(),
        service_token,
    }
}
