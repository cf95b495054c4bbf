//! From which address a call comes, also when a proxy stands before the orchestrator.

use std::net::IpAddr;

use axum::http::HeaderMap;
use ipnet::IpNet;

/// Proxies whose `X-Forwarded-For` counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Reads a comma-separated list of networks and addresses; nothing when one of them is none.
    pub fn parse(text: &str) -> Option<Self> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let read = |entry: &str| {
            let net = entry.parse::<IpNet>().ok();
            net.or_else(|| entry.parse::<IpAddr>().ok().map(IpNet::from))
        };
        entries.map(read).collect::<Option<_>>().map(Self)
    }

    /// The address of the client: the nearest hop that is no trusted proxy.
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        let forwarded = headers
            .get_all("x-forwarded-for")
            .iter()
            .filter_map(|value| value.to_str().ok());
        let hops: Vec<&str> = forwarded.flat_map(|value| value.split(',')).map(str::trim).collect();
        for hop in hops.iter().rev() {
            if !self.trusts(client) {
                break;
            }
            let Ok(before) = hop.parse::<IpAddr>() else { break };
            client = before.to_canonical();
        }
        client
    }

    fn trusts(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|net| net.contains(&ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c17_94_only_a_trusted_proxy_says_who_stands_behind_it() {
        let proxies = TrustedProxies::parse("10.0.0.0/8, 127.0.0.1").unwrap();
        let client = |peer: &str, forwarded: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", forwarded.parse().unwrap());
            proxies.client(peer.parse().unwrap(), &headers).to_string()
        };
        assert_eq!(client("203.0.113.9", "192.0.2.1"), "203.0.113.9");
        assert_eq!(client("127.0.0.1", "192.0.2.1"), "192.0.2.1");
        assert_eq!(client("127.0.0.1", "192.0.2.7, 192.0.2.1, 10.1.2.3"), "192.0.2.1");
        assert_eq!(client("127.0.0.1", "x, 10.1.1.1"), "10.1.1.1");
        assert_eq!(TrustedProxies::parse("10.0.0.0/40"), None);
    }
}
