//! A host as a URL or a setting names it: a name, or an address in any of its spellings.

use std::fmt;
use std::net::IpAddr;

/// The longest name that DNS carries, without the last dot.
const MAX_NAME: usize = 253;

/// A host, normalized: two texts that a browser takes for the same host are equal here.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A DNS name, lower-case, IDNA-encoded, without the last dot.
    Name(String),
    /// A literal address.
    Address(IpAddr),
}

/// Why a text is no host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHost {
    /// Nothing there.
    #[error("the host is missing")]
    Empty,
    /// Longer than DNS carries.
    #[error("the host is too long")]
    TooLong,
    /// Neither a name nor an address.
    #[error("the host is not a valid name or address")]
    Malformed,
}

impl Host {
    /// Reads a host without port. Decimal, octal, hexadecimal and short IPv4 forms are addresses; IPv6 stands in brackets.
    pub fn parse(text: &str) -> Result<Self, BadHost> {
        if text.is_empty() {
            return Err(BadHost::Empty);
        }
        // Longer in Unicode than in ASCII is possible, but not by this much.
        if text.len() > 4 * MAX_NAME {
            return Err(BadHost::TooLong);
        }
        // `url` would decode escapes; whoever needs them to name a host is up to something.
        if text
            .chars()
            .any(|c| c.is_control() || c.is_whitespace() || "%@/\\?#*,;\"'<>|^`{}".contains(c))
        {
            return Err(BadHost::Malformed);
        }
        match ::url::Host::parse(text).map_err(|_| BadHost::Malformed)? {
            ::url::Host::Ipv4(ip) => Ok(Self::Address(ip.into())),
            ::url::Host::Ipv6(ip) => Ok(Self::Address(ip.into())),
            ::url::Host::Domain(name) => name_of(name),
        }
    }

    /// The literal address, if it is one.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::Address(ip) => Some(*ip),
        }
    }
}

fn name_of(name: String) -> Result<Host, BadHost> {
    // After IDNA, which turns some other dots into '.'.
    let name = name.strip_suffix('.').map(str::to_owned).unwrap_or(name);
    if name.len() > MAX_NAME {
        return Err(BadHost::TooLong);
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
    };
    if !name.split('.').all(label) {
        return Err(BadHost::Malformed);
    }
    Ok(Host::Name(name))
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Address(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_normalized() {
        for (text, name) in [
            ("Example.COM", "example.com"),
            ("example.com.", "example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("a_b.example", "a_b.example"),
            ("127.0.0.1.example", "127.0.0.1.example"),
            ("exa\u{ff4d}ple\u{3002}com", "example.com"),
        ] {
            assert_eq!(Host::parse(text), Ok(Host::Name(name.into())), "{text}");
        }
    }

    #[test]
    fn every_spelling_of_an_address_is_an_address() {
        for text in [
            "127.0.0.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "017700000001",
            "127.1",
            "127.0.1",
            "127.0.0.1.",
            "\u{ff11}\u{ff12}\u{ff17}.0.0.1",
            "127\u{3002}0\u{3002}0\u{3002}1",
        ] {
            assert_eq!(
                Host::parse(text).map(|host| host.to_string()),
                Ok("127.0.0.1".into()),
                "{text}"
            );
        }
        assert_eq!(
            Host::parse("[::FFFF:127.0.0.1]").unwrap().to_string(),
            "[::ffff:127.0.0.1]"
        );
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let long_label = format!("{}.example", "a".repeat(64));
        let long_name = ["abcdefg."; 40].concat();
        for text in [
            "",
            ".",
            "..",
            "a..b",
            "example.com..",
            "127.0.0.1..",
            "1.2.3.4.5",
            "256.256.256.256",
            "0x1ffffffff",
            "a b",
            "a\0b",
            "a\tb",
            "user@example.com",
            "%31.example",
            "[fe80::1%25eth0]",
            "::1",
            "[::1",
            "[::1]x",
            "a/b",
            "a\\b",
            "*",
            "*.com",
            "a:80",
            "evil.test#github.com",
            &long_label,
            &long_name,
        ] {
            assert!(Host::parse(text).is_err(), "{text:?} is {:?}", Host::parse(text));
        }
    }

    proptest! {
        #[test]
        fn parsing_is_total_and_settles(text in "\\PC{0,40}") {
            if let Ok(host) = Host::parse(&text) {
                prop_assert_eq!(Host::parse(&host.to_string()), Ok(host));
            }
        }
    }
}
