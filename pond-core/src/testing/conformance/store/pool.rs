//! The pool: lines, claims and leases.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::clock::{Clock, Timestamp};
use crate::id::{BootId, JobId};
use crate::pool::{ClaimRequest, JobChange, JobPhase, JobStatus, Renewal, Renewed};
use crate::store::{SharedStore, Store};
use crate::testing::Samples;

async fn ids(store: &dyn Store, request: ClaimRequest) -> Vec<JobId> {
    store
        .claim_jobs(request)
        .await
        .unwrap()
        .iter()
        .map(|claimed| claimed.job.id)
        .collect()
}

/// Over all lines that a worker fits, a project's jobs go in the order in which they came; each gets a token of its own.
pub async fn the_lowest_place_goes_first(store: SharedStore) {
    let samples = Samples::new(1);
    let mut expected = Vec::new();
    for tag in ["a", "b", "a", "b", "b", "a"] {
        expected.push(samples.enqueue(&*store, tag).await.1);
    }
    let mut request = samples.claim("a", 4);
    request.fits.push(samples.needs("b").key());
    request.fits.push(samples.needs("b").key());
    let claimed = store.claim_jobs(request.clone()).await.unwrap();
    assert_eq!(
        claimed.iter().map(|claimed| claimed.job.id).collect::<Vec<_>>(),
        expected[..4]
    );
    for (claimed, token) in claimed.iter().zip(&request.tokens) {
        assert_eq!(claimed.token.expose(), token.expose());
        let phase = JobPhase::Claimed {
            claim: 1,
            token: token.hash(),
            worker: request.worker,
            boot: request.boot,
            lease_until: request.lease_until,
        };
        assert_eq!(claimed.job.phase, phase);
        assert_eq!(store.job(claimed.job.id).await.unwrap().as_ref(), Some(&claimed.job));
    }
    request.tokens = (0..4).map(|_| samples.token()).collect();
    assert_eq!(ids(&*store, request.clone()).await, expected[4..]);
    assert_eq!(ids(&*store, request).await, []);
}

/// Jobs of other needs stay; a worker that fits nothing or has no place for a job gets none.
pub async fn only_fitting_jobs_are_claimed(store: SharedStore) {
    let samples = Samples::new(2);
    let (_, job) = samples.enqueue(&*store, "a").await;
    assert_eq!(ids(&*store, samples.claim("b", 3)).await, []);
    assert_eq!(ids(&*store, samples.claim("a", 0)).await, []);
    let nothing = ClaimRequest {
        fits: vec![],
        ..samples.claim("a", 1)
    };
    assert_eq!(ids(&*store, nothing).await, []);
    assert_eq!(ids(&*store, samples.claim("a", 3)).await, [job]);
    assert_eq!(store.job(samples.id()).await.unwrap(), None);
}

/// Sixteen workers that claim at once: every job goes to one of them.
pub async fn no_job_is_claimed_twice_by_racing_workers(store: SharedStore) {
    let samples = Samples::new(3);
    let mut line = BTreeSet::new();
    for number in 0..60 {
        line.insert(
            samples
                .enqueue(&*store, if number % 3 == 0 { "a" } else { "b" })
                .await
                .1,
        );
    }
    let workers = (0..16).map(|worker| {
        let store = store.clone();
        tokio::spawn(async move {
            let samples = Samples::new(1000 + worker);
            let mut all = Vec::new();
            let mut idle = 0;
            // A worker may come away empty while others hold what it looked at, so it asks again.
            while idle < 5 {
                let mut request = samples.claim("a", 2);
                request.fits.push(samples.needs("b").key());
                let claimed = ids(&*store, request).await;
                idle = if claimed.is_empty() { idle + 1 } else { 0 };
                all.extend(claimed);
            }
            all
        })
    });
    let claimed = futures::future::join_all(workers)
        .await
        .into_iter()
        .flat_map(|claimed| claimed.unwrap());
    let claimed: Vec<JobId> = claimed.collect();
    assert_eq!(claimed.len(), line.len());
    assert_eq!(claimed.into_iter().collect::<BTreeSet<_>>(), line);
}

async fn change(samples: &Samples, store: &dyn Store, run: &crate::runs::NewRun, revision: i64, job: JobChange) {
    let mut commit = samples.commit(run, revision);
    commit.jobs = vec![job];
    let committed = store.commit_run(commit).await.unwrap();
    assert!(matches!(committed, crate::runs::Committed::At { .. }), "{committed:?}");
}

