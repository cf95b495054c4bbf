//! The operator's exact exceptions to the outbound rule.

use std::fmt;
use std::str::FromStr;

use super::Host;

/// The most entries a list may have.
pub const MAX_ENTRIES: usize = 256;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// Fetching a git source.
    Git,
    /// Fetching a tarball source.
    Tarball,
    /// Fetching from object storage.
    S3,
    /// Calling a webhook.
    Webhook,
    /// Dispatching to an external agent.
    Endpoint,
    /// Calling a tool endpoint.
    Tool,
    /// Calling a model provider.
    Model,
    /// What a sandboxed job asks its egress proxy for.
    Egress,
}

impl Purpose {
    /// Whether it has a list of its own, so that no entry of the common one counts for it.
    fn stands_apart(self) -> bool {
        matches!(self, Self::Model | Self::Egress)
    }

    /// As a list entry spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Git => "git",
            Self::Tarball => "tarball",
            Self::S3 => "s3",
            Self::Webhook => "webhook",
            Self::Endpoint => "endpoint",
            Self::Tool => "tool",
            Self::Model => "model",
            Self::Egress => "egress",
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Purpose {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        const ALL: [Purpose; 8] = [
            Purpose::Git,
            Purpose::Tarball,
            Purpose::S3,
            Purpose::Webhook,
            Purpose::Endpoint,
            Purpose::Tool,
            Purpose::Model,
            Purpose::Egress,
        ];
        ALL.into_iter().find(|purpose| purpose.as_str() == text).ok_or(())
    }
}

/// Exact `host:port` pairs that may be dialled although the rule refuses their address, each for one use or for all.
///
/// An entry admits the host *as it is written* in the URL: a name that resolves to a listed address is not admitted by it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowPrivate {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// None: every use of the outbound list, which models and sandboxes are not part of (they have lists of their own).
    purpose: Option<Purpose>,
    host: Host,
    port: u16,
}

/// An entry that is not well-formed. Its text is not told: settings are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("entry {position} {why}")]
pub struct BadEntry {
    /// Which entry, from 1.
    pub position: usize,
    /// What is wrong with it.
    pub why: &'static str,
}

impl AllowPrivate {
    /// Reads a comma-separated list of `[use=]host:port`. A blank text is the empty list.
    pub fn parse(text: &str) -> Result<Self, BadEntry> {
        Self::read(text, |entry| {
            let Some((word, rest)) = entry.split_once('=') else {
                return Ok((None, entry));
            };
            match word.trim().parse::<Purpose>() {
                Ok(purpose) if !purpose.stands_apart() => Ok((Some(purpose), rest.trim())),
                _ => Err("names an unknown use: known are git, tarball, s3, webhook, endpoint, tool"),
            }
        })
    }

    /// Reads a comma-separated list of plain `host:port` that counts for one purpose.
    pub fn parse_for(purpose: Purpose, text: &str) -> Result<Self, BadEntry> {
        Self::read(text, |entry| match entry.contains('=') {
            true => Err("must be a plain host:port"),
            false => Ok((Some(purpose), entry)),
        })
    }

    fn read<'a>(
        text: &'a str,
        split: impl Fn(&'a str) -> Result<(Option<Purpose>, &'a str), &'static str>,
    ) -> Result<Self, BadEntry> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let mut entries = Vec::new();
        for (index, entry) in text.split(',').enumerate() {
            let bad = |why| BadEntry {
                position: index + 1,
                why,
            };
            if index == MAX_ENTRIES {
                return Err(bad("is one too many"));
            }
            let (purpose, place) = split(entry.trim()).map_err(bad)?;
            let (host, port) = host_and_port(place).map_err(bad)?;
            entries.push(Entry { purpose, host, port });
        }
        Ok(Self { entries })
    }

    /// Both lists together.
    pub fn and(mut self, other: Self) -> Self {
        self.entries.extend(other.entries);
        self
    }

    /// Whether the rule is lifted for this host and port.
    pub fn admits(&self, purpose: Purpose, host: &Host, port: u16) -> bool {
        self.entries.iter().any(|entry| {
            entry.port == port
                && entry.host == *host
                && entry.purpose.map_or(!purpose.stands_apart(), |own| own == purpose)
        })
    }

    /// Whether an entry names no use, so that it opens its place to all of them.
    pub fn has_bare_entry(&self) -> bool {
        self.entries.iter().any(|entry| entry.purpose.is_none())
    }
}

