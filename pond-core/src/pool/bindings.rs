//! What this server knows of each orchestrator that polls it: its workers with room, and the commands that it is still to
//! carry. In memory alone: a server that does not know asks for the whole list again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;

use super::WorkerSeen;
use super::claims::Held;
use crate::clock::Timestamp;
use crate::error::{Conflict, Error, Result};
use crate::id::{BootId, JobId, OrchestratorId, WorkerId};

/// A command that was not acknowledged is told again after this.
const TELL_AGAIN: Duration = Duration::from_secs(5);
/// The number of a cancel: the only command of an attempt so far.
pub(super) const CANCEL: u64 = 1;

/// A worker behind an orchestrator.
#[derive(Debug, Clone, Default)]
pub(super) struct Behind {
    /// Its life; none before it has polled.
    pub(super) boot: Option<BootId>,
    /// Jobs it can take now.
    pub(super) free: u32,
    /// What was told of it.
    pub(super) seen: WorkerSeen,
}

/// A cancel on its way.
#[derive(Debug, Clone)]
pub(super) struct Cancel {
    pub(super) held: Arc<Held>,
    told: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct State {
    /// The list's first generation, and the one that it has now.
    generations: Option<(u64, u64)>,
    workers: BTreeMap<WorkerId, Behind>,
    cancels: BTreeMap<JobId, Cancel>,
    /// Number of the newest poll.
    polls: u64,
    heard: Option<Timestamp>,
    noted: Option<Timestamp>,
}

/// One orchestrator.
#[derive(Debug, Default)]
pub(super) struct Binding {
    state: Mutex<State>,
    wake: Notify,
}

/// All orchestrators.
#[derive(Debug, Default)]
pub(crate) struct Bindings(Mutex<BTreeMap<OrchestratorId, Arc<Binding>>>);

impl Bindings {
    /// The orchestrator's binding; made when there is none.
    pub(super) fn of(&self, id: OrchestratorId) -> Arc<Binding> {
        let mut all = self.0.lock().expect("no holder of this lock panics");
        all.entry(id).or_default().clone()
    }

    /// When an orchestrator last gave this server a word.
    pub(crate) fn last_heard(&self, id: OrchestratorId) -> Option<Timestamp> {
        self.0
            .lock()
            .expect("no holder of this lock panics")
            .get(&id)?
            .last_heard()
    }

    /// Forgets an orchestrator that is no more; its held polls end.
    pub(super) fn forget(&self, id: OrchestratorId) {
        let gone = self.0.lock().expect("no holder of this lock panics").remove(&id);
        if let Some(binding) = gone {
            binding.supersede();
        }
    }

    /// Wakes every held poll.
    pub(crate) fn wake_all(&self) {
        let all = self.0.lock().expect("no holder of this lock panics");
        all.values().for_each(|binding| binding.wake.notify_waiters());
    }
}

impl Binding {
    /// Takes a list of changes in: whole from generation 0 on, else on what is known. Gives the generation.
    pub(super) fn update(&self, base: Option<u64>, first: u64, change: impl FnOnce(&mut Workers<'_>)) -> Result<u64> {
        let mut state = self.lock();
        match (base.filter(|base| *base != 0), state.generations) {
            (Some(base), Some((oldest, now))) if (oldest..=now).contains(&base) => {
                state.generations = Some((oldest, now + 1));
            }
            (Some(_), _) => {
                let message = "this server does not know that generation: send all workers from generation 0";
                return Err(Error::conflict(Conflict::Resync, message));
            }
            (None, known) => {
                let next = known.map_or(first, |(_, now)| now + 1);
                state.generations = Some((next, next));
                state.workers.clear();
            }
        }
        change(&mut Workers(&mut state.workers));
        Ok(state.generations.map_or(first, |(_, now)| now))
    }

    /// The generation of the list; of a list that was never sent it is `first`.
    pub(super) fn generation(&self, first: u64) -> u64 {
        let mut state = self.lock();
        state.generations.get_or_insert((first, first)).1
    }

    /// The workers of this orchestrator that have said something.
    pub(super) fn workers(&self) -> Vec<(WorkerId, Behind)> {
        self.lock()
            .workers
            .iter()
            .map(|(id, behind)| (*id, behind.clone()))
            .collect()
    }

    /// Takes slots of a worker: they are filled.
    pub(super) fn fill(&self, worker: WorkerId, jobs: u32) {
        if let Some(behind) = self.lock().workers.get_mut(&worker) {
            behind.free = behind.free.saturating_sub(jobs);
        }
    }

    /// A poll begins, and ends those that are held.
    pub(super) fn supersede(&self) -> u64 {
        let mut state = self.lock();
        state.polls += 1;
        self.wake.notify_waiters();
        state.polls
    }

    /// Whether a newer poll is there.
    pub(super) fn is_superseded(&self, poll: u64) -> bool {
        self.lock().polls != poll
    }

    /// What wakes its polls.
    pub(super) fn woken(&self) -> tokio::sync::futures::Notified<'_> {
        self.wake.notified()
    }

