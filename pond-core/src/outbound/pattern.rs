//! A host rule: the one form in which egress rules, `allow_hosts`, `allowed_hosts` and the hosts of credentials name places.
//!
//! `example.com` is that host; `.example.com`, also spelt `*.example.com`, is every sub-domain and not the host itself. A port
//! may follow; without one the usual web ports are meant. Two spellings of one rule are equal and print alike, so the text of a
//! rule is its identity.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{BadHost, Host};

/// The ports that a rule without one stands for.
pub const WEB_PORTS: [u16; 2] = [443, 80];

/// The most rules in one list.
pub const MAX_PATTERNS: usize = 256;

/// A host rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPattern {
    /// The one spelling of it.
    text: String,
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Hosts {
    /// This one.
    Exact(Host),
    /// All below this name.
    Below(String),
}

/// Why a text is no host rule. Never tells the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    /// Not a host in the first place: a scheme, a path, a user, an odd character.
    #[error("expected a host or .suffix with an optional :port; {0}")]
    Host(#[from] BadHost),
    /// The port is none.
    #[error("the port must be a number from 1 to 65535")]
    Port,
    /// Everything, or everything below one label.
    #[error("a suffix needs at least two labels, as in .example.com")]
    TooWide,
    /// A suffix where one host is needed.
    #[error("must be an exact host, not a suffix")]
    NotExact,
}

impl HostPattern {
    /// Reads a rule.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        let (host, port) = split_port(text)?;
        let suffix = host.strip_prefix("*.").or_else(|| host.strip_prefix('.'));
        let hosts = match suffix {
            None if host == "*" => return Err(BadPattern::TooWide),
            None => Hosts::Exact(Host::parse(host)?),
            Some(suffix) => match Host::parse(suffix)? {
                Host::Name(name) if name.contains('.') => Hosts::Below(name),
                Host::Name(_) => return Err(BadPattern::TooWide),
                Host::Address(_) => return Err(BadHost::Malformed.into()),
            },
        };
        let spelt = match &hosts {
            Hosts::Exact(host) => host.to_string(),
            Hosts::Below(name) => format!(".{name}"),
        };
        let text = port.map_or(spelt.clone(), |port| format!("{spelt}:{port}"));
        Ok(Self { text, hosts, port })
    }

    /// Reads a rule that must name one host.
    ///
    /// # Errors
    /// When it is no rule, or a suffix.
    pub fn parse_exact(text: &str) -> Result<Self, BadPattern> {
        let pattern = Self::parse(text)?;
        match pattern.hosts {
            Hosts::Exact(_) => Ok(pattern),
            Hosts::Below(_) => Err(BadPattern::NotExact),
        }
    }

    /// Its one spelling.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The port it names.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether it stands for sub-domains rather than one host.
    pub fn is_suffix(&self) -> bool {
        matches!(self.hosts, Hosts::Below(_))
    }

    /// Whether it allows this place: without a port it allows the web ports alone.
    pub fn admits(&self, host: &Host, port: u16) -> bool {
        self.names(host) && self.port.map_or(WEB_PORTS.contains(&port), |own| own == port)
    }

    /// Whether it forbids this place: without a port it forbids every port.
    pub fn forbids(&self, host: &Host, port: u16) -> bool {
        self.names(host) && self.port.is_none_or(|own| own == port)
    }

    /// Whether all that `other` allows is allowed by this one too.
    pub fn admits_all_of(&self, other: &Self) -> bool {
        let port = match (self.port, other.port) {
            (None, None) => true,
            (None, Some(port)) => WEB_PORTS.contains(&port),
            (own, port) => own == port,
        };
        port && self.names_all_of(other)
    }

    /// Whether all that `other` allows is forbidden by this one.
    pub fn forbids_all_of(&self, other: &Self) -> bool {
        (self.port.is_none() || self.port == other.port) && self.names_all_of(other)
    }

    fn names(&self, host: &Host) -> bool {
        match (&self.hosts, host) {
            (Hosts::Exact(own), host) => own == host,
            (Hosts::Below(suffix), Host::Name(name)) => is_below(name, suffix),
            (Hosts::Below(_), Host::Address(_)) => false,
        }
    }

    fn names_all_of(&self, other: &Self) -> bool {
        match (&self.hosts, &other.hosts) {
            (_, Hosts::Exact(host)) => self.names(host),
            (Hosts::Below(own), Hosts::Below(suffix)) => own == suffix || is_below(suffix, own),
            (Hosts::Exact(_), Hosts::Below(_)) => false,
        }
    }
}

/// Whether `name` is a sub-domain of `suffix`.
fn is_below(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix)
        .and_then(|rest| rest.strip_suffix('.'))
        .is_some_and(|rest| !rest.is_empty())
}

/// Cuts a port off; the colons of an address in brackets are its own.
fn split_port(text: &str) -> Result<(&str, Option<u16>), BadPattern> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => return Ok((text, None)),
    };
    let digits = (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit());
    let port = port.parse::<u16>().ok().filter(|port| digits && *port != 0);
    port.map(|port| (host, Some(port))).ok_or(BadPattern::Port)
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for HostPattern {
    type Error = BadPattern;

    fn try_from(text: String) -> Result<Self, BadPattern> {
        Self::parse(&text)
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        pattern.text
    }
}

#[cfg(test)]
#[path = "pattern_tests.rs"]
mod tests;
