//! The workflow language on every store: conditions, retries, fan-out, prompts, shell stages and time limits, played by hand.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pond_core::artifacts::ArtifactName;
use pond_core::clock::Clock;
use pond_core::dispatch::{Command, Job, Report};
use pond_core::event::EventBody;
use pond_core::id::RunId;
use pond_core::logs::{LogSource, LogStream};
use pond_core::pool::JobEnd;
use pond_core::runs::{FailureCode, ParseCount, Run, RunStatus, StagePhase, StageState};
use pond_core::scope::Scope;
use pond_core::testing::ManualClock;
use pond_core::{EngineSettings, Error, Pond};
use pond_tests::host::PlayedHost;
use pond_tests::world::{Outfit, body, noop, shell, stage};
use pond_tests::{Backend, PlayedWorker, World, on_every_store};
use serde_json::{Value, json};

/// A stage with fields beside its executor.
#[expect(clippy::needless_pass_by_value, reason = "called with literals")]
fn with(key: &str, executor: &Value, fields: Value) -> Value {
    let mut stage = stage(key, executor);
    for (name, value) in fields.as_object().expect("fields are an object") {
        stage[name] = value.clone();
    }
    stage
}

/// A `swarm` executor of the shell harness with fields beside its prompt.
#[expect(clippy::needless_pass_by_value, reason = "called with literals")]
fn swarm(prompt: &str, fields: Value) -> Value {
    let mut executor = shell(prompt);
    for (name, value) in fields.as_object().expect("fields are an object") {
        executor[name] = value.clone();
    }
    executor
}

fn statuses(run: &Run) -> Vec<&'static str> {
    let stages = run.head.state.stages.iter();
    stages.map(|stage| stage.phase.status().as_str()).collect()
}

fn failure(stage: &StageState) -> (FailureCode, String) {
    let failure = stage.phase.failure().expect("the stage failed");
    (failure.code, failure.message.clone())
}

/// The lines of a run that the engine wrote.
async fn engine_lines(world: &World, id: RunId) -> Vec<String> {
    let lines = world
        .events(id)
        .await
        .into_iter()
        .filter_map(|event| match event.event.body {
            EventBody::Log(line) if line.source == LogSource::Engine => Some(line.line),
            _ => None,
        });
    lines.collect()
}

/// The text of a stage's own artifact, or of one of its areas.
async fn text(world: &World, id: RunId, stage: &str, area: Option<&str>, name: &str) -> String {
    let name = ArtifactName::new(name).unwrap();
    let runs = world.pond.runs();
    let artifact = runs.artifact(Scope::Org, id, Some(stage), area, &name).await.unwrap();
    let bytes: Vec<bytes::Bytes> =
        futures::TryStreamExt::try_collect(runs.artifact_bytes(&artifact, None).await.unwrap())
            .await
            .unwrap();
    String::from_utf8(bytes.concat()).unwrap()
}

/// Waits for a run's end, wherever it is driven.
async fn ended_at(pond: &Pond, id: RunId) -> Run {
    let wait = pond.runs().wait(Scope::Org, id);
    tokio::time::timeout(Duration::from_secs(60), wait)
        .await
        .expect("the run ends")
        .unwrap()
}

/// Two stages: `map` leaves the list, `review` has a job for each area of it.
#[expect(clippy::needless_pass_by_value, reason = "called with literals")]
fn fan(fields: Value, review: Value) -> Value {
    let mut executor = swarm(
        "{{AREA_TITLE}}|{{GLOBS}}|{{WHY}}",
        json!({"fanout": {"source": "map", "artifact": "map.json"}}),
    );
    for (name, value) in fields.as_object().expect("fields are an object") {
        executor[name] = value.clone();
    }
    body(&[stage("map", &shell("map")), with("review", &executor, review)])
}

fn areas(count: usize) -> String {
    let area =
        |n: usize| json!({"title": format!("part {n}"), "globs": [format!("src/{n}/**"), "*.md"], "why": "size"});
    json!({"areas": (1..=count).map(area).collect::<Vec<_>>()}).to_string()
}

