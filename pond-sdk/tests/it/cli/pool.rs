//! `pond pool`.

use pond_sdk::cli::Exit;
use serde_json::{Value, json};
use wiremock::matchers::{body_json, method, path, query_param, query_param_is_missing};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{Call, answering, problem};

const WORKER: &str = "0190a5c8-0000-7000-8000-0000000000a1";
const ORCHESTRATOR: &str = "0190a5c8-0000-7000-8000-0000000000b1";

fn worker(id: &str, status: &str) -> Value {
    json!({
        "worker_id": id, "orch_id": ORCHESTRATOR, "name": "w1", "status": status, "tags": ["pool:trusted"],
        "capabilities": ["harness.shell"], "capability_problems": {"sandbox.docker": "no socket"},
        "fingerprint": "SHA256:x", "running": 1, "concurrency": 4, "version": "9.9",
        "last_seen_at": "2030-01-01T00:00:00.000Z",
    })
}

fn orchestrator(id: &str, embedded: bool) -> Value {
    let paired = (!embedded).then_some("2030-01-01T00:00:00.000Z");
    json!({"orch_id": id, "name": "o", "status": "online", "paired_at": paired, "last_seen_at": null, "embedded": embedded})
}

fn code() -> Value {
    json!({"code": "pond_xc_1.ab", "expires_at": "2030-01-01T00:15:00.000Z"})
}

/// A server that mints a code for this body.
async fn minting(at: &str, body: Value) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path(format!("/v1/admin/pool/{at}")))
        .and(body_json(body))
        .respond_with(ResponseTemplate::new(201).set_body_json(code()))
        .mount(&server)
        .await;
    server
}

#[tokio::test]
async fn codes_are_printed_alone() {
    let server = minting("pairing-codes", json!({})).await;
    let outcome = Call::new(&server.uri()).run(&["pool", "pairing-code"]).await;
    assert_eq!(outcome.check(Exit::Ok).out, "pond_xc_1.ab\n");
    assert!(outcome.err.contains("2030-01-01T00:15:00.000Z"), "{}", outcome.err);
    let server = minting("pairing-codes", json!({"name": "eu"})).await;
    let words = ["pool", "pairing-code", "--name", "eu", "--json"];
    assert_eq!(
        Call::new(&server.uri()).run(&words).await.check(Exit::Ok).json(),
        code()
    );

    let wanted = json!({
        "orch_id": ORCHESTRATOR, "suggested_name": "w1", "tags": ["pool:trusted", "region:eu"],
        "capabilities": ["harness.codex", "sandbox.docker"], "expected_fingerprint": "SHA256:x",
    });
    let server = minting("enrollment-codes", wanted).await;
    let flags = [
        "--name",
        "w1",
        "--tags",
        "pool:trusted,region:eu",
        "--capabilities",
        "harness.codex,sandbox.docker",
        "--expected-fingerprint",
        "SHA256:x",
    ];
    let words = [&["pool", "enroll-code", "--orchestrator", ORCHESTRATOR][..], &flags].concat();
    let outcome = Call::new(&server.uri()).run(&words).await;
    assert_eq!(outcome.check(Exit::Ok).out, "pond_xc_1.ab\n");
}

#[tokio::test]
async fn an_enrolment_code_is_for_the_only_orchestrator_unless_one_is_named() {
    let other = ORCHESTRATOR.replace("b1", "b2");
    for (listed, exit, told) in [
        (
            vec![orchestrator(&other, true), orchestrator(ORCHESTRATOR, false)],
            Exit::Ok,
            "",
        ),
        (vec![orchestrator(&other, true)], Exit::NotFound, "pairing-code"),
        (
            vec![orchestrator(&other, false), orchestrator(ORCHESTRATOR, false)],
            Exit::Usage,
            "--orchestrator",
        ),
    ] {
        let server = minting("enrollment-codes", json!({"orch_id": ORCHESTRATOR})).await;
        Mock::given(method("GET"))
            .and(path("/v1/admin/pool/orchestrators"))
            .respond_with(ResponseTemplate::new(200).set_body_json(listed))
            .mount(&server)
            .await;
        let outcome = Call::new(&server.uri()).run(&["pool", "enroll-code"]).await;
        assert!(outcome.check(exit).err.contains(told), "{}", outcome.err);
    }
}

