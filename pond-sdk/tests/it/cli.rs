//! The verbs, with the outside world played.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use clap::{Parser, Subcommand};
use pond_sdk::Secret;
use pond_sdk::cli::{self, ClientVerb, Exit, Io, Program, SecretPrompt, Terminals};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use wiremock::matchers::{body_json, body_partial_json, header, method, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::samples::{self, RUN, detail, ended, line, run};
use crate::scripted::{self, Scripted};

#[derive(Debug, Parser)]
#[command(name = "pond")]
struct Pond {
    #[command(subcommand)]
    verb: Verb,
}

/// A program with a verb of its own, whose flag of the same name means something else.
#[derive(Debug, Subcommand)]
enum Verb {
    Serve {
        #[arg(long)]
        token: Option<u8>,
    },
    #[command(flatten)]
    Client(Box<ClientVerb>),
}

/// A pipe or terminal that remembers.
#[derive(Clone, Default)]
struct Pipe(Arc<Mutex<Vec<u8>>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Broken;

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Typed(&'static str);

impl SecretPrompt for Typed {
    fn ask(&mut self, _: &str) -> io::Result<Secret> {
        Ok(Secret::new(self.0))
    }
}

/// One call of the program.
struct Call {
    env: HashMap<String, String>,
    stdin: Vec<u8>,
    terminals: Terminals,
    cwd: PathBuf,
    typed: &'static str,
    interrupts: usize,
    broken: bool,
}

/// What it did.
struct Outcome {
    exit: Exit,
    out: String,
    err: String,
}

impl Outcome {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {:?}", self.out))
    }

    fn check(&self, exit: Exit) -> &Self {
        assert_eq!(self.exit, exit, "out: {}\nerr: {}", self.out, self.err);
        self
    }
}

impl Call {
    fn new(url: &str) -> Self {
        let env = [("POND_URL", url), ("POND_TOKEN", "t0ken")];
        Self {
            env: env
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            stdin: Vec::new(),
            terminals: Terminals::default(),
            cwd: PathBuf::from("/"),
            typed: "",
            interrupts: 0,
            broken: false,
        }
    }

    fn stdin(mut self, text: &str) -> Self {
        self.stdin = text.as_bytes().to_vec();
        self
    }

    fn cwd(mut self, cwd: &Path) -> Self {
        cwd.clone_into(&mut self.cwd);
        self
    }

    fn terminal(mut self) -> Self {
        self.terminals = Terminals {
            stdin: true,
            stdout: true,
            stderr: true,
        };
        self
    }

    async fn run(self, words: &[&str]) -> Outcome {
        let parsed = Pond::try_parse_from([&["pond"], words].concat()).expect("words that parse");
        let (out, err) = (Pipe::default(), Pipe::default());
        let (interrupt, interrupts) = mpsc::channel(8);
        for _ in 0..self.interrupts {
            interrupt.send(()).await.expect("room for a few");
        }
        let env = self.env;
        let io = Io {
            stdin: Box::new(io::Cursor::new(self.stdin)),
            stdout: if self.broken {
                Box::new(Broken)
            } else {
                Box::new(out.clone())
            },
            stderr: Box::new(err.clone()),
            terminals: self.terminals,
            env: Box::new(move |name| env.get(name).cloned()),
            cwd: self.cwd,
            prompt: Box::new(Typed(self.typed)),
            interrupts,
        };
        let program = Program {
            command: <Pond as clap::CommandFactory>::command(),
            version: "9.9".into(),
        };
        let Verb::Client(verb) = parsed.verb else {
            panic!("not a client verb: {words:?}")
        };
        let exit = cli::run(*verb, program, io).await;
        let text = |pipe: Pipe| String::from_utf8(pipe.0.lock().expect("no panic").clone()).expect("UTF-8");
        Outcome {
            exit,
            out: text(out),
            err: text(err),
        }
    }
}

async fn answering(verb: &str, at: &str, status: u16, body: Value) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method(verb))
        .and(path(at))
        .respond_with(ResponseTemplate::new(status).set_body_json(body))
        .mount(&server)
        .await;
    server
}

fn problem(status: u16, code: &str) -> Value {
    json!({"type": format!("urn:pond:problem:{code}"), "title": "t", "status": status, "detail": "told", "code": code,
           "request_id": "r"})
}

fn credential() -> Value {
    json!({
        "name": "anthropic", "provider": "anthropic", "env": {}, "secret_keys": ["KEY"], "hosts": [], "buckets": [],
        "remote_features": [], "scope": "org", "project_id": null, "updated_at": "2030-01-01T00:00:00.000Z",
    })
}

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
    <Pond as clap::CommandFactory>::command().debug_assert();
    let own = Pond::try_parse_from(["pond", "serve", "--token", "7"]).expect("words that parse");
    assert!(matches!(own.verb, Verb::Serve { token: Some(7) }));
}

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
