//! Guards: a write that depends on a claim, and pieces of a claim's streams.

use std::time::Duration;

use crate::pool::{ClaimedJob, JobChange, JobStatus};
use crate::runs::{Append, Appended, Committed, Guard, NewRun};
use crate::scope::Scope;
use crate::store::{SharedStore, Store};
use crate::testing::Samples;

async fn claimed(samples: &Samples, store: &dyn Store) -> (NewRun, ClaimedJob) {
    let (run, job) = samples.enqueue(store, "any").await;
    let jobs = store.claim_jobs(samples.claim("any", 1)).await.unwrap();
    assert_eq!(jobs.iter().map(|claimed| claimed.job.id).collect::<Vec<_>>(), [job]);
    (run, jobs.into_iter().next().unwrap())
}

/// With the live token, commits and appends go through, and a commit may end the job.
pub async fn a_live_claim_lets_writes_through(store: SharedStore) {
    let samples = Samples::new(1);
    let (run, job) = claimed(&samples, &*store).await;
    let guard = Some(samples.guard(&job));
    let mut append = samples.append(run.id, &["line"]);
    append.guard.clone_from(&guard);
    assert!(matches!(
        store.append_events(append).await.unwrap(),
        Appended::At { next_event: 3, .. }
    ));
    let mut commit = samples.finish(&run);
    commit.expected_revision = 2;
    commit.guard.clone_from(&guard);
    commit.jobs = vec![JobChange::End(job.job.id)];
    assert!(matches!(
        store.commit_run(commit).await.unwrap(),
        Committed::At { revision: 3, .. }
    ));
    assert_eq!(
        store.job(job.job.id).await.unwrap().unwrap().phase.status(),
        JobStatus::Ended
    );

    let mut late = samples.append(run.id, &["late"]);
    late.guard = guard;
    assert_eq!(
        store.append_events(late).await.unwrap(),
        Appended::StaleClaim,
        "the job has ended"
    );
}

/// Another token, another job, or the job of another run is no claim on this run; an unknown run is unknown.
pub async fn a_wrong_token_job_or_run_is_stale(store: SharedStore) {
    let samples = Samples::new(2);
    let (run, job) = claimed(&samples, &*store).await;
    let (other, other_job) = claimed(&samples, &*store).await;
    let good = samples.guard(&job);
    for guard in [
        Guard {
            token: samples.token().hash(),
            ..good.clone()
        },
        Guard {
            job: samples.id(),
            ..good.clone()
        },
        samples.guard(&other_job),
    ] {
        let mut commit = samples.commit(&run, 2);
        commit.guard = Some(guard.clone());
        assert_eq!(store.commit_run(commit).await.unwrap(), Committed::StaleClaim);
        let mut append = samples.append(run.id, &["line"]);
        append.guard = Some(guard);
        assert_eq!(store.append_events(append).await.unwrap(), Appended::StaleClaim);
    }
    let mut both = samples.commit(&other, 1);
    both.guard = Some(good.clone());
    assert_eq!(
        store.commit_run(both).await.unwrap(),
        Committed::StaleClaim,
        "before the revision is looked at"
    );
    let mut nowhere = samples.append(samples.id(), &["line"]);
    nowhere.guard = Some(good);
    assert_eq!(store.append_events(nowhere).await.unwrap(), Appended::Unknown);
}

/// From the end of its lease on a claim is stale, but for the write that takes the job back.
pub async fn an_expired_claim_is_stale_unless_taken_back(store: SharedStore) {
    let samples = Samples::new(3);
    let (run, job) = claimed(&samples, &*store).await;
    samples.clock.advance(Duration::from_secs(60));
    let mut commit = samples.commit(&run, 2);
    commit.guard = Some(samples.guard(&job));
    commit.jobs = vec![JobChange::Release(job.job.id)];
    assert_eq!(store.commit_run(commit.clone()).await.unwrap(), Committed::StaleClaim);
    assert_eq!(
        store.job(job.job.id).await.unwrap().unwrap().phase.status(),
        JobStatus::Claimed
    );
    commit.guard = Some(Guard {
        now: None,
        ..samples.guard(&job)
    });
    assert!(matches!(
        store.commit_run(commit.clone()).await.unwrap(),
        Committed::At { .. }
    ));
    assert_eq!(
        store.job(job.job.id).await.unwrap().unwrap().phase.status(),
        JobStatus::Waiting
    );
    commit.expected_revision = 3;
    assert_eq!(
        store.commit_run(commit).await.unwrap(),
        Committed::StaleClaim,
        "it is taken back once"
    );
}

