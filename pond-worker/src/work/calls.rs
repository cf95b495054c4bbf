//! The model calls and egress decisions of a job, sent on in batches.

use std::sync::Arc;
use std::time::Duration;

use pond_core::dispatch::Telemetry;
use pond_core::egress::EgressDecision;
use pond_core::usage;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::{Claimed, Refused};
use crate::broker::{ModelCall, Tally};

/// How long they are gathered before they are sent.
const GATHER: Duration = Duration::from_millis(250);

/// Sends the calls that come and adds them up; ends when the broker has.
pub(crate) fn ship(calls: mpsc::Receiver<ModelCall>, claimed: Claimed, tally: Arc<Tally>) -> AbortOnDropHandle<()> {
    let batch = move |calls: Vec<ModelCall>| {
        calls.iter().for_each(|call| tally.add(call));
        Telemetry {
            calls: calls.into_iter().map(record).collect(),
            ..Telemetry::default()
        }
    };
    AbortOnDropHandle::new(tokio::spawn(send_all(calls, claimed, batch)))
}

/// Sends the decisions that come; ends when the egress proxy has.
pub(crate) fn ship_decisions(decisions: mpsc::Receiver<EgressDecision>, claimed: Claimed) -> AbortOnDropHandle<()> {
    let batch = |decisions| Telemetry {
        decisions,
        ..Telemetry::default()
    };
    AbortOnDropHandle::new(tokio::spawn(send_all(decisions, claimed, batch)))
}

async fn send_all<T>(mut told: mpsc::Receiver<T>, claimed: Claimed, batch: impl Fn(Vec<T>) -> Telemetry) {
    while let Some(first) = told.recv().await {
        let mut gathered = vec![first];
        let mut until = claimed.clock.sleep(GATHER);
        while gathered.len() < Telemetry::MOST {
            tokio::select! {
                biased;
                one = told.recv() => match one {
                    Some(one) => gathered.push(one),
                    None => break,
                },
                () = &mut until => break,
            }
        }
        let telemetry = batch(gathered);
        let sent = claimed.call(|link, claim| {
            let telemetry = telemetry.clone();
            async move { link.telemetry(&claim, telemetry).await }
        });
        match sent.await {
            Ok(()) => {}
            Err(Refused::Gone) => return,
            Err(Refused::Error(error)) => {
                tracing::error!(job = %claimed.claim.job, %error, "what a job called and reached is refused and not counted");
            }
        }
    }
}

fn record(call: ModelCall) -> usage::ModelCall {
    usage::ModelCall {
        id: call.id,
        at: call.ts,
        provider: call.provider.to_owned(),
        model: call.model,
        status: call.status,
        latency_ms: call.latency_ms,
        tokens: call.tokens,
        estimated: call.estimated,
    }
}
