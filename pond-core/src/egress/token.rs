//! Sealed tokens: a job holds `pond_sealed_…` in place of a secret, and the egress proxy puts the secret in on the way to the
//! hosts, and in the places, that its rule names.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::entropy::Entropy;
use crate::outbound::HostPattern;

/// What stands in a job's environment in place of a secret: `pond_sealed_` and 32 lower-case hex digits, another one for
/// every sandbox. It is no secret: outside its own sandbox it means nothing.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SealedToken(String);

impl SealedToken {
    /// What every token starts with.
    pub const PREFIX: &'static str = "pond_sealed_";
    /// Bytes of a token.
    pub const LEN: usize = Self::PREFIX.len() + 32;

    /// A fresh one.
    pub fn mint(entropy: &dyn Entropy) -> Self {
        Self(format!("{}{}", Self::PREFIX, hex::encode(entropy.draw::<16>())))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SealedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A part of a request into which a secret may be put.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Place {
    /// The headers known to carry authentication: `Authorization`, `Cookie`, `X-Api-Key`, `*-Token`, `*-Key`, `*-Auth`.
    Header,
    /// That header too, in lower case.
    HeaderNamed(String),
    /// The body.
    Body,
}

/// Why a text names no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected header, header:NAME or body; Proxy-Authorization takes none")]
pub struct BadPlace;

impl Place {
    /// Reads one as the API spells it.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, BadPlace> {
        match text {
            "header" => Ok(Self::Header),
            "body" => Ok(Self::Body),
            _ => {
                let name = text.strip_prefix("header:").ok_or(BadPlace)?.to_ascii_lowercase();
                let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
                let fits = (1..=128).contains(&name.len()) && name.bytes().all(token);
                if !fits || name == "proxy-authorization" {
                    return Err(BadPlace);
                }
                Ok(Self::HeaderNamed(name))
            }
        }
    }

    /// Whether it covers the header of this lower-case name.
    pub fn covers_header(&self, name: &str) -> bool {
        match self {
            Self::Header => {
                matches!(name, "authorization" | "cookie" | "x-api-key")
                    || (name != "proxy-authorization"
                        && ["-token", "-key", "-auth"].iter().any(|end| name.ends_with(end)))
            }
            Self::HeaderNamed(own) => own == name,
            Self::Body => false,
        }
    }
}

impl TryFrom<String> for Place {
    type Error = BadPlace;

    fn try_from(text: String) -> Result<Self, BadPlace> {
        Self::parse(&text)
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        match place {
            Place::Header => "header".into(),
            Place::HeaderNamed(name) => format!("header:{name}"),
            Place::Body => "body".into(),
        }
    }
}

/// Where a secret may go. Not the secret itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedRule {
    /// The variable that holds the token, and the name under which the secret is granted.
    pub name: String,
    /// The hosts that may get it. None named: those that the rules in scope or the stage's `allow_hosts` allow, but not those
    /// that are reached by a default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostPattern>,
    /// Where in a request it may stand.
    #[serde(rename = "in")]
    pub places: Vec<Place>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_they_are_spelt() {
        for (text, place) in [
            ("header", Some(Place::Header)),
            ("body", Some(Place::Body)),
            ("header:X-Own", Some(Place::HeaderNamed("x-own".into()))),
            ("header:Proxy-Authorization", None),
            ("header:", None),
            ("header:a b", None),
            ("query", None),
            ("Header", None),
        ] {
            assert_eq!(Place::parse(text).ok(), place, "{text}");
        }
    }

    #[test]
    fn the_headers_of_authentication_are_known_by_name_and_ending() {
        for (name, covered) in [
            ("authorization", true),
            ("cookie", true),
            ("x-api-key", true),
            ("private-token", true),
            ("x-goog-auth", true),
            ("proxy-authorization", false),
            ("accept", false),
            ("token", false),
        ] {
            assert_eq!(Place::Header.covers_header(name), covered, "{name}");
        }
        assert!(!Place::Body.covers_header("authorization"));
        assert!(Place::HeaderNamed("accept".into()).covers_header("accept"));
    }
}
