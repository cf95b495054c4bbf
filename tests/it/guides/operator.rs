//! The operator guide, step by step.

use pond_tests::fleet::{Program, text};
use pond_tests::process::{bare, free_port, program};
use serde_json::{Value, json};

use super::reader::{JSON, PROJECT, Reader, has, tells};

/// Steps 1 to 3 of the operator guide. Each is applied twice: the second time changes nothing.
pub(super) async fn register(reader: &Reader) {
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
pub(super) async fn attach(reader: &Reader) -> Vec<Program> {
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
pub(super) async fn managing(reader: &Reader) {
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
