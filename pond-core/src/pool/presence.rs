//! Which workers are there. Kept in memory: an idle worker costs no write.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;

use super::{EnrolledWorker, Needs, Serves};
use crate::clock::Timestamp;
use crate::dispatch::{Command, WorkerInfo};
use crate::id::{BootId, OrchestratorId, ProjectId, WorkerId};
use crate::outbound::HostPattern;

/// What no worker that is online has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Tags that none, or not one with the rest, has.
    pub tags: BTreeSet<String>,
    /// Capabilities likewise.
    pub capabilities: BTreeSet<String>,
    /// Whether no worker is online that serves the project at all.
    pub nobody: bool,
}

/// A worker as lists show it.
#[derive(Debug, Clone)]
pub struct WorkerView {
    /// Who it is.
    pub info: WorkerInfo,
    /// Whether it runs in this process.
    pub here: bool,
    /// The orchestrator that it is behind.
    pub orchestrator: Option<OrchestratorId>,
    /// Its pinned keys.
    pub fingerprint: Option<String>,
    /// When it last gave a word.
    pub last_seen: Option<Timestamp>,
    /// Whether that is recent.
    pub online: bool,
    /// Whether it gets no new jobs.
    pub draining: bool,
    /// Jobs it runs, as far as it has told.
    pub running: u32,
    /// Version of its program.
    pub version: String,
}

struct Present {
    info: WorkerInfo,
    /// Whether it runs in this process; else its words go by its orchestrator.
    here: bool,
    /// Whether it gets no new jobs.
    draining: bool,
    last_seen: Timestamp,
    polling: u32,
    commands: VecDeque<Command>,
    wake: Arc<Notify>,
}

/// The workers.
#[derive(Default)]
pub(crate) struct Presence {
    workers: Mutex<BTreeMap<WorkerId, Present>>,
}

impl Presence {
    /// A worker gives a word; `true` when this life of it is new.
    pub(crate) fn seen(&self, info: &WorkerInfo, now: Timestamp) -> bool {
        let mut workers = self.lock();
        let known = workers.entry(info.id).or_insert_with(|| Present {
            info: info.clone(),
            here: false,
            draining: false,
            last_seen: Timestamp::from_micros(i64::MIN),
            polling: 0,
            commands: VecDeque::new(),
            wake: Arc::default(),
        });
        let new = known.last_seen == Timestamp::from_micros(i64::MIN) || known.info.boot != info.boot;
        known.info = info.clone();
        known.last_seen = now;
        new
    }

    /// A worker of this process comes.
    pub(crate) fn attach(&self, info: &WorkerInfo, now: Timestamp) {
        self.seen(info, now);
        if let Some(present) = self.lock().get_mut(&info.id) {
            present.here = true;
        }
    }

