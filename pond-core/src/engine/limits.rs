//! How long an attempt may take, and what it may spend.

use std::time::Duration;

use super::{Draft, EngineSettings, Loaded};
use crate::clock::Timestamp;
use crate::runs::{Inputs, Unit, Wall};
use crate::workflow::{Budget, Stage};

/// The limits of one attempt that starts now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// How long it may take: by its stage, or by what is left of a `wall_sec`.
    pub(crate) timeout: Duration,
    /// The tighter of run and stage, as they were set; of `wall_sec` what is left, in whole seconds and at least one.
    pub(crate) budget: Budget,
}

impl Loaded {
    /// The limits of an attempt of a stage or an area.
    pub(super) fn limits(&self, unit: Unit, settings: &EngineSettings, now: Timestamp) -> Limits {
        let (inputs, state) = (&self.head.inputs, &self.head.state);
        let wall = Wall::of(inputs, &self.definition, state, unit.stage, now);
        limits(inputs, &self.definition.stages[unit.stage], wall, settings, now)
    }
}

impl Draft<'_> {
    /// The limits of an attempt of a stage or an area.
    pub(crate) fn limits(&self, unit: Unit, settings: &EngineSettings) -> Limits {
        let stage = &self.definition.stages[unit.stage];
        limits(&self.head.inputs, stage, self.wall(unit.stage), settings, self.now)
    }
}

fn limits(inputs: &Inputs, stage: &Stage, wall: Option<Wall>, settings: &EngineSettings, now: Timestamp) -> Limits {
    let timeout = stage.timeout.unwrap_or(settings.stage_timeout);
    let left = wall.map(|wall| wall.until.since(now));
    let budget = inputs.budget(settings.default_budget_usd).tighter(stage.budget);
    Limits {
        timeout: left.map_or(timeout, |left| left.min(timeout)),
        budget: Budget {
            wall_sec: left.map(|left| left.as_secs().max(1)),
            ..budget
        },
    }
}
