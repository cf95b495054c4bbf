//! Every preflight code by a fixture of its own, and submit that agrees.

use std::collections::BTreeSet;

use pond_core::config::{Credential, EgressRule, Harness, Model, Owner, Variable};
use pond_core::event::EventBody;
use pond_core::logs::LogSource;
use pond_core::pool::JobEnd;
use pond_core::preflight::{Problem, Severity};
use pond_core::runs::{FailureCode, Reach, RunStatus};
use pond_core::scope::Scope;
use pond_core::{EngineSettings, Error};
use pond_tests::world::{body, noop, shell, stage};
use pond_tests::{PlayedWorker, World, on_every_store};
use serde_json::{Value, json};

fn swarm(fields: &Value) -> Value {
    let mut executor = json!({"kind": "swarm", "prompt": "x", "sandbox": {"profile": "untrusted-code-write"}});
    for (name, value) in fields.as_object().unwrap() {
        executor[name] = value.clone();
    }
    body(&[stage("fix", &executor)])
}

/// A run over a git source that names a credential.
fn sourced(url: &str, credential: &str) -> Value {
    let mut body = body(&[stage("a", &noop(1, 0.0))]);
    body["sources"] = json!([{"label": "app", "kind": "git_https", "config": {"url": url, "credential": credential}}]);
    body
}

/// With everything registered that the fixtures name.
async fn furnished(world: World) -> World {
    let world = world.with_shell().await;
    let config = world.pond.config();
    let harness = |key: &str, extra: Value| {
        let mut harness = json!({"key": key, "command_template": ["x", "{{MODEL}}"], "capability": "harness.shell"});
        for (name, value) in extra.as_object().unwrap() {
            harness[name] = value.clone();
        }
        harness
    };
    let secret = json!({"files": [{"path": "a", "content": "{{SECRET:OTHER}}"}]});
    for harness in [
        harness("talks", json!({"wire": "responses"})),
        harness("asks", secret),
        harness("plain", json!({})),
    ] {
        config.put::<Harness>(Owner::Org, &harness).await.unwrap();
    }
    config
        .put::<EgressRule>(Owner::Org, &json!({"host": "listed.test"}))
        .await
        .unwrap();
    let credential = |name: &str, provider: &str, key: &str| json!({"name": name, "provider": provider, "secrets": {key: "sk-secret"}});
    let mut open = credential("open", "anthropic", "ANTHROPIC_API_KEY");
    open["remote_features"] = json!(["web_search"]);
    for credential in [
        credential("good", "anthropic", "ANTHROPIC_API_KEY"),
        credential("bare", "anthropic", "OTHER"),
        credential("odd", "odd", "KEY"),
        open,
        json!({"name": "source", "provider": "git", "hosts": ["git.test/acme"], "secrets": {"GIT_TOKEN": "t0ken-1"}}),
        json!({"name": "empty", "provider": "git", "hosts": ["git.test"]}),
    ] {
        config.put::<Credential>(Owner::Org, &credential).await.unwrap();
    }
    let model = |key: &str, provider: &str, credential: &str| json!({"key": key, "provider": provider, "model_id": "m", "credential_name": credential});
    let mut priced = model("priced", "anthropic", "good");
    priced["input_cost_per_mtok"] = json!(3);
    priced["output_cost_per_mtok"] = json!(15);
    for model in [
        model("good", "anthropic", "good"),
        model("bare", "anthropic", "bare"),
        model("gone", "anthropic", "gone"),
        model("open", "anthropic", "open"),
        model("odd", "odd", "odd"),
        model("mixed", "openai", "good"),
        priced,
    ] {
        config.put::<Model>(Owner::Org, &model).await.unwrap();
    }
    world
}

