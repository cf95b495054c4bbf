//! Live events of a run, as they stand in the `data` of its SSE stream.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::open_enum::open_enum;
use super::{EgressDecision, LogLine, RunError, UsageCounts};

open_enum! {
    /// Whether a change of status is the run's or a stage's.
    StatusScope {
        /// The run's.
        Run = "run",
        /// A stage's.
        Stage = "stage",
        /// That of an area of a stage that fans out.
        Substage = "substage",
    }
}

/// A change of status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StatusChange {
    /// Whose.
    pub scope: StatusScope,
    /// The stage's key; `<stage>/<area>` for an area, null for the run.
    pub key: Option<String>,
    /// The status before; null for the first.
    pub from: Option<String>,
    /// The status after.
    pub to: String,
    /// Why it failed; null otherwise.
    pub error: Option<RunError>,
}

/// What an event tells.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum EventBody {
    /// `log`: one line.
    Log(LogLine),
    /// `status`: a change of status.
    Status(StatusChange),
    /// `usage`: totals so far.
    Usage(UsageCounts),
    /// `egress`: a place that the run asked for.
    Egress(EgressDecision),
    /// A type that this version does not know.
    Other {
        /// The type.
        kind: String,
        /// Its data.
        data: Value,
    },
}

/// One event of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The run's event number: strictly rising, with gaps.
    pub id: u64,
    /// What it tells.
    pub body: EventBody,
}

impl EventBody {
    /// The type, as SSE's `event` field spells it.
    pub fn kind(&self) -> &str {
        match self {
            Self::Log(_) => "log",
            Self::Status(_) => "status",
            Self::Usage(_) => "usage",
            Self::Egress(_) => "egress",
            Self::Other { kind, .. } => kind,
        }
    }

    /// Reads the data of an event of this type.
    pub fn parse(kind: &str, data: &str) -> Result<Self, serde_json::Error> {
        Ok(match kind {
            "log" => Self::Log(serde_json::from_str(data)?),
            "status" => Self::Status(serde_json::from_str(data)?),
            "usage" => Self::Usage(serde_json::from_str(data)?),
            "egress" => Self::Egress(serde_json::from_str(data)?),
            other => Self::Other {
                kind: other.to_owned(),
                data: serde_json::from_str(data)?,
            },
        })
    }

    /// Writes the data, as it stands in the stream.
    pub fn data(&self) -> Result<String, serde_json::Error> {
        match self {
            Self::Log(line) => serde_json::to_string(line),
            Self::Status(change) => serde_json::to_string(change),
            Self::Usage(totals) => serde_json::to_string(totals),
            Self::Egress(decision) => serde_json::to_string(decision),
            Self::Other { data, .. } => serde_json::to_string(data),
        }
    }
}
