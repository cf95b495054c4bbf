//! `pond run`.

use pond_sdk::cli::Exit;
use serde_json::{Value, json};
use wiremock::matchers::{body_json, body_partial_json, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{Call, answering, problem};
use crate::samples::{self, RUN, detail, ended, line, run};
use crate::scripted::{self, Scripted};

#[tokio::test]
async fn submit_makes_a_body_of_a_file_and_flags() {
    let folder = tempfile::tempdir().expect("a folder");
    let body = json!({"definition": {"stages": []}, "trigger": "nightly"});
    std::fs::write(folder.path().join("run.json"), body.to_string()).expect("written");
    let real = folder.path().canonicalize().expect("a real path");
    let name = real
        .file_name()
        .and_then(|name| name.to_str())
        .expect("a name")
        .trim_start_matches('.')
        .to_owned();
    let server = MockServer::start().await;
    Mock::given(path("/v1/runs"))
        .and(body_json(json!({
            "definition": {"stages": []}, "trigger": "nightly",
            "sources": [{"label": name, "kind": "folder", "config": {"path": real}}],
        })))
        .respond_with(ResponseTemplate::new(201).set_body_json(run("queued")))
        .expect(1)
        .mount(&server)
        .await;
    let call = Call::new(&server.uri()).cwd(folder.path());
    let outcome = call
        .run(&["run", "submit", "run.json", "--source", ".", "--json"])
        .await;
    assert_eq!(outcome.check(Exit::Ok).json()["id"], RUN);
    for (words, stdin) in [
        (vec!["run", "submit"], ""),
        (vec!["run", "submit", "none.json"], ""),
        (vec!["run", "submit", "-"], "not JSON"),
        (vec!["run", "preflight", "-"], "[]"),
    ] {
        let call = Call::new(&server.uri()).cwd(folder.path()).stdin(stdin);
        call.run(&words).await.check(Exit::Usage);
    }
}

#[tokio::test]
async fn submit_without_a_file_makes_one_stage_that_may_write() {
    let server = MockServer::start().await;
    let executor = json!({
        "kind": "swarm", "harness": "mini", "prompt": "go", "sandbox": {"profile": "untrusted-code-write"},
    });
    Mock::given(path("/v1/runs"))
        .and(body_json(json!({
            "definition": {"stages": [{"key": "fix", "name": "Fix", "executor": executor}]}, "trigger": "cli",
            "sources": [{"label": "app", "kind": "git_https", "config": {"url": "https://h/acme/app", "ref": "main"}}],
        })))
        .respond_with(ResponseTemplate::new(201).set_body_json(run("queued")))
        .expect(1)
        .mount(&server)
        .await;
    let words = [
        "run",
        "submit",
        "--prompt",
        "go",
        "--harness",
        "mini",
        "--source",
        "https://h/acme/app",
        "--ref",
        "main",
    ];
    Call::new(&server.uri()).run(&words).await.check(Exit::Ok);
}

#[tokio::test]
async fn a_refused_run_and_a_bad_preflight_show_problems_with_fixes() {
    let found = json!([{"stage": "fix", "severity": "error", "code": "sandbox_invalid",
                        "message": "stage 'fix': no profile", "fix": "set sandbox.profile"}]);
    let mut refused = problem(422, "preflight_failed");
    refused["problems"] = found.clone();
    let server = answering("POST", "/v1/runs", 422, refused).await;
    let outcome = Call::new(&server.uri()).run(&["run", "submit", "--prompt", "go"]).await;
    let expected = "error   sandbox_invalid: stage 'fix': no profile\n        fix: set sandbox.profile\n";
    assert!(outcome.check(Exit::Refused).err.contains(expected), "{}", outcome.err);
    let server = answering(
        "POST",
        "/v1/runs/preflight",
        200,
        json!({"ok": false, "problems": found}),
    )
    .await;
    let call = Call::new(&server.uri()).stdin("{\"definition\": {}}");
    let outcome = call.run(&["run", "preflight", "-"]).await;
    assert!(outcome.check(Exit::Failed).err.contains(expected));
    let server = answering("POST", "/v1/runs/preflight", 200, json!({"ok": true, "problems": []})).await;
    let call = Call::new(&server.uri()).stdin("{\"definition\": {}}");
    assert_eq!(
        call.run(&["run", "preflight", "-", "--json"])
            .await
            .check(Exit::Ok)
            .json()["ok"],
        true
    );
}

/// A server on which a run is submitted, logs these lines, and ends like this.
async fn waiting(status: &str, lines: &[&str]) -> MockServer {
    let server = MockServer::start().await;
    let mut events = String::new();
    for (id, text) in (1..).zip(lines) {
        events.push_str(&samples::sse(id, "log", &line(id, text)));
    }
    events.push_str(&samples::sse(99, "status", &ended(status)));
    let artifacts = json!({"artifacts": [{
        "name": "changes.patch", "stage": "fix", "substage": null, "size": 5, "sha256": "ab".repeat(32),
        "contentType": "text/plain", "redacted": false, "createdAt": "2030-01-01T00:00:00.000Z",
    }], "nextCursor": null});
    let ok = |body: &Value| ResponseTemplate::new(200).set_body_json(body);
    for (verb, at, answer) in [
        (
            "POST",
            String::new(),
            ResponseTemplate::new(201).set_body_json(run("queued")),
        ),
        ("GET", format!("/{RUN}"), ok(&detail(status))),
        (
            "GET",
            format!("/{RUN}/events"),
            ResponseTemplate::new(200).set_body_raw(events, "text/event-stream"),
        ),
        ("GET", format!("/{RUN}/usage"), ok(&samples::usage())),
        ("GET", format!("/{RUN}/artifacts"), ok(&artifacts)),
        (
            "GET",
            format!("/{RUN}/artifacts/changes.patch"),
            ResponseTemplate::new(200).set_body_bytes(b"patch"),
        ),
        (
            "POST",
            format!("/{RUN}/cancel"),
            ResponseTemplate::new(202).set_body_json(run("running")),
        ),
    ] {
        Mock::given(method(verb))
            .and(path(format!("/v1/runs{at}")))
            .respond_with(answer)
            .mount(&server)
            .await;
    }
    server
}

#[tokio::test]
async fn waiting_shows_log_end_artifacts_and_cost() {
    for (status, exit) in [
        ("done", Exit::Ok),
        ("failed", Exit::Failed),
        ("cancelled", Exit::Cancelled),
    ] {
        let server = waiting(status, &["hello", "bye"]).await;
        let outcome = Call::new(&server.uri())
            .run(&["run", "submit", "--prompt", "go", "--wait"])
            .await;
        outcome.check(exit);
        for part in [
            "fix | hello\nfix | bye\n",
            &format!(": {status}"),
            "changes.patch",
            "0.0012 USD for 2 calls",
        ] {
            assert!(outcome.out.contains(part), "{part:?} in {}", outcome.out);
        }
        let machine = Call::new(&server.uri())
            .run(&["run", "submit", "--prompt", "go", "--wait", "--json"])
            .await;
        let document = machine.check(exit).json();
        assert_eq!(
            (&document["run"]["status"], &document["usage"]["totals"]["calls"]),
            (&json!(status), &json!(2))
        );
    }
}

#[tokio::test]
async fn c17_96_a_terminal_is_not_played_with() {
    let nasty = "\u{1b}]0;title\u{7}\u{1b}[31mred\u{1b}]8;;http://x\u{7}\u{9b}2J";
    let shown = "fix | \\x1b]0;title\\x07\u{1b}[31mred\\x1b]8;;http://x\\x07\\x9b2J\u{1b}[0m\n";
    let server = waiting("done", &[nasty]).await;
    let wait = ["run", "submit", "--prompt", "go", "--wait"];
    let follow = ["run", "logs", RUN, "--follow"];
    for words in [&wait[..], &follow] {
        let safe = Call::new(&server.uri()).terminal().run(words).await;
        assert!(safe.check(Exit::Ok).out.contains(shown), "{:?}", safe.out);
        let raw = Call::new(&server.uri())
            .terminal()
            .run(&[words, &["--raw"]].concat())
            .await;
        assert!(raw.check(Exit::Ok).out.contains(nasty));
        let piped = Call::new(&server.uri()).run(words).await;
        assert!(piped.check(Exit::Ok).out.contains(nasty));
    }
    let other = Call::new(&server.uri())
        .run(&[&follow[..], &["--stage", "other"]].concat())
        .await;
    assert_eq!(other.check(Exit::Ok).out, "");
    let lines = format!("{}\n", line(1, nasty));
    let answer = || scripted::chunked("application/x-ndjson", &lines, true);
    let scripted = Scripted::play(vec![answer(), answer()]).await;
    let safe = Call::new(&scripted.url).terminal().run(&["run", "logs", RUN]).await;
    assert_eq!(safe.check(Exit::Ok).out, shown);
    let raw = Call::new(&scripted.url)
        .terminal()
        .run(&["run", "logs", RUN, "--raw"])
        .await;
    assert!(raw.check(Exit::Ok).out.contains(nasty));
}

#[tokio::test]
async fn ctrl_c_asks_at_a_terminal_and_cancels_without_one() {
    let cancelled = |requests: Vec<wiremock::Request>| requests.iter().any(|it| it.url.path().ends_with("/cancel"));
    for (terminal, stdin, interrupts, asked, exit) in [
        (true, "y\n", 1, true, Exit::Cancelled),
        (true, "\n", 1, false, Exit::Cancelled),
        (true, "", 2, false, Exit::Failed),
        (false, "", 1, true, Exit::Cancelled),
        (false, "", 2, true, Exit::Failed),
    ] {
        let server = waiting("cancelled", &["x"]).await;
        let mut call = Call::new(&server.uri()).stdin(stdin);
        call.interrupts = interrupts;
        let call = if terminal { call.terminal() } else { call };
        let outcome = call.run(&["run", "submit", "--prompt", "go", "--wait"]).await;
        outcome.check(exit);
        let requests = server.received_requests().await.expect("recorded");
        assert_eq!(cancelled(requests), asked, "{terminal} {stdin:?} {interrupts}");
        assert_eq!(outcome.err.contains("cancel run"), terminal, "{}", outcome.err);
    }
}

#[tokio::test]
async fn artifacts_are_fetched_below_their_stage() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = waiting("done", &[]).await;
    let outcome = Call::new(&server.uri())
        .cwd(folder.path())
        .run(&["run", "artifacts", RUN, "--out", "got"])
        .await;
    outcome.check(Exit::Ok);
    let got = folder.path().join("got/fix");
    assert_eq!(std::fs::read(got.join("changes.patch")).expect("fetched"), b"patch");
    assert_eq!(
        std::fs::read_dir(got).expect("a folder").count(),
        1,
        "nothing half-done is left"
    );
    let evil = json!({"artifacts": [{
        "name": "../../evil", "stage": "fix", "substage": null, "size": 5, "sha256": "", "contentType": "text/plain",
        "redacted": false, "createdAt": "t",
    }], "nextCursor": null});
    let server = answering("GET", &format!("/v1/runs/{RUN}/artifacts"), 200, evil).await;
    let call = Call::new(&server.uri()).cwd(folder.path());
    assert_ne!(
        call.run(&["run", "artifacts", RUN, "--out", "got"]).await.exit,
        Exit::Ok
    );
    assert!(!folder.path().join("evil").exists());
}