/// Submits a fan-out and plays its first stage.
async fn mapped(world: &World, worker: &PlayedWorker, body: &Value, map: &str) -> RunId {
    let id = world.submit(body).await.head.id;
    let job = worker.job().await;
    assert_eq!(job.stage, "map");
    worker.leave(&job, "map.json", map).await.unwrap();
    worker.finish(&job, JobEnd::Done).await.unwrap();
    id
}

/// The next jobs, at least `count` of them.
async fn jobs(worker: &PlayedWorker, count: usize) -> Vec<Job> {
    let mut jobs: Vec<Job> = Vec::new();
    while jobs.len() < count {
        let polled = worker.poll(64, Duration::from_secs(10)).await.jobs;
        assert!(!polled.is_empty(), "{} of {count} jobs came", jobs.len());
        jobs.extend(polled);
    }
    jobs.sort_by(|one, other| one.substage.cmp(&other.substage));
    jobs
}

on_every_store! {
    async fn c17_12_conditions_ask_of_stages_context_and_artifacts(world: World) {
        let inventory = json!({"kind": "builtin", "name": "file_inventory"});
        let tick = noop(1, 0.0);
        let mut submission = body(&[
            stage("list", &inventory),
            with("dry", &tick, json!({"when": "context.dry == true"})),
            with("listed", &tick, json!({"when": "artifact('results.jsonl') && stages.dry.status == 'skipped'"})),
            with("unlisted", &tick, json!({"when": "!artifact('results.jsonl')"})),
            with("never", &tick, json!({"when": "failure()"})),
            stage("last", &tick),
        ]);
        submission["context"] = json!({"dry": false});
        let id = world.submit(&submission).await.head.id;
        let run = world.ended(id).await;
        assert_eq!(run.head.state.phase.status(), RunStatus::Done);
        assert_eq!(statuses(&run), ["done", "skipped", "done", "skipped", "skipped", "done"]);
    }

    async fn c17_12_what_is_behind_a_failure_is_skipped_and_always_runs(world: World) {
        let world = world.with_shell().await;
        let worker = PlayedWorker::attach(&world.pond);
        let tick = noop(1, 0.0);
        let submission = body(&[
            stage("fix", &shell("x")),
            stage("next", &tick),
            with("tell", &tick, json!({"when": "failure()"})),
            with("clean", &tick, json!({"when": "always()"})),
        ]);
        let id = world.submit(&submission).await.head.id;
        worker.fail(&worker.job().await, FailureCode::ExitNonzero, "ended with 3").await.unwrap();
        let run = world.ended(id).await;
        assert_eq!(statuses(&run), ["failed", "skipped", "done", "done"]);
        assert_eq!(run.head.state.phase.status(), RunStatus::Failed);
        // After a cancel nothing starts any more.
        let id = world.submit(&submission).await.head.id;
        let job = worker.job().await;
        world.pond.runs().cancel(Scope::Org, id).await.unwrap();
        worker.finish(&job, JobEnd::Cancelled).await.unwrap();
        assert_eq!(statuses(&world.ended(id).await), ["cancelled"; 4]);
    }

    async fn c17_13_a_failure_that_may_mend_is_tried_again_and_lost_leases_count_apart(world: World) {
        let world = world.with_shell().await;
        let worker = PlayedWorker::attach(&world.pond);
        let retried = with("fix", &shell("x"), json!({"retries": {"max": 2, "backoff_sec": 0}}));
        let id = world.submit(&body(std::slice::from_ref(&retried))).await.head.id;
        let first = worker.job().await;
        worker.finish(&first, JobEnd::Cancelled).await.unwrap();
        let again = worker.job().await;
        assert_eq!((again.id, again.attempt), (first.id, 2), "a lost lease keeps its job");
        worker.fail(&again, FailureCode::ExitNonzero, "ended with 3").await.unwrap();
        let second = worker.job().await;
        assert_ne!(second.id, first.id, "a retry is another job");
        worker.finish(&second, JobEnd::Cancelled).await.unwrap();
        let third = worker.job().await;
        assert_eq!(third.attempt, 4);
        worker.fail(&third, FailureCode::Timeout, "longer than its 5 s").await.unwrap();
        let last = worker.job().await;
        worker.fail(&last, FailureCode::AgentFailed, "gave up").await.unwrap();
        let run = world.ended(id).await;
        let stage = &run.head.state.stages[0];
        assert_eq!((failure(stage).0, stage.phase.attempt(), stage.tries.retried), (FailureCode::AgentFailed, 5, 2));
        let told = engine_lines(&world, id).await;
        assert!(told.iter().any(|line| line.contains("failed with exit_nonzero: ended with 3; trying again in 0 s")), "{told:?}");
        // What another attempt does not mend is not tried again.
        let id = world.submit(&body(&[retried])).await.head.id;
        worker.fail(&worker.job().await, FailureCode::CredentialMissing, "no key").await.unwrap();
        assert_eq!(world.ended(id).await.head.state.stages[0].phase.attempt(), 1);
    }

    async fn c17_27_a_job_for_each_area_up_to_the_most_that_are_taken(world: World) {
        let world = world.with_shell().await;
        let worker = PlayedWorker::attach(&world.pond);
        for (there, taken) in [(0, 0), (1, 1), (5, 5), (25, 20)] {
            let id = mapped(&world, &worker, &fan(json!({}), json!({})), &areas(there)).await;
            let mut seen = BTreeSet::new();
            while seen.len() < taken {
                let polled = worker.poll(64, Duration::from_secs(10)).await.jobs;
                assert!((1..=8).contains(&polled.len()), "{} at once", polled.len());
                for job in &polled {
                    seen.insert((job.substage.clone().unwrap(), job.prompt.clone()));
                    worker.finish(job, JobEnd::Done).await.unwrap();
                }
            }
            let run = world.ended(id).await;
            assert_eq!(statuses(&run), ["done", "done"], "{there} areas");
            assert_eq!(run.head.state.stages[1].areas.len(), taken);
            let keys: Vec<String> = (1..=taken).map(|n| format!("area-{n:03}")).collect();
            assert_eq!(seen.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(), keys);
            let prompts_fit = seen.iter().zip(1..).all(|((_, prompt), n)| *prompt == format!("part {n}|src/{n}/** *.md|size"));
            assert!(prompts_fit, "{seen:?}");
            let told = engine_lines(&world, id).await;
            assert_eq!(told.iter().any(|line| line.starts_with("5 areas more than the 20")), there == 25, "{told:?}");
        }
    }

    async fn c17_27_one_failing_area_fails_the_stage_after_all_have_ended(world: World) {
        let world = world.with_shell().await;
        let worker = PlayedWorker::attach(&world.pond);
        let id = mapped(&world, &worker, &fan(json!({}), json!({})), &areas(5)).await;
        let jobs = jobs(&worker, 5).await;
        worker.fail(&jobs[2], FailureCode::AgentFailed, "gave up").await.unwrap();
        assert_eq!(world.pond.runs().get(Scope::Org, id).await.unwrap().head.state.phase.status(), RunStatus::Running);
        for job in jobs.iter().filter(|job| job.substage.as_deref() != Some("area-003")) {
            worker.finish(job, JobEnd::Done).await.unwrap();
        }
        let run = world.ended(id).await;
        assert_eq!(statuses(&run), ["done", "failed"]);
        let stage = &run.head.state.stages[1];
        assert_eq!(failure(stage), (FailureCode::AgentFailed, "area-003: gave up (1 of 5 areas failed)".into()));
        let ended: Vec<&str> = stage.areas.iter().map(|area| area.phase.status().as_str()).collect();
        assert_eq!(ended, ["done", "done", "failed", "done", "done"]);
        let story = world.story(id).await;
        let count = |line: &str| story.iter().filter(|told| *told == line).count();
        assert_eq!((count("review: queued > running"), count("review: running > failed")), (1, 1), "{story:?}");
        assert_eq!((count("review/area-003: queued > running"), count("review/area-003: running > failed")), (1, 1));
    }

    async fn c17_27_a_list_that_is_missing_or_malformed_is_fanout_invalid(world: World) {
        let world = world.with_shell().await;
        let worker = PlayedWorker::attach(&world.pond);
        for map in ["no JSON", "{\"areas\": 5}", "[{\"globs\": []}]"] {
            let id = mapped(&world, &worker, &fan(json!({}), json!({})), map).await;
            let run = world.ended(id).await;
            assert_eq!(failure(&run.head.state.stages[1]).0, FailureCode::FanoutInvalid, "{map}");
        }
        let id = world.submit(&fan(json!({}), json!({}))).await.head.id;
        worker.finish(&worker.job().await, JobEnd::Done).await.unwrap();
        let (code, message) = failure(&world.ended(id).await.head.state.stages[1]);
        assert_eq!((code, message.as_str()), (FailureCode::FanoutInvalid, "stage 'map' left no artifact 'map.json'"));
    }

    async fn c17_29_records_of_areas_are_put_together_in_their_order_and_counts_add_up(world: World) {
        let world = world.with_shell().await;
        let worker = PlayedWorker::attach(&world.pond);
        let parse = json!({"parse": {"fence": "findings", "output": "all.jsonl", "shape": "jsonl"}});
        let id = mapped(&world, &worker, &fan(parse, json!({})), &areas(3)).await;
        for job in jobs(&worker, 3).await.iter().rev() {
            assert_eq!(job.parse.as_ref().map(|parse| parse.fence.as_str()), Some("findings"));
            let area = job.substage.as_deref().unwrap();
            // The second leaves no line end, the third nothing.
            let (lines, count) = match area {
                "area-001" => ("{\"n\":1}\n{\"n\":2}\n", ParseCount { blocks: 1, records: 2, invalid: 1 }),
                "area-002" => ("{\"n\":3}", ParseCount { blocks: 2, records: 1, invalid: 0 }),
                _ => ("", ParseCount::default()),
            };
            if !lines.is_empty() {
                worker.leave(job, "all.jsonl", lines).await.unwrap();
            }
            worker.lines(job, 0, &["said"]).await.unwrap();
            let report = Report { end: JobEnd::Done, parse: Some(count), spent: None };
            worker.report(job, report).await.unwrap();
        }
        let run = world.ended(id).await;
        assert_eq!(text(&world, id, "review", None, "all.jsonl").await, "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n");
        assert_eq!(text(&world, id, "review", Some("area-002"), "all.jsonl").await, "{\"n\":3}");
        let count = run.head.state.stages[1].parse.unwrap();
        assert_eq!((count.blocks, count.records, count.invalid), (3, 3, 1));
        let lines = world.pond.runs().logs(Scope::Org, id, 0, 500, Some("review")).await.unwrap();
        let of_areas = lines.iter().filter(|line| matches!(&line.event.body, EventBody::Log(line) if line.substage.is_some()));
        assert_eq!(of_areas.count(), 3);
    }

    async fn c17_32_patches_of_areas_are_merged_in_their_order_and_conflicts_named(world: World) {
        let world = world.with_shell().await;
        let host = Arc::new(PlayedHost::default());
        let pond = world.engine_with(Outfit { host: Some(host), ..Outfit::default() }).await;
        let worker = PlayedWorker::attach(&pond);
        let submission = fan(json!({}), json!({})).to_string();
        let id = pond.runs().submit(world.project(), &submission).await.unwrap().head.id;
        let job = worker.job().await;
        worker.leave(&job, "map.json", &areas(3)).await.unwrap();
        worker.finish(&job, JobEnd::Done).await.unwrap();
        for (job, patch) in jobs(&worker, 3).await.iter().zip(["clash one\n", "clash two\n", "three\n"]) {
            worker.leave(job, "changes.patch", patch).await.unwrap();
            worker.leave(job, "changed-files.json", "{}\n").await.unwrap();
            worker.finish(job, JobEnd::Done).await.unwrap();
        }
        assert_eq!(statuses(&ended_at(&pond, id).await), ["done", "done"]);
        assert_eq!(text(&world, id, "review", None, "changes.patch").await, "clash one\nthree\n");
        assert_eq!(text(&world, id, "review", Some("area-002"), "changes.patch").await, "clash two\n");
        let told = engine_lines(&world, id).await;
        assert!(told.contains(&"area-002: its patch does not apply after those before it".to_owned()), "{told:?}");
        pond.shutdown().await;
    }

    async fn areas_are_lost_and_tried_again_each_for_itself(world: World) {
        let world = world.with_shell().await;
        let worker = PlayedWorker::attach(&world.pond);
        let retries = json!({"retries": {"max": 1, "backoff_sec": 0}});
        let id = mapped(&world, &worker, &fan(json!({}), retries), &areas(2)).await;
        let first = jobs(&worker, 2).await;
        worker.finish(&first[0], JobEnd::Cancelled).await.unwrap();
        worker.fail(&first[1], FailureCode::ParseFailed, "no record").await.unwrap();
        let second = jobs(&worker, 2).await;
        assert_eq!((second[0].id, second[0].attempt), (first[0].id, 2));
        assert!(second[1].id != first[1].id && second[1].attempt == 2);
        for job in &second {
            worker.finish(job, JobEnd::Done).await.unwrap();
        }
        let run = world.ended(id).await;
        assert_eq!((statuses(&run)[1], run.head.state.stages[1].phase.attempt()), ("done", 1));
    }

    async fn a_cancel_reaches_each_running_area_and_no_other_starts(world: World) {
        let world = world.with_shell().await;
        let worker = PlayedWorker::attach(&world.pond);
        let id = mapped(&world, &worker, &fan(json!({}), json!({})), &areas(10)).await;
        let running = jobs(&worker, 8).await;
        worker.leave(&running[0], "note.txt", "kept").await.unwrap();
        world.pond.runs().cancel(Scope::Org, id).await.unwrap();
        let told: BTreeSet<_> = worker.poll(0, Duration::from_secs(5)).await.commands.into_iter()
            .map(|Command::Cancel(job)| job).collect();
        assert_eq!(told, running.iter().map(|job| job.id).collect());
        for job in &running {
            worker.finish(job, JobEnd::Cancelled).await.unwrap();
        }
        let run = world.ended(id).await;
        assert_eq!((run.head.state.phase.status(), statuses(&run)[1]), (RunStatus::Cancelled, "cancelled"));
        assert!(run.head.state.stages[1].areas.iter().all(|area| area.phase.status().as_str() == "cancelled"));
        assert_eq!(text(&world, id, "review", Some("area-001"), "note.txt").await, "kept");
    }

    async fn c17_28_a_prompt_is_filled_once_when_its_job_is_handed_out(world: World) {
        let world = world.with_shell().await;
        let worker = PlayedWorker::attach(&world.pond);
        let mut submission = body(&[
            stage("write", &swarm("x", json!({"writesArtifact": "notes.md"}))),
            stage("read", &shell("{{ARTIFACT:notes.md}} {{INPUT:list.1}} \\{{NOPE}}")),
        ]);
        submission["context"] = json!({"secret": "s", "list": ["a", {"b": 1}]});
        let id = world.submit(&submission).await.head.id;
        let job = worker.job().await;
        assert_eq!(job.writes_artifact.as_ref().map(ArtifactName::as_str), Some("notes.md"));
        worker.leave(&job, "notes.md", "see {{INPUT:secret}}").await.unwrap();
        worker.finish(&job, JobEnd::Done).await.unwrap();
        let job = worker.job().await;
        assert_eq!(job.prompt, "see {{INPUT:secret}} {\"b\":1} {{NOPE}}");
        worker.finish(&job, JobEnd::Done).await.unwrap();
        world.ended(id).await;
        // What was not left fails the job before it is handed out.
        let id = world.submit(&submission).await.head.id;
        worker.finish(&worker.job().await, JobEnd::Done).await.unwrap();
        assert!(worker.poll(1, Duration::from_millis(500)).await.jobs.is_empty());
        assert_eq!(failure(&world.ended(id).await.head.state.stages[1]).0, FailureCode::ArtifactMissing);
    }

    async fn c17_26_a_shell_stage_is_refused_by_default_and_runs_where_it_is_allowed(world: World) {
        let say = body(&[stage("say", &json!({"kind": "shell", "argv": ["say", "a", "b"]}))]);
        let refused = world.pond.runs().submit(world.project(), &say.to_string()).await;
        let Err(Error::Preflight { problems, .. }) = refused else { panic!("it is refused") };
        assert_eq!((problems[0].code, problems[0].pointer.as_deref()),
            ("shell_disabled", Some("/definition/stages/0/executor/kind")));
        let (host, pond) = shell_engine(&world).await;
        let id = pond.runs().submit(world.project(), &say.to_string()).await.unwrap().head.id;
        assert_eq!(statuses(&ended_at(&pond, id).await), ["done"]);
        assert_eq!(host.started(), [["say", "a", "b"]]);
        assert_eq!(text(&world, id, "say", None, "said.txt").await, "a b");
        let lines = pond.runs().logs(Scope::Org, id, 0, 500, Some("say")).await.unwrap();
        let EventBody::Log(line) = &lines[0].event.body else { panic!("a line") };
        assert_eq!((line.stream, line.source, line.line.as_str()), (LogStream::Stdout, LogSource::Agent, "a b"));
        // The operator changes the setting while the run waits.
        let fail = body(&[with("fail", &json!({"kind": "shell", "argv": ["fail"]}),
            json!({"retries": {"max": 1, "backoff_sec": 0}}))]);
        let id = pond.runs().submit(world.project(), &fail.to_string()).await.unwrap().head.id;
        let run = ended_at(&pond, id).await;
        assert_eq!((failure(&run.head.state.stages[0]).0, run.head.state.stages[0].phase.attempt()), (FailureCode::ExitNonzero, 2));
        pond.shutdown().await;
    }

    async fn c17_121_a_shell_stage_is_never_started_twice_in_one_attempt(world: World) {
        let hang = body(&[stage("hang", &json!({"kind": "shell", "argv": ["hang"]}))]).to_string();
        let (first, one) = shell_engine(&world).await;
        let id = one.runs().submit(world.project(), &hang).await.unwrap().head.id;
        until(|| first.started().len() == 1).await;
        let stored = one.runs().get(Scope::Org, id).await.unwrap();
        assert_eq!((statuses(&stored)[0], stored.head.state.stages[0].phase.attempt()), ("running", 1), "durable before it starts");
        // The first engine is not told: another takes over, with an attempt of its own.
        let (second, other) = shell_engine(&world).await;
        until(|| second.started().len() == 1).await;
        let stored = other.runs().get(Scope::Org, id).await.unwrap();
        assert_eq!((statuses(&stored)[0], stored.head.state.stages[0].phase.attempt()), ("running", 2));
        // Lost as often as a job may be, it is given up.
        let (third, last) = shell_engine(&world).await;
        let run = ended_at(&last, id).await;
        assert_eq!(failure(&run.head.state.stages[0]).0, FailureCode::WorkerLost);
        assert_eq!((first.started().len(), second.started().len(), third.started().len()), (1, 1, 0));
        for pond in [one, other, last] {
            pond.shutdown().await;
        }
    }

    async fn wall_sec_of_run_and_stage_ends_what_runs_and_what_waits(world: World) {
        let world = world.with_shell().await;
        let long = with("long", &noop(100, 1.0), json!({"budget": {"wall_sec": 1}}));
        let run = world.ended(world.submit(&body(&[long])).await.head.id).await;
        let (code, message) = failure(&run.head.state.stages[0]);
        assert_eq!(code, FailureCode::BudgetExceeded);
        assert!(message.contains("of the 1 s that wall_sec of the stage allows"), "{message}");
        // The run's own time goes on while a stage waits for a worker.
        let mut waits = body(&[stage("tick", &noop(1, 0.0)), stage("fix", &shell("x"))]);
        waits["budget"] = json!({"wall_sec": 1, "usd": 0.5});
        let id = world.submit(&waits).await.head.id;
        let run = world.ended(id).await;
        let (code, message) = failure(&run.head.state.stages[1]);
        assert_eq!(code, FailureCode::BudgetExceeded);
        assert!(message.contains("wall_sec of the run"), "{message}");
        let worker = PlayedWorker::attach(&world.pond);
        assert!(worker.poll(1, Duration::ZERO).await.jobs.is_empty(), "its job has left the line");
        // A retry of the run keeps the budget.
        let again = world.pond.runs().retry(Scope::Org, id).await.unwrap();
        assert_eq!(again.head.inputs.budget.as_ref().unwrap().get(), waits["budget"].to_string());
        let job = worker.job().await;
        assert!(job.timeout <= Duration::from_secs(1) && job.budget.wall_sec == Some(1), "{:?}", job.budget);
        assert_eq!(job.budget.usd.map(|usd| usd.to_string()).as_deref(), Some("0.5"));
        worker.finish(&job, JobEnd::Done).await.unwrap();
        world.ended(again.head.id).await;
    }
}

