//! The events of a run: log lines, status changes, usage and egress decisions share one rising integer sequence.
//!
//! Numbers are taken in the transaction that writes the events, so a reader always sees a prefix; an event itself
//! does not hold its number.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::egress::{EgressDecision, StageReach};
use crate::logs::LogLine;
use crate::runs::Failure;
use crate::usage::UsageTotals;

/// Number of an event within its run, from 1.
pub type EventNumber = i64;

/// What happened in a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When: for a log line the worker's time of the line.
    #[serde(rename = "t")]
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub body: EventBody,
}

/// What happened; the names are short because every run stores a few.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventBody {
    /// A line was logged.
    #[serde(rename = "l")]
    Log(LogLine),
    /// The run or a stage changed state.
    #[serde(rename = "s")]
    Status(StatusChange),
    /// Sums of the usage so far.
    #[serde(rename = "u")]
    Usage(UsageTotals),
    /// A place that a job asked for.
    #[serde(rename = "g")]
    Egress(Box<StageDecision>),
    /// What a stage can reach, as a worker got it.
    #[serde(rename = "r")]
    Reach(Box<StageReach>),
}

/// A kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// Log lines.
    Log,
    /// Changes of state.
    Status,
    /// Sums of usage.
    Usage,
    /// Egress decisions.
    Egress,
    /// What stages can reach.
    Reach,
}

impl EventBody {
    /// Its kind.
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Log(_) => EventKind::Log,
            Self::Status(_) => EventKind::Status,
            Self::Usage(_) => EventKind::Usage,
            Self::Egress(_) => EventKind::Egress,
            Self::Reach(_) => EventKind::Reach,
        }
    }
}

/// A change of state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusChange {
    /// Key of the stage; none for the run itself.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Key of the area of that stage; none for the stage itself.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub area: Option<String>,
    /// The state before.
    #[serde(rename = "f")]
    pub from: String,
    /// The state after.
    #[serde(rename = "o")]
    pub to: String,
    /// Why, when it failed.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// A decision of the egress proxy of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageDecision {
    /// Key of the stage.
    #[serde(rename = "k")]
    pub stage: String,
    /// Key of the area of that stage.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub substage: Option<String>,
    /// The decision.
    #[serde(flatten)]
    pub decision: EgressDecision,
}

/// An event with its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberedEvent {
    /// The number.
    pub id: EventNumber,
    /// The event.
    pub event: Event,
}
