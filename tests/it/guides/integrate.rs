//! The integrate guide, section by section.

use std::time::Duration;

use pond_tests::fleet::text;
use serde_json::{Value, json};

use super::reader::{JSON, PROJECT, Reader, has, tells};

/// "Authenticating".
pub(super) async fn authenticating(reader: &Reader) {
    for header in [
        "",
        "-H 'Authorization: nonsense'",
        "-H 'Authorization: Basic eDp5'",
        "-H 'Authorization: Bearer'",
    ] {
        let refused = reader.gets(401, &format!("curl -s $POND/v1/runs {header}")).await;
        tells(&refused, &["title", "detail", "code", "request_id"]);
    }
    let key = format!(
        r#"curl -sX POST $POND/v1/keys -H "$H" {JSON} -d '{{"project_id": "{PROJECT}", "name": "app", "scopes": ["runs:write"]}}'"#
    );
    // The key's project has to be there: a submit of the service token makes it.
    let noop = json!({"projectId": PROJECT, "definition": {"stages": [{"key": "x", "name": "x", "executor": {"kind": "noop"}}]}});
    reader
        .gets(
            201,
            &format!("curl -sX POST $POND/v1/runs -H \"$H\" {JSON} -d '{noop}'"),
        )
        .await;
    let made = reader.gets(201, &key).await;
    has(
        &made,
        &json!({"project_id": PROJECT, "name": "app", "scopes": ["runs:write"]}),
    );
    let secret = text(&made["key"]).to_owned();
    assert!(secret.starts_with("pond_pk_"));
    let listed = reader.reads("/v1/keys").await;
    assert!(!listed.to_string().contains(&secret), "the plaintext is shown once");
    let mine = format!("-H 'Authorization: Bearer {secret}'");
    // The project is inferred from the key.
    let body = json!({"definition": {"stages": [{"key": "x", "name": "x", "executor": {"kind": "noop"}}]}});
    let run = reader
        .gets(201, &format!("curl -sX POST $POND/v1/runs {mine} {JSON} -d '{body}'"))
        .await;
    assert_eq!(run["projectId"], PROJECT);
    let denied = reader.gets(403, &format!("curl -s $POND/v1/keys {mine}")).await;
    has(&denied, &json!({"code": "missing_scope", "required_scopes": ["admin"]}));
    let id = text(&made["id"]);
    reader
        .gets(204, &format!("curl -sX DELETE $POND/v1/keys/{id} -H \"$H\""))
        .await;
    let mut answers = Vec::new();
    for token in [&secret, "pond_pk_unknown", "unknown"] {
        let mut refused = reader
            .gets(
                403,
                &format!("curl -s $POND/v1/runs -H 'Authorization: Bearer {token}'"),
            )
            .await;
        refused.as_object_mut().unwrap().remove("request_id");
        answers.push(refused);
    }
    assert!(
        answers.windows(2).all(|pair| pair[0] == pair[1]),
        "unknown and revoked look alike: {answers:#?}"
    );
}

/// "Example": the submit and the loop, word for word.
pub(super) async fn the_example(reader: &Reader) {
    let printed = reader
        .types(&format!(
            r#"RUN=$(curl -sX POST $POND/v1/runs -H "Authorization: Bearer $TOKEN" \
-H 'content-type: application/json' \
-d '{{"projectId":"{PROJECT}","definition":{{"stages":[{{"key":"x","name":"x","executor":{{"kind":"noop"}}}}]}}}}' \
| jq -r .id)
# poll
while :; do
s=$(curl -s $POND/v1/runs/$RUN -H "Authorization: Bearer $TOKEN" | jq -r .run.status)
echo "$s"; [ "$s" = done ] || [ "$s" = failed ] && break; sleep 1.5
done"#
        ))
        .await;
    assert_eq!(printed.lines().last(), Some("done"), "{printed}");
}