/// Each fixture: its code, its severity and its body.
fn fixtures() -> Vec<(&'static str, Severity, Value)> {
    use Severity::{Error, Info, Warning};
    let none = json!({"sandbox": {"profile": "none"}, "harness": "shell"});
    let sandbox = |block: Value| swarm(&json!({"harness": "shell", "sandbox": block}));
    vec![
        ("definition_invalid", Error, body(&[])),
        ("definition_invalid", Error, swarm(&json!({}))),
        ("definition_invalid", Error, swarm(&json!({"harness": "plain"}))),
        (
            "sandbox_invalid",
            Error,
            body(&[stage(
                "fix",
                &json!({"kind": "swarm", "prompt": "x", "harness": "shell"}),
            )]),
        ),
        ("sandbox_invalid", Error, sandbox(json!({}))),
        ("sandbox_invalid", Error, sandbox(json!({"profile": "strong"}))),
        (
            "sandbox_invalid",
            Error,
            sandbox(json!({"profile": "untrusted-code-read", "backend": "none"})),
        ),
        (
            "sandbox_invalid",
            Error,
            sandbox(json!({"profile": "untrusted-code-read", "overrides": {"image": "x"}})),
        ),
        (
            "sandbox_invalid",
            Error,
            sandbox(json!({"profile": "untrusted-code-read", "overrides": {"memory": "lots"}})),
        ),
        ("unconfined_sandbox", Error, swarm(&none)),
        ("no_capable_worker", Warning, swarm(&json!({"harness": "shell"}))),
        ("harness_unregistered", Warning, swarm(&json!({"harness": "nobody"}))),
        (
            "model_unregistered",
            Error,
            swarm(&json!({"harness": "plain", "model": "nobody"})),
        ),
        (
            "credential_missing",
            Error,
            swarm(&json!({"harness": "plain", "model": "gone"})),
        ),
        (
            "credential_missing",
            Error,
            swarm(&json!({"harness": "plain", "model": "bare"})),
        ),
        (
            "remote_features",
            Info,
            swarm(&json!({"harness": "plain", "model": "open"})),
        ),
        (
            "egress_narrowed",
            Warning,
            sandbox(json!({"profile": "untrusted-code-write", "allow_hosts": ["example.com"]})),
        ),
        (
            "egress_narrowed",
            Warning,
            sandbox(json!({"profile": "untrusted-code-read", "allow_hosts": ["example.com"]})),
        ),
        (
            "sandbox_invalid",
            Error,
            sandbox(json!({"profile": "untrusted-code-write", "allow_hosts": ["example.com", "10.0.0.0/8"]})),
        ),
        (
            "credential_missing",
            Error,
            sourced("https://git.test/acme/app", "nobody"),
        ),
        (
            "credential_missing",
            Error,
            sourced("https://git.test/acme/app", "good"),
        ),
        (
            "credential_missing",
            Error,
            sourced("https://git.test/acme/app", "empty"),
        ),
        (
            "credential_host_mismatch",
            Error,
            sourced("https://git.test/other/app", "source"),
        ),
        (
            "credential_host_mismatch",
            Error,
            sourced("https://evil.test/acme/app", "source"),
        ),
        (
            "credential_missing",
            Error,
            swarm(&json!({"harness": "plain", "model": "mixed"})),
        ),
        (
            "provider_not_brokered",
            Error,
            swarm(&json!({"harness": "plain", "model": "odd"})),
        ),
        (
            "wire_mismatch",
            Warning,
            swarm(&json!({"harness": "talks", "model": "good"})),
        ),
        (
            "shell_disabled",
            Error,
            body(&[stage("fix", &json!({"kind": "shell", "argv": ["true"]}))]),
        ),
        ("unknown_placeholder", Error, prompt("{{NOPE}}")),
        ("unknown_placeholder", Error, prompt("{{AREA_TITLE}}")),
        ("unknown_placeholder", Error, prompt("{{INPUT:a.c}}")),
        // Nothing is before the only stage.
        ("unknown_placeholder", Error, prompt("{{ARTIFACT:x}}")),
        (
            "unknown_placeholder",
            Error,
            // A builtin leaves one file, and a noop none.
            body(&[
                stage("list", &json!({"kind": "builtin", "name": "todo_scan"})),
                stage("tick", &json!({"kind": "noop"})),
                stage("fix", &shell("{{ARTIFACT:results.jsonl}} {{ARTIFACT:other}}")),
            ]),
        ),
        (
            "budget_missing",
            Info,
            swarm(&json!({"harness": "plain", "model": "good"})),
        ),
        (
            "budget_missing",
            Warning,
            swarm(&json!({"harness": "plain", "model": "priced"})),
        ),
        (
            "budget_unenforceable",
            Error,
            budgeted("good", &json!({"usd": 1}), &json!(null)),
        ),
        (
            "budget_unenforceable",
            Error,
            budgeted("good", &json!(null), &json!({"usd": 1})),
        ),
        (
            "cost_estimate",
            Info,
            budgeted("priced", &json!({"usd": 1}), &json!({"tokens": 1000})),
        ),
        (
            "definition_invalid",
            Error,
            body(&[json!({"key": "a", "name": "a", "when": "", "executor": {"kind": "noop"}})]),
        ),
    ]
}

/// A stage with this prompt, in a run whose context has `a.b`.
fn prompt(text: &str) -> Value {
    let mut body = body(&[stage("fix", &shell(text))]);
    body["context"] = json!({"a": {"b": 1}});
    body
}

