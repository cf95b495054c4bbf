//! `pond credential`: where secrets may come from.

use clap::Parser;
use pond_sdk::cli::Exit;
use serde_json::{Value, json};
use wiremock::matchers::{body_json, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{Call, Pond, answering};

fn credential() -> Value {
    json!({
        "name": "anthropic", "provider": "anthropic", "env": {}, "secret_keys": ["KEY"], "hosts": [], "buckets": [],
        "remote_features": [], "scope": "org", "project_id": null, "updated_at": "2030-01-01T00:00:00.000Z",
    })
}

#[tokio::test]
async fn a_secret_on_the_command_line_is_refused_and_not_repeated() {
    let outcome = Call::new("http://127.0.0.1:9")
        .run(&[
            "credential",
            "set",
            "a",
            "--provider",
            "anthropic",
            "--secret",
            "KEY=sk-canary",
        ])
        .await;
    outcome.check(Exit::Usage);
    assert!(
        outcome.err.contains("--secret KEY") && !outcome.err.contains("sk-canary"),
        "{}",
        outcome.err
    );
    let words = ["pond", "whoami", "--token", "tok-canary"];
    let parsed = Pond::try_parse_from(words).expect("words that parse");
    assert!(!format!("{parsed:?}").contains("tok-canary"));
}

#[tokio::test]
async fn secrets_come_from_input_prompt_and_file() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("key"), "sk-file\n").expect("written");
    let words = [
        "credential",
        "set",
        "anthropic",
        "--provider",
        "anthropic",
        "--env",
        "URL=https://h/?a=b",
        "--secret",
        "ONE",
        "--secret",
        "TWO",
        "--secret-file",
        "FILE=key",
    ];
    for (terminal, one, two) in [(false, "sk-1", "sk-2"), (true, "sk-typed", "sk-typed")] {
        let server = MockServer::start().await;
        Mock::given(path("/v1/admin/credentials"))
            .and(body_json(json!({
                "name": "anthropic", "provider": "anthropic", "env": {"URL": "https://h/?a=b"},
                "secrets": {"ONE": one, "TWO": two, "FILE": "sk-file"},
            })))
            .respond_with(ResponseTemplate::new(201).set_body_json(credential()))
            .expect(1)
            .mount(&server)
            .await;
        let mut call = Call::new(&server.uri()).cwd(folder.path()).stdin("sk-1\r\nsk-2\n");
        call.typed = "sk-typed";
        let call = if terminal { call.terminal() } else { call };
        let outcome = call.run(&words).await;
        outcome.check(Exit::Ok);
        assert!(
            !format!("{}{}", outcome.out, outcome.err).contains("sk-"),
            "{}",
            outcome.out
        );
    }
    let short = Call::new("http://127.0.0.1:9")
        .cwd(folder.path())
        .stdin("sk-1\n")
        .run(&words)
        .await;
    assert!(short.check(Exit::Usage).err.contains("TWO"));
}

#[tokio::test]
async fn lists_are_tables_or_one_document() {
    let body = json!({"credentials": [credential()], "next_cursor": null});
    let server = answering("GET", "/v1/admin/credentials", 200, body).await;
    let table = Call::new(&server.uri()).run(&["credential", "list"]).await;
    assert_eq!(
        table.check(Exit::Ok).out,
        "NAME       PROVIDER   SECRETS  HOSTS  SCOPE  UPDATED\n\
         anthropic  anthropic  KEY      -      org    2030-01-01T00:00:00.000Z\n"
    );
    let machine = Call::new(&server.uri()).run(&["credential", "--json", "list"]).await;
    assert_eq!(machine.check(Exit::Ok).json(), json!({"credentials": [credential()]}));
}
