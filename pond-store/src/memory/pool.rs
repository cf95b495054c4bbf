//! Orchestrators, workers and codes in memory.

use async_trait::async_trait;
use pond_core::clock::Timestamp;
use pond_core::id::{OrchestratorId, WorkerId};
use pond_core::pool::{Admits, Code, Enrolled, EnrolledWorker, Orchestrator, PoolStore, WorkerSeen};
use pond_core::store::StoreError;

use super::{Memory, State};
use crate::error::corrupt;

impl State {
    /// Whether a code admits what `admits` says, at this time.
    fn code_is_good(&self, hash: [u8; 32], now: Timestamp, admits: impl Fn(&Admits) -> bool) -> bool {
        let code = self.codes.get(&hash);
        code.is_some_and(|code| code.expires_at > now && admits(&code.admits))
    }
}

fn is_for(admits: &Admits, of: OrchestratorId) -> bool {
    matches!(admits, Admits::Enrolment { orchestrator, .. } if *orchestrator == of)
}

#[async_trait]
impl PoolStore for Memory {
    async fn add_code(&self, code: Code, now: Timestamp) -> Result<(), StoreError> {
        let mut state = self.state()?;
        state.codes.retain(|_, known| known.expires_at > now);
        state.codes.entry(code.hash).or_insert(code);
        Ok(())
    }

    async fn code(&self, hash: [u8; 32]) -> Result<Option<Code>, StoreError> {
        Ok(self.state()?.codes.get(&hash).cloned())
    }

    async fn pair(&self, code: [u8; 32], now: Timestamp, orchestrator: Orchestrator) -> Result<Enrolled, StoreError> {
        let mut state = self.state()?;
        if !state.code_is_good(code, now, |admits| matches!(admits, Admits::Pairing { .. })) {
            return Ok(Enrolled::Refused);
        }
        if state.orchestrators.contains_key(&orchestrator.id) {
            return Err(corrupt("orchestrators", "id", &orchestrator.id));
        }
        state.codes.remove(&code);
        state.orchestrators.insert(orchestrator.id, orchestrator);
        Ok(Enrolled::Done)
    }

    async fn enrol(&self, code: [u8; 32], now: Timestamp, worker: EnrolledWorker) -> Result<Enrolled, StoreError> {
        let mut state = self.state()?;
        let of = worker.orchestrator;
        let good = state.code_is_good(code, now, |admits| is_for(admits, of));
        if !good || !state.orchestrators.contains_key(&of) {
            return Ok(Enrolled::Refused);
        }
        if state.workers.contains_key(&worker.id) {
            return Err(corrupt("workers", "id", &worker.id));
        }
        state.codes.remove(&code);
        state.workers.insert(worker.id, worker);
        Ok(Enrolled::Done)
    }

    async fn orchestrators(&self) -> Result<Vec<Orchestrator>, StoreError> {
        Ok(self.state()?.orchestrators.values().cloned().collect())
    }

    async fn enrolled_workers(&self) -> Result<Vec<EnrolledWorker>, StoreError> {
        Ok(self.state()?.workers.values().cloned().collect())
    }

    async fn set_draining(&self, worker: WorkerId, draining: bool) -> Result<bool, StoreError> {
        let mut state = self.state()?;
        let known = state.workers.get_mut(&worker).map(|known| known.draining = draining);
        Ok(known.is_some())
    }

    async fn remove_worker(&self, worker: WorkerId) -> Result<bool, StoreError> {
        Ok(self.state()?.workers.remove(&worker).is_some())
    }

    async fn remove_orchestrator(&self, id: OrchestratorId) -> Result<Option<Vec<WorkerId>>, StoreError> {
        let mut state = self.state()?;
        if state.orchestrators.remove(&id).is_none() {
            return Ok(None);
        }
        state.codes.retain(|_, code| !is_for(&code.admits, id));
        let gone = state.workers.values().filter(|worker| worker.orchestrator == id);
        let gone: Vec<WorkerId> = gone.map(|worker| worker.id).collect();
        state.workers.retain(|_, worker| worker.orchestrator != id);
        Ok(Some(gone))
    }

    async fn note_seen(
        &self,
        orchestrators: Vec<(OrchestratorId, Timestamp)>,
        workers: Vec<(WorkerId, WorkerSeen)>,
    ) -> Result<(), StoreError> {
        let mut state = self.state()?;
        for (id, at) in orchestrators {
            if let Some(known) = state.orchestrators.get_mut(&id) {
                known.last_seen_at = known.last_seen_at.max(Some(at));
            }
        }
        for (id, seen) in workers {
            let known = state.workers.get_mut(&id);
            if let Some(known) = known.filter(|known| known.seen.at <= seen.at) {
                known.seen = seen;
            }
        }
        Ok(())
    }
}
