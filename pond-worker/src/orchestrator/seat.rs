//! What is known of one worker, and what waits for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pond_core::clock::Timestamp;
use pond_core::id::{BootId, JobId};
use pond_sdk::api;
use serde_json::Value;
use tokio::sync::Notify;

/// A job whose lease is nearly over is not handed out: its worker could do nothing before another one has it.
const LEAST_LEASE: Duration = Duration::from_secs(3);
/// After this a job that was handed out, and of which its worker says nothing, is taken for lost on the way.
const SILENT: Duration = Duration::from_secs(3);
/// After this a command that is not acknowledged is told again.
const REPEAT: Duration = Duration::from_secs(5);
/// Commands that wait at most; the engine repeats those for which there is no room.
const MAX_COMMANDS: usize = 1000;

/// A job on its way to its worker.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) job: JobId,
    pub(super) json: Value,
    pub(super) lease_until: Timestamp,
    /// When it was handed out, and in which visit.
    handed: Option<(Timestamp, u64)>,
}

#[derive(Debug)]
struct Mail {
    json: Value,
    told: Option<Timestamp>,
}

/// A worker.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) boot: BootId,
    pub(super) running: u32,
    pub(super) concurrency: u32,
    pub(super) version: String,
    pub(super) problems: BTreeMap<String, String>,
    pub(super) egress_defaults: Vec<String>,
    /// Whether a poll of it is held, or was not long ago.
    pub(super) present: bool,
    /// Number of its newest poll.
    pub(super) visit: u64,
    /// Whether that poll is held.
    pub(super) here: bool,
    /// Jobs it can take, by its newest poll and what it took since.
    free: u32,
    parcels: Vec<Parcel>,
    mail: BTreeMap<(JobId, u64), Mail>,
    pub(super) wake: Arc<Notify>,
}

/// What a poll gets.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Handed {
    pub(super) jobs: Vec<Value>,
    pub(super) commands: Vec<Value>,
}

impl Handed {
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.commands.is_empty()
    }
}

impl Seat {
    pub(super) fn new(boot: BootId) -> Self {
        Self {
            boot,
            running: 0,
            concurrency: 0,
            version: String::new(),
            problems: BTreeMap::new(),
            egress_defaults: Vec::new(),
            present: false,
            visit: 0,
            here: false,
            free: 0,
            parcels: Vec::new(),
            mail: BTreeMap::new(),
            wake: Arc::new(Notify::new()),
        }
    }

    /// A poll begins; an older one that is held ends.
    pub(super) fn arrive(&mut self, boot: BootId, poll: &api::WorkerPoll) -> u64 {
        if boot != self.boot {
            // Another life: what was meant for the former one goes back to the engine, and is not its.
            *self = Self {
                visit: self.visit,
                wake: Arc::clone(&self.wake),
                ..Self::new(boot)
            };
        }
        self.visit += 1;
        self.here = true;
        self.present = true;
        self.free = poll.free_slots.min(poll.concurrency);
        self.running = poll.running;
        self.concurrency = poll.concurrency;
        self.version.clone_from(&poll.version);
        self.problems.clone_from(&poll.capability_problems);
        self.egress_defaults.clone_from(&poll.egress_defaults);
        self.wake.notify_waiters();
        self.visit
    }

    /// Jobs it can take beyond those on their way.
    pub(super) fn free(&self) -> u32 {
        let under_way = u32::try_from(self.parcels.len()).unwrap_or(u32::MAX);
        match self.present {
            true => self.free.saturating_sub(under_way),
            false => 0,
        }
    }

    /// A job comes for it.
    pub(super) fn put(&mut self, job: JobId, json: Value, lease_until: Timestamp) {
        self.parcels.retain(|parcel| parcel.job != job);
        self.parcels.push(Parcel {
            job,
            json,
            lease_until,
            handed: None,
        });
        self.wake.notify_waiters();
    }

    /// A command comes for it.
    pub(super) fn tell(&mut self, job: JobId, n: u64, json: Value) {
        if self.mail.len() >= MAX_COMMANDS {
            return;
        }
        let fresh = !self.mail.contains_key(&(job, n));
        self.mail.entry((job, n)).or_insert(Mail { json, told: None });
        if fresh {
            self.wake.notify_waiters();
        }
    }

    /// Takes what is to be handed out now in a visit.
    pub(super) fn hand(&mut self, visit: u64, now: Timestamp) -> Handed {
        self.parcels.retain(|parcel| parcel.lease_until > now.plus(LEAST_LEASE));
        let mut handed = Handed::default();
        for parcel in &mut self.parcels {
            let due = match parcel.handed {
                None => true,
                Some((at, earlier)) => earlier < visit && now >= at.plus(SILENT),
            };
            if due {
                parcel.handed = Some((now, visit));
                handed.jobs.push(parcel.json.clone());
            }
        }
        for mail in self.mail.values_mut() {
            if mail.told.is_none_or(|at| now >= at.plus(REPEAT)) {
                mail.told = Some(now);
                handed.commands.push(mail.json.clone());
            }
        }
        handed
    }