#[tokio::test]
async fn looks_cancels_and_retries() {
    let server = waiting("done", &[]).await;
    let get = Call::new(&server.uri()).run(&["run", "get", RUN, "--json"]).await;
    assert_eq!(get.check(Exit::Ok).json(), detail("done"));
    let usage = Call::new(&server.uri()).run(&["run", "usage", RUN]).await;
    assert!(
        usage.check(Exit::Ok).out.contains("some counts are estimates"),
        "{}",
        usage.out
    );
    let cancel = Call::new(&server.uri()).run(&["run", "cancel", RUN, "--json"]).await;
    assert_eq!(cancel.check(Exit::Ok).json()["id"], RUN);
    let server = MockServer::start().await;
    Mock::given(path(format!("/v1/runs/{RUN}/retry")))
        .respond_with(ResponseTemplate::new(201).set_body_json(run("queued")))
        .expect(1)
        .mount(&server)
        .await;
    Call::new(&server.uri())
        .run(&["run", "retry", RUN])
        .await
        .check(Exit::Ok);
    let server = MockServer::start().await;
    Mock::given(path("/v1/runs/preflight"))
        .and(body_partial_json(
            json!({"projectId": "0190a5c8-0000-7000-8000-0000000000aa"}),
        ))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({"ok": true, "problems": []})))
        .expect(1)
        .mount(&server)
        .await;
    let call = Call::new(&server.uri()).stdin("{\"definition\": {}}");
    let words = [
        "run",
        "preflight",
        "-",
        "--project",
        "0190a5c8-0000-7000-8000-0000000000aa",
    ];
    call.run(&words).await.check(Exit::Ok);
}

