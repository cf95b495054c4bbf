//! Logs and artifacts of runs that ended long ago, on every store, with a clock moved by hand.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use pond_core::artifacts::BlobStore;
use pond_core::runs::{Retention, Run};
use pond_core::scope::Scope;
use pond_core::testing::{ManualClock, MemoryBlobs};
use pond_core::{EngineSettings, Error, Pond};
use pond_tests::world::{body, fresh, stage};
use pond_tests::{Server, on_every_store};
use serde_json::json;

const DAY: Duration = Duration::from_secs(86_400);

/// Runs a builtin, which leaves an artifact.
async fn ended(pond: &Pond) -> Run {
    let submission = body(&[stage("todos", &json!({"kind": "builtin", "name": "todo_scan"}))]);
    let project = pond.projects().default_project();
    let run = pond.runs().submit(project, &submission.to_string()).await.unwrap();
    pond.runs().wait(Scope::Org, run.head.id).await.unwrap()
}

/// Waits until something behind the scenes is done, at most ten seconds.
async fn until(done: impl AsyncFn() -> bool) {
    for _ in 0..1000 {
        if done().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it is never done");
}

on_every_store! {
    async fn logs_and_artifacts_expire_by_the_clock_and_are_then_deleted_while_the_run_stays(world: World) {
        let (store, _folder, _database) = fresh(world.backend).await;
        let (clock, blobs) = (ManualClock::new(), MemoryBlobs::default());
        let settings = EngineSettings { retention: Retention::days(7), ..EngineSettings::default() };
        let builder = Pond::builder(store.clone(), Arc::new(blobs.clone())).clock(clock.clone());
        let pond = builder.settings(settings).start().await.unwrap();
        let server = Server::over(pond.clone()).await;
        let old = ended(&pond).await.head;
        // The blob of an artifact that was replaced: no record names it any more.
        let replaced = format!("artifacts/{}/00", old.id);
        let bytes = futures::stream::once(async { Ok("x".into()) }).boxed();
        blobs.put(&replaced, bytes, 1).await.unwrap();
        let look = async |id: pond_core::id::RunId| {
            let mut statuses = Vec::new();
            for part in ["", "/usage", "/logs", "/events", "/egress", "/reach", "/artifacts", "/artifacts/results.jsonl"] {
                let (status, told) = server.get(&format!("/v1/runs/{id}{part}")).await;
                assert!(status != 410 || told["code"] == "expired", "{told}");
                statuses.push(status);
            }
            statuses
        };
        assert_eq!(look(old.id).await, [200; 8]);

        clock.advance(6 * DAY);
        let young = ended(&pond).await.head;
        assert_eq!(look(old.id).await, [200; 8]);
        clock.advance(DAY + Duration::from_secs(1));
        assert_eq!(look(old.id).await, [200, 200, 410, 410, 410, 410, 410, 410]);
        assert_eq!(look(young.id).await, [200; 8]);

        // The engine looks every hour; when exactly, nobody knows.
        let emptied = async || {
            clock.advance(Duration::from_secs(60));
            let events = store.events(Scope::Org, old.id, 0, 1).await.unwrap();
            events.is_empty() && store.artifacts(Scope::Org, old.id).await.unwrap().is_empty()
        };
        until(emptied).await;
        let left = blobs.keys();
        assert!(left.iter().all(|key| key.contains(&young.id.to_string())) && !left.is_empty(), "{left:?}");
        assert_eq!(look(old.id).await, [200, 200, 410, 410, 410, 410, 410, 410]);
        assert_eq!(look(young.id).await, [200; 8]);
        pond.shutdown().await;
    }

    async fn what_was_deleted_under_a_shorter_time_is_told_as_gone(world: World) {
        let run = {
            let submission = body(&[stage("todos", &json!({"kind": "builtin", "name": "todo_scan"}))]);
            let run = world.submit(&submission).await;
            world.ended(run.head.id).await.head
        };
        let far = run.created_at.plus(365 * DAY);
        world.store.empty_run(run.id, far, 1000).await.unwrap();
        let runs = world.pond.runs();
        assert!(matches!(runs.logs(Scope::Org, run.id, 0, 10, None).await, Err(Error::Expired(_))));
        assert!(matches!(runs.events(Scope::Org, run.id, 0, 10).await, Err(Error::Expired(_))));
        assert!(matches!(runs.artifacts(Scope::Org, run.id, None, None).await, Err(Error::Expired(_))));
        assert!(runs.logs(Scope::Org, run.id, i64::MAX, 10, None).await.unwrap().is_empty(), "past the end is an empty list");
        assert_eq!(runs.get(Scope::Org, run.id).await.unwrap().head.state, run.state);
    }
}