    /// When something may have to be handed out again, if anything waits for an answer.
    pub(super) fn next_look(&self) -> Option<Timestamp> {
        let parcels = self
            .parcels
            .iter()
            .filter_map(|parcel| parcel.handed.map(|(at, _)| at.plus(SILENT)));
        let mail = self
            .mail
            .values()
            .filter_map(|mail| mail.told.map(|at| at.plus(REPEAT)));
        parcels.chain(mail).min()
    }

    /// What was handed out in a visit did not leave this host: it waits for the next poll.
    pub(super) fn undo(&mut self, visit: u64) {
        for parcel in &mut self.parcels {
            if parcel.handed.is_some_and(|(_, at)| at == visit) {
                parcel.handed = None;
            }
        }
        self.mail.values_mut().for_each(|mail| mail.told = None);
    }

    /// The worker speaks of a job, so it has it.
    pub(super) fn has(&mut self, job: JobId) {
        let visit = self.visit;
        let mut same = 0;
        self.parcels.retain(|parcel| {
            let arrived = parcel.job == job && parcel.handed.is_some();
            // The room that a newer poll tells of does not count it any more.
            same += u32::from(arrived && parcel.handed.is_some_and(|(_, at)| at == visit));
            !arrived
        });
        self.free = self.free.saturating_sub(same);
    }

    /// Commands up to this one were carried out.
    pub(super) fn acknowledged(&mut self, job: JobId, n: u64) {
        self.mail.retain(|(of, number), _| *of != job || *number > n);
    }

    /// A job is over.
    pub(super) fn over(&mut self, job: JobId) {
        self.parcels.retain(|parcel| parcel.job != job);
        self.acknowledged(job, u64::MAX);
    }

    /// Jobs that were never handed out, to be given back.
    pub(super) fn unhanded(&mut self) -> Vec<Parcel> {
        let (kept, unhanded) = std::mem::take(&mut self.parcels)
            .into_iter()
            .partition(|parcel| parcel.handed.is_some());
        self.parcels = kept;
        unhanded
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn boot(n: u128) -> BootId {
        Uuid::from_u128(n).into()
    }

    fn job(n: u128) -> JobId {
        Uuid::from_u128(n).into()
    }

    fn poll(free: u32) -> api::WorkerPoll {
        serde_json::from_value(json!({"boot_id": "", "free_slots": free, "concurrency": 2})).unwrap()
    }

    #[test]
    fn a_job_is_handed_out_once_and_again_only_when_its_worker_stays_silent() {
        let mut seat = Seat::new(boot(1));
        let visit = seat.arrive(boot(1), &poll(2));
        seat.put(job(1), json!(1), at(30));
        assert_eq!(seat.free(), 1);
        assert_eq!(seat.hand(visit, at(0)).jobs, [json!(1)]);
        assert!(seat.hand(visit, at(1)).is_empty());
        // The answer was lost: the worker polls again and says that it has room.
        let visit = seat.arrive(boot(1), &poll(2));
        assert_eq!(seat.free(), 1);
        assert!(seat.hand(visit, at(2)).is_empty());
        assert_eq!(seat.next_look(), Some(at(3)));
        assert_eq!(seat.hand(visit, at(3)).jobs, [json!(1)]);
        seat.has(job(1));
        assert_eq!(seat.free(), 1);
        assert_eq!(seat.next_look(), None);
        seat.arrive(boot(1), &poll(1));
        assert_eq!(seat.free(), 1);
    }

    #[test]
    fn what_did_not_leave_waits_for_the_next_poll_until_its_lease_is_nearly_over() {
        let mut seat = Seat::new(boot(1));
        let visit = seat.arrive(boot(1), &poll(2));
        seat.put(job(1), json!(1), at(30));
        seat.hand(visit, at(0));
        seat.undo(visit);
        let visit = seat.arrive(boot(1), &poll(2));
        assert_eq!(seat.hand(visit, at(26)).jobs, [json!(1)]);
        seat.undo(visit);
        assert!(seat.hand(visit, at(28)).is_empty());
        assert_eq!(seat.free(), 2);
    }

    #[test]
    fn c17_105_a_command_is_repeated_until_it_is_acknowledged() {
        let mut seat = Seat::new(boot(1));
        let visit = seat.arrive(boot(1), &poll(2));
        seat.tell(job(1), 1, json!("one"));
        assert_eq!(seat.hand(visit, at(0)).commands, [json!("one")]);
        seat.tell(job(1), 1, json!("one"));
        assert!(seat.hand(visit, at(1)).is_empty());
        assert_eq!(seat.hand(visit, at(5)).commands, [json!("one")]);
        seat.tell(job(1), 2, json!("two"));
        seat.acknowledged(job(1), 1);
        assert_eq!(seat.hand(visit, at(11)).commands, [json!("two")]);
        seat.over(job(1));
        assert!(seat.hand(visit, at(99)).is_empty());
    }

    #[test]
    fn another_life_gets_nothing_of_the_former_one() {
        let mut seat = Seat::new(boot(1));
        seat.arrive(boot(1), &poll(2));
        seat.put(job(1), json!(1), at(30));
        seat.tell(job(1), 1, json!("one"));
        let visit = seat.arrive(boot(2), &poll(2));
        assert_eq!(visit, 2);
        assert!(seat.hand(visit, at(0)).is_empty());
        assert_eq!(seat.free(), 2);
    }
}
