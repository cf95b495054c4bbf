//! An engine that is gone, and the one that takes over.

use std::time::Duration;

use pond_core::EngineSettings;
use pond_core::runs::RunStatus;
use pond_core::scope::Scope;
use pond_tests::world::{body, noop, shell, stage};
use pond_tests::{PlayedWorker, World, on_every_store};

on_every_store! {
    async fn c17_121_a_noop_that_a_crash_cut_off_runs_again_in_the_same_attempt(world: World) {
        let id = world.submit(&body(&[stage("a", &noop(5, 0.3)), stage("b", &noop(1, 0.0))])).await.head.id;
        world.reaches(id, RunStatus::Running).await;
        // The first engine is not told: it finds out when it next writes.
        let heir = world.another_engine(EngineSettings::default()).await;
        let run = heir.runs().wait(Scope::Org, id).await.unwrap();
        assert_eq!(run.head.state.phase.status(), RunStatus::Done);
        assert_eq!(run.head.state.stages[0].phase.attempt(), 1);
        let story = world.story(id).await;
        assert_eq!(story.iter().filter(|line| line.as_str() == "a: running > done").count(), 1, "{story:?}");
        assert_eq!(story.iter().filter(|line| line.as_str() == "run: running > done").count(), 1, "{story:?}");
        heir.shutdown().await;
    }

    async fn c17_82_a_run_that_was_acknowledged_is_taken_over_whatever_it_was_at(world: World) {
        let world = world.with_shell().await;
        let pooled = world.submit(&body(&[stage("fix", &shell("true"))])).await.head.id;
        let slow = world.submit(&body(&[stage("a", &noop(2, 0.2))])).await.head.id;
        let quick = world.submit(&body(&[stage("a", &noop(1, 0.0))])).await.head.id;
        let heir = world.another_engine(EngineSettings::default()).await;
        for id in [slow, quick] {
            let run = tokio::time::timeout(Duration::from_secs(20), heir.runs().wait(Scope::Org, id)).await;
            assert_eq!(run.unwrap().unwrap().head.state.phase.status(), RunStatus::Done);
        }
        let worker = PlayedWorker::attach(&heir);
        let job = worker.job().await;
        worker.finish(&job, pond_core::pool::JobEnd::Done).await.unwrap();
        assert_eq!(heir.runs().wait(Scope::Org, pooled).await.unwrap().head.state.phase.status(), RunStatus::Done);
        heir.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_engines_in_one_process_one_shut_down_the_other_working_on() {
    let (one, other) = (
        World::on(pond_tests::Backend::Sqlite).await,
        World::on(pond_tests::Backend::Sqlite).await,
    );
    let left = one.submit(&body(&[stage("a", &noop(100, 1.0))])).await.head.id;
    let slow = other.submit(&body(&[stage("a", &noop(3, 0.2))])).await.head.id;
    one.reaches(left, RunStatus::Running).await;
    tokio::time::timeout(Duration::from_secs(5), one.pond.shutdown())
        .await
        .expect("it drains at once");
    assert_eq!(other.ended(slow).await.head.state.phase.status(), RunStatus::Done);
    let more = other.submit(&body(&[stage("a", &noop(1, 0.0))])).await.head.id;
    assert_eq!(other.ended(more).await.head.state.phase.status(), RunStatus::Done);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c17_81_two_servers_on_one_postgres_share_work_and_hear_of_each_other() {
    let database = pond_store::testing::TestDatabase::create().await;
    let blobs = std::sync::Arc::new(pond_core::testing::MemoryBlobs::default());
    let start = async || {
        let store = pond_store::open(&database.url()).await.unwrap();
        let takeover = pond_core::Takeover::Silent(None);
        let settings = EngineSettings {
            takeover,
            ..EngineSettings::default()
        };
        let builder = pond_core::Pond::builder(store, blobs.clone()).settings(settings);
        builder
            .root_key(pond_core::secret::SecretBytes::new(vec![7; 32]))
            .start()
            .await
            .unwrap()
    };
    let (one, other) = (start().await, start().await);
    let project = one.projects().default_project();
    assert_eq!(project, other.projects().default_project());
    one.config()
        .put_preset(pond_core::config::Owner::Org, "shell", None, None)
        .await
        .unwrap();
    // Submitted to one, its job is taken at the other, and its next stage goes on at the first.
    let stages = body(&[stage("fix", &shell("true")), stage("after", &noop(1, 0.0))]);
    let worker = PlayedWorker::attach(&other);
    let id = one.runs().submit(project, &stages.to_string()).await.unwrap().head.id;
    let job = worker.job().await;
    worker.lines(&job, 0, &["from the other"]).await.unwrap();
    worker.finish(&job, pond_core::pool::JobEnd::Done).await.unwrap();
    let run = tokio::time::timeout(Duration::from_secs(4), one.runs().wait(Scope::Org, id)).await;
    assert_eq!(
        run.expect("without waiting for a sweep")
            .unwrap()
            .head
            .state
            .phase
            .status(),
        RunStatus::Done
    );
    // A cancel at one stops what runs at the other.
    let slow = body(&[stage("a", &noop(100, 1.0))]).to_string();
    let id = one.runs().submit(project, &slow).await.unwrap().head.id;
    while other
        .runs()
        .get(Scope::Org, id)
        .await
        .unwrap()
        .head
        .state
        .phase
        .status()
        != RunStatus::Running
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    other.runs().cancel(Scope::Org, id).await.unwrap();
    let run = tokio::time::timeout(Duration::from_secs(4), other.runs().wait(Scope::Org, id)).await;
    assert_eq!(
        run.expect("at once").unwrap().head.state.phase.status(),
        RunStatus::Cancelled
    );
    // Runs are driven once each, whoever takes them.
    let quick = body(&[stage("a", &noop(1, 0.0))]).to_string();
    for _ in 0..20 {
        for pond in [&one, &other] {
            let id = pond.runs().submit(project, &quick).await.unwrap().head.id;
            pond.runs().wait(Scope::Org, id).await.unwrap();
            assert_eq!(pond.runs().events(Scope::Org, id, 0, 500).await.unwrap().len(), 6);
        }
    }
    // One leaves: its live run goes on at the other.
    let id = one
        .runs()
        .submit(project, &body(&[stage("a", &noop(3, 0.3))]).to_string())
        .await
        .unwrap()
        .head
        .id;
    one.shutdown().await;
    let run = tokio::time::timeout(Duration::from_secs(20), other.runs().wait(Scope::Org, id)).await;
    assert_eq!(
        run.expect("taken over").unwrap().head.state.phase.status(),
        RunStatus::Done
    );
    other.shutdown().await;
}
