//! The verbs, with the outside world played: one file per noun, as the verbs themselves.

mod config;
mod credential;
mod general;
mod keys;
mod pool;
mod run;

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use clap::{Parser, Subcommand};
use pond_sdk::Secret;
use pond_sdk::cli::{self, ClientVerb, Exit, Io, Program, SecretPrompt, Terminals};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

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
