//! A config entry as it is stored: whatever its kind, a name within an owner, a body and perhaps sealed secrets.

use std::borrow::Cow;

use crate::clock::Timestamp;
use crate::id::ProjectId;
use crate::outbound::HostPattern;
use crate::sealing::Sealed;

/// The kinds of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryKind {
    /// A key to a model provider or a source.
    Credential,
    /// A rule of where sandboxes may connect to.
    Egress,
    /// How to launch an agent.
    Harness,
    /// A model of a provider.
    Model,
    /// An environment variable.
    Variable,
}

impl EntryKind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Credential,
        Self::Egress,
        Self::Harness,
        Self::Model,
        Self::Variable,
    ];

    /// Its name in the store and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Credential => "credential",
            Self::Egress => "egress",
            Self::Harness => "harness",
            Self::Model => "model",
            Self::Variable => "variable",
        }
    }

    /// The name under which an entry is stored that is asked for as `name`: a host rule has several spellings.
    pub fn spelling(self, name: &str) -> Cow<'_, str> {
        match self {
            Self::Egress => HostPattern::parse(name).map_or(Cow::Borrowed(name), |host| Cow::Owned(host.into())),
            Self::Credential | Self::Harness | Self::Model | Self::Variable => Cow::Borrowed(name),
        }
    }

    /// The kind of this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Whose an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// Everyone's.
    Org,
    /// One project's.
    Project(ProjectId),
}

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its kind.
    pub kind: EntryKind,
    /// Whose it is.
    pub owner: Owner,
    /// Its name, unique for kind and owner.
    pub name: String,
    /// Its fields, JSON, without secrets.
    pub body: String,
    /// Its secrets, one sealed text.
    pub sealed: Option<Sealed>,
    /// When it was last changed.
    pub updated_at: Timestamp,
}
