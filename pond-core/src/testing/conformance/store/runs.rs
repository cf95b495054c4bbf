//! Runs: create, commit, and what belongs to them.

use std::sync::Arc;

use crate::artifacts::Artifact;
use crate::event::EventBody;
use crate::runs::{Committed, Failure, FailureCode, Inputs, NewRun, RunState, StageEvent, StageOutcome, Transition};
use crate::scope::Scope;
use crate::store::{Change, SharedStore, StoreError};
use crate::testing::Samples;
use crate::usage::UsageTotals;

/// What was created reads back, with inputs and without, also when its definition was known.
pub async fn a_run_reads_back_as_created(store: SharedStore) {
    let samples = Samples::new(1);
    let plain = samples.new_run();
    let rich = NewRun {
        inputs: Arc::new(Inputs {
            sha: Some("abc".into()),
            context: Some(serde_json::value::RawValue::from_string(r#"{"a":"\u0000ä"}"#.into()).unwrap()),
            retry_of: Some(plain.id),
            ..Inputs::default()
        }),
        trigger: "a \"trigger\" ä".into(),
        events: Vec::new(),
        log_bytes: 0,
        ..samples.new_run()
    };
    for run in [&plain, &rich] {
        store.create_run(run.clone()).await.unwrap();
    }
    for run in [&plain, &rich] {
        let read = store.run(Scope::Org, run.id).await.unwrap().unwrap();
        assert_eq!(read.definition, run.definition);
        let head = read.head;
        assert_eq!((head.id, head.project, head.owner), (run.id, run.project, run.owner));
        assert_eq!((head.trigger, head.created_at), (run.trigger.clone(), run.created_at));
        assert_eq!(
            (head.revision, head.next_event),
            (1, 1 + i64::try_from(run.events.len()).unwrap())
        );
        assert_eq!(
            (head.log_bytes, head.definition_digest),
            (run.log_bytes, run.definition.digest)
        );
        assert_eq!(head.state, run.state);
        let (read, written) = (serde_json::to_value(&*head.inputs), serde_json::to_value(&*run.inputs));
        assert_eq!(read.unwrap(), written.unwrap());
    }
    assert!(store.run(Scope::Org, samples.id()).await.unwrap().is_none());
}

/// A second create with an id fails and leaves the first run as it is.
pub async fn an_id_that_is_taken_is_corrupt(store: SharedStore) {
    let samples = Samples::new(2);
    let run = samples.new_run();
    store.create_run(run.clone()).await.unwrap();
    let again = NewRun {
        id: run.id,
        trigger: "other".into(),
        ..samples.new_run()
    };
    assert!(matches!(
        store.create_run(again).await,
        Err(StoreError::Corrupt { table: "runs", .. })
    ));
    assert_eq!(
        &*store.run(Scope::Org, run.id).await.unwrap().unwrap().head.trigger,
        "api"
    );
    assert_eq!(store.events(Scope::Org, run.id, 0, 10).await.unwrap().len(), 1);
}

/// A commit from the revision that is there makes the next one; one from another is stale; an unknown run is unknown.
pub async fn a_commit_is_one_revision(store: SharedStore) {
    let samples = Samples::new(3);
    let run = samples.new_run();
    assert_eq!(store.commit_run(samples.start(&run)).await.unwrap(), Committed::Unknown);
    store.create_run(run.clone()).await.unwrap();
    let mut commit = samples.finish(&run);
    commit.owner = samples.id();
    let committed = store.commit_run(commit.clone()).await.unwrap();
    assert!(
        matches!(
            committed,
            Committed::At {
                revision: 2,
                next_event: 6,
                log_bytes: 7
            }
        ),
        "{committed:?}"
    );
    assert_eq!(store.commit_run(commit.clone()).await.unwrap(), Committed::Stale);
    let head = store.run(Scope::Org, run.id).await.unwrap().unwrap().head;
    assert_eq!((head.state, head.owner, head.revision), (commit.state, commit.owner, 2));
    let status = |event: &crate::event::NumberedEvent| matches!(event.event.body, EventBody::Status(_));
    assert_eq!(
        store
            .events(Scope::Org, run.id, 1, 10)
            .await
            .unwrap()
            .iter()
            .filter(|event| status(event))
            .count(),
        4
    );
}

/// Of many that write from one revision at once, one wins, and its events alone are there.
pub async fn one_of_many_racing_commits_wins(store: SharedStore) {
    let samples = Samples::new(4);
    for _ in 0..10 {
        let run = samples.new_run();
        store.create_run(run.clone()).await.unwrap();
        let racers = (0..16).map(|racer| {
            let (store, mut commit) = (store.clone(), samples.commit(&run, 1));
            commit.events = vec![samples.line(&format!("racer {racer}"))];
            tokio::spawn(async move { store.commit_run(commit).await.unwrap() })
        });
        let racers: Vec<_> = racers.collect();
        let outcomes = futures::future::join_all(racers).await;
        let wins = outcomes
            .iter()
            .filter(|outcome| matches!(outcome, Ok(Committed::At { .. })))
            .count();
        let stale = outcomes
            .iter()
            .filter(|outcome| matches!(outcome, Ok(Committed::Stale)))
            .count();
        assert_eq!((wins, stale), (1, 15));
        assert_eq!(store.events(Scope::Org, run.id, 1, 100).await.unwrap().len(), 1);
    }
}

/// Facts that are refused, or that cannot be written at all, do not take down those that are written with them.
pub async fn neighbours_of_a_refused_write_go_through(store: SharedStore) {
    let samples = Samples::new(5);
    let taken = samples.new_run();
    store.create_run(taken.clone()).await.unwrap();
    let runs: Vec<NewRun> = (0..40)
        .map(|number| NewRun {
            id: if number % 4 == 1 { taken.id } else { samples.id() },
            ..samples.new_run()
        })
        .collect();
    let creates = futures::future::join_all(runs.iter().map(|run| store.create_run(run.clone())));
    let commits = futures::future::join_all((0..20).map(|_| store.commit_run(samples.commit(&taken, 1))));
    let (created, committed) = tokio::join!(creates, commits);
    for (run, created) in runs.iter().zip(created) {
        assert_eq!(created.is_ok(), run.id != taken.id, "{created:?}");
    }
    assert_eq!(
        committed
            .iter()
            .filter(|outcome| matches!(outcome, Ok(Committed::At { .. })))
            .count(),
        1
    );
    for run in runs.iter().filter(|run| run.id != taken.id) {
        assert!(store.run(Scope::Org, run.id).await.unwrap().is_some());
    }
}

/// A definition of 1 MiB, 500 stages, a failure message of any text.
pub async fn large_definitions_and_many_stages_read_back(store: SharedStore) {
    let samples = Samples::new(6);
    let run = NewRun {
        definition: samples.definition(&"ä\"\\".repeat(1 << 18)),
        state: RunState::new(500),
        ..samples.new_run()
    };
    assert!(run.definition.json.len() > 1 << 20);
    store.create_run(run.clone()).await.unwrap();
    let mut commit = samples.commit(&run, 1);
    for index in 0..500 {
        let at = samples.now();
        let outcome = StageOutcome::Failed(Failure::new(
            FailureCode::Internal,
            format!("stage {index}: \0 ä \"\\ \u{1}"),
        ));
        let event = StageEvent::End { at, outcome };
        let events = commit
            .state
            .apply(Transition::Stage { index, event }, |_| "a stage")
            .unwrap();
        commit.events.extend(events);
    }
    store.commit_run(commit.clone()).await.unwrap();
    let read = store.run(Scope::Org, run.id).await.unwrap().unwrap();
    assert_eq!((read.definition, read.head.state), (run.definition, commit.state));
    assert_eq!(store.events(Scope::Org, run.id, 1, 1000).await.unwrap().len(), 500);
}

/// One artifact per stage, substage and name: the last one; ordered by these.
pub async fn artifacts_are_replaced_by_stage_substage_and_name(store: SharedStore) {
    let samples = Samples::new(7);
    let run = samples.new_run();
    store.create_run(run.clone()).await.unwrap();
    let artifact = |stage: u32, substage: Option<&str>, name: &str, size: u64| Artifact {
        stage,
        stage_key: format!("s{stage}"),
        substage: substage.map(Into::into),
        size,
        redacted: size == 2,
        ..samples.artifact(name)
    };
    let first = [
        artifact(1, None, "b.txt", 1),
        artifact(0, Some("x"), "a.txt", 1),
        artifact(0, None, "a.txt", 1),
        artifact(0, None, "B.txt", 1),
        artifact(0, None, "a.txt", 2),
    ];
    let mut append = samples.append(run.id, &[]);
    append.artifacts = first.to_vec();
    store.append_events(append).await.unwrap();
    let [b1, ax, _, big, a0] = first;
    assert_eq!(
        store.artifacts(Scope::Org, run.id).await.unwrap(),
        [big.clone(), a0, ax.clone(), b1.clone()]
    );
    let mut commit = samples.commit(&run, 1);
    let replaced = artifact(0, None, "a.txt", 3);
    commit.artifacts = vec![replaced.clone()];
    store.commit_run(commit).await.unwrap();
    assert_eq!(
        store.artifacts(Scope::Org, run.id).await.unwrap(),
        [big, replaced, ax, b1]
    );
}

/// Usage of one stage, substage and model adds up, within a write and over writes.
pub async fn usage_is_added_up(store: SharedStore) {
    let samples = Samples::new(8);
    let run = samples.new_run();
    store.create_run(run.clone()).await.unwrap();
    let mut area = samples.usage("m");
    area.substage = Some("area".into());
    let mut commit = samples.commit(&run, 1);
    commit.usage = vec![samples.usage("m"), area.clone(), samples.usage("m"), samples.usage("a")];
    store.commit_run(commit).await.unwrap();
    let mut append = samples.append(run.id, &[]);
    append.usage = vec![samples.usage("m")];
    store.append_events(append).await.unwrap();

    let mut three = UsageTotals::default();
    for _ in 0..3 {
        three += samples.usage("m").totals;
    }
    let usage = store.usage(Scope::Org, run.id).await.unwrap();
    let keys: Vec<_> = usage
        .iter()
        .map(|entry| (entry.substage.as_deref(), entry.model.as_str()))
        .collect();
    assert_eq!(keys, [(None, "a"), (None, "m"), (Some("area"), "m")]);
    assert_eq!((usage[1].totals, &usage[2]), (three, &area));
}

/// Each durable write of a run is hinted at, and a job that comes into line; refused ones are not.
pub async fn writes_are_told_to_watchers(store: SharedStore) {
    let samples = Samples::new(9);
    let mut changes = store.changes();
    let run = samples.new_run();
    store.create_run(run.clone()).await.unwrap();
    assert_eq!(changes.recv().await.unwrap(), Change::Run(run.id));
    store.commit_run(samples.commit(&run, 9)).await.unwrap();
    store.append_events(samples.append(run.id, &["x"])).await.unwrap();
    assert_eq!(changes.recv().await.unwrap(), Change::Run(run.id));
    let (queued, _) = samples.enqueue(&*store, "a").await;
    let hints: Vec<Change> = [changes.recv().await, changes.recv().await, changes.recv().await]
        .into_iter()
        .map(|hint| hint.unwrap())
        .collect();
    assert_eq!(hints, [Change::Run(queued.id), Change::Run(queued.id), Change::Work]);
    assert!(changes.try_recv().is_err());
}

/// After close every call fails, and what was written before stays written.
pub async fn a_closed_store_refuses(store: SharedStore) {
    let samples = Samples::new(10);
    store.ping().await.unwrap();
    let creates: Vec<_> = (0..20).map(|_| samples.new_run()).collect();
    futures::future::join_all(creates.iter().map(|run| store.create_run(run.clone()))).await;
    store.close().await;
    assert!(matches!(store.ping().await, Err(StoreError::Unavailable(_))));
    assert!(matches!(
        store.create_run(samples.new_run()).await,
        Err(StoreError::Unavailable(_))
    ));
    assert!(matches!(
        store.run(Scope::Org, creates[0].id).await,
        Err(StoreError::Unavailable(_))
    ));
    store.close().await;
}
