//! Who is at the other end: the address of the connection, or what a trusted proxy says it is.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

/// The address of a connection, as the listener saw it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Connection(pub(crate) SocketAddr);

/// Proxies whose word on the client's address counts.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Reads a list of networks and addresses, separated by commas.
    ///
    /// # Errors
    /// When one of them is none.
    pub fn parse(text: &str) -> Option<Self> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let net = |part: &str| {
            part.parse()
                .ok()
                .or_else(|| part.parse::<IpAddr>().ok().map(IpNet::from))
        };
        parts.map(net).collect::<Option<_>>().map(Self)
    }

    fn holds(&self, address: IpAddr) -> bool {
        self.0.iter().any(|net| net.contains(&address.to_canonical()))
    }

    /// The client's address: from the connection outwards, the first hop that is no trusted proxy. What a proxy does not
    /// vouch for could be anybody's invention.
    pub(crate) fn client(&self, connection: Option<Connection>, headers: &HeaderMap) -> IpAddr {
        let Some(Connection(peer)) = connection else {
            return IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
        };
        let hops = headers
            .get_all("x-forwarded-for")
            .iter()
            .filter_map(|value| value.to_str().ok());
        let hops: Vec<&str> = hops.flat_map(|value| value.split(',')).map(str::trim).collect();
        let mut address = peer.ip();
        for hop in hops.into_iter().rev() {
            if !self.holds(address) {
                break;
            }
            match hop.parse() {
                Ok(further) => address = further,
                Err(_) => break,
            }
        }
        address.to_canonical()
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
        TrustedProxies::parse(trusted)
            .unwrap()
            .client(Some(peer), &headers)
            .to_string()
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