#[tokio::test]
async fn lists_go_on_over_their_link_and_to_no_other_place() {
    let server = MockServer::start().await;
    let list = || Mock::given(method("GET")).and(path("/v1/admin/pool/workers"));
    let link = "<http://127.0.0.9:1/v1/elsewhere?limit=1&cursor=two>; rel=\"next\"";
    let first = ResponseTemplate::new(200).insert_header("link", link);
    list()
        .and(query_param_is_missing("cursor"))
        .respond_with(first.set_body_json([worker(WORKER, "online")]))
        .expect(2)
        .mount(&server)
        .await;
    let second = WORKER.replace("a1", "a2");
    list()
        .and(query_param("cursor", "two"))
        .respond_with(ResponseTemplate::new(200).set_body_json([worker(&second, "draining")]))
        .expect(2)
        .mount(&server)
        .await;
    let table = Call::new(&server.uri()).run(&["pool", "workers"]).await;
    let lines: Vec<&str> = table.check(Exit::Ok).out.lines().collect();
    assert_eq!(lines.len(), 3, "{}", table.out);
    assert!(lines[0].starts_with("ID") && lines[1].contains(WORKER) && lines[2].contains("draining"));
    assert!(
        lines[1].contains("1/4") && lines[1].contains("sandbox.docker"),
        "{}",
        table.out
    );
    let machine = Call::new(&server.uri()).run(&["pool", "workers", "--json"]).await;
    let all = json!({"workers": [worker(WORKER, "online"), worker(&second, "draining")]});
    assert_eq!(machine.check(Exit::Ok).json(), all);

    let listed = json!([orchestrator(ORCHESTRATOR, false), orchestrator(WORKER, true)]);
    let server = answering("GET", "/v1/admin/pool/orchestrators", 200, listed.clone()).await;
    let table = Call::new(&server.uri()).run(&["pool", "orchestrators"]).await;
    assert!(table.check(Exit::Ok).out.contains("embedded"), "{}", table.out);
    let machine = Call::new(&server.uri()).run(&["pool", "orchestrators", "--json"]).await;
    assert_eq!(machine.check(Exit::Ok).json(), json!({"orchestrators": listed}));
}

#[tokio::test]
async fn workers_are_drained_let_back_and_revoked() {
    for (off, status) in [(false, "draining"), (true, "online")] {
        let server = MockServer::start().await;
        Mock::given(method("POST"))
            .and(path(format!("/v1/admin/pool/workers/{WORKER}/drain")))
            .and(body_json(json!({"drain": !off})))
            .respond_with(ResponseTemplate::new(200).set_body_json(worker(WORKER, status)))
            .expect(2)
            .mount(&server)
            .await;
        let words = [&["pool", "drain", WORKER][..], if off { &["--off"] } else { &[] }].concat();
        let table = Call::new(&server.uri()).run(&words).await;
        assert!(table.check(Exit::Ok).out.contains(status), "{}", table.out);
        let machine = Call::new(&server.uri()).run(&[&words[..], &["--json"]].concat()).await;
        assert_eq!(machine.check(Exit::Ok).json()["status"], status);
    }
    let server = answering("DELETE", &format!("/v1/admin/pool/workers/{WORKER}"), 204, Value::Null).await;
    let outcome = Call::new(&server.uri()).run(&["pool", "revoke", WORKER]).await;
    assert_eq!(outcome.check(Exit::Ok).out, format!("deleted worker {WORKER}\n"));
    let at = format!("/v1/admin/pool/orchestrators/{ORCHESTRATOR}");
    let server = answering("DELETE", &at, 204, Value::Null).await;
    let words = ["pool", "revoke", "--orchestrator", ORCHESTRATOR, "--json"];
    let outcome = Call::new(&server.uri()).run(&words).await;
    assert_eq!(outcome.check(Exit::Ok).json(), json!({"deleted": ORCHESTRATOR}));
}

#[tokio::test]
async fn what_is_no_id_is_told_before_anything_is_sent() {
    for (words, noun) in [
        (vec!["pool", "drain", "w1"], "a worker"),
        (vec!["pool", "revoke", "w1"], "a worker"),
        (vec!["pool", "revoke", "--orchestrator", "o1"], "an orchestrator"),
        (vec!["pool", "enroll-code", "--orchestrator", "o1"], "an orchestrator"),
    ] {
        let outcome = Call::new("http://127.0.0.1:9").run(&words).await;
        let told = &outcome.check(Exit::Usage).err;
        let list = format!("pond pool {}s", noun.split(' ').next_back().expect("a word"));
        assert!(
            told.contains(&format!("no id of {noun}")) && told.contains(&list),
            "{told}"
        );
    }
    let at = format!("/v1/admin/pool/workers/{WORKER}/drain");
    let server = answering("POST", &at, 404, problem(404, "not_found")).await;
    Call::new(&server.uri())
        .run(&["pool", "drain", WORKER])
        .await
        .check(Exit::NotFound);
}
