//! Everything in memory: one lock, one plain state. For tests and for programs that need nothing to survive them; and
//! the reference that the databases are compared with.

mod audit;
mod budgets;
mod config;
mod idempotency;
mod jobs;
mod keys;
mod pool;
mod projects;
mod retention;
mod runs;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use pond_core::audit::AuditRow;
use pond_core::clock::Timestamp;
use pond_core::config::{Entry, EntryKind, Owner};
use pond_core::id::{EngineId, JobId, OrchestratorId, ProjectId, RunId, WorkerId};
use pond_core::keys::ApiKey;
use pond_core::pool::{Code, EnrolledWorker, Lane, NeedsKey, Orchestrator};
use pond_core::projects::Project;
use pond_core::runs::StoredDefinition;
use pond_core::sealing::{KeyringStore, Sealed, WrappedKey};
use pond_core::store::StoreError;
use pond_core::usage::Account;

use self::idempotency::Once;
use self::jobs::{HeldPlace, Job};
use self::runs::RunRecord;
use crate::error::closed;
use crate::fact::{Answer, Backend, Fact, Outcome};

/// The store in memory.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    state: Mutex<State>,
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    runs: HashMap<RunId, RunRecord>,
    /// All runs, and those of each project, oldest first.
    by_time: BTreeSet<(Timestamp, RunId)>,
    by_project: HashMap<ProjectId, BTreeSet<(Timestamp, RunId)>>,
    live: BTreeSet<(ProjectId, RunId)>,
    definitions: HashMap<[u8; 32], StoredDefinition>,
    engines: HashMap<EngineId, Timestamp>,
    jobs: HashMap<JobId, Job>,
    waiting: BTreeMap<NeedsKey, BTreeSet<(i64, JobId)>>,
    /// Jobs that draw from the budget of a run, with the places of their stages.
    accounts: HashMap<RunId, BTreeMap<JobId, (u32, Account)>>,
    lanes: BTreeMap<ProjectId, Lane>,
    /// Jobs that are held, oldest first.
    held: HashMap<ProjectId, BTreeSet<HeldPlace>>,
    /// Jobs that have ended, by run.
    ended: BTreeSet<(RunId, JobId)>,
    codes: HashMap<[u8; 32], Code>,
    orchestrators: BTreeMap<OrchestratorId, Orchestrator>,
    workers: BTreeMap<WorkerId, EnrolledWorker>,
    config_revision: i64,
    config: BTreeMap<(EntryKind, Owner, String), Entry>,
    projects: BTreeMap<ProjectId, Project>,
    /// By the hash of their tokens.
    api_keys: HashMap<[u8; 32], ApiKey>,
    keys: BTreeMap<u32, WrappedKey>,
    server_keys: BTreeMap<String, Sealed>,
    audit: Vec<AuditRow>,
    once: HashMap<[u8; 32], Once>,
}

impl Memory {
    fn state(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(closed());
        }
        Ok(self.state.lock().expect("no holder of this lock panics"))
    }
}

#[async_trait]
impl Backend for Memory {
    type Item = Fact;

    fn prepare(&self, fact: Fact) -> Fact {
        fact
    }

    fn weight(_: &Fact) -> usize {
        0
    }

    async fn apply(&self, batch: Vec<Fact>) -> Vec<Answer> {
        let one = |fact| {
            let mut state = self.state()?;
            match fact {
                Fact::Create(new) => state.create(new).map(|()| Outcome::Created),
                Fact::Commit(commit) => Ok(state.commit(commit)),
                Fact::Append(append) => Ok(Outcome::Appended(state.append(append))),
                Fact::Claim(request) => Ok(Outcome::Claimed(state.claim(&request))),
                Fact::Renew(renewal) => Ok(Outcome::Renewed(state.renew(&renewal))),
            }
        };
        batch.into_iter().map(one).collect()
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.state().map(drop)
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }
}

#[async_trait]
impl KeyringStore for Memory {
    async fn wrapped_keys(&self) -> Result<Vec<WrappedKey>, StoreError> {
        Ok(self.state()?.keys.values().cloned().collect())
    }

    async fn add_wrapped_key(&self, key: WrappedKey) -> Result<bool, StoreError> {
        let mut state = self.state()?;
        let added = !state.keys.contains_key(&key.version);
        state.keys.entry(key.version).or_insert(key);
        Ok(added)
    }

    async fn server_key(&self, name: &str) -> Result<Option<Sealed>, StoreError> {
        Ok(self.state()?.server_keys.get(name).cloned())
    }

    async fn add_server_key(&self, name: &str, sealed: Sealed) -> Result<bool, StoreError> {
        let mut state = self.state()?;
        let added = !state.server_keys.contains_key(name);
        state.server_keys.entry(name.to_owned()).or_insert(sealed);
        Ok(added)
    }
}
