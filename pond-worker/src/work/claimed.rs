//! The link as one job sees it: its claim goes with every call, and what passes is tried again while the lease lives.

use std::sync::Arc;
use std::time::Duration;

use pond_core::clock::Clock;
use pond_core::dispatch::WorkerLink;
use pond_core::pool::Claim;
use pond_core::{Conflict, Error};

use super::switch::{Stop, Switch};

/// The first wait before a call is tried again, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Why a call came to nothing.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The lease is lost: nobody wants to hear of this job any more.
    Gone,
    /// It is refused for good.
    Error(Error),
}

/// The link and a claim.
#[derive(Clone)]
pub(crate) struct Claimed {
    pub(crate) link: Arc<dyn WorkerLink>,
    pub(crate) claim: Claim,
    pub(crate) switch: Switch,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Claimed {
    /// Makes a call until it is answered for good, or the lease is lost.
    pub(crate) async fn call<T, F>(&self, call: impl Fn(Arc<dyn WorkerLink>, Claim) -> F + Send) -> Result<T, Refused>
    where
        F: Future<Output = Result<T, Error>> + Send,
        T: Send,
    {
        let mut wait = FIRST_WAIT;
        loop {
            let answer = tokio::select! {
                biased;
                _ = self.switch.reaches(Stop::Lost) => return Err(Refused::Gone),
                answer = call(Arc::clone(&self.link), self.claim.clone()) => answer,
            };
            let asked = match answer {
                Ok(answer) => return Ok(answer),
                Err(Error::Conflict {
                    kind: Conflict::StaleClaim | Conflict::AlreadyTerminal,
                    ..
                }) => {
                    self.switch.raise(Stop::Lost);
                    return Err(Refused::Gone);
                }
                Err(Error::Busy { retry_after, .. }) => retry_after,
                Err(Error::Unavailable(what, _)) => {
                    tracing::warn!(job = %self.claim.job, what, "a call about a job is tried again");
                    wait
                }
                Err(error) => return Err(Refused::Error(error)),
            };
            tokio::select! {
                biased;
                _ = self.switch.reaches(Stop::Lost) => return Err(Refused::Gone),
                () = self.clock.sleep(asked.min(LONGEST_WAIT)) => {}
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }
}
