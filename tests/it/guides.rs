//! Both guides, request by request, as their readers type them: `curl` against a server on PostgreSQL, an orchestrator and
//! workers as processes of their own. Only hosts, ids and tokens are other than in the guides.

mod integrate;
mod operator;
mod reader;

use pond_tests::fleet::{Program, text};
use serde_json::json;

use integrate::{authenticating, cancelling, preflight, submitting_and_tracking, the_example};
use operator::{attach, managing, register};
use reader::{JSON, PROJECT, Reader, has};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c17_01_every_request_of_both_guides_answers_as_they_say() {
    let reader = Reader::new().await;
    preflight(&reader).await;
    authenticating(&reader).await;
    the_example(&reader).await;
    cancelling(&reader).await;
    register(&reader).await;
    let _programs = attach(&reader).await;
    managing(&reader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c17_01_a_run_over_a_git_source_is_submitted_and_tracked_as_the_integrate_guide_says() {
    submitting_and_tracking(&Reader::new().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c17_03_the_operator_walk_through_ends_with_a_patch_that_applies_to_a_clean_clone() {
    let reader = Reader::new().await;
    register(&reader).await;
    let programs = attach(&reader).await;
    // In place of codex, which this host does not have, the built-in agent; it is then the only harness, and needs no name.
    reader
        .gets(204, r#"curl -sX DELETE $POND/v1/admin/harnesses/codex -H "$H""#)
        .await;
    let preset =
        format!(r#"curl -sX POST $POND/v1/admin/harnesses/from-preset -H "$H" {JSON} -d '{{"preset": "mini"}}'"#);
    has(
        &reader.gets(201, &preset).await,
        &json!({"key": "mini", "capability": "harness.mini"}),
    );
    let url = reader.git.url("app");
    let run = reader
        .gets(
            201,
            &format!(
                r#"curl -sX POST $POND/v1/runs -H "$H" -H 'content-type: application/json' -d '{{
  "projectId": "{PROJECT}",
  "sources": [{{"label": "app", "kind": "git_https", "config": {{"url": "{url}"}}}}],
  "definition": {{"stages": [{{
    "key": "fix", "name": "Fix", "executor": {{
      "kind": "swarm", "prompt": "Find and fix the failing test.",
      "sandbox": {{"profile": "untrusted-code-write", "tier": "trusted"}}
    }}}}]}}
}}'"#
            ),
        )
        .await;
    let id = text(&run["id"]);
    let ended = reader.fleet.ended(id).await;
    let said = || programs.iter().map(Program::said).collect::<Vec<_>>().join("\n");
    assert_eq!(ended["run"]["status"], "done", "{ended:#}\n{}", said());
    assert_eq!(ended["run"]["sources"][0]["resolved"]["commit"], reader.sample.commit);
    has(
        &ended["stages"][0],
        &json!({"key": "fix", "status": "done", "attempt": 1}),
    );
    let artifacts = reader.reads(&format!("/v1/runs/{id}/artifacts")).await;
    let names: Vec<&str> = artifacts["artifacts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| text(&one["name"]))
        .collect();
    assert!(
        names.contains(&"changes.patch") && names.contains(&"changed-files.json"),
        "{names:?}"
    );
    // The clone is clean, the patch applies, and what was asked for holds: the test passes.
    reader
        .types(&format!(
            "set -e; curl -sf $POND/v1/runs/{id}/artifacts/changes.patch -H \"$H\" -o changes.patch
             git clone -q {url} clone; cd clone; ! sh test.sh; git apply ../changes.patch; sh test.sh"
        ))
        .await;
    let changed = reader
        .reads(&format!("/v1/runs/{id}/artifacts/changed-files.json"))
        .await;
    assert_eq!(changed["files"].as_array().unwrap().len(), 1, "{changed}");
    has(
        &changed["files"][0],
        &json!({"path": "src/sum.sh", "additions": 1, "deletions": 1}),
    );
    let lines = reader.fleet.lines(id, "fix").await;
    assert!(lines.iter().any(|line| line.contains("all tests pass")), "{lines:#?}");
    // The bill is the provider's.
    let (usage, bill) = (reader.reads(&format!("/v1/runs/{id}/usage")).await, reader.model.bill());
    has(
        &usage["totals"],
        &json!({"calls": bill.calls, "output_tokens": bill.output, "input_tokens": bill.input}),
    );
    // What the provider got came from the broker: the real key, which nobody else ever saw.
    assert!(!said().contains(reader.model.key()) && !reader.fleet.server.said().contains(reader.model.key()));
}
