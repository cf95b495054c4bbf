//! A clock that moves only when told to.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::clock::{Clock, Timestamp};

/// A clock moved by hand; sleepers wake when it passes their time.
#[derive(Debug)]
pub struct ManualClock {
    now: watch::Sender<Timestamp>,
    sleepers: Arc<Mutex<usize>>,
}

impl ManualClock {
    /// Starts at 2025-01-01T00:00:00Z.
    pub fn new() -> Arc<Self> {
        let start = Timestamp::from_millis(1_735_689_600_000);
        Arc::new(Self { now: watch::Sender::new(start), sleepers: Arc::default() })
    }

    /// Moves time on by `span`.
    pub fn advance(&self, span: Duration) {
        self.now.send_modify(|now| *now = now.plus(span));
    }

    /// How many sleeps wait for the clock to move.
    pub fn sleepers(&self) -> usize {
        *self.sleepers.lock().expect("no holder of this lock panics")
    }
}

struct Sleeping(Arc<Mutex<usize>>);

impl Drop for Sleeping {
    fn drop(&mut self) {
        *self.0.lock().expect("no holder of this lock panics") -= 1;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.now.borrow()
    }

    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        let due = self.now().plus(span);
        let mut now = self.now.subscribe();
        let sleepers = self.sleepers.clone();
        Box::pin(async move {
            *sleepers.lock().expect("no holder of this lock panics") += 1;
            let _sleeping = Sleeping(sleepers);
            // A clock that is gone never moves again: sleep on.
            if now.wait_for(|now| *now >= due).await.is_err() {
                futures::future::pending::<()>().await;
            }
        })
    }
}