/// A lost job goes back to its place, and its claims count on.
pub async fn a_released_job_keeps_its_place_and_counts_its_claims(store: SharedStore) {
    let samples = Samples::new(4);
    let (run, first) = samples.enqueue(&*store, "a").await;
    let (_, second) = samples.enqueue(&*store, "a").await;
    assert_eq!(ids(&*store, samples.claim("a", 1)).await, [first]);
    change(&samples, &*store, &run, 2, JobChange::Release(first)).await;
    assert_eq!(
        store.job(first).await.unwrap().unwrap().phase,
        JobPhase::Waiting { claims: 1 }
    );
    let again = store.claim_jobs(samples.claim("a", 2)).await.unwrap();
    assert_eq!(
        again.iter().map(|claimed| claimed.job.id).collect::<Vec<_>>(),
        [first, second]
    );
    assert_eq!(
        again
            .iter()
            .map(|claimed| claimed.job.phase.claims())
            .collect::<Vec<_>>(),
        [2, 1]
    );
    change(&samples, &*store, &run, 3, JobChange::End(first)).await;
    assert_eq!(
        store.job(first).await.unwrap().unwrap().phase,
        JobPhase::Ended { claims: 2 }
    );
    assert_eq!(ids(&*store, samples.claim("a", 2)).await, []);
}

/// Releasing a waiting job, changing an ended one, or putting one in line again leaves it as it is.
pub async fn changes_that_a_job_cannot_take_have_no_effect(store: SharedStore) {
    let samples = Samples::new(5);
    let (run, job) = samples.enqueue(&*store, "a").await;
    let waiting = store.job(job).await.unwrap().unwrap();
    change(&samples, &*store, &run, 2, JobChange::Release(job)).await;
    change(&samples, &*store, &run, 3, JobChange::Cancel(job)).await;
    let mut again = samples.job(&run, "b");
    again.id = job;
    change(&samples, &*store, &run, 4, JobChange::Enqueue(again)).await;
    change(&samples, &*store, &run, 5, JobChange::End(samples.id())).await;
    assert_eq!(store.job(job).await.unwrap(), Some(waiting.clone()));
    change(&samples, &*store, &run, 6, JobChange::End(job)).await;
    for (revision, late) in (7..).zip([JobChange::Release(job), JobChange::Cancel(job), JobChange::End(job)]) {
        change(&samples, &*store, &run, revision, late).await;
        let ended = store.job(job).await.unwrap().unwrap();
        assert_eq!((ended.phase, ended.cancelled), (JobPhase::Ended { claims: 0 }, false));
    }
    assert_eq!(ids(&*store, samples.claim("b", 1)).await, []);
}

/// A lease is renewed with its live token before it ends, and not otherwise.
pub async fn leases_are_renewed_by_their_holder_alone(store: SharedStore) {
    let samples = Samples::new(6);
    let (run, job) = samples.enqueue(&*store, "a").await;
    let waiting = Renewal {
        job,
        token: [0; 32],
        now: samples.clock.now(),
        lease_until: samples.clock.now(),
    };
    assert_eq!(store.renew_lease(waiting).await.unwrap(), Renewed::Stale);
    let claimed = store
        .claim_jobs(samples.claim("a", 1))
        .await
        .unwrap()
        .into_iter()
        .next()
        .unwrap();
    let start = samples.clock.now();
    let renewal = |now: u64, until: u64| Renewal {
        job,
        token: claimed.token.hash(),
        now: start.plus(Duration::from_secs(now)),
        lease_until: start.plus(Duration::from_secs(until)),
    };
    let until = |seconds: u64| Renewed::Until {
        lease_until: start.plus(Duration::from_secs(seconds)),
        cancel: false,
    };
    let wrong = Renewal {
        token: [1; 32],
        ..renewal(1, 90)
    };
    let unknown = Renewal {
        job: samples.id(),
        ..renewal(1, 90)
    };
    for (renewal, outcome) in [
        (renewal(59, 119), until(119)),
        (wrong, Renewed::Stale),
        (unknown, Renewed::Unknown),
        (renewal(118, 130), until(130)),
        (renewal(130, 190), Renewed::Stale),
        (renewal(129, 140), until(140)),
    ] {
        assert_eq!(store.renew_lease(renewal).await.unwrap(), outcome);
    }
    let renewals = (0..20).map(|second| store.renew_lease(renewal(1, 200 + second)));
    for renewed in futures::future::join_all(renewals).await {
        assert!(matches!(renewed.unwrap(), Renewed::Until { cancel: false, .. }));
    }
    change(&samples, &*store, &run, 2, JobChange::Release(job)).await;
    assert_eq!(store.renew_lease(renewal(1, 300)).await.unwrap(), Renewed::Stale);
}

/// Leases that have ended come longest expired first, and no others.
pub async fn expired_leases_are_found_longest_first(store: SharedStore) {
    let samples = Samples::new(7);
    let at = |second: i64| Timestamp::from_millis(second * 1000);
    let mut jobs = Vec::new();
    for until in [30, 10, 20, 40] {
        samples.enqueue(&*store, "a").await;
        let request = ClaimRequest {
            lease_until: at(until),
            ..samples.claim("a", 1)
        };
        jobs.extend(ids(&*store, request).await);
    }
    let expired = |rows: Vec<crate::pool::JobRow>| rows.into_iter().map(|row| row.id).collect::<Vec<_>>();
    assert_eq!(expired(store.expired_jobs(at(9), 10).await.unwrap()), []);
    assert_eq!(
        expired(store.expired_jobs(at(30), 10).await.unwrap()),
        [jobs[1], jobs[2], jobs[0]]
    );
    assert_eq!(
        expired(store.expired_jobs(at(99), 2).await.unwrap()),
        [jobs[1], jobs[2]]
    );
}

