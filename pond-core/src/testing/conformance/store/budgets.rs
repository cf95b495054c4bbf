//! Budgets: jobs that share a limit, and what comes back of it; and what is told by id, which counts once.

use std::time::Duration;

use crate::clock::Clock;
use crate::id::RunId;
use crate::pool::{ClaimedJob, JobChange};
use crate::runs::{Append, Appended, Committed, NewRun};
use crate::scope::Scope;
use crate::store::{SharedStore, Store};
use crate::testing::Samples;
use crate::usage::{Amounts, Draw, Drawn, Granted, Pico, Slice, Tokens, UsageEntry};

/// A run whose jobs are all claimed, at revision 2. The job at place `n` is of stage `n % 2`.
async fn claimed(samples: &Samples, store: &dyn Store, count: usize) -> (NewRun, Vec<ClaimedJob>) {
    let run = samples.new_run();
    store.create_run(run.clone()).await.unwrap();
    let mut commit = samples.commit(&run, 1);
    for place in 0..count {
        let mut job = samples.job(&run, "a");
        job.stage = u32::try_from(place % 2).unwrap();
        commit.jobs.push(JobChange::Enqueue(job));
    }
    store.commit_run(commit).await.unwrap();
    let claimed = store.claim_jobs(samples.claim("a", count)).await.unwrap();
    assert_eq!(claimed.len(), count);
    (run, claimed)
}

fn tokens(count: u64) -> Slice {
    Slice {
        tokens: Some(count),
        ..Slice::default()
    }
}

fn wanting(count: u64) -> Amounts {
    Amounts {
        tokens: count,
        ..Amounts::default()
    }
}

fn drawing(samples: &Samples, run: RunId, job: &ClaimedJob, limit: Slice, want: u64) -> Draw {
    Draw {
        run,
        stage: job.job.stage,
        guard: samples.guard(job),
        want: wanting(want),
        run_limit: limit,
        stage_limit: Slice::default(),
    }
}

async fn granted(store: &dyn Store, draw: Draw) -> Granted {
    match store.draw(draw).await.unwrap() {
        Drawn::Granted(granted) => granted,
        Drawn::StaleClaim => panic!("the claim is live"),
    }
}

/// An append under a claim that tells of so many tokens.
fn spending(samples: &Samples, run: RunId, job: &ClaimedJob, count: u64) -> Append {
    let mut entry: UsageEntry = samples.usage("m");
    entry.totals.tokens = Tokens {
        output: count,
        ..Tokens::default()
    };
    Append {
        guard: Some(samples.guard(job)),
        usage: vec![entry],
        ..samples.append(run, &[])
    }
}

async fn tell(store: &dyn Store, append: Append) {
    let appended = store.append_events(append).await.unwrap();
    assert!(matches!(appended, Appended::At { .. }), "{appended:?}");
}

async fn change(samples: &Samples, store: &dyn Store, run: &NewRun, revision: i64, change: JobChange) {
    let mut commit = samples.commit(run, revision);
    commit.jobs = vec![change];
    let committed = store.commit_run(commit).await.unwrap();
    assert!(matches!(committed, Committed::At { .. }), "{committed:?}");
}

/// Slices come off one limit; what was not spent comes back when the job ends, or goes back in line, and what was spent stays.
pub async fn c17_107_unused_slices_come_back(store: SharedStore) {
    let samples = Samples::new(1);
    let (run, jobs) = claimed(&samples, &*store, 3).await;
    let first = granted(&*store, drawing(&samples, run.id, &jobs[0], tokens(1000), 600)).await;
    assert_eq!((first.granted, first.remaining), (tokens(600), tokens(400)));
    let second = granted(&*store, drawing(&samples, run.id, &jobs[1], tokens(1000), 500)).await;
    assert_eq!((second.granted, second.remaining), (tokens(400), tokens(0)));
    let third = drawing(&samples, run.id, &jobs[2], tokens(1000), 1);
    assert_eq!(granted(&*store, third.clone()).await.granted, tokens(0));
    tell(&*store, spending(&samples, run.id, &jobs[0], 150)).await;
    assert_eq!(
        granted(&*store, third.clone()).await.granted,
        tokens(0),
        "it is held still"
    );
    change(&samples, &*store, &run, 2, JobChange::End(jobs[0].job.id)).await;
    let third = granted(&*store, third).await;
    assert_eq!((third.granted, third.remaining), (tokens(56), tokens(394)));
    // A lost worker's: of its 400 it told of 100.
    tell(&*store, spending(&samples, run.id, &jobs[1], 100)).await;
    change(&samples, &*store, &run, 3, JobChange::Release(jobs[1].job.id)).await;
    let again = store.claim_jobs(samples.claim("a", 1)).await.unwrap();
    let rest = granted(&*store, drawing(&samples, run.id, &again[0], tokens(1000), 2000)).await;
    assert_eq!(
        (rest.granted, rest.remaining),
        (tokens(694), tokens(0)),
        "1000 - 150 - 100 - 56"
    );
}

