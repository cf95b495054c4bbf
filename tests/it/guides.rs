//! Both guides, request by request, as their readers type them: `curl` against a server on PostgreSQL, an orchestrator and
//! workers as processes of their own. Only hosts, ids and tokens are other than in the guides.

use std::path::Path;
use std::time::Duration;

use pond_server::demo::{Sample, ScriptedModel, fixing_script};
use pond_tests::fleet::{Fleet, Program, text};
use pond_tests::process::{bare, eventually, free_port, program};
use pond_tests::server::TOKEN;
use pond_worker::net::testing::{GitBehaviour, GitServer};
use serde_json::{Value, json};

/// A project that the server has not seen.
const PROJECT: &str = "0197a000-0000-7000-8000-00000000abcd";
const JSON: &str = "-H 'content-type: application/json'";

/// A reader of the guides: a shell, a fresh server, and what stands for the places that the guides name.
struct Reader {
    fleet: Fleet,
    /// Stands for the provider of the model.
    model: ScriptedModel,
    /// Stands for the host of the code.
    git: GitServer,
    sample: Sample,
    _sources: tempfile::TempDir,
}

impl Reader {
    async fn new() -> Self {
        let sources = tempfile::tempdir().unwrap();
        let sample = Sample::write(&sources.path().join("app")).unwrap();
        let git = GitServer::start(sources.path(), GitBehaviour::default()).await;
        let allow = format!("git={}", git.address());
        Self {
            fleet: Fleet::start(&[("POND_OUTBOUND_ALLOW_PRIVATE", &allow)]).await,
            model: ScriptedModel::start(fixing_script()).await.unwrap(),
            git,
            sample,
            _sources: sources,
        }
    }

    /// Types into a shell in which the variables of the guides are set; what it prints.
    async fn types(&self, script: &str) -> String {
        let head = format!(
            "POND={}\nPOND_SERVICE_TOKEN={TOKEN}\nTOKEN=$POND_SERVICE_TOKEN\nH=\"Authorization: Bearer $POND_SERVICE_TOKEN\"\n",
            self.fleet.url
        );
        let mut command = bare(Path::new("/bin/bash"), self.fleet.folder.path());
        command.args(["-c", &format!("{head}{script}")]);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{script}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Types one `curl`; its status and body, null where that is no JSON.
    async fn curls(&self, script: &str) -> (u16, Value) {
        let with_status = "curl() { command curl -w '\\n%{http_code}' \"$@\"; }\n";
        let printed = self.types(&format!("{with_status}{script}")).await;
        let (body, status) = printed.rsplit_once('\n').unwrap();
        (
            status.parse().unwrap(),
            serde_json::from_str(body).unwrap_or(Value::Null),
        )
    }

    /// Types one `curl` that must be answered with `status`; the body.
    async fn gets(&self, status: u16, script: &str) -> Value {
        let (answered, body) = self.curls(script).await;
        assert_eq!(answered, status, "{script}: {body:#}");
        body
    }

    /// The service token on a path.
    async fn reads(&self, path: &str) -> Value {
        self.gets(200, &format!("curl -s \"$POND{path}\" -H \"$H\"")).await
    }
}

/// That `found` has each field of `expected`, with its value.
#[track_caller]
fn has(found: &Value, expected: &Value) {
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&found[name], value, "{name} of {found:#}");
    }
}

/// That an object has fields of these names, none of them null.
#[track_caller]
fn tells(found: &Value, names: &[&str]) {
    for name in names {
        assert!(
            found.get(name).is_some_and(|value| !value.is_null()),
            "{name} of {found:#}"
        );
    }
}

