//! What is kept of a request that is carried out once.

use crate::clock::Timestamp;

/// A request that begins, as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Keyed hash of caller, route and key.
    pub id: [u8; 32],
    /// Keyed hash of the body.
    pub body: [u8; 32],
    /// This very try: a later one of the same id is another.
    pub nonce: [u8; 16],
    /// When it begins.
    pub now: Timestamp,
    /// Until when it counts as under way, should nobody ever say how it ended.
    pub until: Timestamp,
}

/// What is known of a request that begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// It is the first, and is to be carried out.
    First,
    /// The first one is under way.
    UnderWay,
    /// The key was sent with another body.
    Mismatch,
    /// It was carried out.
    Done(Kept),
}

/// What is kept of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its status.
    pub status: u16,
    /// Where the new record is.
    pub location: Option<String>,
    /// Its body, or the record's id alone.
    pub content: Content,
}

/// How much of a body is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// All of it, JSON.
    Whole(Vec<u8>),
    /// The id of what was made: of an answer with a secret that is shown once, or one that is too large.
    Id(String),
}

/// Whether an answer may be given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeatable {
    /// It may.
    Whole,
    /// It holds a secret that is shown once.
    IdAlone,
}