fn host_and_port(text: &str) -> Result<(Host, u16), &'static str> {
    let (host, port) = text.rsplit_once(':').ok_or("has no port")?;
    // `u16::from_str` takes a leading '+'.
    if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err("has no valid port");
    }
    let port = port
        .parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or("has a port outside 1-65535")?;
    let host = Host::parse(host).map_err(|_| "has no valid host")?;
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Host {
        Host::parse(text).unwrap()
    }

    #[test]
    fn an_entry_admits_its_own_use_host_and_port_alone() {
        let list = AllowPrivate::parse("git=Git.Internal:8443, 10.0.0.5:80").unwrap();

        assert!(list.admits(Purpose::Git, &host("git.internal."), 8443));
        for purpose in [
            Purpose::Tarball,
            Purpose::S3,
            Purpose::Webhook,
            Purpose::Endpoint,
            Purpose::Tool,
            Purpose::Model,
            Purpose::Egress,
        ] {
            assert!(!list.admits(purpose, &host("git.internal"), 8443), "{purpose}");
        }
        assert!(!list.admits(Purpose::Git, &host("git.internal"), 443));
        assert!(!list.admits(Purpose::Git, &host("x.git.internal"), 8443));
        assert!(!list.admits(Purpose::Git, &host("internal"), 8443));
    }

    #[test]
    fn a_bare_entry_is_for_every_outbound_use_but_not_for_models() {
        let list = AllowPrivate::parse("[::1]:8080").unwrap();
        for purpose in [
            Purpose::Git,
            Purpose::Tarball,
            Purpose::S3,
            Purpose::Webhook,
            Purpose::Endpoint,
            Purpose::Tool,
        ] {
            assert!(list.admits(purpose, &host("[0:0::1]"), 8080), "{purpose}");
        }
        assert!(!list.admits(Purpose::Model, &host("[::1]"), 8080));
        assert!(!list.admits(Purpose::Egress, &host("[::1]"), 8080));
        assert!(list.has_bare_entry());
        assert!(!AllowPrivate::parse("git=a:1").unwrap().has_bare_entry());
    }

    #[test]
    fn models_have_a_list_of_their_own() {
        let list = AllowPrivate::parse_for(Purpose::Model, "127.0.0.1:9000").unwrap();
        assert!(list.admits(Purpose::Model, &host("127.0.0.1"), 9000));
        assert!(!list.admits(Purpose::Git, &host("127.0.0.1"), 9000));
        assert!(AllowPrivate::parse_for(Purpose::Model, "git=127.0.0.1:9000").is_err());
        let both = list.and(AllowPrivate::parse("git=h:1").unwrap());
        assert!(both.admits(Purpose::Git, &host("h"), 1) && both.admits(Purpose::Model, &host("127.0.0.1"), 9000));
    }

    #[test]
    fn sandboxes_have_a_list_of_their_own() {
        let list = AllowPrivate::parse_for(Purpose::Egress, "127.0.0.1:9000").unwrap();
        assert!(list.admits(Purpose::Egress, &host("127.0.0.1"), 9000));
        assert!(!list.admits(Purpose::Model, &host("127.0.0.1"), 9000));
        assert!(!list.admits(Purpose::Egress, &host("127.0.0.1"), 9001));
        assert!(AllowPrivate::parse("egress=127.0.0.1:9000").is_err());
    }

    #[test]
    fn a_bad_entry_is_told_by_its_position_and_not_by_its_text() {
        for bad in [
            "",
            "host",
            "host:",
            "host:0",
            "host:-1",
            "host:+1",
            "host:65536",
            "host:*",
            "*:80",
            "*.internal:80",
            "10.0.0.0/8:80",
            "https://host:80",
            "user@host:80",
            "ssh=host:80",
            "=host:80",
            "GIT=host:80",
            ":80",
            "::1:80",
            "host:80:90",
            "ho st:1",
        ] {
            let text = format!("good:1,{bad}");
            let error = AllowPrivate::parse(&text).expect_err(bad);
            assert_eq!(error.position, 2, "{bad}");
            assert!(bad.len() < 4 || !error.to_string().contains(bad), "{error}");
        }
    }

    #[test]
    fn a_list_is_blank_or_bounded() {
        assert_eq!(AllowPrivate::parse("  "), Ok(AllowPrivate::default()));
        let text = vec!["h:1"; MAX_ENTRIES + 1].join(",");
        assert_eq!(AllowPrivate::parse(&text).unwrap_err().position, MAX_ENTRIES + 1);
    }
}
