//! Who is there, what waits for whom, and what the engine does not know yet of it. No I/O, no clock of its own.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use pond_core::clock::Timestamp;
use pond_core::id::{BootId, JobId, WorkerId};
use pond_sdk::api;
use serde_json::Value;
use tokio::sync::Notify;

use super::lists::{Telling, Told};
use super::seat::{Handed, Parcel, Seat};

/// How long a worker may take between two polls.
const BETWEEN: Duration = Duration::from_secs(5);
/// Jobs whose worker is remembered.
const MAX_JOBS: usize = 100_000;

/// A worker in the list that goes with polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) boot: BootId,
    pub(super) free: u32,
}

/// A worker in the list of snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) running: u32,
    pub(super) concurrency: u32,
    pub(super) version: String,
    pub(super) problems: std::collections::BTreeMap<String, String>,
    pub(super) egress_defaults: Vec<String>,
}

/// Everything that the orchestrator keeps in memory.
#[derive(Debug, Default)]
pub(super) struct Roster {
    seats: HashMap<WorkerId, Seat>,
    jobs: HashMap<JobId, WorkerId>,
    /// The generation of both lists that the engine answered last; 0 when it knows none of ours.
    pub(super) generation: u64,
    pub(super) rooms: Told<Room>,
    pub(super) seen: Told<Seen>,
    /// Workers between two polls, by when they must be back.
    away: VecDeque<(Timestamp, WorkerId, u64)>,
    revoked: HashSet<WorkerId>,
}

/// A poll that begins.
#[derive(Debug)]
pub(super) struct Visit {
    pub(super) number: u64,
    pub(super) wake: Arc<Notify>,
}

/// How a held poll stands.
#[derive(Debug, PartialEq)]
pub(super) enum Standing {
    /// It is to be answered with this; with nothing when a newer poll has come.
    Answer(Handed),
    /// There is nothing yet; at the latest to be looked at again then.
    Wait(Option<Timestamp>),
}

impl Roster {
    /// A worker's poll begins.
    pub(super) fn arrive(&mut self, worker: WorkerId, boot: BootId, poll: &api::WorkerPoll) -> Visit {
        let seat = self.seats.entry(worker).or_insert_with(|| Seat::new(boot));
        let number = seat.arrive(boot, poll);
        let wake = Arc::clone(&seat.wake);
        self.touch(worker);
        Visit { number, wake }
    }

    /// What a held poll gets now.
    pub(super) fn look(&mut self, worker: WorkerId, visit: u64, now: Timestamp) -> Standing {
        let Some(seat) = self.seats.get_mut(&worker).filter(|seat| seat.visit == visit) else {
            return Standing::Answer(Handed::default());
        };
        let handed = seat.hand(visit, now);
        match handed.is_empty() {
            true => Standing::Wait(seat.next_look()),
            false => Standing::Answer(handed),
        }
    }

    /// A poll has ended; `sent` says whether its answer is on its way.
    pub(super) fn leave(&mut self, worker: WorkerId, visit: u64, sent: Sent, now: Timestamp) {
        let Some(seat) = self.seats.get_mut(&worker) else {
            return;
        };
        if sent == Sent::No {
            seat.undo(visit);
        }
        if seat.visit == visit {
            seat.here = false;
            self.away.push_back((now.plus(BETWEEN), worker, visit));
        }
    }

    /// Workers that did not come back count as gone. Gives when the next one is due.
    pub(super) fn sweep(&mut self, now: Timestamp) -> Option<Timestamp> {
        while let Some((due, worker, visit)) = self.away.front().copied() {
            if due > now {
                return Some(due);
            }
            self.away.pop_front();
            if let Some(seat) = self.seats.get_mut(&worker)
                && seat.visit == visit
                && !seat.here
            {
                seat.present = false;
                self.rooms.touch(worker);
                // It may have been told with its room alone.
                self.seen.tell(worker);
            }
        }
        None
    }

