//! Lines and limits with two servers on one database.

use std::collections::BTreeSet;
use std::time::Duration;

use pond_core::id::{JobId, ProjectId, RunId};
use pond_core::pool::JobChange;
use pond_core::runs::Committed;
use pond_core::store::SharedStore;
use pond_core::testing::Samples;
use pond_store::testing::TestDatabase;
use tokio::time::timeout;

const LIMIT: u32 = 3;
const JOBS: u64 = 30;

/// Puts jobs in line, claims what there is, and ends what it claimed, until nobody has anything left to do; gives what it ran.
async fn serve(store: SharedStore, seed: u64, project: ProjectId, all: u64) -> Vec<JobId> {
    let samples = Samples::new(seed);
    for _ in 0..JOBS {
        samples.enqueue_within(&*store, project, "a", LIMIT).await;
    }
    let mut ran = Vec::new();
    loop {
        let claimed = store.claim_jobs(samples.claim("a", 2)).await.unwrap();
        let (waiting, running) = store.job_counts(project).await.unwrap();
        assert!(running <= u64::from(LIMIT), "{running} of {all} run, {waiting} wait");
        if claimed.is_empty() && (waiting, running) == (0, 0) {
            return ran;
        }
        for claimed in claimed {
            end(&samples, &store, claimed.job.run, claimed.job.id).await;
            ran.push(claimed.job.id);
        }
    }
}

async fn end(samples: &Samples, store: &SharedStore, run: RunId, job: JobId) {
    let mut commit = samples.commit(&samples.new_run(), 2);
    commit.run = run;
    commit.jobs = vec![JobChange::End(job)];
    let committed = store.commit_run(commit).await.unwrap();
    assert!(matches!(committed, Committed::At { .. }), "{committed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_share_a_limit_and_leave_no_job_behind() {
    let database = TestDatabase::create().await;
    let (one, two) = (
        pond_store::open(&database.url()).await.unwrap(),
        pond_store::open(&database.url()).await.unwrap(),
    );
    let project = Samples::new(1).project;
    let servers = [(&one, 2), (&two, 3), (&one, 4), (&two, 5)];
    let all = JOBS * servers.len() as u64;
    let serving = servers.map(|(store, seed)| tokio::spawn(serve(store.clone(), seed, project, all)));
    let served = timeout(Duration::from_secs(120), futures::future::join_all(serving));
    let ran: Vec<JobId> = served
        .await
        .expect("no job stays behind")
        .into_iter()
        .flat_map(|ran| ran.unwrap())
        .collect();
    assert_eq!(ran.len() as u64, all);
    assert_eq!(ran.into_iter().collect::<BTreeSet<_>>().len() as u64, all);
    one.close().await;
    two.close().await;
}
