//! Calls: what is sent, what is tried again, what an error tells.

use std::time::Duration;

use futures::TryStreamExt;
use pond_sdk::api::{CreateProject, CreateRun, Definition, Executor, PutCredential, RunStatus, StageDefinition};
use pond_sdk::{ArtifactPlace, Client, Error, RetryPolicy, RunFilter, Secret, Selection};
use serde_json::json;
use wiremock::matchers::{body_json, header, header_exists, method, path, query_param, query_param_is_missing};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::samples::{RUN, run};

fn client(server: &MockServer) -> Client {
    let retry = RetryPolicy {
        base: Duration::from_millis(1),
        ..RetryPolicy::default()
    };
    Client::builder(server.uri())
        .token(Secret::new("t0ken"))
        .retry(retry)
        .build()
        .expect("a client")
}

fn noop() -> CreateRun {
    CreateRun::new(Definition::new([StageDefinition::new("x", Executor::noop())]))
}

#[tokio::test]
async fn a_create_is_sent_once_more_with_the_same_key() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path("/v1/runs"))
        .respond_with(
            ResponseTemplate::new(503)
                .insert_header("retry-after", "0")
                .set_body_json(json!({"status": 503, "code": "starting", "detail": "not yet"})),
        )
        .up_to_n_times(2)
        .mount(&server)
        .await;
    Mock::given(method("POST"))
        .and(path("/v1/runs"))
        .and(header("authorization", "Bearer t0ken"))
        .and(header_exists("idempotency-key"))
        .and(body_json(
            json!({"definition": {"stages": [{"key": "x", "name": "x", "executor": {"kind": "noop"}}]}}),
        ))
        .respond_with(ResponseTemplate::new(201).set_body_json(run("queued")))
        .expect(1)
        .mount(&server)
        .await;
    let created = client(&server).runs().create(&noop()).await.expect("created");
    assert_eq!((created.id.as_str(), created.status), (RUN, RunStatus::Queued));
    let requests = server.received_requests().await.expect("recorded");
    let keys: Vec<_> = requests
        .iter()
        .map(|request| request.headers.get("idempotency-key").cloned())
        .collect();
    assert!(
        keys.len() == 3 && keys.iter().all(|key| *key == keys[0] && key.is_some()),
        "{keys:?}"
    );
}

#[tokio::test]
async fn a_create_whose_answer_was_lost_is_sent_again_under_its_key() {
    let under_way = json!({"status": 409, "code": "idempotency_in_flight", "request_id": "r1"});
    for (status, body) in [(502, json!({})), (504, json!({})), (409, under_way)] {
        let server = MockServer::start().await;
        Mock::given(method("POST"))
            .respond_with(
                ResponseTemplate::new(status)
                    .insert_header("retry-after", "0")
                    .set_body_json(body),
            )
            .up_to_n_times(1)
            .mount(&server)
            .await;
        Mock::given(method("POST"))
            .respond_with(ResponseTemplate::new(201).set_body_json(run("queued")))
            .expect(1)
            .mount(&server)
            .await;
        assert_eq!(client(&server).runs().retry(RUN).await.expect("created").id, RUN);
        let requests = server.received_requests().await.expect("recorded");
        let key = |place: usize| requests[place].headers.get("idempotency-key").cloned().expect("a key");
        assert_eq!((requests.len(), key(0)), (2, key(1)), "{status}");
    }
    // A removal is answered otherwise the second time: that one is the caller's to decide.
    let server = crate::scripted::Scripted::play(vec![Vec::new(), Vec::new()]).await;
    let client = Client::builder(server.url.clone()).token(Secret::new("t0ken"));
    let client = client.build().expect("a client");
    let error = client.keys().revoke(RUN).await.expect_err("lost");
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_long_wait_is_the_callers_to_decide() {
    let server = MockServer::start().await;
    let busy = json!({"status": 429, "code": "queue_full", "detail": "too many runs wait", "request_id": "r1"});
    Mock::given(method("POST"))
        .respond_with(
            ResponseTemplate::new(429)
                .insert_header("retry-after", "60")
                .set_body_json(busy),
        )
        .expect(1)
        .mount(&server)
        .await;
    let error = client(&server).runs().create(&noop()).await.expect_err("full");
    let refusal = error.refusal().expect("an answer");
    assert_eq!(
        (refusal.status, refusal.retry_after),
        (429, Some(Duration::from_secs(60)))
    );
    assert_eq!(
        (refusal.problem.code.as_str(), refusal.problem.request_id.as_str()),
        ("queue_full", "r1")
    );
}

#[tokio::test]
async fn other_errors_are_not_tried_again() {
    for status in [400, 401, 403, 404, 409, 422, 500] {
        let server = MockServer::start().await;
        Mock::given(method("GET"))
            .respond_with(ResponseTemplate::new(status))
            .expect(1)
            .mount(&server)
            .await;
        let error = client(&server).runs().get(RUN).await.expect_err("an error");
        assert_eq!(error.status(), Some(status));
        assert_eq!(
            error.code(),
            Some(&*format!("http_{status}")),
            "an answer without a body has a code too"
        );
    }
}

#[tokio::test]
async fn a_removal_whose_answer_is_lost_is_not_tried_again() {
    let server = MockServer::start().await;
    Mock::given(method("DELETE"))
        .respond_with(ResponseTemplate::new(502))
        .expect(1)
        .mount(&server)
        .await;
    let error = client(&server).models().delete("m", None).await.expect_err("lost");
    assert_eq!(error.status(), Some(502));
    let server = MockServer::start().await;
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(502))
        .expect(4)
        .mount(&server)
        .await;
    assert!(client(&server).runs().get(RUN).await.is_err());
}