/// "Submitting a run": the whole body, with every spelling of its content type; then each call of "Tracking it".
pub(super) async fn submitting_and_tracking(reader: &Reader) {
    let body = json!({
        "projectId": PROJECT, "trigger": "api",
        "definition": {"stages": [
            {"key": "look", "name": "Look", "executor": {"kind": "builtin", "name": "file_inventory"}},
            {"key": "x", "name": "x", "executor": {"kind": "noop", "ticks": 3}}]},
        "sources": [{"label": "app", "kind": "git_https", "config": {"url": reader.git.url("app")}}],
        "sha": reader.sample.commit,
        "context": {"ticket": 7, "nested": {"a": [1.5, null]}},
    });
    let mut runs = Vec::new();
    // As JSON, as `curl -d` sends it by itself, and without any.
    for content_type in [JSON, "", "-H 'content-type:'"] {
        let run = reader
            .gets(
                201,
                &format!("curl -sX POST $POND/v1/runs -H \"$H\" {content_type} -d '{body}'"),
            )
            .await;
        has(
            &run,
            &json!({"projectId": PROJECT, "trigger": "api", "sha": reader.sample.commit, "context": body["context"],
            "definition": body["definition"], "error": null}),
        );
        tells(&run, &["id", "status", "createdAt", "definitionDigest"]);
        runs.push(text(&run["id"]).to_owned());
    }
    reader
        .gets(
            415,
            &format!("curl -sX POST $POND/v1/runs -H \"$H\" -H 'content-type: text/plain' -d '{body}'"),
        )
        .await;
    let id = &runs[1];
    // As a typical consumer does: status and new log lines until the run is terminal.
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    let run = loop {
        let run = reader.reads(&format!("/v1/runs/{id}")).await;
        let page = reader.reads(&format!("/v1/runs/{id}/logs?since={cursor}&limit=")).await;
        let lines = page["logs"].as_array().unwrap().clone();
        if let Some(last) = lines.last() {
            tells(last, &["id", "ts", "stream", "source", "line"]);
            assert_eq!(page["nextCursor"], last["id"]);
            cursor = last["id"].to_string();
        }
        let nothing_new = lines.is_empty();
        seen.extend(lines);
        if nothing_new && ["done", "failed", "cancelled"].contains(&text(&run["run"]["status"])) {
            break run;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert_eq!(run["run"]["status"], "done", "{run:#}");
    assert_eq!(run["run"]["sources"][0]["resolved"]["commit"], reader.sample.commit);
    assert_eq!(run["stages"][1]["progress"], json!({"done": 3, "total": 3}));
    assert_eq!(seen, reader.fleet.log(id).await, "no line is lost or repeated");
    let usage = reader.reads(&format!("/v1/runs/{id}/usage")).await;
    has(&usage["totals"], &json!({"calls": 0, "cost_usd": "0"}));
    assert!(usage["substages"].is_array(), "{usage}");
    let artifacts = reader.reads(&format!("/v1/runs/{id}/artifacts")).await;
    has(
        &artifacts["artifacts"][0],
        &json!({"name": "results.jsonl", "stage": "look"}),
    );
    let bytes = reader
        .types(&format!("curl -s $POND/v1/runs/{id}/artifacts/results.jsonl -H \"$H\""))
        .await;
    assert_eq!(artifacts["artifacts"][0]["size"], bytes.len());
    assert!(bytes.contains("src/sum.sh"), "{bytes}");
    // "You can't traverse out of the run's output directory."
    for name in ["..%2f..%2fserver%2flock", "../../../../etc/passwd", "%2fetc%2fpasswd"] {
        reader
            .gets(
                404,
                &format!("curl -s --path-as-is $POND/v1/runs/{id}/artifacts/{name} -H \"$H\""),
            )
            .await;
    }
    let all = reader.reads("/v1/runs?projectId=&status=&limit=").await;
    let of_project = reader
        .reads(&format!("/v1/runs?projectId={PROJECT}&status=&limit="))
        .await;
    assert_eq!(all["runs"], of_project["runs"], "there is one project with runs");
    let done = reader
        .reads(&format!("/v1/runs?projectId={PROJECT}&status=done&limit=1"))
        .await;
    assert_eq!(done["runs"].as_array().unwrap().len(), 1);
    assert!(done["nextCursor"].is_string());
}

/// "request cancellation".
pub(super) async fn cancelling(reader: &Reader) {
    let slow = json!({"definition": {"stages": [{"key": "x", "name": "x",
        "executor": {"kind": "noop", "ticks": 1000, "interval_sec": 1}}]}});
    let run = reader
        .gets(
            201,
            &format!("curl -sX POST $POND/v1/runs -H \"$H\" {JSON} -d '{slow}'"),
        )
        .await;
    let id = text(&run["id"]);
    let cancelled = reader
        .gets(202, &format!("curl -sX POST $POND/v1/runs/{id}/cancel -H \"$H\""))
        .await;
    tells(&cancelled, &["id", "cancelRequestedAt"]);
    assert_eq!(reader.fleet.ended(id).await["run"]["status"], "cancelled");
}

/// "Preflight", where nothing is set up yet.
pub(super) async fn preflight(reader: &Reader) {
    let before = reader.reads("/v1/runs").await;
    let fix = |sandbox: Value| {
        let mut executor = json!({"kind": "swarm", "harness": "codex", "prompt": "Find and fix the failing test."});
        if sandbox.is_object() {
            executor["sandbox"] = sandbox;
        }
        json!({"definition": {"stages": [{"key": "fix", "name": "Fix", "executor": executor}]}})
    };
    let find = |problems: &Value, code: &str| {
        let problems = problems.as_array().unwrap();
        problems
            .iter()
            .find(|problem| problem["code"] == code)
            .cloned()
            .unwrap_or_else(|| panic!("{problems:#?}"))
    };
    let doomed = fix(Value::Null);
    let told = reader
        .gets(
            200,
            &format!("curl -sX POST $POND/v1/runs/preflight -H \"$H\" {JSON} -d '{doomed}'"),
        )
        .await;
    assert_eq!(told["ok"], false);
    let problem = find(&told["problems"], "sandbox_invalid");
    has(&problem, &json!({"stage": "fix", "severity": "error"}));
    let message = text(&problem["message"]);
    assert!(
        message.starts_with("stage 'fix': stage declares no sandbox profile; "),
        "{message}"
    );
    let refused = reader
        .gets(
            422,
            &format!("curl -sX POST $POND/v1/runs -H \"$H\" {JSON} -d '{doomed}'"),
        )
        .await;
    assert_eq!(refused["code"], "preflight_failed");
    find(&refused["problems"], "sandbox_invalid");
    assert_eq!(reader.reads("/v1/runs").await, before, "neither makes a run");
    // Warnings don't block: they are written to the run's log.
    let early = fix(json!({"profile": "untrusted-code-write", "tier": "trusted"}));
    let told = reader
        .gets(
            200,
            &format!("curl -sX POST $POND/v1/runs/preflight -H \"$H\" -d '{early}'"),
        )
        .await;
    assert_eq!(told["ok"], true);
    has(
        &find(&told["problems"], "harness_unregistered"),
        &json!({"stage": "fix", "severity": "warning"}),
    );
    let problem = find(&told["problems"], "no_capable_worker");
    has(&problem, &json!({"stage": "fix", "severity": "warning"}));
    let message = text(&problem["message"]);
    assert!(
        message.starts_with("stage 'fix': no attached worker can serve it"),
        "{message}"
    );
    let run = reader
        .gets(201, &format!("curl -sX POST $POND/v1/runs -H \"$H\" -d '{early}'"))
        .await;
    let id = text(&run["id"]);
    let log = reader.reads(&format!("/v1/runs/{id}/logs")).await;
    let warned = |line: &Value| line["source"] == "preflight" && text(&line["line"]).contains(message);
    assert!(log["logs"].as_array().unwrap().iter().any(warned), "{log:#}");
    // It sits queued until there is a worker.
    has(
        &reader.reads(&format!("/v1/runs/{id}")).await["run"],
        &json!({"status": "queued"}),
    );
    reader
        .gets(202, &format!("curl -sX POST $POND/v1/runs/{id}/cancel -H \"$H\""))
        .await;
}
