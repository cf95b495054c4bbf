//! Exit codes, and what of a peer's refusal they say.

use crate::link::peer::PeerError;

/// How a verb ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Well.
    Ok = 0,
    /// Something failed on the way.
    Failed = 1,
    /// A flag or setting is wrong.
    Usage = 2,
    /// A token or code is not good.
    Auth = 3,
    /// There is no such thing.
    NotFound = 4,
    /// It was refused.
    Refused = 5,
    /// The other side does not answer.
    Unreachable = 6,
}

impl Exit {
    /// The code of the process.
    pub fn code(self) -> u8 {
        self as u8
    }

    pub(super) fn of(error: &PeerError) -> Self {
        match error {
            PeerError::Unreachable(_) => Self::Unreachable,
            PeerError::Malformed(_) => Self::Failed,
            PeerError::Refused(refusal) => match refusal.status {
                401 | 403 => Self::Auth,
                404 => Self::NotFound,
                409 | 422 => Self::Refused,
                408 | 429 | 502..=504 => Self::Unreachable,
                _ => Self::Failed,
            },
        }
    }

    /// Says what is wrong and how it ends.
    pub(super) fn told(self, what: impl std::fmt::Display) -> Self {
        eprintln!("error: {what}");
        self
    }
}