#[tokio::test]
async fn a_refusal_tells_all_that_the_server_told() {
    let server = MockServer::start().await;
    let body = json!({
        "type": "urn:pond:problem:preflight_failed", "title": "preflight failed", "status": 422,
        "detail": "preflight found errors", "code": "preflight_failed", "request_id": "r9", "later": [1],
        "errors": [{"pointer": "/definition/edges/2/to", "message": "no such stage"}],
        "problems": [{"stage": "fix", "severity": "error", "code": "sandbox_invalid", "message": "m", "fix": "f", "new": 1}],
    });
    Mock::given(method("POST"))
        .respond_with(ResponseTemplate::new(422).set_body_json(body))
        .mount(&server)
        .await;
    let error = client(&server).runs().create(&noop()).await.expect_err("refused");
    let problem = &error.refusal().expect("an answer").problem;
    assert_eq!(problem.errors[0].pointer, "/definition/edges/2/to");
    assert_eq!(
        (problem.problems[0].code.as_str(), problem.problems[0].fix.as_str()),
        ("sandbox_invalid", "f")
    );
    assert_eq!(error.to_string(), "preflight found errors (422 preflight_failed)");
}

#[tokio::test]
async fn nobody_there_is_unreachable_and_names_the_place_but_not_the_token() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let origin = format!("http://{}", listener.local_addr().expect("bound"));
    drop(listener);
    let retry = RetryPolicy::none();
    let client = Client::builder(&origin)
        .token(Secret::new("t0ken"))
        .retry(retry)
        .build()
        .expect("a client");
    let error = client.whoami().await.expect_err("nobody there");
    let Error::Unreachable { origin: told, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(*told, origin);
    assert!(!format!("{error} {error:?}").contains("t0ken"));
}

#[tokio::test]
async fn another_kind_of_server_is_told_apart() {
    let server = MockServer::start().await;
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(200).set_body_string("<html>"))
        .mount(&server)
        .await;
    assert!(matches!(client(&server).whoami().await, Err(Error::Decode { .. })));
}

#[tokio::test]
async fn a_redirect_is_not_followed_with_the_token() {
    let other = MockServer::start().await;
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(200))
        .expect(0)
        .mount(&other)
        .await;
    let server = MockServer::start().await;
    let redirect = ResponseTemplate::new(307).insert_header("location", other.uri());
    Mock::given(method("GET")).respond_with(redirect).mount(&server).await;
    assert_eq!(
        client(&server).whoami().await.expect_err("a redirect").status(),
        Some(307)
    );
}

#[tokio::test]
async fn lists_go_on_across_pages() {
    let server = MockServer::start().await;
    let page = |runs: serde_json::Value, next: Option<&str>| {
        ResponseTemplate::new(200).set_body_json(json!({"runs": runs, "nextCursor": next}))
    };
    Mock::given(path("/v1/runs"))
        .and(query_param("status", "done,failed"))
        .and(query_param("projectId", "p&q"))
        .and(query_param_is_missing("cursor"))
        .respond_with(page(json!([run("done"), run("failed")]), Some("c 1")))
        .expect(1)
        .mount(&server)
        .await;
    Mock::given(path("/v1/runs"))
        .and(query_param("cursor", "c 1"))
        .respond_with(page(json!([run("done")]), None))
        .expect(1)
        .mount(&server)
        .await;
    let filter = RunFilter {
        project_id: Some("p&q".into()),
        statuses: vec![RunStatus::Done, RunStatus::Failed],
        ..RunFilter::default()
    };
    let runs: Vec<_> = client(&server)
        .runs()
        .list(filter)
        .try_collect()
        .await
        .expect("two pages");
    assert_eq!(runs.len(), 3);
}

