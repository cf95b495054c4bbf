//! A pool as an operator sets it up: servers on one PostgreSQL, an orchestrator and workers, each a process of its own that can
//! be killed and started again.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use pond_store::testing::TestDatabase;
use reqwest::Method;
use serde_json::{Value, json};

use crate::process::{bare, free_port, program};
use crate::server::{TOKEN, answer, plain_client};
use crate::world::tables;

/// Longer than any program may take to start, and any run to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// 32 bytes that open nothing else.
const ROOT_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// A running program; killed when dropped.
pub struct Program {
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
    env: BTreeMap<String, String>,
    folder: PathBuf,
    child: Option<Child>,
}

impl Program {
    /// A program that works in `folder` and writes `NAME.out` and `NAME.err` there. `line` is its name and its arguments.
    pub fn new(folder: &Path, name: &str, line: &[&str]) -> Self {
        let (first, arguments) = line.split_first().expect("a program has a name");
        Self {
            name: name.to_owned(),
            program: program(first),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            env: BTreeMap::new(),
            folder: folder.to_owned(),
            child: None,
        }
    }

    /// With a variable more.
    #[must_use]
    pub fn with(mut self, variable: &str, value: &str) -> Self {
        self.env.insert(variable.to_owned(), value.to_owned());
        self
    }

    /// With variables more.
    #[must_use]
    pub fn with_all(mut self, variables: &BTreeMap<String, String>) -> Self {
        self.env.extend(variables.clone());
        self
    }

    /// Starts it, and waits until it says that it is ready.
    ///
    /// # Panics
    /// When it ends instead, or says nothing for a minute; with its log.
    #[must_use]
    pub fn up(mut self) -> Self {
        self.again();
        self
    }

    /// Starts it once more, as the first time, and waits until it says that it is ready.
    ///
    /// # Panics
    /// As [`Self::up`].
    pub fn again(&mut self) {
        let before = self.read("out").len();
        self.spawn();
        let started = Instant::now();
        while !self.read("out")[before..].contains("ready") {
            let gone = self.exit();
            assert!(
                gone.is_none() && started.elapsed() < PATIENCE,
                "{} is not ready: {gone:?} {}",
                self.name,
                self.said()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts it without waiting for anything.
    pub fn spawn(&mut self) {
        let log = |what: &str| {
            let path = self.folder.join(format!("{}.{what}", self.name));
            let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
            Stdio::from(file.expect("a log file can be made"))
        };
        let mut command = bare(&self.program, &self.folder);
        command.args(&self.arguments).envs(&self.env);
        let child = command.stdout(log("out")).stderr(log("err")).spawn();
        self.child = Some(child.expect("the program starts"));
    }

    fn read(&self, what: &str) -> String {
        let path = self.folder.join(format!("{}.{what}", self.name));
        std::fs::read(path).map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What it wrote to standard output and error, in all of its lives.
    pub fn said(&self) -> String {
        format!("{}{}", self.read("out"), self.read("err"))
    }

    /// Its exit code, when it has ended; -1 after a signal.
    pub fn exit(&mut self) -> Option<i32> {
        let status = self.child.as_mut()?.try_wait().expect("a child can be waited for")?;
        Some(status.code().unwrap_or(-1))
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it was not started.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it was started").id()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("our own child can be killed");
            child.wait().expect("our own child can be waited for");
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Ended already, or a test that failed: nothing may outlive it.
            let _ended = child.kill();
            let _reaped = child.wait();
        }
    }
}

/// The servers of a fleet share a PostgreSQL, a folder of blobs and the root key.
pub struct Fleet {
    /// Of all that is made for it.
    pub folder: tempfile::TempDir,
    /// The first server.
    pub url: String,
    /// Its process.
    pub server: Program,
    /// Where the orchestrator listens, once there is one.
    pub orchestrator_at: String,
    /// Its id.
    pub orchestrator_id: String,
    settings: BTreeMap<String, String>,
    http: reqwest::Client,
}

impl Fleet {
    /// One fresh server.
    pub async fn start(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        // Jobs have uids of their own.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("it is ours");
        let database = TestDatabase::create().await;
        let blobs = format!("file://{}", folder.path().join("blobs").display());
        let shared = [
            ("POND_DATABASE_URL", database.text()),
            ("POND_MASTER_KEY", ROOT_KEY),
            ("POND_SERVICE_TOKEN", TOKEN),
            ("POND_BLOB_URL", &blobs),
            ("POND_BLOB_SHARED", "1"),
        ];
        let settings = shared.iter().chain(settings);
        let settings = settings
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let (url, server) = server_of(folder.path(), &settings, "server");
        Self {
            url,
            server,
            folder,
            orchestrator_at: String::new(),
            orchestrator_id: String::new(),
            settings,
            http: plain_client(),
        }
    }

    /// One more server on the same store, and its address.
    pub fn another_server(&self, name: &str) -> (String, Program) {
        server_of(self.folder.path(), &self.settings, name)
    }

    /// Everything that is kept: the tables of the store, and each file of the servers, of the programs beside them and of their
    /// logs.
    ///
    /// # Panics
    /// When something cannot be read.
    pub async fn kept(&self) -> Vec<(String, Vec<u8>)> {
        let mut all = tables(&self.settings["POND_DATABASE_URL"]).await;
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder of ours").flatten() {
                let (path, kind) = (entry.path(), entry.file_type().expect("a type"));
                if kind.is_dir() {
                    folders.push(path);
                } else if kind.is_file() {
                    let bytes = std::fs::read(&path).expect("a file of ours can be read");
                    all.push((path.display().to_string(), bytes));
                }
            }
        }
        all
    }

    /// A place in its folder, as text.
    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Pairs an orchestrator with the engine at `engine`, and starts it.
    ///
    /// # Panics
    /// When it is not let in.
    pub async fn orchestrator(&mut self, engine: &str, env: &[(&str, &str)]) -> Program {
        let code = self.made("/v1/admin/pool/pairing-codes", &json!({})).await;
        let (state, code) = (self.path("orchestrator"), text(&code["code"]));
        let pair = [
            "orchestrator",
            "pair",
            "--pond",
            engine,
            "--code",
            code,
            "--state-dir",
            &state,
        ];
        let mut command = bare(&program("pond"), self.folder.path());
        let paired = command
            .args(pair)
            .envs(env.iter().copied())
            .output()
            .expect("pond runs");
        assert!(paired.status.success(), "{}", String::from_utf8_lossy(&paired.stderr));
        self.orchestrator_at = format!("127.0.0.1:{}", free_port());
        let at = self.orchestrator_at.clone();
        let serve = ["pond", "orchestrator", "serve", "--bind", &at, "--state-dir", &state];
        let mut serving = Program::new(self.folder.path(), "orchestrator", &serve);
        for (name, value) in env {
            serving = serving.with(name, value);
        }
        let serving = serving.up();
        let (_, list) = self.get("/v1/admin/pool/orchestrators").await;
        text(&list[0]["orch_id"]).clone_into(&mut self.orchestrator_id);
        serving
    }

    /// A worker behind the orchestrator that has not been started.
    pub async fn worker(&self, name: &str, capabilities: &[&str]) -> Program {
        let body = json!({"orch_id": self.orchestrator_id, "suggested_name": name, "tags": ["pool:trusted"],
            "capabilities": capabilities});
        let code = self.made("/v1/admin/pool/enrollment-codes", &body).await;
        let (at, state) = (format!("http://{}", self.orchestrator_at), self.path(name));
        let (code, flags) = (text(&code["code"]), capabilities.join(","));
        let line = [
            ["pond-worker", "worker", "--orchestrator", &at, "--enroll-code", code],
            [
                "--tags",
                "pool:trusted",
                "--capabilities",
                &flags,
                "--state-dir",
                &state,
            ],
        ];
        let line = [&line.concat()[..], &["--concurrency", "1"]].concat();
        Program::new(self.folder.path(), name, &line)
    }

    /// A GET at the first server; status and body.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.call(&self.url, Method::GET, path, None).await
    }