/// A stage of a model, with budgets of the run and of the stage.
fn budgeted(model: &str, run: &Value, of_stage: &Value) -> Value {
    let mut body = swarm(&json!({"harness": "plain", "model": model}));
    body["budget"] = run.clone();
    body["definition"]["stages"][0]["budget"] = of_stage.clone();
    body
}

async fn problems(world: &World, body: &Value) -> Vec<Problem> {
    world
        .pond
        .runs()
        .preflight(world.project(), &body.to_string(), Reach::Offline)
        .await
        .unwrap()
}

on_every_store! {
    async fn c17_39_each_code_is_told_with_severity_prefix_and_fix_and_submit_agrees(world: World) {
        let world = furnished(world).await;
        for (code, severity, body) in fixtures() {
            let told = problems(&world, &body).await;
            let found = told.iter().find(|problem| problem.code == code);
            let found = found.unwrap_or_else(|| panic!("{code} for {body}: {told:?}"));
            assert_eq!(found.severity, severity, "{body}");
            assert!(!found.fix.is_empty() && found.fix.ends_with('.'), "{found:?}");
            for problem in &told {
                if let Some(stage) = &problem.stage {
                    assert!(
                        problem.message.starts_with(&format!("stage '{stage}': ")),
                        "{problem:?}"
                    );
                }
            }
            let refused = told.iter().any(|problem| problem.severity == Severity::Error);
            match world.pond.runs().submit(world.project(), &body.to_string()).await {
                Ok(run) => {
                    assert!(!refused, "submit lets pass what preflight calls an error: {body}");
                    world.pond.runs().cancel(Scope::Org, run.head.id).await.unwrap();
                }
                Err(Error::Preflight { problems, .. }) => assert_eq!(problems, told, "{body}"),
                Err(error) => panic!("{error} for {body}"),
            }
        }
    }

    async fn c17_39_a_key_in_a_variable_is_told(world: World) {
        let world = furnished(world).await;
        let variable = json!({"name": "TOKEN", "value": "sk-0123456789abcdef"});
        world
            .pond
            .config()
            .put::<Variable>(Owner::Org, &variable)
            .await
            .unwrap();
        let told = problems(&world, &swarm(&json!({"harness": "shell"}))).await;
        assert!(
            told.iter().any(|problem| problem.code == "secret_in_environment"),
            "{told:?}"
        );
        assert!(told.iter().all(|problem| !problem.message.contains("0123456789")));
    }

    async fn c17_39_placeholders_that_can_be_filled_and_a_backslash_are_no_problem(world: World) {
        let world = furnished(world).await;
        let mut submission = body(&[
            stage("list", &json!({"kind": "builtin", "name": "todo_scan"})),
            stage("write", &shell("x")),
            stage("fix", &shell("{{ARTIFACT:results.jsonl}} {{ARTIFACT:any.md}} {{INPUT:a.0}} \\{{NOPE}} {{no}}")),
        ]);
        submission["context"] = json!({"a": [null]});
        let told = problems(&world, &submission).await;
        assert!(told.iter().all(|problem| problem.code == "no_capable_worker"), "{told:?}");
    }

    async fn c17_39_estimates_come_from_past_runs_before_budgets(world: World) {
        let world = furnished(world).await;
        let submission = budgeted("priced", &json!(null), &json!({"usd": 2}));
        let estimate = |told: &[Problem]| {
            let problem = told.iter().find(|problem| problem.code == "cost_estimate").unwrap().clone();
            let estimate = problem.estimate.unwrap();
            (estimate.low.to_string(), estimate.high.to_string(), estimate.basis)
        };
        let by_budget = ("0".to_owned(), "2".to_owned(), "its budget and the prices of its model");
        assert_eq!(estimate(&problems(&world, &submission).await), by_budget);
        let worker = PlayedWorker::attach(&world.pond);
        for output in [100_000, 50_000] {
            let id = world.submit(&submission).await.head.id;
            let job = worker.job().await;
            worker.call(&job, 0, "m", output).await.unwrap();
            worker.finish(&job, JobEnd::Done).await.unwrap();
            world.ended(id).await;
        }
        let by_past = ("0.75".to_owned(), "1.5".to_owned(), "past runs of this stage");
        assert_eq!(estimate(&problems(&world, &submission).await), by_past);
    }

    async fn c17_39_the_servers_default_budget_bounds_what_nothing_else_does(world: World) {
        let settings = EngineSettings {
            default_budget_usd: Some(pond_core::usage::Pico(1_000_000_000_000)),
            allow_shell: true,
            ..EngineSettings::default()
        };
        let world = furnished(World::with(world.backend, settings).await).await;
        let codes = async |body: Value| -> BTreeSet<&'static str> {
            problems(&world, &body).await.into_iter().map(|problem| problem.code).collect()
        };
        let expected = BTreeSet::from(["cost_estimate", "no_capable_worker"]);
        assert_eq!(codes(swarm(&json!({"harness": "plain", "model": "priced"}))).await, expected);
        let unpriced = codes(swarm(&json!({"harness": "plain", "model": "good"}))).await;
        assert!(unpriced.contains("budget_unenforceable"), "{unpriced:?}");
        let tokens = codes(budgeted("good", &json!({"tokens": 5}), &json!(null))).await;
        assert_eq!(tokens, BTreeSet::from(["no_capable_worker"]));
        // Shell stages are allowed, and nothing is there that could run one.
        let shell = codes(body(&[stage("fix", &json!({"kind": "shell", "argv": ["true"]}))])).await;
        assert_eq!(shell, BTreeSet::from(["sandbox_invalid"]));
    }

    async fn c17_33_a_name_left_out_means_the_only_one_and_with_two_is_a_fault_there(world: World) {
        let world = world.with_shell().await;
        let unnamed = swarm(&json!({}));
        let codes: BTreeSet<_> = problems(&world, &unnamed)
            .await
            .into_iter()
            .map(|problem| problem.code)
            .collect();
        assert_eq!(codes, BTreeSet::from(["no_capable_worker"]));
        world
            .pond
            .config()
            .put_preset(Owner::Org, "mini", None, None)
            .await
            .unwrap();
        let told = problems(&world, &unnamed).await;
        assert_eq!(told[0].code, "definition_invalid");
        assert_eq!(
            told[0].pointer.as_deref(),
            Some("/definition/stages/0/executor/harness")
        );
        let told = problems(&world, &swarm(&json!({"harness": "mini"}))).await;
        assert_eq!(told[0].code, "model_unregistered");
        let model = json!({"key": "m", "provider": "anthropic", "model_id": "m", "credential_name": "c"});
        world.pond.config().put::<Model>(Owner::Org, &model).await.unwrap();
        let told = problems(&world, &swarm(&json!({"harness": "mini"}))).await;
        assert_eq!(told[0].code, "credential_missing", "the only model was found");
    }

    async fn c17_40_warnings_stand_in_the_runs_log(world: World) {
        let world = world.with_shell().await;
        let id = world.submit(&body(&[stage("fix", &shell("true"))])).await.head.id;
        let lines = world.pond.runs().logs(Scope::Org, id, 0, 500, None).await.unwrap();
        let EventBody::Log(line) = &lines[0].event.body else {
            panic!("a line")
        };
        assert_eq!(line.source, LogSource::Preflight);
        assert!(line.line.contains("no_capable_worker"), "{}", line.line);
    }

    async fn c17_41_profile_none_is_refused_by_default_and_at_dispatch_when_the_setting_changed(world: World) {
        let lenient = EngineSettings {
            require_sandbox: false,
            ..EngineSettings::default()
        };
        let world = World::with(world.backend, lenient).await.with_shell().await;
        let submission = swarm(&json!({"harness": "shell", "sandbox": {"profile": "none"}}));
        let told = problems(&world, &submission).await;
        let told = told
            .iter()
            .find(|problem| problem.code == "unconfined_sandbox")
            .unwrap();
        assert_eq!(told.severity, Severity::Warning);
        let id = world.submit(&submission).await.head.id;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        // The operator changes the setting while the run waits for a worker.
        let strict = world.another_engine(EngineSettings::default()).await;
        let worker = PlayedWorker::with(
            &strict,
            PlayedWorker::attach(&strict).info.id,
            &["harness.shell", "sandbox.none"],
        );
        assert!(
            worker
                .poll(1, std::time::Duration::from_millis(500))
                .await
                .jobs
                .is_empty(),
            "nothing unconfined is handed out"
        );
        let run = strict.runs().wait(Scope::Org, id).await.unwrap();
        assert_eq!(run.head.state.phase.status(), RunStatus::Failed);
        assert_eq!(
            run.head.state.stages[0].phase.failure().unwrap().code,
            FailureCode::UnconfinedSandbox
        );
        let refused = strict.runs().submit(world.project(), &submission.to_string()).await;
        assert!(matches!(refused, Err(Error::Preflight { .. })));
        strict.shutdown().await;
    }
}
