//! What a confined job may reach, and what it reached: the policy as a value, the record of each decision, and the secrets
//! that go out by a token. No socket here; the proxy that asks all this is the worker's.

mod decision;
mod policy;
mod reach;
mod token;

pub use decision::{DecisionId, EgressDecision, MAX_HOST, Verdict};
pub use policy::{Decision, EgressPolicy, Origin, Ruled};
pub use reach::{EVERYWHERE, ReachHost, ReachSecret, RunReach, StageReach, Ways};
pub use token::{BadPlace, Place, SealedRule, SealedToken};
