//! What is asked of the engine: work and commands by a long poll, and beside it the lists of who is there, by their changes.
//!
//! A list is told by a poll of its own that does not wait, so that the next change goes on from a generation that was answered.
//! The engine then answers the long poll that is held, at once; both answers are read, and no job is lost between them.

use std::sync::Arc;
use std::time::Duration;

use pond_core::id::WorkerId;
use pond_core::pool::ClaimToken;
use pond_sdk::api;
use serde_json::Value;
use tokio::sync::Mutex;

use super::hub::Hub;
use super::lists::Telling;
use super::roster::{Room, Seen};
use crate::link::peer::{Ask, PeerError};

/// Jobs in one answer.
const MAX_JOBS: u32 = 64;
const WAIT_MS: u32 = 30_000;
/// What a long poll may take beyond its time.
const LATE: Duration = Duration::from_secs(15);
const WITHIN: Duration = Duration::from_secs(30);
/// Workers that are told again when nothing changes, and how often: the answer says who is revoked.
const IN_TURN: usize = 100;
const TURN: Duration = Duration::from_secs(15);
/// The first wait after a call that failed, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Held while lists are told: a long poll begins from the generation that was answered, never between.
pub(super) type Turn = Mutex<()>;

/// Tells the lists for as long as the orchestrator runs.
pub(super) async fn tell(hub: Arc<Hub>, turn: Arc<Turn>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let round = {
            let _held = turn.lock().await;
            told(&hub).await
        };
        let wait = match round {
            Ok(()) => {
                pause = FIRST_PAUSE;
                TURN
            }
            Err(error) => {
                failed(&hub, &error, "the list of workers could not be told");
                pause = (pause * 2).min(LONGEST_PAUSE);
                pause
            }
        };
        let was_well = wait == TURN;
        tokio::select! {
            biased;
            () = hub.stop.cancelled() => return,
            () = hub.changed.notified(), if was_well => {}
            () = hub.clock.sleep(wait) => if was_well { hub.roster().seen.tell_in_turn(IN_TURN) },
        }
    }
}

/// Tells all that is not known yet.
async fn told(hub: &Hub) -> Result<(), PeerError> {
    if hub.roster().generation == 0 {
        // The engine forgets whatever it had of us: those workers may not be there any more.
        let nobody = Some(Vec::new());
        poll(hub, 0, nobody, 0).await?;
    }
    loop {
        let rooms = hub.roster().next_rooms();
        if let Some(telling) = rooms {
            tell_rooms(hub, telling).await?;
            continue;
        }
        let seen = hub.roster().next_seen();
        let Some(telling) = seen else { return Ok(()) };
        tell_seen(hub, telling).await?;
    }
}

async fn tell_rooms(hub: &Hub, telling: Telling<Room>) -> Result<(), PeerError> {
    let generation = hub.roster().generation;
    let room = |(worker, room): &(WorkerId, Option<Room>)| {
        // Who is gone is told by the other list.
        let room = room.as_ref()?;
        Some(api::PollWorker {
            worker_id: worker.to_string(),
            boot_id: room.boot.to_string(),
            free_slots: room.free,
        })
    };
    let workers = telling.iter().filter_map(room).collect();
    let told = poll(hub, generation, Some(workers), 0).await;
    let mut roster = hub.roster();
    match told {
        Ok(()) => roster.rooms.taken(telling),
        Err(error) => {
            let offender = match error.code() {
                Some("foreign_worker") => roster.rooms.refused(telling),
                _ => {
                    roster.rooms.lost(telling);
                    None
                }
            };
            drop(roster);
            return refused(hub, error, offender);
        }
    }
    Ok(())
}

async fn tell_seen(hub: &Hub, telling: Telling<Seen>) -> Result<(), PeerError> {
    let mut body = api::Snapshot {
        generation: hub.roster().generation,
        workers: Vec::new(),
        gone: Vec::new(),
    };
    for (worker, seen) in &telling {
        match seen {
            None => body.gone.push(worker.to_string()),
            Some(seen) => body.workers.push(api::SnapshotWorker {
                worker_id: worker.to_string(),
                status: api::WorkerStatus::Online,
                running: seen.running,
                concurrency: seen.concurrency,
                version: seen.version.clone(),
                capability_problems: seen.problems.clone(),
                egress_defaults: seen.egress_defaults.clone(),
            }),
        }
    }
    let ask = Ask {
        path: "/v1/orch/workers/snapshot",
        claim: None,
        within: WITHIN,
    };
    let answer: Result<api::SnapshotTaken, _> = hub.engine.post(ask, &body).await;
    match answer {
        Ok(taken) => {
            {
                let mut roster = hub.roster();
                roster.generation = taken.generation;
                roster.seen.taken(telling);
            }
            hub.revoke(taken.revoked.iter().filter_map(|id| id.parse().ok()));
            Ok(())
        }
        Err(error) => {
            let mut roster = hub.roster();
            let offender = match error.code() {
                Some("foreign_worker") => roster.seen.refused(telling),
                _ => {
                    roster.seen.lost(telling);
                    None
                }
            };
            drop(roster);
            refused(hub, error, offender)
        }
    }
}