/// The tighter of run and stage binds, in each kind on its own.
pub async fn run_and_stage_bind_together(store: SharedStore) {
    let samples = Samples::new(2);
    let (run, jobs) = claimed(&samples, &*store, 3).await;
    let limit = |usd: Option<i64>, tokens, calls| Slice {
        usd: usd.map(Pico),
        tokens,
        calls,
    };
    let want = Amounts {
        usd: Pico(300),
        tokens: 30,
        calls: 3,
    };
    let draw = |job: &ClaimedJob| Draw {
        want,
        run_limit: limit(Some(1000), None, Some(4)),
        stage_limit: limit(Some(500), Some(40), None),
        ..drawing(&samples, run.id, job, Slice::default(), 0)
    };
    let first = granted(&*store, draw(&jobs[0])).await;
    assert_eq!(first.granted, limit(Some(300), Some(30), Some(3)));
    assert_eq!(first.remaining, limit(Some(200), Some(10), Some(1)));
    let other_stage = granted(&*store, draw(&jobs[1])).await;
    assert_eq!(
        other_stage.granted,
        limit(Some(300), Some(30), Some(1)),
        "the last call of the run"
    );
    let nothing = granted(&*store, draw(&jobs[2])).await;
    assert_eq!(
        nothing.granted,
        limit(Some(0), Some(0), Some(0)),
        "no call is left in the run"
    );
    assert_eq!(nothing.remaining, limit(Some(200), Some(10), Some(0)));
}

/// What is spent beyond a grant comes off the limit at once.
pub async fn what_is_overspent_is_gone(store: SharedStore) {
    let samples = Samples::new(3);
    let (run, jobs) = claimed(&samples, &*store, 2).await;
    granted(&*store, drawing(&samples, run.id, &jobs[0], tokens(100), 20)).await;
    tell(&*store, spending(&samples, run.id, &jobs[0], 90)).await;
    let other = granted(&*store, drawing(&samples, run.id, &jobs[1], tokens(100), 50)).await;
    assert_eq!((other.granted, other.remaining), (tokens(10), tokens(0)));
    let own = granted(&*store, drawing(&samples, run.id, &jobs[0], tokens(100), 80)).await;
    assert_eq!(own.granted, tokens(0));
}

/// A draw needs a live claim.
pub async fn a_stale_claim_draws_nothing(store: SharedStore) {
    let samples = Samples::new(4);
    let (run, jobs) = claimed(&samples, &*store, 2).await;
    let mut wrong = drawing(&samples, run.id, &jobs[0], tokens(100), 100);
    wrong.guard.token = samples.token().hash();
    let other_run = drawing(&samples, samples.id(), &jobs[0], tokens(100), 100);
    let mut late = drawing(&samples, run.id, &jobs[0], tokens(100), 100);
    late.guard.now = Some(samples.clock.now().plus(Duration::from_secs(61)));
    for stale in [wrong, other_run, late] {
        assert_eq!(store.draw(stale).await.unwrap(), Drawn::StaleClaim);
    }
    let rest = granted(&*store, drawing(&samples, run.id, &jobs[1], tokens(100), 100)).await;
    assert_eq!(rest.granted, tokens(100), "none of it was written");
}

/// Ten jobs that draw and spend at once: what they hold and have spent is never above the limit, and all of it can be drawn.
pub async fn c17_107_ten_racing_jobs_share_one_limit(store: SharedStore) {
    const LIMIT: u64 = 5000;
    let samples = Samples::new(5);
    let (run, jobs) = claimed(&samples, &*store, 10).await;
    let workers = jobs.into_iter().enumerate().map(|(place, job)| {
        let (store, run) = (store.clone(), run.id);
        tokio::spawn(async move {
            let samples = Samples::new(1000 + place as u64);
            let mut drawn = 0;
            loop {
                let granted = granted(&*store, drawing(&samples, run, &job, tokens(LIMIT), 7))
                    .await
                    .granted;
                let Some(count @ 1..) = granted.tokens else {
                    return drawn;
                };
                drawn += count;
                tell(&*store, spending(&samples, run, &job, count)).await;
            }
        })
    });
    let workers: Vec<_> = workers.collect();
    let mut drawn = 0;
    for worker in workers {
        drawn += worker.await.unwrap();
    }
    assert_eq!(drawn, LIMIT);
    let spent: u64 = store
        .usage(Scope::Org, run.id)
        .await
        .unwrap()
        .iter()
        .map(|entry| entry.totals.tokens.total())
        .sum();
    assert_eq!(spent, LIMIT, "the sum of spends is the usage");
}

/// What is told by id counts once under a claim, in whatever company it comes; nothing else of a write that repeats one is
/// written.
pub async fn c17_56_what_is_told_by_id_counts_once(store: SharedStore) {
    let samples = Samples::new(6);
    let (run, jobs) = claimed(&samples, &*store, 2).await;
    let (a, b, c) = (samples.id(), samples.id(), samples.id());
    let telling = |job: &ClaimedJob, ids: &[uuid::Uuid]| Append {
        ids: ids.to_vec(),
        ..spending(&samples, run.id, job, 10)
    };
    let used = async || -> u64 {
        let usage = store.usage(Scope::Org, run.id).await.unwrap();
        usage.iter().map(|entry| entry.totals.tokens.total()).sum()
    };
    tell(&*store, telling(&jobs[0], &[a, b])).await;
    for (ids, told) in [(vec![a], vec![a]), (vec![c, b], vec![b])] {
        let again = store.append_events(telling(&jobs[0], &ids)).await.unwrap();
        assert_eq!(again, Appended::Told(told));
    }
    assert_eq!(used().await, 10);
    tell(&*store, telling(&jobs[0], &[c])).await;
    tell(&*store, telling(&jobs[1], &[a])).await;
    let unguarded = Append {
        guard: None,
        ..telling(&jobs[0], &[samples.id()])
    };
    assert_eq!(store.append_events(unguarded).await.unwrap(), Appended::StaleClaim);
    assert_eq!(used().await, 30);
    change(&samples, &*store, &run, 2, JobChange::Release(jobs[0].job.id)).await;
    let next = store.claim_jobs(samples.claim("a", 1)).await.unwrap();
    tell(&*store, telling(&next[0], &[a])).await;
    assert_eq!(used().await, 40, "another claim, another life");
}
