//! Which workers are there. Kept in memory: an idle worker costs no write.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;

use super::{Needs, Serves};
use crate::clock::Timestamp;
use crate::dispatch::{Command, WorkerInfo};
use crate::id::{ProjectId, WorkerId};

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
    /// When it last gave a word.
    pub last_seen: Timestamp,
    /// Whether that is recent.
    pub online: bool,
}

struct Present {
    info: WorkerInfo,
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

    /// Leaves word for a worker.
    pub(crate) fn command(&self, worker: WorkerId, command: Command) {
        if let Some(present) = self.lock().get_mut(&worker) {
            present.commands.push_back(command);
            present.wake.notify_one();
        }
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
            .filter(|present| is_online(present, now, offline_after))
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

    /// All workers.
    pub(crate) fn list(&self, now: Timestamp, offline_after: Duration) -> Vec<WorkerView> {
        let view = |present: &Present| WorkerView {
            info: present.info.clone(),
            last_seen: present.last_seen,
            online: is_online(present, now, offline_after),
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