/// What a refused list means: to be told from the start, or without one worker, or in smaller parts.
fn refused(hub: &Hub, error: PeerError, offender: Option<WorkerId>) -> Result<(), PeerError> {
    match error.code() {
        Some("resync") => {
            tracing::info!("the engine does not know the list of workers; it is told from the start");
            hub.roster().again();
            Err(error)
        }
        Some("foreign_worker") => {
            hub.revoke(offender.into_iter());
            Ok(())
        }
        _ => Err(error),
    }
}

/// Waits for work for as long as the orchestrator runs.
pub(super) async fn work(hub: Arc<Hub>, turn: Arc<Turn>) {
    let mut pause = FIRST_PAUSE;
    while !hub.stop.is_cancelled() {
        let generation = {
            let _held = turn.lock().await;
            hub.roster().generation
        };
        if generation == 0 {
            // Nothing is known yet, so nothing may be asked for.
            hub.clock.sleep(FIRST_PAUSE).await;
            continue;
        }
        let began = hub.now();
        let polled = poll(&hub, generation, None, WAIT_MS).await;
        let quick = hub.now().since(began) < FIRST_PAUSE;
        match polled {
            Ok(()) if !quick || hub.roster().generation != generation => pause = FIRST_PAUSE,
            // The same commands over and over, or an engine on its way down.
            Ok(()) => {
                hub.clock.sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
            Err(error) if error.code() == Some("resync") => {
                // Told from the start by the other task; unless that has happened meanwhile.
                let mut roster = hub.roster();
                if roster.generation == generation {
                    roster.again();
                    hub.changed.notify_one();
                }
            }
            Err(error) => {
                failed(&hub, &error, "the engine could not be asked for work");
                hub.stop.run_until_cancelled(hub.clock.sleep(pause)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Ends the long poll that is held, by one that does not wait.
pub(super) async fn supersede(hub: &Hub) {
    let generation = hub.roster().generation;
    if generation > 0
        && let Err(error) = poll(hub, generation, None, 0).await
    {
        tracing::debug!(error = %error.told(), "the last poll was not answered");
    }
}

/// Polls, and hands out what comes.
async fn poll(
    hub: &Hub,
    generation: u64,
    workers: Option<Vec<api::PollWorker>>,
    wait_ms: u32,
) -> Result<(), PeerError> {
    let lists = workers.is_some();
    let body = api::OrchPoll {
        max: Some(MAX_JOBS),
        wait_ms: Some(wait_ms),
        generation: Some(generation),
        workers,
        heartbeats: None,
    };
    let ask = Ask {
        path: "/v1/orch/poll",
        claim: None,
        within: Duration::from_millis(wait_ms.into()) + LATE,
    };
    let polled: api::OrchPolled = hub.engine.post(ask, &body).await?;
    if lists {
        hub.roster().generation = polled.generation;
    }
    for job in polled.jobs {
        hand_out(hub, job);
    }
    let mut roster = hub.roster();
    for command in polled.commands {
        if !roster.command(command) {
            tracing::debug!("a command of a job that is not known here");
        }
    }
    Ok(())
}

fn hand_out(hub: &Hub, job: Value) {
    let Some(until) = hub.lease_until(&job) else {
        tracing::error!("the engine sent a job without the end of its lease");
        return;
    };
    let back = claim(&job);
    if hub.roster().job(job, until).is_some() {
        hub.changed.notify_one();
        return;
    }
    let Some((job, token)) = back else { return };
    tracing::warn!(job, "a job for a worker that is not here is given back");
    let engine = hub.engine.clone();
    tokio::spawn(async move { give_back(&engine, &job, &token).await });
}

/// The claim that a job carries.
pub(super) fn claim(job: &Value) -> Option<(String, ClaimToken)> {
    let text = |name: &str| job.get(name).and_then(Value::as_str);
    Some((text("job_id")?.to_owned(), ClaimToken::from_text(text("claim_token")?)))
}

/// Gives a job back that nobody has begun.
pub(super) async fn give_back(engine: &crate::link::peer::Peer, job: &str, token: &ClaimToken) {
    let path = format!("/v1/orch/jobs/{job}/state");
    let ask = Ask {
        path: &path,
        claim: Some(token),
        within: WITHIN,
    };
    let body = serde_json::json!({"state": "cancelled"});
    let told: Result<Value, _> = engine.post(ask, &body).await;
    if let Err(error) = told {
        tracing::warn!(job, error = %error.told(), "a job is given back only when its lease ends");
    }
}

fn failed(hub: &Hub, error: &PeerError, what: &str) {
    if error.is_shut_out() {
        hub.shut_out.cancel();
    }
    if error.code() != Some("resync") {
        tracing::warn!(error = %error.told(), "{what}");
    }
}

/// Counts workers as gone that do not come back.
pub(super) async fn sweep(hub: Arc<Hub>) {
    loop {
        let next = hub.roster().sweep(hub.now());
        hub.changed.notify_one();
        let wait = next.map(|due| due.since(hub.now()));
        tokio::select! {
            biased;
            () = hub.stop.cancelled() => return,
            () = sleep_or_rest(&hub, wait) => {}
        }
    }
}

/// Until the next one is due; where nobody is, until somebody leaves.
async fn sleep_or_rest(hub: &Hub, wait: Option<Duration>) {
    match wait {
        Some(wait) => hub.clock.sleep(wait.max(Duration::from_millis(50))).await,
        None => hub.left.notified().await,
    }
}
