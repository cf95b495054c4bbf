//! The records of the pool as they were last read: who may call, and who is behind whom. Read again when somebody says that they
//! changed, and now and then in any case.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{EnrolledWorker, Orchestrator};
use crate::clock::Timestamp;
use crate::dispatch::WorkerInfo;
use crate::engine::Parts;
use crate::error::Result;
use crate::id::{BootId, OrchestratorId, WorkerId};

/// What was read is believed for this long, whatever was heard: hints can be lost.
const BELIEVED: Duration = Duration::from_secs(5);

/// The records at one time.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    pub(crate) orchestrators: BTreeMap<OrchestratorId, Orchestrator>,
    pub(crate) workers: BTreeMap<WorkerId, EnrolledWorker>,
    by_token: HashMap<[u8; 32], OrchestratorId>,
}

impl Roster {
    /// The orchestrator of a token.
    pub(crate) fn of_token(&self, hash: [u8; 32]) -> Option<&Orchestrator> {
        self.orchestrators.get(self.by_token.get(&hash)?)
    }

    /// The workers behind one orchestrator.
    pub(crate) fn behind(&self, id: OrchestratorId) -> impl Iterator<Item = &EnrolledWorker> {
        self.workers.values().filter(move |worker| worker.orchestrator == id)
    }
}

impl EnrolledWorker {
    /// What it has shown that it can do.
    pub(crate) fn shown(&self) -> BTreeSet<String> {
        let problems = &self.seen.problems;
        self.capabilities
            .iter()
            .filter(|name| !problems.contains_key(*name))
            .cloned()
            .collect()
    }

    /// The worker as those who place jobs see it.
    pub(crate) fn info(&self, boot: BootId) -> WorkerInfo {
        WorkerInfo {
            id: self.id,
            boot,
            name: self.name.clone(),
            tags: self.tags.clone(),
            capabilities: self.shown(),
            problems: self.seen.problems.clone(),
            egress_defaults: self.seen.egress_defaults.clone(),
            concurrency: self.seen.concurrency,
        }
    }
}

/// The last reading.
#[derive(Debug, Default)]
pub(crate) struct Rosters(Mutex<Option<(Arc<Roster>, Timestamp)>>);

impl Rosters {
    /// What was read is believed no more.
    pub(crate) fn outdate(&self) {
        *self.0.lock().expect("no holder of this lock panics") = None;
    }
}

impl Parts {
    /// The records of the pool.
    pub(crate) async fn roster(&self) -> Result<Arc<Roster>> {
        let now = self.clock.now();
        let known = self.rosters.0.lock().expect("no holder of this lock panics").clone();
        if let Some((roster, _)) = known.filter(|(_, read)| now.since(*read) < BELIEVED && *read <= now) {
            return Ok(roster);
        }
        let (orchestrators, workers) = futures::try_join!(self.store.orchestrators(), self.store.enrolled_workers())?;
        let by_token = orchestrators.iter().map(|known| (known.token, known.id)).collect();
        let roster = Arc::new(Roster {
            orchestrators: orchestrators.into_iter().map(|known| (known.id, known)).collect(),
            workers: workers.into_iter().map(|known| (known.id, known)).collect(),
            by_token,
        });
        *self.rosters.0.lock().expect("no holder of this lock panics") = Some((roster.clone(), now));
        Ok(roster)
    }

    /// Takes in which workers other servers have heard of, for whoever is about to judge that none fits.
    pub(crate) async fn know_workers(&self) -> Result<()> {
        let (roster, now) = (self.roster().await?, self.clock.now());
        let heard = roster.workers.values().filter_map(|worker| {
            let at = worker.seen.at.filter(|_| worker.seen.connected && !worker.draining)?;
            (now.since(at) < self.settings.worker_offline).then_some((worker, at))
        });
        self.presence.heard_elsewhere(heard);
        Ok(())
    }
}