/// "Authenticating".
async fn authenticating(reader: &Reader) {
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
async fn the_example(reader: &Reader) {
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
async fn submitting_and_tracking(reader: &Reader) {
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
async fn cancelling(reader: &Reader) {
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
async fn preflight(reader: &Reader) {
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

/// Steps 1 to 3 of the operator guide. Each is applied twice: the second time changes nothing.
async fn register(reader: &Reader) {
    let (base, key) = (reader.model.base_url(), reader.model.key());
    let steps = [
        (
            "credentials",
            format!(
                r#"{{
  "name": "anthropic", "provider": "anthropic",
  "env": {{"ANTHROPIC_BASE_URL": "{base}"}},
  "secrets": {{"ANTHROPIC_API_KEY": "{key}"}}
}}"#
            ),
            json!({"name": "anthropic", "provider": "anthropic", "env": {"ANTHROPIC_BASE_URL": base},
                "secret_keys": ["ANTHROPIC_API_KEY"], "scope": "org"}),
        ),
        (
            "harnesses",
            r#"{
  "key": "codex", "label": "Codex", "capability": "harness.codex",
  "command_template": ["codex", "-m", "{{MODEL}}", "exec", "-"],
  "files": [{"path": ".codex/config.toml", "content": "model=\"{{MODEL}}\"\nbase_url=\"{{BROKER_URL}}\""}]
}"#
            .to_owned(),
            json!({"key": "codex", "label": "Codex", "capability": "harness.codex", "scope": "org",
                "command_template": ["codex", "-m", "{{MODEL}}", "exec", "-"],
                "files": [{"path": ".codex/config.toml",
                    "content": "model=\"{{MODEL}}\"\nbase_url=\"{{BROKER_URL}}\""}]}),
        ),
        (
            "models",
            r#"{
  "key": "sonnet", "label": "Sonnet", "provider": "anthropic",
  "model_id": "claude-sonnet-4-6", "credential_name": "anthropic",
  "input_cost_per_mtok": 3.0, "output_cost_per_mtok": 15.0
}"#
            .to_owned(),
            json!({"key": "sonnet", "label": "Sonnet", "provider": "anthropic", "model_id": "claude-sonnet-4-6",
                "credential_name": "anthropic", "scope": "org"}),
        ),
    ];
    for (what, body, expected) in steps {
        let script = format!("curl -sX POST $POND/v1/admin/{what} -H \"$H\" {JSON} -d '{body}'");
        let made = reader.gets(201, &script).await;
        has(&made, &expected);
        assert!(!made.to_string().contains(key), "{made}");
        if what == "models" {
            assert_eq!(made["input_cost_per_mtok"].as_f64(), Some(3.0));
            assert_eq!(made["output_cost_per_mtok"].as_f64(), Some(15.0));
        }
        assert_eq!(
            reader.gets(200, &script).await,
            made,
            "the same config again changes nothing"
        );
    }
}

/// Step 4: an orchestrator, and workers behind it. The first is that of the guide; this host has neither `codex` nor docker, so
/// two more have what is here.
async fn attach(reader: &Reader) -> Vec<Program> {
    let pairing = reader
        .gets(
            201,
            r#"curl -sX POST $POND/v1/admin/pool/pairing-codes -H "$H" -d '{}'"#,
        )
        .await;
    tells(&pairing, &["code", "expires_at"]);
    let folder = |name: &str| {
        let folder = reader.fleet.folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        folder
    };
    let on_orch = folder("orch");
    let pair = [
        "swarm",
        "pair",
        "--pond",
        &reader.fleet.url,
        "--code",
        text(&pairing["code"]),
    ];
    let paired = bare(&program("pond"), &on_orch).args(pair).output().unwrap();
    assert!(paired.status.success(), "{}", String::from_utf8_lossy(&paired.stderr));
    let bind = format!("127.0.0.1:{}", free_port());
    let serve = ["pond", "swarm", "serve", "--bind", &bind, "--token", "POOL_SECRET"];
    let mut programs = vec![Program::new(&on_orch, "orchestrator", &serve).up()];
    let orchestrators = reader
        .gets(200, r#"curl -s $POND/v1/admin/pool/orchestrators -H "$H""#)
        .await;
    tells(&orchestrators[0], &["orch_id", "name", "status", "paired_at"]);
    let (orch, at) = (text(&orchestrators[0]["orch_id"]), format!("http://{bind}"));
    let kinds = [
        (
            "w1",
            vec!["pond", "swarm", "worker"],
            ["harness.codex", "sandbox.docker"],
        ),
        ("w2", vec!["pond", "worker"], ["harness.mini", "sandbox.bubblewrap"]),
        (
            "w3",
            vec!["pond-worker", "worker"],
            ["harness.mini", "sandbox.bubblewrap"],
        ),
    ];
    for (name, line, capabilities) in kinds {
        let enrollment = reader
            .gets(
                201,
                &format!(
                    r#"curl -sX POST $POND/v1/admin/pool/enrollment-codes -H "$H" -H 'content-type: application/json' -d '{{
  "orch_id": "{orch}", "suggested_name": "{name}",
  "tags": ["pool:trusted"], "capabilities": {}
}}'"#,
                    json!(capabilities)
                ),
            )
            .await;
        tells(&enrollment, &["code", "expires_at"]);
        let (code, flags) = (text(&enrollment["code"]), capabilities.join(","));
        let rest = [
            "--orchestrator",
            &at,
            "--enroll-code",
            code,
            "--tags",
            "pool:trusted",
            "--capabilities",
            &flags,
        ];
        let worker = Program::new(&folder(name), name, &[&line[..], &rest].concat());
        programs.push(
            worker
                .with("POND_MODEL_ALLOW_PRIVATE", &reader.model.addr.to_string())
                .up(),
        );
    }
    let workers = reader.gets(200, r#"curl -s $POND/v1/admin/pool/workers -H "$H""#).await;
    for (name, _, capabilities) in [
        ("w1", (), json!([])),
        ("w2", (), json!(["harness.mini", "sandbox.bubblewrap"])),
    ] {
        let worker = workers.as_array().unwrap().iter().find(|worker| worker["name"] == name);
        let worker = worker.unwrap_or_else(|| panic!("{workers:#}"));
        has(
            worker,
            &json!({"orch_id": orch, "tags": ["pool:trusted"], "capabilities": capabilities, "running": 0}),
        );
        tells(
            worker,
            &[
                "worker_id",
                "status",
                "fingerprint",
                "concurrency",
                "version",
                "last_seen_at",
            ],
        );
        let withheld = worker["capability_problems"].as_object().unwrap().len();
        assert_eq!(withheld, if name == "w1" { 2 } else { 0 }, "{worker:#}");
    }
    programs
}

/// "Managing config", "Egress allowlist" and "Scope".
async fn managing(reader: &Reader) {
    for (list, plural, name) in [
        ("credentials", "credentials", "anthropic"),
        ("harnesses", "harnesses", "codex"),
        ("models", "models", "sonnet"),
    ] {
        let listed = reader.reads(&format!("/v1/admin/{list}")).await;
        let one = reader.reads(&format!("/v1/admin/{list}/{name}")).await;
        assert_eq!(listed[plural], json!([one]));
        assert!(!listed.to_string().contains(reader.model.key()));
    }
    let post = |what: &str, body: Value| format!("curl -sX POST $POND/v1/admin/{what} -H \"$H\" {JSON} -d '{body}'");
    let delete = |path: &str| format!("curl -sX DELETE \"$POND/v1/admin/{path}\" -H \"$H\"");
    for (what, plural, name, key, own, shared) in [
        (
            "variables",
            "variables",
            "LEVEL",
            "name",
            json!({"value": "own"}),
            json!({"value": "org"}),
        ),
        (
            "egress",
            "rules",
            ".example.com",
            "host",
            json!({"action": "deny"}),
            json!({"action": "allow"}),
        ),
    ] {
        let with = |fields: &Value, project: Option<&str>| {
            let mut body = fields.clone();
            body[key] = json!(name);
            if let Some(project) = project {
                body["project_id"] = json!(project);
            }
            post(what, body)
        };
        has(&reader.gets(201, &with(&shared, None)).await, &json!({"scope": "org"}));
        reader.gets(200, &with(&shared, None)).await;
        let scoped = reader.gets(201, &with(&own, Some(PROJECT))).await;
        has(&scoped, &json!({"scope": "project", "project_id": PROJECT}));
        // The project's entry shadows the org's, for that project alone.
        has(
            &reader
                .reads(&format!("/v1/admin/{what}/{name}?project_id={PROJECT}"))
                .await,
            &own,
        );
        has(&reader.reads(&format!("/v1/admin/{what}/{name}")).await, &shared);
        let listed = reader.reads(&format!("/v1/admin/{what}?project_id={PROJECT}")).await;
        assert_eq!(listed[plural], json!([scoped]));
        // Deleted, the project falls back to the org's.
        reader
            .gets(204, &delete(&format!("{what}/{name}?project_id={PROJECT}")))
            .await;
        has(
            &reader
                .reads(&format!("/v1/admin/{what}/{name}?project_id={PROJECT}"))
                .await,
            &shared,
        );
        reader
            .gets(404, &delete(&format!("{what}/{name}?project_id={PROJECT}")))
            .await;
        reader.gets(204, &delete(&format!("{what}/{name}"))).await;
        assert_eq!(reader.reads(&format!("/v1/admin/{what}")).await[plural], json!([]));
    }
    let in_use = reader.gets(409, &delete("credentials/anthropic")).await;
    has(
        &in_use,
        &json!({"code": "in_use", "users": [{"kind": "model", "key": "sonnet", "project_id": null}]}),
    );
    for path in ["models/sonnet", "credentials/anthropic", "harnesses/codex"] {
        reader.gets(204, &delete(path)).await;
    }
}

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
    assert!(eventually(Duration::from_secs(1), || !reader
        .model
        .requests()
        .is_empty()));
}