    /// A POST at the first server that makes or changes something; what it answers.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn made(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.call(&self.url, Method::POST, path, Some(body)).await;
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }

    /// A request with the service token, at any of its servers; status and body.
    pub async fn call(&self, url: &str, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        let mut request = self.http.request(method, format!("{url}{path}")).bearer_auth(TOKEN);
        if let Some(body) = body {
            request = request.json(body);
        }
        answer(request).await
    }

    /// A run and its stages.
    pub async fn run(&self, id: &str) -> Value {
        let (status, run) = self.get(&format!("/v1/runs/{id}")).await;
        assert_eq!(status, 200, "{run}");
        run
    }

    /// Waits until `holds` of a run, at most a minute.
    ///
    /// # Panics
    /// When it does not come to it; with the run.
    pub async fn until(&self, id: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let run = self.run(id).await;
            if holds(&run) {
                return run;
            }
            assert!(started.elapsed() < PATIENCE, "{run:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits for a run's end.
    pub async fn ended(&self, id: &str) -> Value {
        let is_over = |run: &Value| !["queued", "running"].contains(&text(&run["run"]["status"]));
        self.until(id, is_over).await
    }

    /// All log lines of a run, page by page.
    pub async fn log(&self, id: &str) -> Vec<Value> {
        let (mut all, mut since) = (Vec::new(), Value::from(0));
        loop {
            let (status, page) = self.get(&format!("/v1/runs/{id}/logs?since={since}&limit=50")).await;
            let lines = page["logs"].as_array().cloned().unwrap_or_default();
            assert_eq!(status, 200, "{page}");
            if lines.is_empty() {
                return all;
            }
            since = page["nextCursor"].clone();
            all.extend(lines);
        }
    }

    /// The text of a stage's log lines so far.
    pub async fn lines(&self, id: &str, stage: &str) -> Vec<String> {
        let lines = self.log(id).await.into_iter();
        let lines = lines.filter(|line| line["stage"] == stage);
        lines.map(|line| text(&line["line"]).to_owned()).collect()
    }

    /// All events of a run that has ended, as its stream tells them: number, type, data.
    pub async fn events(&self, id: &str) -> Vec<(u64, String, Value)> {
        let request = self
            .http
            .get(format!("{}/v1/runs/{id}/events", self.url))
            .bearer_auth(TOKEN);
        let stream = request.send().await.expect("the server answers").text();
        let stream = stream.await.expect("the stream of a run that has ended closes");
        let events = stream.split("\n\n").filter_map(|event| {
            let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name).map(str::trim));
            let data = serde_json::from_str(field("data:")?).expect("data is JSON");
            Some((
                field("id:")?.parse().expect("an id is a number"),
                field("event:")?.to_owned(),
                data,
            ))
        });
        events.collect()
    }
}

fn server_of(folder: &Path, settings: &BTreeMap<String, String>, name: &str) -> (String, Program) {
    let bind = format!("127.0.0.1:{}", free_port());
    let state = folder.join(name).display().to_string();
    let server = Program::new(folder, name, &["pond-server"]).with_all(settings);
    let server = server
        .with("POND_LOG", "info,pond::access=warn")
        .with("POND_BIND", &bind)
        .with("POND_STATE_DIR", &state)
        .up();
    (format!("http://{bind}"), server)
}

/// A JSON string.
///
/// # Panics
/// When it is none.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("a text and not {value}"))
}
