//! Wake-ups between servers: NOTIFY outside fact transactions, at most once per 5 ms, and LISTEN on a connection of its own.
//!
//! A hint is `SERVER:WHAT:RUNS`: who sends it, `w` when work came into line and `p` when the pool's records changed, and the
//! runs in hex or `*` for too many.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pond_core::id::RunId;
use pond_core::store::Change;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolOptions};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::fact::Touches;
use crate::hints::{Hints, Others};

const CHANNEL: &str = "pond";
/// Between two notifications.
const QUIET: Duration = Duration::from_millis(5);
/// Before another try to listen.
const RETRY: Duration = Duration::from_millis(500);
/// Hints that wait to be sent.
const WAITING: usize = 4096;
/// Runs named in one notification, whose payload is below 8,000 bytes.
const NAMED: usize = 200;

/// Starts to send and to listen. Both end with the hints that are returned.
pub(super) async fn start(pool: &PgPool, options: PgConnectOptions) -> Result<Hints, sqlx::Error> {
    let server: String =
        sqlx::query_scalar("SELECT md5(random()::text || clock_timestamp()::text || pg_backend_pid())")
            .fetch_one(pool)
            .await?;
    let hints = Hints::new();
    let listener = listen(&options).await?;
    let (entrance, exit) = mpsc::channel(WAITING);
    let lost = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    tasks.spawn(send(pool.clone(), exit, lost.clone(), server.clone()));
    tasks.spawn(receive(listener, options, hints.clone(), server));
    Ok(hints.with_others(Others::new(entrance, lost, tasks)))
}

async fn listen(options: &PgConnectOptions) -> Result<PgListener, sqlx::Error> {
    let own = PgPoolOptions::new()
        .max_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(options.clone())
        .await?;
    let mut listener = PgListener::connect_with(&own).await?;
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

async fn send(pool: PgPool, mut exit: mpsc::Receiver<Touches>, lost: Arc<AtomicBool>, server: String) {
    let mut touched = Vec::with_capacity(WAITING);
    while exit.recv_many(&mut touched, WAITING).await > 0 {
        let payload = payload(&server, &touched, lost.swap(false, Ordering::AcqRel));
        touched.clear();
        if let Err(error) = sqlx::query("SELECT pg_notify($1, $2)")
            .bind(CHANNEL)
            .bind(payload)
            .execute(&pool)
            .await
        {
            // The others sweep now and then; a lost hint costs them time alone.
            tracing::debug!(%error, "a wake-up was not sent");
            lost.store(true, Ordering::Release);
        }
        tokio::time::sleep(QUIET).await;
    }
}

fn payload(server: &str, touched: &[Touches], lost: bool) -> String {
    let runs: BTreeSet<RunId> = touched.iter().filter_map(|touches| touches.run).collect();
    let mut payload = format!("{server}:");
    if lost || touched.iter().any(|touches| touches.line) {
        payload.push('w');
    }
    if lost || touched.iter().any(|touches| touches.pool) {
        payload.push('p');
    }
    payload.push(':');
    if lost || runs.len() > NAMED {
        payload.push('*');
    } else {
        for run in runs {
            payload.push_str(&hex::encode(run.as_bytes()));
        }
    }
    payload
}

async fn receive(listener: PgListener, options: PgConnectOptions, hints: Hints, server: String) {
    let mut listening = Some(listener);
    loop {
        if let Some(mut listener) = listening.take() {
            while let Ok(Some(notification)) = listener.try_recv().await {
                for change in changes(&server, notification.payload()) {
                    hints.hint(change);
                }
            }
        }
        // Whatever came while nobody listened is missed, also between this hint and the next LISTEN: so once more after it.
        hints.hint(Change::Missed);
        match listen(&options).await {
            Ok(listener) => {
                listening = Some(listener);
                hints.hint(Change::Missed);
            }
            Err(error) => {
                tracing::warn!(%error, "no wake-ups from other servers");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

fn changes(server: &str, payload: &str) -> Vec<Change> {
    let mut parts = payload.splitn(3, ':');
    let (Some(from), Some(what), Some(runs)) = (parts.next(), parts.next(), parts.next()) else {
        return vec![Change::Missed];
    };
    if from == server {
        return Vec::new();
    }
    let mut changes = Vec::new();
    match hex::decode(runs) {
        Ok(bytes) if bytes.len() % 16 == 0 => {
            let ids = bytes.chunks_exact(16).filter_map(|id| Uuid::from_slice(id).ok());
            changes.extend(ids.map(|id| Change::RunElsewhere(id.into())));
        }
        _ => changes.push(Change::Missed),
    }
    if what.contains('w') {
        changes.push(Change::Work);
    }
    if what.contains('p') {
        changes.push(Change::Pool);
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(number: u128) -> RunId {
        Uuid::from_u128(number).into()
    }

    #[test]
    fn others_read_what_was_sent_and_the_sender_ignores_it() {
        let touched = [
            Touches {
                run: Some(run(1)),
                line: true,
                ..Touches::default()
            },
            Touches {
                run: Some(run(2)),
                ..Touches::default()
            },
            Touches {
                run: Some(run(1)),
                ..Touches::default()
            },
            Touches {
                pool: true,
                ..Touches::default()
            },
        ];
        let sent = payload("a", &touched, false);
        assert_eq!(
            changes("b", &sent),
            [
                Change::RunElsewhere(run(1)),
                Change::RunElsewhere(run(2)),
                Change::Work,
                Change::Pool
            ]
        );
        assert_eq!(changes("a", &sent), []);
        assert_eq!(
            changes("b", &payload("a", &touched[1..2], false)),
            [Change::RunElsewhere(run(2))]
        );
    }

    #[test]
    fn too_many_or_lost_hints_are_missed_ones() {
        let touch = |number| Touches {
            run: Some(run(number)),
            ..Touches::default()
        };
        let touched: Vec<Touches> = (0..=NAMED as u128).map(touch).collect();
        assert_eq!(changes("b", &payload("a", &touched, false)), [Change::Missed]);
        assert!(payload("a", &touched[1..], false).len() < 8000);
        assert_eq!(
            changes("b", &payload("a", &touched[..1], true)),
            [Change::Missed, Change::Work, Change::Pool]
        );
        assert_eq!(changes("b", "nonsense"), [Change::Missed]);
    }
}
