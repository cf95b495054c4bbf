//! Who is at the other end: the address of the connection, or what a trusted proxy says it is.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::http::HeaderMap;
pub use pond_worker::orchestrator::TrustedProxies;

/// The address of a connection, as the listener saw it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Connection(pub(crate) SocketAddr);

/// The client's address: from the connection outwards, the first hop that is no trusted proxy. What a proxy does not vouch
/// for could be anybody's invention.
pub(crate) fn client(proxies: &TrustedProxies, connection: Option<Connection>, headers: &HeaderMap) -> IpAddr {
    match connection {
        Some(Connection(peer)) => proxies.client(peer.ip(), headers),
        None => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(trusted: &str, peer: &str, forwarded: &str) -> String {
        let mut headers = HeaderMap::new();
        if !forwarded.is_empty() {
            headers.insert("x-forwarded-for", forwarded.parse().unwrap());
        }
        let peer = Connection(SocketAddr::new(peer.parse().unwrap(), 9));
        let proxies = TrustedProxies::parse(trusted).unwrap();
        super::client(&proxies, Some(peer), &headers).to_string()
    }

    #[test]
    fn c17_94_only_a_trusted_proxy_names_the_client() {
        let table = [
            ("", "192.0.2.1", "198.51.100.7", "192.0.2.1"),
            ("192.0.2.0/24", "192.0.2.1", "198.51.100.7", "198.51.100.7"),
            ("192.0.2.1", "192.0.2.1", "203.0.113.9, 198.51.100.7", "198.51.100.7"),
            (
                "192.0.2.0/24,198.51.100.7",
                "192.0.2.1",
                "203.0.113.9, 198.51.100.7",
                "203.0.113.9",
            ),
            ("192.0.2.0/24", "192.0.2.1", "nonsense", "192.0.2.1"),
            ("192.0.2.0/24", "::ffff:192.0.2.1", "198.51.100.7", "198.51.100.7"),
        ];
        for (trusted, peer, forwarded, found) in table {
            assert_eq!(client(trusted, peer, forwarded), found, "{trusted} {peer} {forwarded}");
        }
        assert!(TrustedProxies::parse("10.0.0.0/33").is_none());
    }
}