/// An engine on the world's store that may run shell stages, on a host of its own.
async fn shell_engine(world: &World) -> (PlayedHost, Pond) {
    let host = PlayedHost::default();
    let settings = EngineSettings {
        allow_shell: true,
        ..EngineSettings::default()
    };
    let outfit = Outfit {
        settings,
        host: Some(Arc::new(host.clone())),
        clock: None,
    };
    (host, world.engine_with(outfit).await)
}

async fn until(mut is: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it does not come to that");
}

/// When the next attempt of a run's first stage may be made.
async fn not_before(pond: &Pond, id: RunId) -> Option<pond_core::clock::Timestamp> {
    let run = pond.runs().get(Scope::Org, id).await.unwrap();
    match run.head.state.stages[0].phase {
        StagePhase::Queued { not_before, .. } => not_before,
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c17_13_the_wait_is_as_stated_and_is_kept_by_an_heir() {
    let clock = ManualClock::new();
    let outfit = || Outfit {
        clock: Some(clock.clone()),
        ..Outfit::default()
    };
    let world = World::furnished(Backend::Sqlite, outfit()).await.with_shell().await;
    let worker = PlayedWorker::attach(&world.pond);
    let retried = with("fix", &shell("x"), json!({"retries": {"max": 2, "backoff_sec": 10}}));
    let id = world.submit(&body(&[retried])).await.head.id;
    worker
        .fail(&worker.job().await, FailureCode::ExitNonzero, "ended with 3")
        .await
        .unwrap();
    let due = clock.now().plus(Duration::from_secs(10));
    assert_eq!(not_before(&world.pond, id).await, Some(due));
    // Another engine takes over in between, and waits as long as the first would have.
    let heir = world.engine_with(outfit()).await;
    let worker = PlayedWorker::attach(&heir);
    clock.advance(Duration::from_secs(9));
    assert!(worker.poll(1, Duration::ZERO).await.jobs.is_empty());
    assert_eq!(not_before(&heir, id).await, Some(due));
    clock.advance(Duration::from_secs(1));
    let job = worker.poll(1, Duration::from_secs(3600)).await.jobs.remove(0);
    assert_eq!(job.attempt, 2);
    worker
        .fail(&job, FailureCode::ExitNonzero, "ended with 3")
        .await
        .unwrap();
    let due = clock.now().plus(Duration::from_secs(20));
    assert_eq!(
        not_before(&heir, id).await,
        Some(due),
        "the second wait is twice the first"
    );
    clock.advance(Duration::from_secs(20));
    let job = worker.poll(1, Duration::from_secs(3600)).await.jobs.remove(0);
    worker
        .fail(&job, FailureCode::ExitNonzero, "ended with 3")
        .await
        .unwrap();
    let run = ended_at(&heir, id).await;
    assert_eq!(
        (statuses(&run)[0], run.head.state.stages[0].phase.attempt()),
        ("failed", 3)
    );
    heir.shutdown().await;
}
