//! A config entry as it is stored: whatever its kind, a name within an owner, a body and perhaps sealed secrets.

use crate::clock::Timestamp;
use crate::id::ProjectId;
use crate::sealing::Sealed;

/// The kinds of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryKind {
    /// A key to a model provider or a source.
    Credential,
    /// How to launch an agent.
    Harness,
    /// A model of a provider.
    Model,
    /// An environment variable.
    Variable,
}

impl EntryKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Credential, Self::Harness, Self::Model, Self::Variable];

    /// Its name in the store and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Credential => "credential",
            Self::Harness => "harness",
            Self::Model => "model",
            Self::Variable => "variable",
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