#[tokio::test]
async fn a_list_in_circles_ends_with_an_error() {
    let server = MockServer::start().await;
    let page = json!({"runs": [], "nextCursor": "c"});
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(200).set_body_json(page))
        .expect(2)
        .mount(&server)
        .await;
    let runs: Result<Vec<_>, _> = client(&server).runs().list(RunFilter::default()).try_collect().await;
    assert!(matches!(runs, Err(Error::Decode { .. })));
}

#[tokio::test]
async fn names_in_paths_are_encoded() {
    let server = MockServer::start().await;
    Mock::given(method("DELETE"))
        .respond_with(ResponseTemplate::new(204))
        .expect(1)
        .mount(&server)
        .await;
    client(&server)
        .credentials()
        .delete("a/../b?c", Some("p"))
        .await
        .expect("deleted");
    let requests = server.received_requests().await.expect("recorded");
    assert_eq!(requests[0].url.path(), "/v1/admin/credentials/a%2F..%2Fb%3Fc");
    assert_eq!(requests[0].url.query(), Some("project_id=p"));
}

#[tokio::test]
async fn secrets_go_out_once_and_show_nowhere_else() {
    let server = MockServer::start().await;
    let put = PutCredential {
        name: "anthropic".into(),
        provider: "anthropic".into(),
        secrets: Some([("ANTHROPIC_API_KEY".to_owned(), Secret::new("sk-canary"))].into()),
        ..PutCredential::default()
    };
    assert!(!format!("{put:?}").contains("sk-canary"));
    Mock::given(path("/v1/admin/credentials"))
        .and(body_json(json!({
            "name": "anthropic", "provider": "anthropic", "secrets": {"ANTHROPIC_API_KEY": "sk-canary"},
        })))
        .respond_with(ResponseTemplate::new(201).set_body_json(json!({
            "name": "anthropic", "provider": "anthropic", "env": {}, "secret_keys": ["ANTHROPIC_API_KEY"], "hosts": [],
            "buckets": [], "remote_features": [], "scope": "org", "project_id": null,
            "updated_at": "2030-01-01T00:00:00.000Z",
        })))
        .expect(1)
        .mount(&server)
        .await;
    let credential = client(&server).credentials().put(&put).await.expect("stored");
    assert_eq!(credential.secret_keys, ["ANTHROPIC_API_KEY"]);
}

#[tokio::test]
async fn selections_and_projects_are_as_the_contract_says() {
    let server = MockServer::start().await;
    let none = || ResponseTemplate::new(200).set_body_json(json!({"variables": [], "next_cursor": null}));
    let variables = "/v1/admin/variables";
    Mock::given(path(variables))
        .and(query_param("scope", "all"))
        .respond_with(none())
        .expect(1)
        .mount(&server)
        .await;
    Mock::given(path(variables))
        .and(query_param("project_id", "p"))
        .respond_with(none())
        .expect(1)
        .mount(&server)
        .await;
    for selection in [Selection::All, Selection::Project("p".into())] {
        let found: Vec<_> = client(&server)
            .variables()
            .list(&selection)
            .try_collect()
            .await
            .expect("a list");
        assert_eq!(found.len(), 0);
    }
    let project = json!({"id": "i", "slug": "s", "name": "n", "created_at": "2030-01-01T00:00:00.000Z"});
    Mock::given(path("/v1/admin/projects"))
        .and(body_json(json!({"slug": "s", "name": "n"})))
        .respond_with(ResponseTemplate::new(201).set_body_json(project))
        .mount(&server)
        .await;
    let new = CreateProject {
        slug: "s".into(),
        name: "n".into(),
        id: None,
    };
    assert_eq!(client(&server).projects().create(&new).await.expect("created").id, "i");
}

#[tokio::test]
async fn a_download_brings_the_bytes() {
    let server = MockServer::start().await;
    Mock::given(path(format!("/v1/runs/{RUN}/artifacts/changes.patch")))
        .and(query_param("stage", "fix"))
        .respond_with(
            ResponseTemplate::new(200)
                .insert_header("etag", "\"abc\"")
                .set_body_bytes(vec![7_u8; 100_000]),
        )
        .mount(&server)
        .await;
    let place = ArtifactPlace {
        stage: Some("fix".into()),
        substage: None,
    };
    let download = client(&server)
        .runs()
        .download(RUN, "changes.patch", &place)
        .await
        .expect("bytes");
    assert_eq!(
        (download.sha256.as_deref(), download.size),
        (Some("abc"), Some(100_000))
    );
    let bytes: Vec<_> = download.bytes.try_collect().await.expect("all of them");
    assert_eq!(bytes.concat(), vec![7; 100_000]);
}
