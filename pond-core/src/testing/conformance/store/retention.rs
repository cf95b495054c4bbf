//! Retention: what ended long ago is found and emptied, and nothing else.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::id::{JobId, RunId};
use crate::page::PageRequest;
use crate::pool::JobChange;
use crate::runs::{Emptied, NewRun, RunStatus};
use crate::scope::Scope;
use crate::store::{SharedStore, Store};
use crate::testing::Samples;

const DAY: Duration = Duration::from_secs(86_400);

async fn ended(samples: &Samples, store: &dyn Store, lines: u32) -> NewRun {
    let run = samples.new_run();
    store.create_run(run.clone()).await.unwrap();
    let mut finish = samples.finish(&run);
    finish.artifacts = vec![
        samples.artifact("a.txt"),
        samples.artifact("b.txt"),
        samples.artifact("c.txt"),
    ];
    finish.usage = vec![samples.usage("m")];
    for line in 0..lines {
        let appended = store.append_events(samples.append(run.id, &[&format!("{line}")])).await;
        appended.unwrap();
    }
    store.commit_run(finish).await.unwrap();
    run
}

/// All that is due, read in pages of `limit`, and how many pages that took.
async fn due(store: &dyn Store, cutoff: Timestamp, limit: u32) -> (Vec<RunId>, u32) {
    let (mut all, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = store.due_runs(cutoff, PageRequest { limit, after }).await.unwrap();
        pages += 1;
        all.extend(page.items);
        after = page.next;
        if after.is_none() {
            return (all, pages);
        }
    }
}

/// Runs are due once they ended before the cutoff: not when they were only made before it, and not while they live.
pub async fn what_ended_before_the_cutoff_is_due(store: SharedStore) {
    let samples = Samples::new(1);
    let old = ended(&samples, &*store, 0).await;
    let live = samples.new_run();
    store.create_run(live.clone()).await.unwrap();
    let late = samples.new_run();
    store.create_run(late.clone()).await.unwrap();
    let older = ended(&samples, &*store, 0).await;
    samples.clock.advance(DAY);
    let cutoff = samples.now();
    samples.clock.advance(DAY);
    store.commit_run(samples.finish(&late)).await.unwrap();
    let young = ended(&samples, &*store, 0).await;
    for limit in [1, 2, 3, 500] {
        assert_eq!(due(&*store, cutoff, limit).await.0, [old.id, older.id], "{limit}");
    }
    assert_eq!(due(&*store, old.created_at, 10).await, (vec![], 1));
    let all = due(&*store, samples.now(), 10).await.0;
    assert_eq!(all, [old.id, late.id, older.id, young.id]);
}

/// A run is emptied in steps, events last; the run and its usage stay, and it is due no more.
pub async fn a_run_is_emptied_in_steps_and_stays(store: SharedStore) {
    let samples = Samples::new(2);
    let (run, other) = (ended(&samples, &*store, 5).await, ended(&samples, &*store, 1).await);
    let look = || async {
        let head = store.run(Scope::Org, run.id).await.unwrap().unwrap().head;
        (head.state, head.revision, head.next_event, head.log_bytes)
    };
    let before = look().await;
    let kept = store.events(Scope::Org, other.id, 0, 100).await.unwrap();
    samples.clock.advance(DAY);
    let cutoff = samples.now();
    let mut steps = 0;
    while store.empty_run(run.id, cutoff, 2).await.unwrap() == Emptied::Part {
        steps += 1;
        assert!(steps < 20, "it ends");
        let left = store.events(Scope::Org, run.id, 0, 100).await.unwrap().len();
        let artifacts = store.artifacts(Scope::Org, run.id).await.unwrap().len();
        assert!(left > 0 || artifacts == 0, "events go last");
    }
    assert!(steps > 0, "two rows at a time take more than one step");
    assert_eq!(store.events(Scope::Org, run.id, 0, 100).await.unwrap(), []);
    assert_eq!(store.artifacts(Scope::Org, run.id).await.unwrap(), []);
    assert_eq!(look().await, before);
    assert_eq!(store.usage(Scope::Org, run.id).await.unwrap(), [samples.usage("m")]);
    assert_eq!(store.events(Scope::Org, other.id, 0, 100).await.unwrap(), kept);
    assert_eq!(store.artifacts(Scope::Org, other.id).await.unwrap().len(), 3);
    assert_eq!(due(&*store, cutoff, 10).await.0, [other.id]);
    assert_eq!(
        store.empty_run(run.id, cutoff, 2).await.unwrap(),
        Emptied::Whole,
        "once more changes nothing"
    );
}