    /// Other servers heard of these workers behind orchestrators.
    pub(crate) fn heard_elsewhere<'a>(&self, heard: impl Iterator<Item = (&'a EnrolledWorker, Timestamp)>) {
        let mut workers = self.lock();
        for (worker, at) in heard {
            // Its life is not known here; whoever hears from it directly learns that.
            let present = workers.entry(worker.id).or_insert_with(|| Present {
                info: worker.info(BootId::from(uuid::Uuid::nil())),
                here: false,
                draining: false,
                last_seen: at,
                polling: 0,
                commands: VecDeque::new(),
                wake: Arc::default(),
            });
            if present.last_seen < at {
                present.last_seen = at;
                present.info = worker.info(present.info.boot);
            }
        }
    }

    /// When a worker was last heard of, and whether that is recent; none when it was not.
    pub(crate) fn heard_of(&self, id: WorkerId, now: Timestamp, offline_after: Duration) -> Option<(Timestamp, bool)> {
        let workers = self.lock();
        let present = workers.get(&id)?;
        Some((present.last_seen, is_online(present, now, offline_after)))
    }

    /// A worker is to get no new jobs, or may have them again.
    pub(crate) fn drain(&self, id: WorkerId, draining: bool) {
        if let Some(present) = self.lock().get_mut(&id) {
            present.draining = draining;
        }
    }

    /// A worker is there no more, whatever life of it.
    pub(crate) fn remove(&self, id: WorkerId) {
        self.lock().remove(&id);
    }

    /// A life of a worker ends. A later life of it, which may have begun already, stays.
    pub(crate) fn gone(&self, info: &WorkerInfo) {
        let mut workers = self.lock();
        if workers.get(&info.id).is_some_and(|known| known.info.boot == info.boot) {
            workers.remove(&info.id);
        }
    }

    /// Counts a poll that is being held: whoever holds one is online.
    pub(crate) fn polling(&self, worker: WorkerId, now: Timestamp, up: bool) {
        if let Some(present) = self.lock().get_mut(&worker) {
            present.last_seen = now;
            present.polling = if up {
                present.polling + 1
            } else {
                present.polling.saturating_sub(1)
            };
        }
    }

    /// Leaves word for a worker of this process; whether there is such a one.
    pub(crate) fn command(&self, worker: WorkerId, command: Command) -> bool {
        let mut workers = self.lock();
        let Some(present) = workers.get_mut(&worker).filter(|present| present.here) else {
            return false;
        };
        present.commands.push_back(command);
        present.wake.notify_one();
        true
    }

    /// Takes what was left for a worker.
    pub(crate) fn take_commands(&self, worker: WorkerId) -> Vec<Command> {
        self.lock()
            .get_mut(&worker)
            .map(|present| present.commands.drain(..).collect())
            .unwrap_or_default()
    }

    /// What wakes a worker's poll.
    pub(crate) fn wake(&self, worker: WorkerId) -> Arc<Notify> {
        self.lock()
            .get(&worker)
            .map(|present| present.wake.clone())
            .unwrap_or_default()
    }

    /// What is missing for `needs` of `project` to be met by a worker that is online; none when one fits.
    pub(crate) fn missing(
        &self,
        needs: &Needs,
        project: ProjectId,
        now: Timestamp,
        offline_after: Duration,
    ) -> Option<Missing> {
        let workers = self.lock();
        let online: Vec<&WorkerInfo> = workers
            .values()
            .filter(|present| is_online(present, now, offline_after) && !present.draining)
            .map(|present| &present.info)
            .filter(|info| Serves::of(&info.tags).admits(project))
            .collect();
        if online.iter().any(|info| needs.fit(&info.tags, &info.capabilities)) {
            return None;
        }
        // Told against the worker that comes closest.
        let lack = |info: &&WorkerInfo| lacks(needs, info);
        let closest = online
            .iter()
            .map(lack)
            .min_by_key(|(tags, capabilities)| tags.len() + capabilities.len());
        let nobody = online.is_empty();
        let (tags, capabilities) = closest.unwrap_or_else(|| {
            let any = needs.any_of.iter().next().cloned();
            (
                needs.tags.clone(),
                needs.capabilities.iter().cloned().chain(any).collect(),
            )
        });
        Some(Missing {
            tags,
            capabilities,
            nobody,
        })
    }

    /// What workers that are online and fit `needs` let their jobs reach by default, all together.
    pub(crate) fn defaults(
        &self,
        needs: &Needs,
        project: ProjectId,
        now: Timestamp,
        offline_after: Duration,
    ) -> Vec<HostPattern> {
        let workers = self.lock();
        let online = workers
            .values()
            .filter(|present| is_online(present, now, offline_after));
        let fit = online.filter(|present| {
            let WorkerInfo { tags, capabilities, .. } = &present.info;
            Serves::of(tags).admits(project) && needs.fit(tags, capabilities)
        });
        let hosts: BTreeSet<HostPattern> = fit.flat_map(|present| present.info.egress_defaults.clone()).collect();
        hosts.into_iter().collect()
    }

    /// All workers.
    pub(crate) fn list(&self, now: Timestamp, offline_after: Duration) -> Vec<WorkerView> {
        let view = |present: &Present| WorkerView {
            info: present.info.clone(),
            here: present.here,
            orchestrator: None,
            fingerprint: None,
            last_seen: Some(present.last_seen),
            online: is_online(present, now, offline_after),
            draining: false,
            running: 0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        self.lock().values().map(view).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<WorkerId, Present>> {
        self.workers.lock().expect("no holder of this lock panics")
    }
}

fn is_online(present: &Present, now: Timestamp, offline_after: Duration) -> bool {
    present.polling > 0 || now.since(present.last_seen) < offline_after
}

fn lacks(needs: &Needs, info: &WorkerInfo) -> (BTreeSet<String>, BTreeSet<String>) {
    let tags = needs.tags.difference(&info.tags).cloned().collect();
    let mut capabilities: BTreeSet<String> = needs.capabilities.difference(&info.capabilities).cloned().collect();
    if !needs.any_of.is_empty() && needs.any_of.is_disjoint(&info.capabilities) {
        capabilities.extend(needs.any_of.iter().next().cloned());
    }
    (tags, capabilities)
}
