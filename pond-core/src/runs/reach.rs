//! What a run can reach and what it reached, as callers ask for it.

use std::collections::BTreeMap;

use super::Runs;
use crate::config::Effective;
use crate::egress::{RunReach, StageReach, Ways};
use crate::engine::{Parts, load, stored_sources};
use crate::error::Result;
use crate::event::{EventBody, EventKind, EventNumber, NumberedEvent};
use crate::id::RunId;
use crate::outbound::HostPattern;
use crate::pool::{likely_needs, resolve, sealed};
use crate::runs::executors::{Swarm, Work};
use crate::scope::Scope;

/// Decisions of stages that are read at once.
const AT_ONCE: u32 = 500;

impl Runs {
    /// Egress decisions of a run with a number above `since`, at most `limit`.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`]; [`crate::Error::Expired`] when they were kept long enough.
    pub async fn decisions(
        &self,
        scope: Scope,
        id: RunId,
        since: EventNumber,
        limit: u32,
    ) -> Result<Vec<NumberedEvent>> {
        self.kept(scope, id, super::service::LOG).await?;
        let store = &self.parts.store;
        Ok(store.events_of(scope, id, EventKind::Egress, since, limit).await?)
    }

    /// What a run can reach and which secret goes where: of stages that a worker got, what was decided then; of the others,
    /// what config says now.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`]; [`crate::Error::Expired`] when what was decided was kept long enough.
    pub async fn reach(&self, scope: Scope, id: RunId) -> Result<RunReach> {
        self.kept(scope, id, super::service::LOG).await?;
        let run = self.get(scope, id).await?;
        let parts = &self.parts;
        let decided = decided(parts, scope, id).await?;
        let effective = parts.config.effective(run.head.project).await?;
        let loaded = load(run)?;
        let mut reach = RunReach::default();
        for stage in &loaded.definition.stages {
            let Work::Pool(swarm) = stage.executor.work() else {
                continue;
            };
            match decided.get(&stage.key) {
                Some(known) => reach.add(known.clone()),
                None => {
                    parts.know_workers().await?;
                    reach.add(likely(parts, &effective, loaded.head.project, swarm));
                }
            }
        }
        // Sources that do not read any more are not dialled, so nothing goes to them.
        let sources = stored_sources(parts, &loaded.head.inputs).unwrap_or_default();
        for source in &sources {
            let credential = source.credential().and_then(|name| effective.credential(name));
            if let Some(credential) = credential {
                reach.source(&credential.record);
            }
        }
        Ok(reach)
    }
}

/// What the stages reach that a worker got, each at its last attempt.
async fn decided(parts: &Parts, scope: Scope, id: RunId) -> Result<BTreeMap<String, RunReach>> {
    let mut known: BTreeMap<String, RunReach> = BTreeMap::new();
    let mut after = 0;
    loop {
        let events = parts
            .store
            .events_of(scope, id, EventKind::Reach, after, AT_ONCE)
            .await?;
        let last = events.len() < AT_ONCE as usize;
        for event in events {
            after = event.id;
            if let EventBody::Reach(told) = event.event.body {
                let StageReach { stage, reach } = *told;
                known.insert(stage, reach);
            }
        }
        if last {
            return Ok(known);
        }
    }
}

/// What a stage would reach if a worker got it now.
fn likely(parts: &Parts, effective: &Effective, project: crate::id::ProjectId, swarm: &Swarm) -> RunReach {
    let Ok(block) = &swarm.sandbox else {
        return RunReach::default();
    };
    let resolved = resolve(swarm, effective, &parts.settings).ok();
    let (sandbox, resolution) = match &resolved {
        Some((sandbox, resolution)) => (sandbox, Some(resolution)),
        None => (block, None),
    };
    let defaults: Vec<HostPattern> = likely_needs(swarm, project, effective, &parts.settings)
        .map(|needs| {
            let now = parts.clock.now();
            parts
                .presence
                .defaults(&needs, project, now, parts.settings.worker_offline)
        })
        .unwrap_or_default();
    let rules: Vec<_> = effective.egress().iter().map(Into::into).collect();
    let sealed = resolution.map(|found| sealed(sandbox, found)).unwrap_or_default();
    RunReach::of_stage(Ways {
        sandbox,
        resolution,
        rules: &rules,
        defaults: &defaults,
        sealed: &sealed,
    })
}
