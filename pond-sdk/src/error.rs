//! What can go wrong between a program and a Pond server, by meaning.

use std::time::Duration;

use crate::api::Problem;

/// Why a call failed. Never holds the token or a secret of a request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server answered that it will not, or cannot.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// The server did not answer: no connection, or it broke off.
    #[error("{origin} does not answer")]
    Unreachable {
        /// Scheme, host and port that were tried.
        origin: String,
        /// What happened.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The answer is not what the API says; perhaps the address is not Pond's.
    #[error("cannot read the server's {what}")]
    Decode {
        /// What was read.
        what: &'static str,
        /// What happened.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The answer is longer than the client takes.
    #[error("the server's {what} is longer than {limit} bytes")]
    TooLong {
        /// What was read.
        what: &'static str,
        /// The client's limit in bytes.
        limit: usize,
    },
    /// The client cannot be made, or the request cannot be written, with what was given.
    #[error("{0}")]
    Setup(String),
}

/// An error answer of the server.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The body; made up from the status where the answer held none.
    pub problem: Problem,
    /// When to try again, if the server said.
    pub retry_after: Option<Duration>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Problem {
            code, title, detail, ..
        } = &self.problem;
        let text = if detail.is_empty() { title } else { detail };
        write!(f, "{text} ({} {code})", self.status)
    }
}

impl Error {
    /// The server's error answer, if it gave one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// The HTTP status of the server's error answer.
    pub fn status(&self) -> Option<u16> {
        self.refusal().map(|refusal| refusal.status)
    }

    /// The stable code of the server's error answer.
    pub fn code(&self) -> Option<&str> {
        self.refusal().map(|refusal| refusal.problem.code.as_str())
    }

    pub(crate) fn decode(what: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Decode {
            what,
            source: Box::new(source),
        }
    }
}

/// The usual result.
pub type Result<T, E = Error> = std::result::Result<T, E>;
