//! Leases of the jobs that run: renewed in one batch, and given up in time.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use pond_core::clock::{Clock, Timestamp};
use pond_core::dispatch::{Beat, BeatAnswer, WorkerLink};
use pond_core::id::JobId;
use pond_core::pool::Claim;
use pond_core::sandbox::{Running, SandboxError};
use tokio::sync::{Notify, watch};

use super::switch::{Stop, Switch};

/// Leases renewed in one call.
const MAX_BEATS: usize = 500;
/// The shortest wait before a call that failed is made again.
const AGAIN: Duration = Duration::from_millis(50);

/// What is left of a lease when its sandbox ends by itself.
fn reserve(span: Duration) -> Duration {
    span / 6
}

/// What is left of it when it is given up here: a little before, so that the end of a sandbox is never taken for the job's.
fn given_up(span: Duration) -> Duration {
    reserve(span) + span / 60
}

/// One lease.
struct Lease {
    claim: Claim,
    switch: Switch,
    /// How long it lives without a renewal.
    span: Duration,
    /// When it ends.
    until: watch::Sender<Timestamp>,
    /// When it is to be renewed.
    due: Timestamp,
}

/// All leases of a worker.
pub(crate) struct Leases {
    clock: Arc<dyn Clock>,
    held: Mutex<BTreeMap<JobId, Lease>>,
    changed: Notify,
}

/// A lease that is held; dropped, it is no longer renewed.
pub(crate) struct Held {
    leases: Arc<Leases>,
    job: JobId,
    switch: Switch,
    span: Duration,
    until: watch::Receiver<Timestamp>,
}

impl Leases {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            held: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// Keeps a lease that was just given.
    pub(crate) fn hold(self: &Arc<Self>, claim: Claim, lease_until: Timestamp, switch: Switch) -> Held {
        let now = self.clock.now();
        let span = lease_until.since(now);
        let (until, seen) = watch::channel(lease_until);
        let job = claim.job;
        let lease = Lease {
            claim,
            switch: switch.clone(),
            span,
            until,
            due: now.plus(span / 3),
        };
        self.lock().insert(job, lease);
        self.changed.notify_one();
        Held {
            leases: Arc::clone(self),
            job,
            switch,
            span,
            until: seen,
        }
    }

    /// Tells a job to stop.
    pub(crate) fn cancel(&self, job: JobId) {
        if let Some(lease) = self.lock().get(&job) {
            lease.switch.raise(Stop::Cancel);
        }
    }

    /// Tells every job to stop.
    pub(crate) fn raise_all(&self, stop: Stop) {
        self.lock().values().for_each(|lease| lease.switch.raise(stop));
    }

    /// Renews leases for ever.
    pub(crate) async fn renew(&self, link: Arc<dyn WorkerLink>) {
        loop {
            let next = self.lock().values().map(|lease| lease.due).min();
            let Some(next) = next else {
                self.changed.notified().await;
                continue;
            };
            let left = next.since(self.clock.now());
            if !left.is_zero() {
                tokio::select! {
                    biased;
                    () = self.changed.notified() => {}
                    () = self.clock.sleep(left) => {}
                }
                continue;
            }
            self.beat(&*link).await;
        }
    }