#[tokio::test]
async fn presets_and_logs_in_json() {
    let presets = json!({"presets": [
        {"key": "codex", "label": "Codex", "wire": "openai", "verified": true},
        {"key": "shell", "label": "Shell", "wire": null, "verified": false},
    ], "next_cursor": null});
    let server = answering("GET", "/v1/admin/harness-presets", 200, presets).await;
    let table = Call::new(&server.uri()).run(&["harness", "presets"]).await;
    assert!(
        table.check(Exit::Ok).out.ends_with("shell  Shell  -       no\n"),
        "{}",
        table.out
    );
    let lines = format!("{}\n{}\n", line(1, "a"), line(2, "b"));
    let scripted = Scripted::play(vec![scripted::chunked("application/x-ndjson", &lines, true)]).await;
    let logs = Call::new(&scripted.url).run(&["run", "logs", RUN, "--json"]).await;
    assert_eq!(
        logs.check(Exit::Ok).json(),
        json!({"logs": [line(1, "a"), line(2, "b")]})
    );
    let server = waiting("failed", &["a"]).await;
    let follow = Call::new(&server.uri())
        .run(&["run", "logs", RUN, "--follow", "--json"])
        .await;
    assert_eq!(
        follow.check(Exit::Failed).json(),
        line(1, "a"),
        "one line of JSON for one line of the log"
    );
}
