//! What all verbs share: exit codes, the token, output, arguments.

use clap::{CommandFactory, Parser};
use pond_sdk::cli::Exit;
use serde_json::{Value, json};
use wiremock::matchers::header;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{Call, Pond, Verb, answering, problem};
use crate::samples::RUN;

#[tokio::test]
async fn exit_codes_tell_what_kind_of_error_it_was() {
    for (status, code, exit) in [
        (401, "unauthorized", Exit::Auth),
        (403, "missing_scope", Exit::Auth),
        (404, "not_found", Exit::NotFound),
        (409, "not_terminal", Exit::Refused),
        (422, "invalid", Exit::Refused),
        (500, "internal", Exit::Unreachable),
    ] {
        let server = answering("GET", &format!("/v1/runs/{RUN}"), status, problem(status, code)).await;
        let plain = Call::new(&server.uri()).run(&["run", "get", RUN]).await;
        plain.check(exit);
        assert!(
            plain.out.is_empty() && plain.err.contains("told") && plain.err.contains(code),
            "{}",
            plain.err
        );
        let machine = Call::new(&server.uri()).run(&["run", "get", RUN, "--json"]).await;
        let error: Value = serde_json::from_str(&machine.check(exit).err).expect("one line of JSON");
        assert_eq!(error["error"]["code"], code);
    }
}

#[tokio::test]
async fn nobody_there_and_no_token_have_codes_and_fixes_of_their_own() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    drop(listener);
    let nobody = Call::new(&url).run(&["whoami"]).await;
    assert!(
        nobody.check(Exit::Unreachable).err.contains("fix: start it"),
        "{}",
        nobody.err
    );
    let mut call = Call::new(&url);
    call.env.remove("POND_TOKEN");
    let tokenless = call.run(&["whoami"]).await;
    assert!(tokenless.check(Exit::Auth).err.contains("POND_TOKEN"));
    let wrong = Call::new("ftp://x").run(&["whoami"]).await;
    wrong.check(Exit::Usage);
}

#[tokio::test]
async fn tokens_are_looked_for_in_their_order() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("token"), "from-file\n").expect("written");
    for (words, env, expected) in [
        (vec!["--token", "flag"], vec![("POND_TOKEN", "a")], "flag"),
        (vec![], vec![("POND_TOKEN", "a"), ("POND_SERVICE_TOKEN", "b")], "a"),
        (
            vec![],
            vec![("POND_SERVICE_TOKEN", "b"), ("POND_TOKEN_FILE", "token")],
            "b",
        ),
        (
            vec![],
            vec![("POND_TOKEN_FILE", "token"), ("POND_SERVICE_TOKEN_FILE", "none")],
            "from-file",
        ),
        (vec![], vec![("POND_SERVICE_TOKEN_FILE", "token")], "from-file"),
    ] {
        let server = MockServer::start().await;
        let whoami = json!({"principal": {"kind": "service"}, "version": "1", "label": "local"});
        Mock::given(header("authorization", &*format!("Bearer {expected}")))
            .respond_with(ResponseTemplate::new(200).set_body_json(whoami))
            .expect(1)
            .mount(&server)
            .await;
        let mut call = Call::new(&server.uri()).cwd(folder.path());
        call.env.remove("POND_TOKEN");
        call.env
            .extend(env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
        let outcome = call.run(&[&["whoami"], &words[..]].concat()).await;
        assert!(outcome.check(Exit::Ok).out.contains("service"));
    }
}

#[tokio::test]
async fn version_and_completions_need_no_server() {
    let mut call = Call::new("");
    call.env.clear();
    assert_eq!(call.run(&["version"]).await.check(Exit::Ok).out, "pond 9.9\n");
    let script = Call::new("").run(&["completions", "bash"]).await;
    assert!(script.check(Exit::Ok).out.contains("preflight"));
    Call::new("")
        .run(&["completions", "zsh", "--json"])
        .await
        .check(Exit::Ok)
        .json();
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_error() {
    let mut call = Call::new("");
    call.broken = true;
    let outcome = call.run(&["version"]).await;
    assert!(outcome.check(Exit::Ok).err.is_empty());
}

#[test]
fn the_arguments_are_sound() {
    Pond::command().debug_assert();
    let own = Pond::try_parse_from(["pond", "serve", "--token", "7"]).expect("words that parse");
    assert!(matches!(own.verb, Verb::Serve { token: Some(7) }));
}