    /// A job comes from the engine. Nothing when it names no worker that is known here.
    pub(super) fn job(&mut self, json: Value, lease_until: Timestamp) -> Option<JobId> {
        let (job, worker) = (id(&json, "job_id")?, id(&json, "worker_id")?);
        let seat = self.seats.get_mut(&worker)?;
        seat.put(job, json, lease_until);
        self.remember(job, worker);
        self.touch(worker);
        Some(job)
    }

    /// A command comes from the engine. Whether it is known for whom it is; if not, the engine repeats it.
    pub(super) fn command(&mut self, json: Value) -> bool {
        let job: Option<JobId> = id(&json, "job_id");
        let n = json.get("n").and_then(Value::as_u64);
        let Some((job, n)) = job.zip(n) else { return false };
        let seat = self.jobs.get(&job).and_then(|worker| self.seats.get_mut(worker));
        let Some(seat) = seat else { return false };
        seat.tell(job, n, json);
        true
    }

    /// A worker speaks of a job. False when the job is another worker's.
    pub(super) fn speaks(&mut self, worker: WorkerId, job: JobId, ack: Option<u64>) -> bool {
        if self.jobs.get(&job).is_some_and(|known| *known != worker) {
            return false;
        }
        self.remember(job, worker);
        if let Some(seat) = self.seats.get_mut(&worker) {
            seat.has(job);
            if let Some(n) = ack {
                seat.acknowledged(job, n);
            }
            self.rooms.touch(worker);
        }
        true
    }

    /// Whose a job is, as far as is known.
    pub(super) fn worker_of(&self, job: JobId) -> Option<WorkerId> {
        self.jobs.get(&job).copied()
    }

    /// A job is over, or no longer this worker's.
    pub(super) fn over(&mut self, job: JobId) {
        if let Some(worker) = self.jobs.remove(&job)
            && let Some(seat) = self.seats.get_mut(&worker)
        {
            seat.over(job);
            self.rooms.touch(worker);
        }
    }

    /// Workers whose tokens are refused from now on. Gives those for whom this is new.
    pub(super) fn revoke(&mut self, workers: impl Iterator<Item = WorkerId>) -> Vec<WorkerId> {
        let fresh: Vec<WorkerId> = workers.filter(|worker| self.revoked.insert(*worker)).collect();
        for worker in &fresh {
            if let Some(seat) = self.seats.remove(worker) {
                seat.wake.notify_waiters();
            }
            self.jobs.retain(|_, of| of != worker);
            self.touch(*worker);
        }
        fresh
    }

    /// Whether a worker was revoked.
    pub(super) fn is_revoked(&self, worker: WorkerId) -> bool {
        self.revoked.contains(&worker)
    }

    /// What is to be told of room, next.
    pub(super) fn next_rooms(&mut self) -> Option<Telling<Room>> {
        let seats = &self.seats;
        self.rooms.next(|worker| {
            let seat = seats.get(&worker).filter(|seat| seat.present)?;
            Some(Room {
                boot: seat.boot,
                free: seat.free(),
            })
        })
    }

    /// What is to be told of workers, next.
    pub(super) fn next_seen(&mut self) -> Option<Telling<Seen>> {
        let seats = &self.seats;
        self.seen.next(|worker| {
            let seat = seats.get(&worker).filter(|seat| seat.present)?;
            Some(Seen {
                running: seat.running,
                concurrency: seat.concurrency,
                version: seat.version.clone(),
                problems: seat.problems.clone(),
                egress_defaults: seat.egress_defaults.clone(),
            })
        })
    }

    /// The engine does not know our lists any more.
    pub(super) fn again(&mut self) {
        self.generation = 0;
        self.rooms.again(self.seats.keys().copied());
        self.seen.again(self.seats.keys().copied());
    }

    /// Jobs that were never handed out.
    pub(super) fn unhanded(&mut self) -> Vec<Parcel> {
        self.seats.values_mut().flat_map(Seat::unhanded).collect()
    }

