//! An engine with an embedded worker, and one source to work on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use pond_core::config::{Credential, Harness, Model, Owner};
use pond_core::event::{EventBody, EventNumber};
use pond_core::id::RunId;
use pond_core::logs::LogLine;
use pond_core::outbound::AllowPrivate;
use pond_core::runs::{Run, RunOutcome, StageOutcome, StagePhase};
use pond_core::scope::Scope;
use pond_core::{EngineSettings, Pond};
use pond_worker::net::{Dialer, DialerSettings, Fetcher, FetcherSettings};
use pond_worker::work::{EmbeddedPool, WorkerSettings, embed};
use serde_json::{Value, json};

/// Longer than anything here may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct World {
    pub(super) pond: Pond,
    pub(super) pool: Option<EmbeddedPool>,
    pub(super) folder: tempfile::TempDir,
    settings: WorkerSettings,
}

/// Settings that make ends quick.
pub(super) fn quick() -> EngineSettings {
    EngineSettings {
        cancel_grace: Duration::from_secs(1),
        require_sandbox: false,
        ..EngineSettings::default()
    }
}

impl World {
    pub(super) async fn start() -> Self {
        Self::with(quick(), |_| {}).await
    }

    pub(super) async fn with(engine: EngineSettings, adjust: impl FnOnce(&mut WorkerSettings)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let sources = folder.path().join("sources");
        std::fs::create_dir_all(sources.join("app")).expect("a source");
        std::fs::write(sources.join("app/a.txt"), "one\n").expect("a file");
        std::fs::write(sources.join("app/b.txt"), "two\n").expect("a file");
        let scratch = folder.path().join("scratch");
        std::fs::create_dir(&scratch).expect("a folder");
        let fetcher = Fetcher::new(
            Dialer::new(DialerSettings::default()).expect("a dialer"),
            FetcherSettings {
                folder_root: Some(sources),
                scratch,
                ..FetcherSettings::default()
            },
        );
        let pond = Pond::builder(pond_store::memory(), pond_store::blobs_in_memory())
            .sources(Arc::new(fetcher))
            .settings(engine)
            .start()
            .await
            .expect("an engine");
        let mut settings = WorkerSettings::new(folder.path().join("worker"));
        adjust(&mut settings);
        let pool = embed(&pond, settings.clone()).await.expect("a worker");
        let world = Self {
            pond,
            pool: Some(pool),
            folder,
            settings,
        };
        world.preset("shell").await;
        world
    }

    /// Starts the worker again on the same state folder.
    pub(super) async fn embed_again(&mut self) {
        self.pool = Some(embed(&self.pond, self.settings.clone()).await.expect("a worker"));
    }

    pub(super) async fn preset(&self, key: &str) {
        let put = self.pond.config().put_preset(Owner::Org, key, None, None).await;
        put.expect("a preset");
    }

    pub(super) async fn harness(&self, body: Value) {
        self.pond
            .config()
            .put::<Harness>(Owner::Org, &body)
            .await
            .expect("a harness");
    }

    pub(super) async fn model(&self, credential: Value, model: Value) {
        let config = self.pond.config();
        config
            .put::<Credential>(Owner::Org, &credential)
            .await
            .expect("a credential");
        config.put::<Model>(Owner::Org, &model).await.expect("a model");
    }

    /// Submits one stage on the source, with naps of our own; `more` is put into its executor, over what stands there.
    pub(super) async fn submit(&self, prompt: &str, more: Value) -> RunId {
        self.submit_with(prompt, more, json!({})).await
    }

    pub(super) async fn submit_with(&self, prompt: &str, more: Value, stage: Value) -> RunId {
        self.try_submit(prompt, more, stage).await.expect("submitted")
    }

    /// Submits what may be refused.
    pub(super) async fn try_submit(&self, prompt: &str, more: Value, stage: Value) -> pond_core::Result<RunId> {
        let mut executor = json!({
            "kind": "swarm", "harness": "shell", "prompt": own_naps(prompt),
            "sandbox": {"profile": "untrusted-code-write"},
        });
        merge(&mut executor, more);
        let mut whole = json!({"key": "a", "name": "A", "executor": executor});
        merge(&mut whole, stage);
        let body = json!({
            "definition": {"stages": [whole]},
            "sources": [{"label": "app", "kind": "folder", "config": {"path": "app"}}],
        });
        let project = self.pond.projects().default_project();
        Ok(self.pond.runs().submit(project, &body.to_string()).await?.head.id)
    }

    pub(super) async fn ended(&self, run: RunId) -> Ended {
        let run = tokio::time::timeout(PATIENCE, self.pond.runs().wait(Scope::Org, run)).await;
        let run = run.expect("in time").expect("it is there");
        Ended {
            lines: self.lines(run.head.id).await,
            artifacts: self.artifacts(run.head.id).await,
            run,
        }
    }

    /// Submits and waits.
    pub(super) async fn run(&self, prompt: &str, more: Value) -> Ended {
        let run = self.submit(prompt, more).await;
        self.ended(run).await
    }

    pub(super) async fn lines(&self, run: RunId) -> Vec<LogLine> {
        let events = self
            .pond
            .runs()
            .logs(Scope::Org, run, EventNumber::default(), 100_000, None)
            .await;
        let line = |event: pond_core::event::NumberedEvent| match event.event.body {
            EventBody::Log(line) => Some(line),
            _ => None,
        };
        events.expect("logs").into_iter().filter_map(line).collect()
    }

