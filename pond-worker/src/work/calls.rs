//! The model calls of a job, sent on in batches.

use std::sync::Arc;
use std::time::Duration;

use pond_core::dispatch::Telemetry;
use pond_core::usage;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::{Claimed, Refused};
use crate::broker::{ModelCall, Tally};

/// How long calls are gathered before they are sent.
const GATHER: Duration = Duration::from_millis(250);

/// Sends what comes and adds it up; ends when the broker has.
pub(crate) fn ship(calls: mpsc::Receiver<ModelCall>, claimed: Claimed, tally: Arc<Tally>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(send_all(calls, claimed, tally)))
}

async fn send_all(mut calls: mpsc::Receiver<ModelCall>, claimed: Claimed, tally: Arc<Tally>) {
    let record = |call: ModelCall| {
        tally.add(&call);
        record(call)
    };
    while let Some(first) = calls.recv().await {
        let mut batch = vec![record(first)];
        let mut until = claimed.clock.sleep(GATHER);
        while batch.len() < Telemetry::MOST {
            tokio::select! {
                biased;
                call = calls.recv() => match call {
                    Some(call) => batch.push(record(call)),
                    None => break,
                },
                () = &mut until => break,
            }
        }
        let telemetry = Telemetry {
            calls: batch,
            ..Telemetry::default()
        };
        let sent = claimed.call(|link, claim| {
            let telemetry = telemetry.clone();
            async move { link.telemetry(&claim, telemetry).await }
        });
        match sent.await {
            Ok(()) => {}
            Err(Refused::Gone) => return,
            Err(Refused::Error(error)) => {
                tracing::error!(job = %claimed.claim.job, %error, "model calls are refused and not counted");
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
