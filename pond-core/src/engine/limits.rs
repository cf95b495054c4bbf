//! How long an attempt may take, and what it may spend.

use std::time::Duration;

use super::{EngineSettings, Loaded};
use crate::clock::Timestamp;
use crate::runs::{Unit, Wall};
use crate::workflow::Budget;

/// The limits of one attempt that starts now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// How long it may take: by its stage, or by what is left of a `wall_sec`.
    pub(crate) timeout: Duration,
    /// The tighter of run and stage, as they were set; of `wall_sec` what is left, in whole seconds and at least one.
    pub(crate) budget: Budget,
}

/// The limits of an attempt of a stage or an area.
pub(crate) fn limits(loaded: &Loaded, unit: Unit, settings: &EngineSettings, now: Timestamp) -> Limits {
    let stage = &loaded.definition.stages[unit.stage];
    let (inputs, state) = (&loaded.head.inputs, &loaded.head.state);
    let timeout = stage.timeout.unwrap_or(settings.stage_timeout);
    let wall = Wall::of(inputs, &loaded.definition, state, unit.stage, now).map(|wall| wall.until.since(now));
    let budget = inputs.budget(settings.default_budget_usd).tighter(stage.budget);
    Limits {
        timeout: wall.map_or(timeout, |left| left.min(timeout)),
        budget: Budget {
            wall_sec: wall.map(|left| left.as_secs().max(1)),
            ..budget
        },
    }
}
