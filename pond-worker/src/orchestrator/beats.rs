//! Heartbeats of all workers, gathered: one call upstream at a time, and what comes meanwhile rides in the next.

use std::sync::Arc;
use std::time::Duration;

use pond_sdk::api;
use tokio::sync::{mpsc, oneshot};

use super::hub::Hub;
use super::refusal::Refusal;
use crate::link::peer::Ask;

/// Leases in one call.
pub(super) const MAX_BEATS: usize = 500;
const WITHIN: Duration = Duration::from_secs(5);

/// A lease to renew, and where to tell what became of it.
pub(super) struct Beat {
    pub(super) beat: api::Heartbeat,
    pub(super) told: oneshot::Sender<Result<api::Lease, Refusal>>,
}

/// Sends what comes, until nobody can send any more.
pub(super) async fn send(hub: Arc<Hub>, mut beats: mpsc::Receiver<Beat>) {
    let mut gathered = Vec::new();
    loop {
        let stopped = hub.stop.clone();
        tokio::select! {
            biased;
            count = beats.recv_many(&mut gathered, MAX_BEATS) => if count == 0 { return },
            () = stopped.cancelled_owned() => return,
        }
        let (jobs, told): (Vec<_>, Vec<_>) = gathered.drain(..).map(|Beat { beat, told }| (beat, told)).unzip();
        let ask = Ask {
            path: "/v1/orch/heartbeats",
            claim: None,
            within: WITHIN,
        };
        let count = jobs.len();
        let answer: Result<api::Leases, _> = hub.engine.post(ask, &api::Heartbeats { jobs }).await;
        let leases = match answer {
            Ok(leases) if leases.jobs.len() == count => leases.jobs,
            Ok(_) => {
                tracing::error!("the engine answers another number of leases than were renewed");
                continue;
            }
            Err(error) => {
                tracing::warn!(error = %error.told(), "leases could not be renewed");
                let refusal = Refusal::from(error);
                for told in told {
                    // Who does not wait any more needs no answer.
                    let _ = told.send(Err(refusal.clone()));
                }
                continue;
            }
        };
        for (told, lease) in told.into_iter().zip(leases) {
            let _ = told.send(Ok(lease));
        }
    }
}
