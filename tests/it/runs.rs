//! Runs on every store: their life, order, cancel, logs.

use std::time::Duration;

use pond_core::runs::RunStatus;
use pond_core::scope::Scope;
use pond_tests::on_every_store;
use pond_tests::world::{body, noop, stage};
use serde_json::json;

on_every_store! {
    async fn c17_02_a_noop_run_ends_done_and_tells_its_story(world: World) {
        let run = world.submit(&body(&[stage("a", &noop(2, 0.0))])).await;
        let run = world.ended(run.head.id).await;
        assert_eq!(run.head.state.phase.status(), RunStatus::Done);
        assert_eq!(
            world.story(run.head.id).await,
            ["run: none > queued", "run: queued > running", "a: queued > running", "a: running > done", "run: running > done"]
        );
        let lines = world.pond.runs().logs(Scope::Org, run.head.id, 0, 500, Some("a")).await.unwrap();
        assert_eq!(lines.len(), 2);
        let ids: Vec<i64> = world.events(run.head.id).await.iter().map(|event| event.id).collect();
        assert_eq!(ids, (1..=7).collect::<Vec<_>>());
    }

    async fn c17_15_a_queued_or_running_noop_is_cancelled(world: World) {
        let run = world.submit(&body(&[stage("a", &noop(100, 1.0)), stage("b", &noop(1, 0.0))])).await;
        let id = run.head.id;
        world.reaches(id, RunStatus::Running).await;
        let cancelled = world.pond.runs().cancel(Scope::Org, id).await.unwrap();
        let first = cancelled.head.state.cancel_requested_at;
        assert!(first.is_some());
        let again = world.pond.runs().cancel(Scope::Org, id).await.unwrap();
        assert_eq!(again.head.state.cancel_requested_at, first);
        let ended = tokio::time::timeout(Duration::from_secs(5), world.ended(id)).await.expect("within seconds");
        assert_eq!(ended.head.state.phase.status(), RunStatus::Cancelled);
        assert_eq!(world.story(id).await.last().unwrap(), "run: running > cancelled");
    }

    async fn c17_11_independent_stages_overlap_and_array_order_does_not(world: World) {
        let stages: Vec<_> = ["a", "b", "c"].iter().map(|key| stage(key, &noop(2, 0.1))).collect();
        let row = world.submit(&body(&stages)).await.head.id;
        let fan = json!({"definition": {"stages": stages, "edges": [{"from": "a", "to": "c"}]}});
        let fan = world.submit(&fan).await.head.id;
        for id in [row, fan] {
            assert_eq!(world.ended(id).await.head.state.phase.status(), RunStatus::Done);
        }
        let story = world.story(row).await;
        let place = |story: &[String], line: &str| story.iter().position(|found| found == line).unwrap();
        assert!(place(&story, "a: running > done") < place(&story, "b: queued > running"));
        assert!(place(&story, "b: running > done") < place(&story, "c: queued > running"));
        let story = world.story(fan).await;
        assert!(place(&story, "b: queued > running") < place(&story, "a: running > done"));
        assert!(place(&story, "a: running > done") < place(&story, "c: queued > running"));
    }
}
