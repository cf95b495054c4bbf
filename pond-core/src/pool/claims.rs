//! What is known of live claims: kept at hand in the engine that started them, and written with the job, so that any other
//! server that hears of a claim knows the same.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Deserialize, Serialize};

use super::{Claim, JobPhase, JobRow};
use crate::config::Owner;
use crate::dispatch::{BundleOffer, CredentialRequest, Job};
use crate::id::{JobId, RunId, WorkerId};
use crate::runs::Unit;
use crate::usage::Prices;

/// What was decided when a claim was started; the job's row keeps it as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Decided {
    /// Number of the attempt.
    pub(crate) attempt: u32,
    /// Key of the stage.
    pub(crate) stage_key: String,
    /// Key of the area.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) substage: Option<String>,
    /// SHA-256 of the signed job, in hex; none for a worker in the engine's process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<String>,
    /// What each model of the job costs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) prices: BTreeMap<String, Prices>,
    /// The credential, and the provider that it was for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) credential: Option<(CredentialRequest, String)>,
}

/// A live claim.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) job: JobId,
    /// Hash of the claim's token.
    pub(crate) token: [u8; 32],
    pub(crate) worker: WorkerId,
    pub(crate) run: RunId,
    pub(crate) stage: usize,
    pub(crate) area: Option<u32>,
    pub(crate) decided: Decided,
}

impl Held {
    /// What the job runs.
    pub(crate) fn unit(&self) -> Unit {
        Unit {
            stage: self.stage,
            area: self.area.and_then(|area| usize::try_from(area).ok()),
        }
    }

    /// What the store knows of a job's claim; none when it is not claimed, or its start was not written.
    pub(crate) fn of(row: &JobRow) -> Option<Self> {
        let JobPhase::Claimed { token, worker, .. } = row.phase else {
            return None;
        };
        Some(Self {
            job: row.id,
            token,
            worker,
            run: row.run,
            stage: usize::try_from(row.stage).unwrap_or(usize::MAX),
            area: row.area,
            decided: serde_json::from_str(row.dispatch.as_deref()?).ok()?,
        })
    }
}

impl CredentialRequest {
    /// The request for a credential.
    pub(crate) fn new(owner: Owner, name: String) -> Self {
        let project_id = match owner {
            Owner::Org => None,
            Owner::Project(project) => Some(project),
        };
        Self { name, project_id }
    }

    /// Whose it is.
    pub(crate) fn owner(&self) -> Owner {
        self.project_id.map_or(Owner::Org, Owner::Project)
    }
}

/// The live claims that this engine has heard of.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    held: Mutex<HashMap<JobId, Arc<Held>>>,
    /// Runs of which it is about to be looked whether they were cancelled.
    looking: Mutex<HashSet<RunId>>,
}

impl Claims {
    pub(crate) fn keep(&self, held: Held) -> Arc<Held> {
        let held = Arc::new(held);
        self.lock().insert(held.job, held.clone());
        held
    }

    /// What is at hand of a claim.
    pub(crate) fn get(&self, claim: &Claim) -> Option<Arc<Held>> {
        let held = self.lock().get(&claim.job).cloned();
        held.filter(|held| held.token == claim.token.hash())
    }

    /// Jobs of a run that are held.
    pub(crate) fn of_run(&self, run: RunId) -> Vec<JobId> {
        let held = self.lock();
        held.values()
            .filter(|held| held.run == run)
            .map(|held| held.job)
            .collect()
    }

    /// How many claims of a worker are at hand.
    pub(crate) fn of_worker(&self, worker: WorkerId) -> u32 {
        let held = self.lock();
        let held = held.values().filter(|held| held.worker == worker).count();
        u32::try_from(held).unwrap_or(u32::MAX)
    }

    /// Whether nobody is about to look after a run yet, of which jobs are held.
    pub(crate) fn is_to_be_looked_after(&self, run: RunId) -> bool {
        let any = self.lock().values().any(|held| held.run == run);
        any && self.looking.lock().expect("no holder of this lock panics").insert(run)
    }

    /// A run is looked after now.
    pub(crate) fn looks_after(&self, run: RunId) {
        self.looking.lock().expect("no holder of this lock panics").remove(&run);
    }

    /// Forgets whatever claim of a job.
    pub(crate) fn drop_job(&self, job: JobId) {
        self.lock().remove(&job);
    }

    /// Forgets a claim that is over; another claim of the same job stays.
    pub(crate) fn forget(&self, job: JobId, token: [u8; 32]) {
        let mut held = self.lock();
        if held.get(&job).is_some_and(|held| held.token == token) {
            held.remove(&job);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Arc<Held>>> {
        self.held.lock().expect("no holder of this lock panics")
    }
}

/// A job that was just started, with all that its worker is to get.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) job: Job,
    /// The job as the engine signed it, for a worker elsewhere.
    pub(crate) signed: Option<serde_json::Value>,
}

impl BundleOffer {
    /// An offer to a worker in the engine's process, which needs no token.
    pub(crate) fn here(sha256: String, size: u64) -> Self {
        Self {
            token: crate::secret::Secret::new(""),
            sha256,
            size,
        }
    }
}
