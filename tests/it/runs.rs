//! Runs on every store: their life, order, cancel, logs.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use pond_core::artifacts::ArtifactName;
use pond_core::event::{EventBody, NumberedEvent};
use pond_core::page::PageRequest;
use pond_core::runs::{FailureCode, RunFilter, RunOutcome, RunPhase, RunStatus};
use pond_core::scope::Scope;
use pond_core::{Conflict, EngineSettings, Error};
use pond_tests::world::{body, noop, stage};
use pond_tests::{World, on_every_store};
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

    async fn c17_04_context_comes_back_as_it_was_sent(world: World) {
        let context = r#"{"b": [1.0, 1e3, 12345678901234567890, "ä\u0001"], "a": null}"#;
        let stages = r#"{"stages": [{"key": "a", "name": "a", "executor": {"kind": "noop"}}]}"#;
        let body = format!(r#"{{"context": {context}, "definition": {stages}}}"#);
        let run = world.pond.runs().submit(world.project(), &body).await.unwrap();
        let run = world.ended(run.head.id).await;
        assert_eq!(run.head.inputs.context.as_ref().unwrap().get(), context);
        let large = format!(r#"{{"context": {{"x": "{}"}}, "definition": {stages}}}"#, "x".repeat(65_536));
        let refused = world.pond.runs().submit(world.project(), &large).await.unwrap_err();
        assert!(matches!(refused, Error::Invalid(faults) if faults[0].pointer == "/context"));
    }

    async fn c17_10_lists_filter_and_page_while_runs_are_added(world: World) {
        let mut all = BTreeSet::new();
        for index in 0..7 {
            let trigger = if index % 2 == 0 { "even" } else { "odd" };
            let mut body = body(&[stage("a", &noop(1, 0.0))]);
            body["trigger"] = trigger.into();
            all.insert(world.ended(world.submit(&body).await.head.id).await.head.id);
        }
        let list = async |filter: RunFilter| {
            let page = PageRequest { limit: 500, after: None };
            world.pond.runs().list(Scope::Org, &filter, page).await.unwrap().items
        };
        let odd = list(RunFilter { trigger: Some("odd".into()), ..RunFilter::default() }).await;
        assert_eq!(odd.len(), 3);
        let since = odd[0].created_at;
        assert_eq!(list(RunFilter { since: Some(since), ..RunFilter::default() }).await.len(), 2);
        let statuses = vec![RunStatus::Failed, RunStatus::Queued];
        assert_eq!(list(RunFilter { statuses, ..RunFilter::default() }).await.len(), 0);
        let foreign = Scope::Project("018f0000-0000-7000-8000-000000000001".parse().unwrap());
        let page = PageRequest { limit: 500, after: None };
        assert!(world.pond.runs().list(foreign, &RunFilter::default(), page).await.unwrap().items.is_empty());

        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = PageRequest { limit: 2, after };
            let page = world.pond.runs().list(Scope::Org, &RunFilter::default(), page).await.unwrap();
            seen.extend(page.items.iter().map(|head| head.id));
            world.submit(&body(&[stage("a", &noop(1, 0.0))])).await;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen.len(), all.len(), "no run twice");
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), all, "no run lost");
    }

    async fn c17_16_a_cancel_that_races_the_end_gives_one_terminal_state(world: World) {
        let mut outcomes = BTreeSet::new();
        for round in 0..60 {
            // Now the end comes first, now the cancel.
            let id = world.submit(&body(&[stage("a", &noop(1, f64::from(round % 6) * 0.002))])).await.head.id;
            let (cancelled, ended) = tokio::join!(world.pond.runs().cancel(Scope::Org, id), world.ended(id));
            cancelled.unwrap();
            let story = world.story(id).await;
            let ends: Vec<_> = story.iter().filter(|line| line.starts_with("run:")).skip(1).collect();
            assert!(ends.iter().filter(|line| !line.ends_with("running")).count() == 1, "{story:?}");
            let after = world.pond.runs().cancel(Scope::Org, id).await.unwrap();
            assert_eq!(after.head.state, world.ended(id).await.head.state, "an ended run stays as it is");
            outcomes.insert(ended.head.state.phase.status().as_str());
            if ended.head.state.cancel_requested_at.is_some() {
                assert_eq!(ended.head.state.phase.status(), RunStatus::Cancelled);
            }
        }
        assert!(outcomes.contains("cancelled"), "the race was run: {outcomes:?}");
    }

    async fn c17_18_following_with_a_hundred_reconnects_equals_polling(world: World) {
        let id = world.submit(&body(&[stage("a", &noop(300, 0.004))])).await.head.id;
        let (mut followed, mut after, mut connects) = (Vec::new(), 0, 0);
        'connect: loop {
            connects += 1;
            let mut events = world.pond.runs().follow(Scope::Org, id, after).await.unwrap();
            // Each connection is left after a few events, in the middle of what comes.
            for _ in 0..3 {
                let Some(event) = events.next().await else { break 'connect };
                let event = event.unwrap();
                after = event.id;
                followed.push(event);
            }
        }
        assert!(connects >= 100, "{connects}");
        assert_eq!(followed, world.events(id).await);
        let (mut polled, mut since) = (Vec::new(), 0);
        loop {
            let lines = world.pond.runs().logs(Scope::Org, id, since, 7, None).await.unwrap();
            let Some(last) = lines.last() else { break };
            since = last.id;
            polled.extend(lines);
        }
        let lines: Vec<_> =
            followed.into_iter().filter(|event| matches!(event.event.body, EventBody::Log(_))).collect();
        assert_eq!(polled, lines);
        assert_eq!(polled.len(), 300);
    }

    async fn c17_23_the_plain_name_gives_the_later_stages_artifact(world: World) {
        let scan = |name: &str| json!({"kind": "builtin", "name": name});
        let stages = [stage("one", &scan("file_inventory")), stage("two", &scan("todo_scan"))];
        // The later stage in the order of the edges is the first in the array.
        let body = json!({"definition": {"stages": stages, "edges": [{"from": "two", "to": "one"}]}});
        let id = world.ended(world.submit(&body).await.head.id).await.head.id;
        let name = ArtifactName::new("results.jsonl").unwrap();
        let artifact = async |stage| world.pond.runs().artifact(Scope::Org, id, stage, None, &name).await;
        assert_eq!(artifact(None).await.unwrap().stage_key, "one");
        for key in ["one", "two"] {
            assert_eq!(artifact(Some(key)).await.unwrap().stage_key, key);
        }
        assert!(matches!(artifact(Some("three")).await, Err(Error::NotFound(_))));
    }

    async fn a_stage_over_its_timeout_fails(world: World) {
        let mut slow = stage("slow", &noop(10, 10.0));
        slow["timeout_sec"] = 1.into();
        let run = world.ended(world.submit(&body(&[slow, stage("next", &noop(1, 0.0))])).await.head.id).await;
        let RunPhase::Ended { outcome: RunOutcome::Failed(failure), .. } = &run.head.state.phase else {
            panic!("{:?}", run.head.state.phase)
        };
        assert_eq!((failure.code, failure.stage.as_deref()), (FailureCode::Timeout, Some("slow")));
        assert_eq!(run.head.state.stages[1].phase.status().as_str(), "skipped");
    }

    async fn a_caller_that_goes_away_leaves_no_run_behind(world: World) {
        let text = body(&[stage("a", &noop(1, 0.0))]).to_string();
        for micros in 0..40 {
            let submit = world.pond.runs().submit(world.project(), &text);
            let _left = tokio::time::timeout(Duration::from_micros(micros * 25), submit).await;
        }
        let list = async || {
            let page = PageRequest { limit: 500, after: None };
            world.pond.runs().list(Scope::Org, &RunFilter::default(), page).await.unwrap().items
        };
        for _ in 0..500 {
            if list().await.iter().all(|head| head.state.phase.status().is_terminal()) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let left: Vec<_> = list().await.into_iter().filter(|head| !head.state.phase.status().is_terminal()).collect();
        assert!(left.is_empty(), "{left:?}");
    }

    async fn retry_repeats_an_ended_run_and_refuses_a_live_one(world: World) {
        let mut first = body(&[stage("a", &noop(3, 0.2))]);
        first["context"] = json!({"k": 1});
        let id = world.submit(&first).await.head.id;
        let refused = world.pond.runs().retry(Scope::Org, id).await.unwrap_err();
        assert!(matches!(refused, Error::Conflict { kind: Conflict::NotTerminal, .. }));
        world.pond.runs().cancel(Scope::Org, id).await.unwrap();
        world.ended(id).await;
        let again = world.pond.runs().retry(Scope::Org, id).await.unwrap();
        assert_eq!(again.head.inputs.retry_of, Some(id));
        assert_eq!(&*again.head.trigger, "retry");
        let again = world.ended(again.head.id).await;
        assert_eq!(again.head.state.phase.status(), RunStatus::Done);
        assert_eq!(again.head.inputs.context.as_ref().unwrap().get(), r#"{"k":1}"#);
    }

    async fn c17_20_the_log_cap_ends_storage_and_not_the_run(world: World) {
        let settings = EngineSettings {
            log_cap: 200,
            ..EngineSettings::default()
        };
        let world = World::with(world.backend, settings).await;
        let run = world
            .ended(world.submit(&body(&[stage("a", &noop(100, 0.005))])).await.head.id)
            .await;
        assert_eq!(run.head.state.phase.status(), RunStatus::Done);
        let lines = world
            .pond
            .runs()
            .logs(Scope::Org, run.head.id, 0, 500, None)
            .await
            .unwrap();
        let text = |event: &NumberedEvent| match &event.event.body {
            EventBody::Log(line) => line.line.clone(),
            _ => String::new(),
        };
        let texts: Vec<String> = lines.iter().map(text).collect();
        assert!(texts.len() < 20, "{}", texts.len());
        assert_eq!(texts.iter().filter(|line| line.contains("cap of 200 bytes")).count(), 1);
        assert!(texts.last().unwrap().contains("cap of 200 bytes"));
    }
}
