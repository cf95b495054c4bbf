//! The nouns of configuration, and projects by their slug.

use pond_sdk::cli::Exit;
use serde_json::{Value, json};
use wiremock::matchers::{body_json, method, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{Call, answering};
use crate::samples::{RUN, run};

#[tokio::test]
async fn every_noun_reaches_its_route() {
    let entry = json!({
        "key": "k", "label": null, "capability": "harness.k", "command_template": ["a"], "files": [], "wire": null,
        "provider": "p", "model_id": "m", "credential_name": "c", "input_cost_per_mtok": 3.0,
        "output_cost_per_mtok": null, "cache_read_cost_per_mtok": null, "cache_write_cost_per_mtok": null,
        "name": "N", "value": "v", "scope": "org", "project_id": null, "updated_at": "2030-01-01T00:00:00.000Z",
        "id": "i", "slug": "s", "created_at": "2030-01-01T00:00:00.000Z", "host": ".example.com", "action": "allow",
    });
    for (words, route, body) in [
        (
            vec![
                "model",
                "create",
                "k",
                "--provider",
                "p",
                "--model-id",
                "m",
                "--credential",
                "c",
                "--input-cost",
                "3.0",
            ],
            "/v1/admin/models",
            json!({"key": "k", "provider": "p", "model_id": "m", "credential_name": "c", "input_cost_per_mtok": 3.0}),
        ),
        (
            vec!["harness", "create", "k", "--", "codex", "-m", "{{MODEL}}"],
            "/v1/admin/harnesses",
            json!({"key": "k", "command_template": ["codex", "-m", "{{MODEL}}"]}),
        ),
        (
            vec!["harness", "from-preset", "codex", "--key", "c"],
            "/v1/admin/harnesses/from-preset",
            json!({"preset": "codex", "key": "c"}),
        ),
        (
            vec!["egress", "set", ".example.com"],
            "/v1/admin/egress",
            json!({"host": ".example.com", "action": "allow", "upgrade": false}),
        ),
        (
            vec!["egress", "set", "x.test:8443", "--action", "deny", "--upgrade"],
            "/v1/admin/egress",
            json!({"host": "x.test:8443", "action": "deny", "upgrade": true}),
        ),
        (
            vec!["variable", "set", "N", "v"],
            "/v1/admin/variables",
            json!({"name": "N", "value": "v"}),
        ),
        (
            vec!["project", "create", "s"],
            "/v1/admin/projects",
            json!({"slug": "s", "name": "s"}),
        ),
    ] {
        let server = MockServer::start().await;
        Mock::given(method("POST"))
            .and(path(route))
            .and(body_json(body))
            .respond_with(ResponseTemplate::new(201).set_body_json(&entry))
            .expect(1)
            .mount(&server)
            .await;
        let words = [&words[..1], &["--json"], &words[1..]].concat();
        Call::new(&server.uri()).run(&words).await.check(Exit::Ok).json();
    }
    for noun in ["credential", "harness", "model", "variable"] {
        let plural = if noun == "harness" {
            "harnesses".to_owned()
        } else {
            format!("{noun}s")
        };
        let server = answering("DELETE", &format!("/v1/admin/{plural}/x"), 204, Value::Null).await;
        let outcome = Call::new(&server.uri()).run(&[noun, "delete", "x"]).await;
        assert_eq!(outcome.check(Exit::Ok).out, format!("deleted {noun} x\n"));
    }
}

#[tokio::test]
async fn a_project_may_be_named_by_its_slug() {
    let server = MockServer::start().await;
    let projects =
        json!({"projects": [{"id": "u1", "slug": "web", "name": "Web", "created_at": "t"}], "next_cursor": null});
    Mock::given(path("/v1/admin/projects"))
        .respond_with(ResponseTemplate::new(200).set_body_json(projects))
        .mount(&server)
        .await;
    Mock::given(path("/v1/runs"))
        .and(query_param("projectId", "u1"))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({"runs": [run("done")], "nextCursor": null})))
        .expect(1)
        .mount(&server)
        .await;
    let outcome = Call::new(&server.uri()).run(&["run", "list", "--project", "web"]).await;
    assert!(outcome.check(Exit::Ok).out.contains(RUN));
    let unknown = Call::new(&server.uri())
        .run(&["run", "list", "--project", "nope"])
        .await;
    assert!(unknown.check(Exit::NotFound).err.contains("nope"));
}