    /// Leaves a cancel to be told.
    pub(super) fn cancel(&self, held: Arc<Held>) {
        let mut state = self.lock();
        let cancel = state.cancels.entry(held.job).or_insert_with(|| Cancel {
            held: held.clone(),
            told: None,
        });
        if cancel.held.token != held.token {
            *cancel = Cancel { held, told: None };
        }
        drop(state);
        self.wake.notify_waiters();
    }

    /// A command of a job was carried out.
    pub(super) fn acknowledged(&self, job: JobId, n: u64) {
        if n >= CANCEL {
            self.lock().cancels.remove(&job);
        }
    }

    /// A claim is over: nothing more is told of it.
    pub(super) fn over(&self, job: JobId) {
        self.lock().cancels.remove(&job);
    }

    /// Cancels to tell now: new ones, and those that were told a while ago and not acknowledged.
    pub(super) fn take_cancels(&self, now: Timestamp) -> Vec<Arc<Held>> {
        let mut state = self.lock();
        let due = state
            .cancels
            .values_mut()
            .filter(|cancel| cancel.told.is_none_or(|told| now.since(told) >= TELL_AGAIN));
        due.map(|cancel| {
            cancel.told = Some(now);
            cancel.held.clone()
        })
        .collect()
    }

    /// It gave a word.
    pub(super) fn heard(&self, now: Timestamp) {
        self.lock().heard = Some(now);
    }

    /// When it last gave a word.
    fn last_heard(&self) -> Option<Timestamp> {
        self.lock().heard
    }

    /// Whether it is time to write down what was heard; it is then taken as written.
    pub(super) fn is_to_be_noted(&self, now: Timestamp, every: Duration) -> bool {
        let mut state = self.lock();
        let due = state.noted.is_none_or(|noted| now.since(noted) >= every);
        if due {
            state.noted = Some(now);
        }
        due
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

/// The list while it is changed.
pub(super) struct Workers<'a>(&'a mut BTreeMap<WorkerId, Behind>);

impl Workers<'_> {
    /// The entry of a worker; made when there is none.
    pub(super) fn of(&mut self, id: WorkerId) -> &mut Behind {
        self.0.entry(id).or_default()
    }

    /// A worker is connected no more.
    pub(super) fn gone(&mut self, id: WorkerId) {
        self.0.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn c17_104_a_list_is_built_in_parts_and_an_unknown_generation_asks_for_all_of_it() {
        let binding = Binding::default();
        let id = |n: u128| WorkerId::from(Uuid::from_u128(n));
        let add = |base, range: std::ops::Range<u128>| {
            binding.update(base, 1000, |workers| range.for_each(|n| workers.of(id(n)).free = 1))
        };
        assert!(add(Some(7), 0..1).is_err());
        let first = add(Some(0), 0..1000).unwrap();
        let second = add(Some(first), 1000..2000).unwrap();
        let third = add(Some(second), 2000..2500).unwrap();
        assert_eq!((first, second, third), (1000, 1001, 1002));
        assert_eq!(binding.workers().len(), 2500);
        // One change is one entry; a list on any generation since the last whole one is known.
        let next = binding
            .update(Some(second), 1, |workers| workers.of(id(3)).free = 9)
            .unwrap();
        assert_eq!((next, binding.workers().len()), (1003, 2500));
        assert_eq!(binding.workers()[3].1.free, 9);
        assert!(add(Some(999), 0..1).is_err());
        assert!(add(Some(1004), 0..1).is_err());
        let whole = add(None, 0..2).unwrap();
        assert_eq!((whole, binding.workers().len()), (1004, 2));
        assert!(add(Some(third), 0..1).is_err());
    }
}