    async fn artifacts(&self, run: RunId) -> BTreeMap<String, (Vec<u8>, bool)> {
        let runs = self.pond.runs();
        let mut kept = BTreeMap::new();
        for artifact in runs.artifacts(Scope::Org, run, None, None).await.expect("artifacts") {
            let bytes = runs.artifact_bytes(&artifact, None).await.expect("there");
            let bytes: Vec<bytes::Bytes> = bytes.try_collect().await.expect("whole");
            kept.insert(artifact.name.as_str().to_owned(), (bytes.concat(), artifact.redacted));
        }
        kept
    }

    /// Waits until the run has logged a line with this text.
    pub(super) async fn said(&self, run: RunId, text: &str) {
        let said = async {
            while !self.lines(run).await.iter().any(|line| line.line.contains(text)) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, said).await.is_err() {
            panic!("`{text}` was not said: {:?}", self.lines(run).await);
        }
    }

    /// The only folder of a job there is.
    pub(super) fn job_folder(&self) -> PathBuf {
        let mut folders = self.job_folders();
        assert_eq!(folders.len(), 1, "{folders:?}");
        folders.remove(0)
    }

    pub(super) fn job_folders(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.path().join("worker/jobs"));
        entries
            .into_iter()
            .flatten()
            .map(|entry| entry.expect("an entry").path())
            .collect()
    }

    /// Ends worker and engine; nothing of any job may be left.
    pub(super) async fn close(mut self) {
        self.pool.take().expect("a worker").shutdown().await;
        self.pond.shutdown().await;
        assert_eq!(self.job_folders(), Vec::<PathBuf>::new());
    }
}

fn merge(into: &mut Value, more: Value) {
    let (Value::Object(into), Value::Object(more)) = (into, more) else {
        panic!("objects");
    };
    into.extend(more);
}

/// A run that has ended, with all it left.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) run: Run,
    pub(super) lines: Vec<LogLine>,
    /// Bytes, and whether a secret was cut from them.
    pub(super) artifacts: BTreeMap<String, (Vec<u8>, bool)>,
}

impl Ended {
    pub(super) fn outcome(&self) -> &StageOutcome {
        match &self.run.head.state.stages[0].phase {
            StagePhase::Ended { outcome, .. } => outcome,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn attempt(&self) -> u32 {
        match &self.run.head.state.stages[0].phase {
            StagePhase::Ended { attempt, .. } => *attempt,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub(super) fn is_done(&self) -> &Self {
        assert_eq!(self.outcome(), &StageOutcome::Done, "{:#?}", self.lines);
        self
    }

    /// Code and message of the failure.
    #[track_caller]
    pub(super) fn failure(&self) -> (&'static str, &str) {
        match self.outcome() {
            StageOutcome::Failed(failure) => (failure.code.as_str(), &failure.message),
            other => panic!("{other:?} {:#?}", self.lines),
        }
    }

    #[track_caller]
    pub(super) fn is_cancelled(&self) {
        assert_eq!(self.outcome(), &StageOutcome::Cancelled);
        let pond_core::runs::RunPhase::Ended { outcome, .. } = &self.run.head.state.phase else {
            panic!("ended");
        };
        assert_eq!(outcome, &RunOutcome::Cancelled);
    }

    #[track_caller]
    pub(super) fn text(&self, artifact: &str) -> String {
        let (bytes, _) = self
            .artifacts
            .get(artifact)
            .unwrap_or_else(|| panic!("{artifact} of {:?}", self.artifacts.keys()));
        String::from_utf8_lossy(bytes).into_owned()
    }

    pub(super) fn said(&self, text: &str) -> bool {
        self.lines.iter().any(|line| line.line.contains(text))
    }

    /// Applies the patch to a clean copy of the source and gives the copy.
    #[track_caller]
    pub(super) fn patched(&self, world: &World) -> tempfile::TempDir {
        let clean = tempfile::tempdir().expect("a folder");
        copy(&world.folder.path().join("sources/app"), clean.path());
        let patch = clean.path().join("../").join(format!("{}.patch", self.run.head.id));
        std::fs::write(&patch, self.text("changes.patch")).expect("a patch");
        let git = std::process::Command::new("git")
            .arg("apply")
            .arg(&patch)
            .current_dir(clean.path())
            .output()
            .expect("git runs");
        std::fs::remove_file(&patch).expect("removed");
        assert!(git.status.success(), "{}", String::from_utf8_lossy(&git.stderr));
        clean
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}

/// Leave to reach a model on this very host.
pub(super) fn allow(address: std::net::SocketAddr) -> AllowPrivate {
    AllowPrivate::parse_for(pond_core::outbound::Purpose::Model, &address.to_string()).expect("an exception")
}

/// Makes each `sleep @n` one that only this test program can have started.
pub(super) fn own_naps(script: &str) -> String {
    script.replace("sleep @", &format!("sleep {}00", std::process::id()))
}

/// The processes of `sleep @n` for every n that begins so.
pub(super) fn napping(n: &str) -> Vec<u32> {
    processes_with(&format!("sleep\0{}00{n}", std::process::id()))
}

/// The processes that have this text among their arguments.
pub(super) fn processes_with(text: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if pid != std::process::id() && String::from_utf8_lossy(&line).contains(text) {
            found.push(pid);
        }
    }
    found
}
