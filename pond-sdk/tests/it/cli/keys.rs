//! `pond keys`.

use pond_sdk::cli::Exit;
use serde_json::json;
use wiremock::matchers::{body_json, method, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::Call;

#[tokio::test]
async fn a_key_is_printed_alone_once_and_revoked_by_its_id() {
    let record = json!({
        "id": "k1", "prefix": "pond_pk_0123abcd", "name": "ci", "project_id": "u1", "scopes": ["runs:write"],
        "created_at": "2030-01-01T00:00:00.000Z", "expires_at": "2031-01-01T00:00:00.000Z", "last_used_at": null,
    });
    let mut made = record.clone();
    made["key"] = "pond_pk_0123abcdef".into();
    let server = MockServer::start().await;
    let id = "0190a5c8-0000-7000-8000-0000000000aa";
    Mock::given(method("POST"))
        .and(path("/v1/keys"))
        .and(body_json(json!({
            "project_id": id, "name": "ci", "scopes": ["runs:write", "pods:read"], "expires_at": "2031-01-01T00:00:00Z",
        })))
        .respond_with(ResponseTemplate::new(201).set_body_json(made))
        .expect(2)
        .mount(&server)
        .await;
    Mock::given(method("GET"))
        .and(path("/v1/keys"))
        .and(query_param("project_id", id))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({"keys": [record], "next_cursor": null})))
        .expect(1)
        .mount(&server)
        .await;
    Mock::given(method("DELETE"))
        .and(path("/v1/keys/k1"))
        .respond_with(ResponseTemplate::new(204))
        .expect(1)
        .mount(&server)
        .await;
    let scopes = [
        "--scope",
        "runs:write,pods:read",
        "--expires-at",
        "2031-01-01T00:00:00Z",
        "--project",
        id,
    ];
    let create = [&["keys", "create", "ci"][..], &scopes].concat();
    let outcome = Call::new(&server.uri()).run(&create).await;
    assert_eq!(outcome.check(Exit::Ok).out, "pond_pk_0123abcdef\n");
    assert!(outcome.err.contains("k1"), "{}", outcome.err);
    let outcome = Call::new(&server.uri()).run(&[&create[..], &["--json"]].concat()).await;
    let printed = outcome.check(Exit::Ok).json();
    assert_eq!(
        (&printed["key"], &printed["id"]),
        (&json!("pond_pk_0123abcdef"), &json!("k1"))
    );
    let outcome = Call::new(&server.uri()).run(&["keys", "list", "--project", id]).await;
    let listed = &outcome.check(Exit::Ok).out;
    assert!(
        listed.contains("pond_pk_0123abcd") && listed.contains("runs:write"),
        "{listed}"
    );
    let revoked = Call::new(&server.uri()).run(&["keys", "revoke", "k1"]).await;
    assert_eq!(revoked.check(Exit::Ok).out, "deleted key k1\n");
}