/// A live run, one that ended later and one that is not there lose nothing.
pub async fn what_is_not_due_is_not_emptied(store: SharedStore) {
    let samples = Samples::new(3);
    let cutoff = samples.now();
    let live = samples.new_run();
    store.create_run(live.clone()).await.unwrap();
    let late = ended(&samples, &*store, 1).await;
    for run in [live.id, late.id, samples.id()] {
        assert_eq!(store.empty_run(run, cutoff, 10).await.unwrap(), Emptied::Whole);
    }
    let far = samples.now().plus(DAY);
    assert_eq!(store.empty_run(live.id, far, 10).await.unwrap(), Emptied::Whole);
    assert_eq!(store.events(Scope::Org, live.id, 0, 10).await.unwrap().len(), 1);
    assert_eq!(store.artifacts(Scope::Org, late.id).await.unwrap().len(), 3);
    let status = store
        .run(Scope::Org, live.id)
        .await
        .unwrap()
        .unwrap()
        .head
        .state
        .phase
        .status();
    assert_eq!(status, RunStatus::Queued);
}

/// What was reported of the jobs of an ended run can be looked up until the run is emptied, and is gone before the last of its
/// events; jobs of other runs stay.
pub async fn ended_jobs_stay_as_long_as_the_logs_of_their_run(store: SharedStore) {
    let samples = Samples::new(4);
    let with_jobs = async || -> (NewRun, Vec<JobId>) {
        let run = samples.new_run();
        store.create_run(run.clone()).await.unwrap();
        let jobs: Vec<_> = (0..5).map(|_| samples.job(&run, "a")).collect();
        let mut finish = samples.finish(&run);
        for job in &jobs {
            finish.jobs.push(JobChange::Enqueue(job.clone()));
            finish.jobs.push(JobChange::End(job.id));
            finish.jobs.push(JobChange::Reported(job.id, "done".into()));
        }
        store.commit_run(finish).await.unwrap();
        (run, jobs.iter().map(|job| job.id).collect())
    };
    let known = async |jobs: &[JobId]| {
        let mut known = 0;
        for job in jobs {
            let row = store.job(*job).await.unwrap();
            known += u32::from(row.is_some_and(|row| row.dispatch.as_deref() == Some("done")));
        }
        known
    };
    let (old, old_jobs) = with_jobs().await;
    let (_, live_job) = samples.enqueue(&*store, "a").await;
    samples.clock.advance(DAY);
    let cutoff = samples.now();
    let (young, young_jobs) = with_jobs().await;
    assert_eq!(
        store.empty_run(old.id, old.created_at, 2).await.unwrap(),
        Emptied::Whole
    );
    assert_eq!(known(&old_jobs).await, 5, "not due yet");
    let mut steps = 0;
    while store.empty_run(old.id, cutoff, 2).await.unwrap() == Emptied::Part {
        steps += 1;
        assert!(steps < 20, "it ends");
        let events = store.events(Scope::Org, old.id, 0, 100).await.unwrap().len();
        assert!(events > 0 || known(&old_jobs).await == 0, "events go last");
    }
    assert!(steps > 1, "two rows at a time take more than one step");
    for job in old_jobs {
        assert_eq!(store.job(job).await.unwrap(), None);
    }
    store.empty_run(young.id, cutoff, 10).await.unwrap();
    assert_eq!(known(&young_jobs).await, 5);
    assert_eq!(store.job_counts(samples.project).await.unwrap(), (1, 0));
    assert!(store.job(live_job).await.unwrap().is_some());
}
