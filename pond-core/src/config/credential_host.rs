//! Where a credential of a source may be sent: an exact host, perhaps a port, perhaps the beginning of a path.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::outbound::{BadPattern, Host, HostPattern};

/// The longest path prefix.
const MAX_PATH: usize = 1024;

/// `host[:port][/path]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CredentialHost {
    host: HostPattern,
    /// Without the last slash; empty for every path.
    path: String,
}

/// Why a text is none. Never tells the text, which may hold a user and password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadCredentialHost {
    /// The host.
    #[error("expected an exact host[:port][/path]: {0}")]
    Host(#[from] BadPattern),
    /// The path.
    #[error("expected an exact host[:port][/path]: the path must be plain, without escapes, '..' and empty parts")]
    Path,
}

impl CredentialHost {
    /// Reads one.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, BadCredentialHost> {
        let (host, path) = text.find('/').map_or((text, ""), |slash| text.split_at(slash));
        let host = HostPattern::parse_exact(host)?;
        let path = path.strip_suffix('/').unwrap_or(path);
        let plain = |part: &str| {
            !part.is_empty()
                && !part.starts_with("..")
                && part != "."
                && part.bytes().all(|b| b.is_ascii_graphic() && !b"%\\?#;".contains(&b))
        };
        let sane = path.len() <= MAX_PATH && path.split('/').skip(1).all(plain);
        sane.then(|| Self {
            host,
            path: path.to_owned(),
        })
        .ok_or(BadCredentialHost::Path)
    }

    /// Whether a request to this place and path may carry the credential. Under a prefix, a path that two programs could read
    /// in two ways (escaped slashes, dots or percent signs, a part that begins with `..`) is not covered.
    pub fn covers(&self, host: &Host, port: u16, path: &str) -> bool {
        if !self.host.admits(host, port) {
            return false;
        }
        if self.path.is_empty() {
            return true;
        }
        let lower = path.to_ascii_lowercase();
        let odd = ["%2f", "%5c", "%2e", "%25", "%00", "\\", "//"]
            .iter()
            .any(|odd| lower.contains(odd))
            || path.split('/').any(|part| part.starts_with(".."));
        let rest = path.strip_prefix(self.path.as_str());
        !odd && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl CredentialHost {
    /// The host rule, where it covers every path.
    pub fn whole(&self) -> Option<&HostPattern> {
        self.path.is_empty().then_some(&self.host)
    }
}

impl fmt::Display for CredentialHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.host, self.path)
    }
}

impl TryFrom<String> for CredentialHost {
    type Error = BadCredentialHost;

    fn try_from(text: String) -> Result<Self, BadCredentialHost> {
        Self::parse(&text)
    }
}

impl From<CredentialHost> for String {
    fn from(host: CredentialHost) -> Self {
        host.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c17_85_host_port_and_path_prefix_must_fit() {
        for (hosts, host, port, path, covered) in [
            ("git.test", "git.test", 443, "/acme/app", true),
            ("git.test", "GIT.test.", 443, "/", true),
            ("git.test", "git.test", 8443, "/", false),
            ("git.test", "a.git.test", 443, "/", false),
            ("git.test", "git.test.evil.io", 443, "/", false),
            ("git.test:8443", "git.test", 8443, "/", true),
            ("git.test:8443", "git.test", 443, "/", false),
            ("git.test/acme", "git.test", 443, "/acme", true),
            ("git.test/acme/", "git.test", 443, "/acme/app.git", true),
            ("git.test/acme", "git.test", 443, "/acme-evil/app", false),
            ("git.test/acme", "git.test", 443, "/other/acme", false),
            ("git.test/acme", "git.test", 443, "/", false),
            ("git.test/acme", "git.test", 443, "/acme/..%2fevil/app", false),
            ("git.test/acme", "git.test", 443, "/acme/%2e%2e/evil", false),
            ("git.test/acme", "git.test", 443, "/acme/%252e%252e/evil", false),
            ("git.test/acme", "git.test", 443, "/acme/..;/evil", false),
            ("git.test/acme", "git.test", 443, "/acme//evil", false),
            ("git.test/acme", "git.test", 443, "/acme/..\\evil", false),
        ] {
            let rule = CredentialHost::parse(hosts).unwrap();
            let place = Host::parse(host).unwrap();
            assert_eq!(
                rule.covers(&place, port, path),
                covered,
                "{hosts} on {host}:{port}{path}"
            );
        }
    }

    #[test]
    fn what_is_not_exact_and_plain_is_refused() {
        for text in [
            "",
            "/",
            ".git.test",
            "*.git.test",
            "*",
            "https://git.test",
            "git.test:0",
            "u@git.test",
            "git.test/a/../b",
            "git.test//a",
            "git.test/a%2fb",
            "git.test/a b",
            "git.test/a?b",
            "git.test/./a",
            "10.0.0.0/8/x y",
        ] {
            assert!(CredentialHost::parse(text).is_err(), "{text:?}");
        }
        for text in ["git.test", "git.test:8443/a/b", "127.0.0.1:8080", "[::1]:80/x"] {
            assert_eq!(CredentialHost::parse(text).unwrap().to_string(), text);
        }
        // A network reads as an address with a path, and covers no place that has another path.
        assert_eq!(CredentialHost::parse("git.test/").unwrap().to_string(), "git.test");
    }
}