    /// Renews all leases at once: a call costs the same for one and for all.
    async fn beat(&self, link: &dyn WorkerLink) {
        let beats: Vec<Beat> = self
            .lock()
            .values()
            .map(|lease| Beat {
                claim: lease.claim.clone(),
            })
            .collect();
        for beats in beats.chunks(MAX_BEATS) {
            let answers = link.heartbeat(beats.to_vec()).await;
            let mut held = self.lock();
            let now = self.clock.now();
            match answers {
                Ok(answers) => {
                    for (beat, answer) in beats.iter().zip(answers) {
                        if let Some(lease) = held.get_mut(&beat.claim.job) {
                            lease.take(answer, now);
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "leases could not be renewed");
                    for beat in beats {
                        if let Some(lease) = held.get_mut(&beat.claim.job) {
                            lease.due = now.plus((lease.span / 15).max(AGAIN));
                        }
                    }
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<JobId, Lease>> {
        self.held.lock().expect("no holder of this lock panics")
    }
}

impl Lease {
    fn take(&mut self, answer: BeatAnswer, now: Timestamp) {
        match answer {
            BeatAnswer::Until { lease_until, cancel } => {
                self.until.send_replace(lease_until);
                self.due = now.plus(lease_until.since(now) / 3);
                if cancel {
                    self.switch.raise(Stop::Cancel);
                }
            }
            BeatAnswer::Stale => {
                self.switch.raise(Stop::Lost);
                self.due = now.plus(self.span);
            }
        }
    }
}

impl Held {
    /// How long what runs under the lease may live.
    pub(crate) fn lifetime(&self) -> Lifetime {
        Lifetime {
            clock: Arc::clone(&self.leases.clock),
            span: self.span,
            until: self.until.clone(),
        }
    }

    /// Waits until little more than a sixth of the lease is left, and gives it up then, since by its end the job must be
    /// gone.
    pub(crate) async fn guard(&mut self) {
        let clock = Arc::clone(&self.leases.clock);
        loop {
            let until = *self.until.borrow_and_update();
            let left = until.since(clock.now()).saturating_sub(given_up(self.span));
            if left.is_zero() {
                tracing::warn!(job = %self.job, "the lease of a job ends; it is killed");
                self.switch.raise(Stop::Lost);
                return;
            }
            tokio::select! {
                biased;
                changed = self.until.changed() => if changed.is_err() { return },
                () = clock.sleep(left) => {}
            }
        }
    }
}

/// How long what runs under a lease may live: until a sixth of the lease is left, as far as it has been renewed.
#[derive(Clone)]
pub(crate) struct Lifetime {
    clock: Arc<dyn Clock>,
    span: Duration,
    until: watch::Receiver<Timestamp>,
}

impl Lifetime {
    /// Lets a sandbox live until its end, as far as that is known now.
    pub(crate) async fn keep(&mut self, sandbox: &dyn Running) -> Result<(), SandboxError> {
        // The steady clock is read first: a halt between the two can only bring the end forward.
        let steady = Instant::now();
        let until = *self.until.borrow_and_update();
        let left = until.since(self.clock.now()).saturating_sub(reserve(self.span));
        sandbox.keep(steady + left).await
    }

    /// Does so after every renewal of the lease.
    pub(crate) async fn keep_on(mut self, sandbox: &dyn Running) -> Infallible {
        loop {
            // A sandbox that has gone is seen by whoever uses it, and a lease that is held no longer is not renewed.
            if self.until.changed().await.is_err() || self.keep(sandbox).await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Whether it is over, or so nearly that the difference is none of this worker's to tell.
    pub(crate) fn is_over(&self) -> bool {
        let left = self.until.borrow().since(self.clock.now());
        left <= given_up(self.span)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.leases.lock();
        // The next attempt of the same job may be held here already.
        if held
            .get(&self.job)
            .is_some_and(|lease| lease.until.subscribe().same_channel(&self.until))
        {
            held.remove(&self.job);
        }
    }
}

#[cfg(test)]
mod tests {
    use pond_core::id::JobId;
    use pond_core::pool::ClaimToken;
    use pond_core::testing::ManualClock;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_lease_is_given_up_a_little_before_its_sandbox_ends_itself() {
        let clock = ManualClock::new();
        let leases = Leases::new(clock.clone());
        let switch = Switch::new();
        let claim = Claim {
            job: JobId::from(Uuid::from_u128(1)),
            token: ClaimToken::from_text("t"),
        };
        let span = Duration::from_secs(60);
        let mut held = leases.hold(claim, clock.now().plus(span), switch.clone());
        let lifetime = held.lifetime();
        let mut guard = Box::pin(held.guard());
        let mut given_up = || futures::FutureExt::now_or_never(&mut guard).is_some();
        assert_eq!((given_up(), lifetime.is_over()), (false, false));
        clock.advance(Duration::from_millis(48_900));
        assert_eq!((given_up(), lifetime.is_over()), (false, false));
        assert!(
            reserve(span) < Duration::from_millis(11_000),
            "the sandbox lives on for now"
        );
        clock.advance(Duration::from_millis(100));
        assert_eq!((given_up(), lifetime.is_over()), (true, true));
        assert_eq!(switch.now(), Stop::Lost);
    }
}
