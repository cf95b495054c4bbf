//! What a run may reach, and what it reached.

use serde::{Deserialize, Serialize};

use super::open_enum::open_enum;

open_enum! {
    /// What an egress proxy decided.
    EgressVerdict {
        /// It was let through.
        Allowed = "allowed",
        /// It was not.
        Denied = "denied",
    }
}

open_enum! {
    /// Who a rule comes from.
    RuleOrigin {
        /// The org's egress rules.
        Org = "org",
        /// The project's egress rules.
        Project = "project",
        /// The stage's `allow_hosts`, or a stage that is not confined.
        Run = "run",
        /// The worker's defaults.
        Default = "default",
    }
}

/// A decision over one connection or request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct EgressDecision {
    /// Its number among the run's events.
    pub id: u64,
    /// When it was taken.
    pub ts: String,
    /// Key of the stage.
    pub stage: String,
    /// Key of the area of that stage.
    pub substage: Option<String>,
    /// The host that was asked for.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The address that was dialled.
    pub ip: Option<String>,
    /// What was decided.
    pub decision: EgressVerdict,
    /// The rule that decided.
    pub rule: Option<String>,
    /// Why it was denied, and what to add.
    pub reason: Option<String>,
    /// Bytes from the run to the place.
    pub bytes_up: u64,
    /// Bytes from the place to the run.
    pub bytes_down: u64,
}

/// A page of decisions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct EgressDecisionList {
    /// The decisions, oldest first.
    pub decisions: Vec<EgressDecision>,
    /// Where the next page begins; null at the end of what there is by now.
    pub next_cursor: Option<String>,
}

/// Hosts that a run can reach, or cannot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReachHost {
    /// The host rule; `*` for a stage that is not confined.
    pub rule: String,
    /// Who it comes from.
    pub from: RuleOrigin,
}

/// A secret of a run, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReachSecret {
    /// Its name.
    pub name: String,
    /// The hosts that get it; `*` for one that is in the environment of a stage that is not confined.
    pub hosts: Vec<String>,
    /// Where it stands: `broker` (added to model calls outside the sandbox), `source` (used when sources are fetched),
    /// `environment`, or, for a sealed token, the parts of a request in which it is swapped: `header`, `header:NAME`, `body`.
    #[serde(rename = "in")]
    pub places: Vec<String>,
}

/// What a run can reach, and which secret goes where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Reach {
    /// What its stages can reach.
    pub hosts: Vec<ReachHost>,
    /// What rules deny them, whatever else is allowed.
    pub denied: Vec<ReachHost>,
    /// Its secrets.
    pub secrets: Vec<ReachSecret>,
    /// Features by which a model provider itself fetches, runs or keeps something, that are open to it.
    pub remote_features: Vec<String>,
}
