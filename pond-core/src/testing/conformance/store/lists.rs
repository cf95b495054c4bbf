//! Lists of runs: order, filters, pages and scope.

use std::collections::BTreeSet;

use crate::clock::Timestamp;
use crate::id::{ProjectId, RunId};
use crate::page::PageRequest;
use crate::runs::{NewRun, RunFilter, RunStatus};
use crate::scope::Scope;
use crate::store::{SharedStore, Store};
use crate::testing::Samples;

async fn list(store: &dyn Store, scope: Scope, filter: &RunFilter) -> Vec<RunId> {
    let page = PageRequest {
        limit: 500,
        after: None,
    };
    let page = store.runs(scope, filter, page).await.unwrap();
    assert_eq!(page.next, None);
    page.items.iter().map(|head| head.id).collect()
}

/// The newest comes first, by id among those of one time; each filter narrows, and all together.
pub async fn newest_first_and_filtered(store: SharedStore) {
    let samples = Samples::new(1);
    let mut runs: Vec<NewRun> = (0..6).map(|_| samples.new_run()).collect();
    runs[3].created_at = runs[2].created_at;
    runs[4].trigger = "cron".into();
    for run in &runs {
        store.create_run(run.clone()).await.unwrap();
    }
    store.commit_run(samples.finish(&runs[1])).await.unwrap();
    store.commit_run(samples.finish(&runs[4])).await.unwrap();
    store.commit_run(samples.start(&runs[5])).await.unwrap();
    let ids = |places: &[usize]| places.iter().map(|place| runs[*place].id).collect::<Vec<_>>();

    let all = RunFilter::default();
    let done = RunFilter {
        statuses: vec![RunStatus::Done],
        ..all.clone()
    };
    let going = RunFilter {
        statuses: vec![RunStatus::Queued, RunStatus::Running],
        ..all.clone()
    };
    let cron = RunFilter {
        trigger: Some("cron".into()),
        ..all.clone()
    };
    let none = RunFilter {
        trigger: Some(String::new()),
        ..all.clone()
    };
    let since = RunFilter {
        since: Some(runs[2].created_at),
        ..all.clone()
    };
    let both = RunFilter {
        since: since.since,
        ..done.clone()
    };
    for (filter, places) in [
        (&all, &[5, 4, 3, 2, 1, 0][..]),
        (&done, &[4, 1]),
        (&going, &[5, 3, 2, 0]),
        (&cron, &[4]),
        (&none, &[]),
        (&since, &[5, 4, 3, 2]),
        (&both, &[4]),
    ] {
        assert_eq!(list(&*store, Scope::Org, filter).await, ids(places), "{filter:?}");
        assert_eq!(
            list(&*store, Scope::Project(samples.project), filter).await,
            ids(places),
            "{filter:?}"
        );
    }
}

/// A reader that pages while runs are added sees every run that was there at the start, once.
pub async fn pages_neither_repeat_nor_lose_while_runs_are_added(store: SharedStore) {
    let samples = Samples::new(2);
    let mut there = Vec::new();
    for _ in 0..30 {
        let run = samples.new_run();
        there.push(run.id);
        store.create_run(run).await.unwrap();
    }
    for scope in [Scope::Org, Scope::Project(samples.project)] {
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let request = PageRequest { limit: 7, after };
            let page = store.runs(scope, &RunFilter::default(), request).await.unwrap();
            assert!(page.items.len() <= 7);
            seen.extend(page.items.iter().map(|head| head.id));
            store.create_run(samples.new_run()).await.unwrap();
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let unique: BTreeSet<_> = seen.iter().copied().collect();
        assert_eq!(unique.len(), seen.len(), "no run comes twice");
        assert!(there.iter().all(|id| unique.contains(id)), "no run is lost");
    }
    let exact = PageRequest { limit: 41, after: None };
    let page = store.runs(Scope::Org, &RunFilter::default(), exact).await.unwrap();
    assert_eq!(
        (page.items.len(), page.next),
        (40, None),
        "a full last page has no next one"
    );
}

/// Every read of a run keeps to its scope.
pub async fn other_projects_are_out_of_scope(store: SharedStore) {
    let samples = Samples::new(3);
    let run = samples.new_run();
    store.create_run(run.clone()).await.unwrap();
    let mut append = samples.append(run.id, &["secret"]);
    append.artifacts.push(samples.artifact("a.txt"));
    append.usage.push(samples.usage("m"));
    store.append_events(append).await.unwrap();

    let (own, other) = (
        Scope::Project(samples.project),
        Scope::Project(samples.id::<ProjectId>()),
    );
    for (scope, sees) in [(Scope::Org, 1), (own, 1), (other, 0)] {
        let all = RunFilter::default();
        assert_eq!(usize::from(store.run(scope, run.id).await.unwrap().is_some()), sees);
        assert_eq!(list(&*store, scope, &all).await.len(), sees);
        assert_eq!(store.events(scope, run.id, 0, 10).await.unwrap().len(), 2 * sees);
        assert_eq!(store.artifacts(scope, run.id).await.unwrap().len(), sees);
        assert_eq!(store.usage(scope, run.id).await.unwrap().len(), sees);
    }
}

/// Runs that have not ended count for their project, whoever drives them.
pub async fn live_runs_are_counted_up_to_the_limit(store: SharedStore) {
    let samples = Samples::new(4);
    for number in 0..9 {
        let mut run = samples.new_run();
        if number % 2 == 0 {
            run.owner = samples.id();
        }
        store.create_run(run.clone()).await.unwrap();
        match number {
            0..3 => drop(store.commit_run(samples.finish(&run)).await.unwrap()),
            3 => drop(store.commit_run(samples.start(&run)).await.unwrap()),
            _ => {}
        }
    }
    let mut foreign = samples.new_run();
    foreign.project = samples.id();
    foreign.created_at = Timestamp::from_micros(0);
    store.create_run(foreign.clone()).await.unwrap();
    for (project, limit, count) in [
        (samples.project, 100, 6),
        (samples.project, 4, 4),
        (foreign.project, 4, 1),
    ] {
        assert_eq!(store.live_run_count(project, limit).await.unwrap(), count);
    }
    assert_eq!(store.live_run_count(samples.id(), 10).await.unwrap(), 0);
}
