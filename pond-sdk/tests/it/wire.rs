//! Names on the wire, and how they are read.

use pond_sdk::api::{
    Budget, CreateRun, Definition, Executor, LogLine, ParseShape, Problem, Run, RunDetail, RunStatus, Sandbox, Source,
    StageDefinition, Swarm, Usage, Whoami,
};
use serde_json::json;

use crate::samples;

#[test]
fn answers_come_back_as_they_were() {
    for value in [samples::run("queued"), samples::run("done")] {
        let run: Run = serde_json::from_value(value.clone()).expect("a run");
        assert_eq!(serde_json::to_value(run).expect("a run"), value);
    }
    let value = samples::detail("running");
    let detail: RunDetail = serde_json::from_value(value.clone()).expect("a run and its stages");
    assert_eq!(serde_json::to_value(detail).expect("JSON"), value);
    let usage: Usage = serde_json::from_value(samples::usage()).expect("usage");
    assert_eq!(serde_json::to_value(usage).expect("JSON"), samples::usage());
    let line: LogLine = serde_json::from_value(samples::line(1, "x")).expect("a line");
    assert_eq!(serde_json::to_value(line).expect("JSON"), samples::line(1, "x"));
}

#[test]
fn an_old_client_reads_a_newer_server() {
    let mut value = samples::run("paused");
    value["somethingNew"] = json!({"a": 1});
    let run: Run = serde_json::from_value(value.clone()).expect("a run");
    assert_eq!(run.status, RunStatus::Other("paused".into()));
    assert!(!run.status.is_terminal());
    assert_eq!(serde_json::to_value(&run).expect("JSON")["status"], "paused");
}

#[test]
fn what_a_client_sends_is_closed() {
    for body in [
        json!({"definition": {}, "project_id": "p"}),
        json!({"definition": {}, "x": 1}),
    ] {
        assert!(serde_json::from_value::<CreateRun>(body).is_err());
    }
    let sandbox = json!({"profile": "none"});
    for executor in [
        json!({"kind": "noop", "tick": 1}),
        json!({"kind": "swarm", "prompt": "p", "sandbox": sandbox, "harnes": "x"}),
        json!({"kind": "new"}),
    ] {
        let stage = json!({"stages": [{"key": "a", "name": "a", "executor": executor}]});
        assert!(serde_json::from_value::<Definition>(stage).is_err(), "{executor}");
    }
}

#[test]
fn a_workflow_written_in_rust() {
    let review = Swarm::new("Review {{AREA_TITLE}}.", Sandbox::read().tier("trusted"))
        .harness("mini")
        .model("sonnet")
        .fanout("plan", "areas.json")
        .parse("finding", "findings.jsonl", ParseShape::Jsonl)
        .writes_artifact("report.md");
    let definition = Definition::new([
        StageDefinition::new("plan", Executor::builtin("file_inventory")).name("Plan"),
        StageDefinition::new("review", review)
            .retries(2, 10)
            .when("success()")
            .timeout_sec(600),
        StageDefinition::new("ticks", Executor::noop()),
    ])
    .edge("plan", "review");
    let run = CreateRun::new(definition)
        .project("p")
        .source(
            Source::git("app", "https://git.example/acme/app")
                .reference("main")
                .credential("git"),
        )
        .budget(Budget {
            calls: Some(5),
            ..Budget::default()
        })
        .context(json!({"ticket": 7}));
    insta::assert_json_snapshot!("workflow", run);
    let again: Definition = serde_json::from_value(run.definition.clone()).expect("a definition");
    assert_eq!(serde_json::Value::from(again), run.definition);
}

#[test]
fn problems_and_principals() {
    let problem = Problem {
        request_id: "r".into(),
        ..Problem::new(404, "not_found", "no such thing", "no such run")
    };
    insta::assert_json_snapshot!("problem", problem);
    let service: Whoami =
        serde_json::from_value(json!({"principal": {"kind": "service"}, "version": "1", "label": "local"}))
            .expect("whoami");
    assert_eq!(
        serde_json::to_value(service).expect("JSON"),
        json!({"principal": {"kind": "service"}, "version": "1", "label": "local"})
    );
}

#[test]
fn schemas_name_the_fields_and_known_words() {
    use utoipa::PartialSchema;
    let words = serde_json::to_value(RunStatus::schema()).expect("a schema");
    assert_eq!(
        words,
        json!({"type": "string", "enum": ["queued", "running", "done", "failed", "cancelled"]})
    );
    let schema = serde_json::to_value(Run::schema()).expect("a schema");
    let fields = schema["properties"].as_object().expect("properties");
    let run = serde_json::to_value(samples::run("done")).expect("JSON");
    let missing: Vec<_> = run
        .as_object()
        .expect("a run")
        .keys()
        .filter(|&name| !fields.contains_key(name))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    let body = serde_json::to_value(CreateRun::schema()).expect("a schema");
    assert_eq!(body["additionalProperties"], false);
}
