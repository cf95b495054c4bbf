//! Wake-ups between two servers on one database.

use std::collections::BTreeSet;
use std::time::Duration;

use pond_core::id::RunId;
use pond_core::pool::{Admits, Code};
use pond_core::store::Change;
use pond_core::testing::Samples;
use pond_store::testing::TestDatabase;
use sqlx::{Connection, Executor};
use tokio::sync::broadcast::Receiver;
use tokio::time::timeout;

async fn next(changes: &mut Receiver<Change>) -> Change {
    timeout(Duration::from_secs(10), changes.recv())
        .await
        .expect("a hint comes")
        .unwrap()
}

#[tokio::test]
async fn another_server_hears_of_runs_and_work_and_the_writer_hears_once() {
    let database = TestDatabase::create().await;
    let (one, two) = (
        pond_store::open(&database.url()).await.unwrap(),
        pond_store::open(&database.url()).await.unwrap(),
    );
    let (mut own, mut other) = (one.changes(), two.changes());
    let samples = Samples::new(1);
    let (run, _) = samples.enqueue(&*one, "a").await;
    let mut heard = BTreeSet::new();
    while heard.len() < 2 {
        match next(&mut other).await {
            Change::RunElsewhere(id) => heard.insert(id.to_string()),
            Change::Work => heard.insert("work".into()),
            change @ (Change::Run(_) | Change::Pool | Change::Missed) => panic!("{change:?}"),
        };
    }
    assert_eq!(heard, BTreeSet::from([run.id.to_string(), "work".into()]));
    for hint in [Change::Run(run.id), Change::Run(run.id), Change::Work] {
        assert_eq!(next(&mut own).await, hint);
    }
    // The other server's hint comes after any echo of the first one's would.
    let answer = samples.new_run();
    two.create_run(answer.clone()).await.unwrap();
    assert_eq!(next(&mut own).await, Change::RunElsewhere(answer.id));
    one.close().await;
    two.close().await;
}

#[tokio::test]
async fn another_server_hears_of_the_pools_records() {
    let database = TestDatabase::create().await;
    let (one, two) = (
        pond_store::open(&database.url()).await.unwrap(),
        pond_store::open(&database.url()).await.unwrap(),
    );
    let (mut own, mut other) = (one.changes(), two.changes());
    let samples = Samples::new(4);
    let code = Code {
        hash: [1; 32],
        admits: Admits::Pairing { name: None },
        expires_at: samples.now(),
    };
    one.add_code(code, samples.now()).await.unwrap();
    assert_eq!(next(&mut own).await, Change::Pool);
    assert_eq!(next(&mut other).await, Change::Pool);
    one.close().await;
    two.close().await;
}

#[tokio::test]
async fn a_burst_reaches_the_other_server_whole() {
    let database = TestDatabase::create().await;
    let (one, two) = (
        pond_store::open(&database.url()).await.unwrap(),
        pond_store::open(&database.url()).await.unwrap(),
    );
    let mut other = two.changes();
    let samples = Samples::new(2);
    let runs: Vec<_> = (0..100).map(|_| samples.new_run()).collect();
    futures::future::join_all(runs.iter().map(|run| one.create_run(run.clone()))).await;
    let mut missing: BTreeSet<RunId> = runs.iter().map(|run| run.id).collect();
    while !missing.is_empty() {
        match next(&mut other).await {
            Change::RunElsewhere(id) => drop(missing.remove(&id)),
            Change::Missed => break,
            Change::Run(_) | Change::Pool | Change::Work => {}
        }
    }
    one.close().await;
    two.close().await;
}

#[tokio::test]
async fn a_listener_that_was_cut_off_says_so_and_hears_again() {
    let database = TestDatabase::create().await;
    let (one, two) = (
        pond_store::open(&database.url()).await.unwrap(),
        pond_store::open(&database.url()).await.unwrap(),
    );
    let mut other = two.changes();
    let mut killer = sqlx::PgConnection::connect(database.text()).await.unwrap();
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    killer.execute(cut).await.unwrap();
    for _ in 0..2 {
        assert_eq!(next(&mut other).await, Change::Missed);
    }
    let run = Samples::new(3).new_run();
    one.create_run(run.clone()).await.unwrap();
    while next(&mut other).await != Change::RunElsewhere(run.id) {}
    one.close().await;
    two.close().await;
}
