//! The pool on every store: claims, leases, fences and lives of workers, played by hand.

use std::time::Duration;

use pond_core::dispatch::{Beat, BeatAnswer, Command, WorkerLink};
use pond_core::pool::JobEnd;
use pond_core::runs::{Failure, FailureCode, RunOutcome, RunPhase, RunStatus};
use pond_core::scope::Scope;
use pond_core::{Conflict, EngineSettings, Error};
use pond_tests::worker::claim;
use pond_tests::world::{body, shell, stage};
use pond_tests::{Backend, PlayedWorker, World, on_every_store};

fn stale(result: &pond_core::Result<()>) -> bool {
    matches!(
        result,
        Err(Error::Conflict {
            kind: Conflict::StaleClaim,
            ..
        })
    )
}

on_every_store! {
    async fn a_job_goes_to_a_worker_and_its_end_ends_the_run(world: World) {
        let world = world.with_shell().await;
        let worker = PlayedWorker::attach(&world.pond);
        let id = world.submit(&body(&[stage("fix", &shell("true"))])).await.head.id;
        let job = worker.job().await;
        assert_eq!((job.run, job.stage.as_str(), job.attempt, job.prompt.as_str()), (id, "fix", 1, "true"));
        assert_eq!(job.command, ["/bin/sh", "-s"]);
        worker.lines(&job, 0, &["one", "two"]).await.unwrap();
        worker.lines(&job, 0, &["one", "two"]).await.unwrap();
        let gap = worker.lines(&job, 2, &["four"]).await.unwrap_err();
        assert!(matches!(gap, Error::Conflict { kind: Conflict::ChunkGap { expected: 1 }, .. }));
        worker.lines(&job, 1, &["three"]).await.unwrap();
        worker.finish(&job, JobEnd::Done).await.unwrap();
        let run = world.ended(id).await;
        assert_eq!(run.head.state.phase.status(), RunStatus::Done);
        assert_eq!(run.head.state.stages[0].worker(), Some(worker.info.id));
        let lines = world.pond.runs().logs(Scope::Org, id, 0, 500, Some("fix")).await.unwrap();
        assert_eq!(lines.len(), 3, "a repeated chunk is stored once");
        assert!(stale(&worker.lines(&job, 2, &["late"]).await));
        worker.finish(&job, JobEnd::Done).await.expect("the same report again is known");
        let other = worker.finish(&job, JobEnd::Cancelled).await.unwrap_err();
        assert!(matches!(other, Error::Conflict { kind: Conflict::AlreadyTerminal, .. }), "{other:?}");
    }

    async fn a_poll_that_waits_gets_work_the_moment_it_is_there(world: World) {
        let world = world.with_shell().await;
        let worker = PlayedWorker::attach(&world.pond);
        let (polled, _) = tokio::join!(worker.poll(1, Duration::from_secs(20)), async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            world.submit(&body(&[stage("fix", &shell("true"))])).await
        });
        assert_eq!(polled.jobs.len(), 1);
        let nothing = worker.poll(1, Duration::from_millis(50)).await;
        assert!(nothing.jobs.is_empty() && nothing.commands.is_empty());
    }

    async fn c17_15_a_cancel_reaches_a_worker_without_a_free_slot_at_once(world: World) {
        let world = world.with_shell().await;
        let worker = PlayedWorker::attach(&world.pond);
        let id = world.submit(&body(&[stage("fix", &shell("true")), stage("next", &shell("true"))])).await.head.id;
        let job = worker.job().await;
        let (polled, _) = tokio::join!(worker.poll(0, Duration::from_secs(20)), async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            world.pond.runs().cancel(Scope::Org, id).await.unwrap()
        });
        assert_eq!(polled.commands, [Command::Cancel(job.id)]);
        let beat = worker.link.heartbeat(vec![Beat { claim: claim(&job) }]).await.unwrap();
        assert!(matches!(beat[0], BeatAnswer::Until { cancel: true, .. }), "{beat:?}");
        worker.finish(&job, JobEnd::Cancelled).await.unwrap();
        let run = world.ended(id).await;
        assert_eq!(run.head.state.phase.status(), RunStatus::Cancelled);
        assert!(run.head.state.stages.iter().all(|stage| stage.phase.status().as_str() == "cancelled"));
    }

    async fn c17_15_a_run_that_waits_for_a_worker_is_cancelled_at_once(world: World) {
        let world = world.with_shell().await;
        let id = world.submit(&body(&[stage("fix", &shell("true"))])).await.head.id;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let run = world.pond.runs().cancel(Scope::Org, id).await.unwrap();
        assert_eq!(run.head.state.phase.status(), RunStatus::Cancelled);
        let worker = PlayedWorker::attach(&world.pond);
        assert!(worker.poll(4, Duration::from_millis(100)).await.jobs.is_empty(), "its job has left the line");
    }

    async fn c17_106_a_new_life_of_a_worker_gives_back_what_the_former_held(world: World) {
        let world = world.with_shell().await;
        let first = PlayedWorker::attach(&world.pond);
        let id = world.submit(&body(&[stage("fix", &shell("true"))])).await.head.id;
        let job = first.job().await;
        let capabilities = ["harness.shell", "sandbox.bubblewrap"];
        let second = PlayedWorker::with(&world.pond, first.info.id, &capabilities);
        let again = second.job().await;
        assert_eq!((again.id, again.attempt), (job.id, 2));
        assert!(stale(&first.lines(&job, 0, &["from the grave"]).await));
        assert!(stale(&first.finish(&job, JobEnd::Done).await));
        second.finish(&again, JobEnd::Done).await.unwrap();
        assert_eq!(world.ended(id).await.head.state.phase.status(), RunStatus::Done);
        // A third life finds nothing to give back, and a job lost twice is not tried again.
        let id = world.submit(&body(&[stage("fix", &shell("true"))])).await.head.id;
        second.job().await;
        let third = PlayedWorker::with(&world.pond, first.info.id, &capabilities);
        third.job().await;
        let fourth = PlayedWorker::with(&world.pond, first.info.id, &capabilities);
        assert!(fourth.poll(1, Duration::from_millis(200)).await.jobs.is_empty());
        let RunPhase::Ended { outcome: RunOutcome::Failed(failure), .. } = world.ended(id).await.head.state.phase else {
            panic!("the run fails")
        };
        assert_eq!(failure.code, FailureCode::WorkerLost);
    }

    async fn a_worker_that_leaves_gives_its_job_to_the_next(world: World) {
        let world = world.with_shell().await;
        let (first, second) = (PlayedWorker::attach(&world.pond), PlayedWorker::attach(&world.pond));
        let id = world.submit(&body(&[stage("fix", &shell("true"))])).await.head.id;
        let job = first.job().await;
        first.finish(&job, JobEnd::Cancelled).await.unwrap();
        let again = second.job().await;
        assert_eq!(again.attempt, 2);
        let failure = Failure::new(FailureCode::ExitNonzero, "ended with 3");
        second.finish(&again, JobEnd::Failed(failure)).await.unwrap();
        let run = world.ended(id).await;
        assert_eq!(run.head.state.stages[0].phase.failure().unwrap().code, FailureCode::ExitNonzero);
        assert_eq!(
            world.story(id).await[1..5],
            ["run: queued > running", "fix: queued > running", "fix: running > queued", "fix: queued > running"]
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_ends_gives_the_job_to_another() {
    let settings = EngineSettings {
        lease: Duration::from_secs(1),
        ..EngineSettings::default()
    };
    let world = World::with(Backend::Sqlite, settings).await.with_shell().await;
    let (first, second) = (PlayedWorker::attach(&world.pond), PlayedWorker::attach(&world.pond));
    let id = world.submit(&body(&[stage("fix", &shell("true"))])).await.head.id;
    let job = first.job().await;
    // Renewed, it outlives its first lease.
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        let beats = first.link.heartbeat(vec![Beat { claim: claim(&job) }]).await.unwrap();
        assert!(matches!(beats[0], BeatAnswer::Until { .. }));
    }
    // Not renewed, it is the other's.
    let again = second.job().await;
    assert_eq!((again.id, again.attempt), (job.id, 2));
    let beats = first.link.heartbeat(vec![Beat { claim: claim(&job) }]).await.unwrap();
    assert_eq!(beats, [BeatAnswer::Stale]);
    assert!(stale(&first.finish(&job, JobEnd::Done).await));
    second.finish(&again, JobEnd::Done).await.unwrap();
    assert_eq!(world.ended(id).await.head.state.phase.status(), RunStatus::Done);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c17_62_without_a_worker_that_fits_a_stage_fails_after_the_grace_with_preflights_words() {
    let settings = EngineSettings {
        no_worker_grace: Duration::from_secs(1),
        ..EngineSettings::default()
    };
    let world = World::with(Backend::Sqlite, settings).await.with_shell().await;
    let unfit = PlayedWorker::with(
        &world.pond,
        PlayedWorker::attach(&world.pond).info.id,
        &["harness.other"],
    );
    let submission = body(&[stage("fix", &shell("true"))]);
    let told = world
        .pond
        .runs()
        .preflight(
            world.project(),
            &submission.to_string(),
            pond_core::runs::Reach::Offline,
        )
        .await
        .unwrap();
    let told = told.iter().find(|problem| problem.code == "no_capable_worker").unwrap();
    assert!(told.message.contains("harness.shell"), "{}", told.message);
    let run = world.ended(world.submit(&submission).await.head.id).await;
    let failure = run.head.state.stages[0].phase.failure().unwrap().clone();
    assert_eq!(
        (failure.code, &failure.message),
        (FailureCode::NoCapableWorker, &told.message)
    );
    drop(unfit);
}
