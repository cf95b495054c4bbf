//! Which `Host` headers are answered. A page in a browser can make it send requests to a loopback port under a name of its
//! own (DNS rebinding), so a server on loopback answers only to names that are its own.

use std::net::IpAddr;

use axum::http::{Request, header};
use url::Url;

/// Which `Host` headers are answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostRule {
    /// Any: the listener is not on loopback, and what stands before it decides.
    Any,
    /// `localhost`, loopback addresses, and the host of the public URL if one is set.
    Loopback(Option<String>),
}

impl HostRule {
    /// The rule for a listener on this address.
    pub fn of(bind: IpAddr, public_url: Option<&Url>) -> Self {
        if bind.is_loopback() {
            Self::Loopback(public_url.and_then(Url::host_str).map(str::to_ascii_lowercase))
        } else {
            Self::Any
        }
    }

    pub(crate) fn admits<B>(&self, request: &Request<B>) -> bool {
        let Self::Loopback(public) = self else { return true };
        // HTTP/2 sends the authority in the target.
        let named = request
            .headers()
            .get(header::HOST)
            .and_then(|value| value.to_str().ok());
        let Some(host) = named.or_else(|| request.uri().authority().map(axum::http::uri::Authority::as_str)) else {
            return false;
        };
        let host = without_port(host).to_ascii_lowercase();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback()) || public.as_deref() == Some(&*host)
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.is_empty() => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c17_113_on_loopback_a_foreign_host_is_another_server() {
        let public = Url::parse("https://pond.example:8443/x").unwrap();
        let rule = HostRule::of("127.0.0.1".parse().unwrap(), Some(&public));
        let admits = |host: &str| rule.admits(&Request::builder().header("host", host).body(()).unwrap());
        for own in [
            "localhost",
            "LOCALHOST:8001",
            "127.0.0.1:8001",
            "127.1.2.3",
            "[::1]:8001",
            "pond.example:443",
        ] {
            assert!(admits(own), "{own}");
        }
        for foreign in [
            "",
            "evil.example",
            "localhost.evil.example",
            "10.0.0.1",
            "localhost:80:80",
            "[::2]",
            "127.0.0.1.x",
        ] {
            assert!(!admits(foreign), "{foreign}");
        }
        assert!(!rule.admits(&Request::new(())));
        assert_eq!(HostRule::of("0.0.0.0".parse().unwrap(), None), HostRule::Any);
    }
}