/// A refused write leaves state, events, jobs, artifacts and usage as they were.
pub async fn a_refused_write_leaves_nothing(store: SharedStore) {
    let samples = Samples::new(4);
    let (run, job) = claimed(&samples, &*store).await;
    let before = store.run(Scope::Org, run.id).await.unwrap().unwrap().head;
    let mut commit = samples.finish(&run);
    commit.artifacts.push(samples.artifact("a.txt"));
    commit.usage.push(samples.usage("m"));
    let fresh = samples.job(&run, "any");
    commit.jobs = vec![JobChange::End(job.job.id), JobChange::Enqueue(fresh.clone())];
    commit.expected_revision = 1;
    assert_eq!(store.commit_run(commit.clone()).await.unwrap(), Committed::Stale);
    commit.expected_revision = 2;
    commit.guard = Some(Guard {
        token: [7; 32],
        ..samples.guard(&job)
    });
    assert_eq!(store.commit_run(commit.clone()).await.unwrap(), Committed::StaleClaim);
    let append = Append {
        guard: commit.guard,
        artifacts: commit.artifacts,
        usage: commit.usage,
        ..samples.append(run.id, &["line"])
    };
    assert_eq!(store.append_events(append).await.unwrap(), Appended::StaleClaim);

    let after = store.run(Scope::Org, run.id).await.unwrap().unwrap().head;
    assert_eq!(
        (after.revision, after.next_event, after.log_bytes),
        (2, before.next_event, before.log_bytes)
    );
    assert_eq!(after.state, before.state);
    assert_eq!(store.events(Scope::Org, run.id, 0, 10).await.unwrap().len(), 1);
    assert_eq!(store.artifacts(Scope::Org, run.id).await.unwrap(), []);
    assert_eq!(store.usage(Scope::Org, run.id).await.unwrap(), []);
    assert_eq!(store.job(job.job.id).await.unwrap(), Some(job.job));
    assert_eq!(store.job(fresh.id).await.unwrap(), None);
}

fn piece(samples: &Samples, run: &NewRun, job: &ClaimedJob, stream: &str, number: u64) -> Append {
    Append {
        guard: Some(samples.guard(job)),
        piece: Some((stream.into(), number)),
        usage: vec![samples.usage("m")],
        ..samples.append(run.id, &[&format!("{stream} {number}")])
    }
}

/// Pieces count from 0 in each stream: one that was written is known, one too far shows the gap.
pub async fn pieces_are_written_once_and_in_order(store: SharedStore) {
    let samples = Samples::new(5);
    let (run, job) = claimed(&samples, &*store).await;
    for (stream, number, outcome) in [
        ("out", 1, Some(Appended::Gap { expected: 0 })),
        ("out", 0, None),
        ("out", 1, None),
        ("out", 0, Some(Appended::Known)),
        ("out", 1, Some(Appended::Known)),
        ("err \"ä\"", 0, None),
        ("out", 9, Some(Appended::Gap { expected: 2 })),
        ("out", 2, None),
        ("err \"ä\"", 1, None),
    ] {
        let appended = store
            .append_events(piece(&samples, &run, &job, stream, number))
            .await
            .unwrap();
        match outcome {
            Some(outcome) => assert_eq!(appended, outcome, "{stream} {number}"),
            None => assert!(
                matches!(appended, Appended::At { .. }),
                "{stream} {number}: {appended:?}"
            ),
        }
    }
    assert_eq!(store.events(Scope::Org, run.id, 1, 100).await.unwrap().len(), 5);
    assert_eq!(
        store.usage(Scope::Org, run.id).await.unwrap()[0].totals.calls,
        5,
        "telemetry counts once"
    );
    let mut unguarded = piece(&samples, &run, &job, "out", 3);
    unguarded.guard = None;
    assert_eq!(
        store.append_events(unguarded).await.unwrap(),
        Appended::StaleClaim,
        "a piece is of a claim"
    );
}

/// Another claim of the job is another process: its streams count from 0.
pub async fn a_new_claim_starts_its_streams_anew(store: SharedStore) {
    let samples = Samples::new(6);
    let (run, job) = claimed(&samples, &*store).await;
    store
        .append_events(piece(&samples, &run, &job, "out", 0))
        .await
        .unwrap();
    let mut release = samples.commit(&run, 2);
    release.jobs = vec![JobChange::Release(job.job.id)];
    store.commit_run(release).await.unwrap();
    let again = store
        .claim_jobs(samples.claim("any", 1))
        .await
        .unwrap()
        .into_iter()
        .next()
        .unwrap();
    assert_eq!(
        store
            .append_events(piece(&samples, &run, &job, "out", 1))
            .await
            .unwrap(),
        Appended::StaleClaim
    );
    let first = store
        .append_events(piece(&samples, &run, &again, "out", 0))
        .await
        .unwrap();
    assert!(matches!(first, Appended::At { .. }), "{first:?}");
}