/// What a worker held in another life is found; what it holds in this one, or others hold, is not.
pub async fn a_new_life_finds_the_jobs_of_the_former_one(store: SharedStore) {
    let samples = Samples::new(8);
    for _ in 0..4 {
        samples.enqueue(&*store, "a").await;
    }
    let former = samples.claim("a", 2);
    let mut held = ids(&*store, former.clone()).await;
    held.sort_unstable();
    let boot: BootId = samples.id();
    let now = ClaimRequest {
        worker: former.worker,
        boot,
        ..samples.claim("a", 1)
    };
    assert_eq!(ids(&*store, now).await.len(), 1);
    ids(&*store, samples.claim("a", 1)).await;
    let found = store.jobs_of_worker(former.worker, Some(boot)).await.unwrap();
    assert_eq!(found.iter().map(|row| row.id).collect::<Vec<_>>(), held);
    assert_eq!(store.jobs_of_worker(samples.id(), Some(boot)).await.unwrap(), []);
    assert_eq!(store.jobs_of_worker(former.worker, None).await.unwrap().len(), 3);
}

/// The distinct needs in line and a project's counts follow each change; a line that is empty is known to be so at the latest
/// when a claim has come away short.
pub async fn waiting_needs_and_counts_follow_the_line(store: SharedStore) {
    let samples = Samples::new(9);
    assert_eq!(store.waiting_needs().await.unwrap().to_vec(), []);
    for tag in ["a", "b", "a"] {
        samples.enqueue(&*store, tag).await;
    }
    let needs: BTreeSet<_> = store.waiting_needs().await.unwrap().iter().cloned().collect();
    assert_eq!(needs, BTreeSet::from([samples.needs("a"), samples.needs("b")]));
    assert_eq!(store.job_counts(samples.project).await.unwrap(), (3, 0));
    assert_eq!(ids(&*store, samples.claim("b", 2)).await.len(), 1);
    assert_eq!(store.waiting_needs().await.unwrap().to_vec(), [samples.needs("a")]);
    assert_eq!(store.job_counts(samples.project).await.unwrap(), (2, 1));
    assert_eq!(store.job_counts(samples.id()).await.unwrap(), (0, 0));
}

/// The mark to stop comes with the next renewal, and does not outlive the claim.
pub async fn a_cancel_reaches_the_holder_with_its_renewal(store: SharedStore) {
    let samples = Samples::new(10);
    let (run, job) = samples.enqueue(&*store, "a").await;
    let claimed = store
        .claim_jobs(samples.claim("a", 1))
        .await
        .unwrap()
        .into_iter()
        .next()
        .unwrap();
    change(&samples, &*store, &run, 2, JobChange::Cancel(job)).await;
    let lease_until = samples.clock.now().plus(Duration::from_secs(99));
    let renewal = Renewal {
        job,
        token: claimed.token.hash(),
        now: samples.clock.now(),
        lease_until,
    };
    let renewed = store.renew_lease(renewal).await.unwrap();
    assert_eq!(
        renewed,
        Renewed::Until {
            lease_until,
            cancel: true
        }
    );
    assert!(store.job(job).await.unwrap().unwrap().cancelled);
    change(&samples, &*store, &run, 3, JobChange::Release(job)).await;
    let row = store.job(job).await.unwrap().unwrap();
    assert_eq!((row.cancelled, row.phase.status()), (false, JobStatus::Waiting));
}

/// A record of what was decided is kept while the claim lives, and is not there for the next one.
pub async fn what_was_decided_at_the_start_goes_with_the_claim(store: SharedStore) {
    let samples = Samples::new(11);
    let (run, job) = samples.enqueue(&*store, "a").await;
    let record = |text: &str| JobChange::Dispatch(job, text.to_owned());
    change(&samples, &*store, &run, 2, record("too early")).await;
    assert_eq!(store.job(job).await.unwrap().unwrap().dispatch, None);
    let request = samples.claim("a", 1);
    assert_eq!(store.claim_jobs(request).await.unwrap().len(), 1);
    change(&samples, &*store, &run, 3, record("{\"a\": \"ü\"}")).await;
    let row = store.job(job).await.unwrap().unwrap();
    assert_eq!(row.dispatch.as_deref(), Some("{\"a\": \"ü\"}"));
    change(&samples, &*store, &run, 4, JobChange::Release(job)).await;
    assert_eq!(store.job(job).await.unwrap().unwrap().dispatch, None);
}
