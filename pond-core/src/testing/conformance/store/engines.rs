//! Engines: whose runs are handed on, and to whom.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::clock::Clock;
use crate::id::{EngineId, RunId};
use crate::scope::Scope;
use crate::store::SharedStore;
use crate::testing::Samples;

/// Runs of engines whose time ended, that retired or never beat are handed on; those of a live one and the heir's own stay.
pub async fn only_runs_of_dead_engines_are_adopted(store: SharedStore) {
    let samples = Samples::new(1);
    let [live, late, retired, unheard, heir]: [EngineId; 5] = std::array::from_fn(|_| samples.id());
    let mut runs = Vec::new();
    for owner in [live, late, retired, unheard, heir] {
        let mut run = samples.new_run();
        run.owner = owner;
        runs.push(run.id);
        store.create_run(run).await.unwrap();
    }
    let now = samples.now();
    store.beat(live, now).await.unwrap();
    store.beat(late, now.plus(Duration::from_secs(9))).await.unwrap();
    store
        .beat(late, crate::clock::Timestamp::from_micros(now.micros() - 1))
        .await
        .unwrap();
    store.beat(retired, now.plus(Duration::from_secs(9))).await.unwrap();
    store.retire(retired).await.unwrap();
    store.retire(unheard).await.unwrap();

    assert_eq!(store.runs_of(late, 10).await.unwrap(), [runs[1]]);
    let adopted = store.adopt_runs(heir, now, 10).await.unwrap();
    assert_eq!(store.runs_of(late, 10).await.unwrap(), []);
    let own: BTreeSet<RunId> = store.runs_of(heir, 10).await.unwrap().into_iter().collect();
    assert_eq!(own, BTreeSet::from([runs[1], runs[2], runs[3], runs[4]]));
    assert_eq!(store.runs_of(heir, 2).await.unwrap().len(), 2);
    assert_eq!(
        adopted.iter().copied().collect::<BTreeSet<_>>(),
        BTreeSet::from([runs[1], runs[2], runs[3]])
    );
    for (run, owner) in [
        (runs[0], live),
        (runs[1], heir),
        (runs[2], heir),
        (runs[3], heir),
        (runs[4], heir),
    ] {
        let head = store.run(Scope::Org, run).await.unwrap().unwrap().head;
        // The former engine's next commit is stale.
        let revision = 1 + i64::from(adopted.contains(&run));
        assert_eq!((head.owner, head.revision), (owner, revision));
    }
    assert_eq!(store.adopt_runs(heir, now, 10).await.unwrap(), []);
}

/// Heirs that come at the same time share what is there: no run goes to two of them, none is left.
pub async fn a_run_has_one_heir(store: SharedStore) {
    let samples = Samples::new(2);
    let mut orphans = BTreeSet::new();
    for _ in 0..40 {
        let run = samples.new_run();
        orphans.insert(run.id);
        store.create_run(run).await.unwrap();
    }
    let now = samples.now();
    let heirs: Vec<EngineId> = (0..4).map(|_| samples.id()).collect();
    for heir in &heirs {
        store.beat(*heir, now.plus(Duration::from_secs(60))).await.unwrap();
    }
    let adoptions = heirs.into_iter().map(|heir| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut all: Vec<RunId> = Vec::new();
            for _ in 0..20 {
                all.extend(store.adopt_runs(heir, now, 7).await.unwrap());
            }
            all
        })
    });
    let adopted: Vec<RunId> = futures::future::join_all(adoptions)
        .await
        .into_iter()
        .flat_map(|adopted| adopted.unwrap())
        .collect();
    assert_eq!(adopted.len(), orphans.len());
    assert_eq!(adopted.into_iter().collect::<BTreeSet<_>>(), orphans);
}

/// A run that has ended belongs to nobody.
pub async fn ended_runs_are_left_alone(store: SharedStore) {
    let samples = Samples::new(3);
    let run = samples.new_run();
    store.create_run(run.clone()).await.unwrap();
    store.commit_run(samples.finish(&run)).await.unwrap();
    assert_eq!(
        store.adopt_runs(samples.id(), samples.clock.now(), 10).await.unwrap(),
        []
    );
}
