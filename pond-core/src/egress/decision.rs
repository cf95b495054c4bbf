//! One decision of an egress proxy: a place that a job asked for, and what became of it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Timestamp;

/// Names a decision; drawn by the proxy, so that one that is told twice is kept once.
pub type DecisionId = Uuid;

/// The most bytes of a host as it was asked for that are kept.
pub const MAX_HOST: usize = 255;

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It was let through.
    Allowed,
    /// It was not.
    Denied,
}

impl Verdict {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
        }
    }
}

/// A decision. An allowed one is told when its connection has ended, with the bytes that went each way; a denied one at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressDecision {
    /// Its id.
    #[serde(rename = "i")]
    pub id: DecisionId,
    /// When it was taken.
    #[serde(rename = "w")]
    pub at: Timestamp,
    /// The host as it was judged, or as it was asked for when it is none: at most [`MAX_HOST`] bytes, without controls.
    #[serde(rename = "h")]
    pub host: String,
    /// The port.
    #[serde(rename = "p")]
    pub port: u16,
    /// The address that was dialled.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// What was decided.
    #[serde(rename = "v")]
    pub verdict: Verdict,
    /// The rule that decided, in its one spelling.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Why it was denied, or cut, for a reader: one line that names what to add where adding helps.
    #[serde(rename = "y", default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Bytes from the job to the place.
    #[serde(rename = "u", default)]
    pub bytes_up: u64,
    /// Bytes from the place to the job.
    #[serde(rename = "d", default)]
    pub bytes_down: u64,
}