    /// Workers that are there, and jobs that they run.
    pub(super) fn count(&self) -> (usize, u64) {
        let present = self.seats.values().filter(|seat| seat.present);
        present.fold((0, 0), |(workers, running), seat| {
            (workers + 1, running + u64::from(seat.running))
        })
    }

    fn remember(&mut self, job: JobId, worker: WorkerId) {
        if self.jobs.len() < MAX_JOBS {
            self.jobs.insert(job, worker);
        }
    }

    fn touch(&mut self, worker: WorkerId) {
        self.rooms.touch(worker);
        self.seen.touch(worker);
    }
}

/// Whether an answer is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    Yes,
    No,
}

fn id<T: std::str::FromStr>(json: &Value, name: &str) -> Option<T> {
    json.get(name)?.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn worker(n: u128) -> WorkerId {
        Uuid::from_u128(n).into()
    }

    fn boot() -> BootId {
        Uuid::from_u128(9).into()
    }

    fn job(n: u128) -> JobId {
        Uuid::from_u128(n).into()
    }

    fn poll() -> api::WorkerPoll {
        serde_json::from_value(json!({"boot_id": "", "free_slots": 1, "concurrency": 1})).unwrap()
    }

    fn signed(job_id: JobId, worker_id: WorkerId) -> Value {
        json!({"job_id": job_id, "worker_id": worker_id})
    }

    #[test]
    fn a_poll_that_follows_another_changes_nothing_and_one_that_does_not_is_told() {
        let mut roster = Roster::default();
        let first = roster.arrive(worker(1), boot(), &poll());
        let told = roster.next_rooms().unwrap();
        assert_eq!(told, [(worker(1), Some(Room { boot: boot(), free: 1 }))]);
        roster.rooms.taken(told);
        roster.leave(worker(1), first.number, Sent::Yes, at(0));
        let second = roster.arrive(worker(1), boot(), &poll());
        assert_eq!(roster.sweep(at(6)), None);
        assert_eq!(roster.next_rooms(), None);
        roster.leave(worker(1), second.number, Sent::Yes, at(10));
        assert_eq!(roster.sweep(at(12)), Some(at(15)));
        roster.sweep(at(15));
        assert_eq!(roster.next_rooms().unwrap(), [(worker(1), None)]);
        assert_eq!(roster.next_seen().unwrap(), [(worker(1), None)]);
    }

    #[test]
    fn a_newer_poll_ends_the_older_one_and_gets_the_job() {
        let mut roster = Roster::default();
        let first = roster.arrive(worker(1), boot(), &poll());
        let second = roster.arrive(worker(1), boot(), &poll());
        roster.job(signed(job(1), worker(1)), at(30)).unwrap();
        assert_eq!(
            roster.look(worker(1), first.number, at(0)),
            Standing::Answer(Handed::default())
        );
        let Standing::Answer(handed) = roster.look(worker(1), second.number, at(0)) else {
            panic!("the job");
        };
        assert_eq!(handed.jobs.len(), 1);
        assert_eq!(roster.job(signed(job(2), worker(2)), at(30)), None);
    }

    #[test]
    fn a_job_is_its_workers_alone_and_a_revoked_worker_has_none() {
        let mut roster = Roster::default();
        let visit = roster.arrive(worker(1), boot(), &poll());
        roster.arrive(worker(2), boot(), &poll());
        roster.job(signed(job(1), worker(1)), at(30)).unwrap();
        roster.look(worker(1), visit.number, at(0));
        assert!(roster.speaks(worker(1), job(1), None));
        assert!(!roster.speaks(worker(2), job(1), None));
        assert!(roster.command(json!({"job_id": job(1), "n": 1})));
        assert!(!roster.command(json!({"job_id": job(5), "n": 1})));
        assert_eq!(roster.revoke([worker(1)].into_iter()), [worker(1)]);
        assert!(roster.is_revoked(worker(1)) && roster.revoke([worker(1)].into_iter()).is_empty());
        assert_eq!(
            roster.look(worker(1), visit.number, at(0)),
            Standing::Answer(Handed::default())
        );
        assert_eq!(roster.worker_of(job(1)), None);
    }
}
