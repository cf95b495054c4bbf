//! Tools of a host that run nothing: what a `shell` stage does is said by its first argument.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::TryStreamExt;
use pond_core::artifacts::{ArtifactName, ByteStream};
use pond_core::logs::LogStream;
use pond_core::runs::{AreaPatch, Failure, FailureCode, HostTools, MergedPatch, ShellRun, StageOutcome};

/// Tools that run nothing, and remember what they were asked.
#[derive(Clone, Default)]
pub struct PlayedHost {
    started: Arc<Mutex<Vec<Vec<String>>>>,
}

impl PlayedHost {
    /// The argument lists that were started, in order.
    pub fn started(&self) -> Vec<Vec<String>> {
        self.started.lock().expect("no holder of this lock panics").clone()
    }
}

#[async_trait]
impl HostTools for PlayedHost {
    /// `say TEXT` prints it and leaves it as `said.txt`, `fail` ends with 1, `late` runs into its time, `hang` never ends.
    async fn shell(&self, shell: ShellRun) -> StageOutcome {
        self.started
            .lock()
            .expect("no holder of this lock panics")
            .push(shell.argv.clone());
        let failed = |code, message: &str| StageOutcome::Failed(Failure::new(code, message));
        match shell.argv[0].as_str() {
            "say" => {
                let text = shell.argv[1..].join(" ");
                shell.sink.output(shell.clock.now(), LogStream::Stdout, text.clone());
                let name = ArtifactName::new("said.txt").expect("the name is one");
                shell.sink.artifact(name, text.into_bytes());
                StageOutcome::Done
            }
            "fail" => failed(FailureCode::ExitNonzero, "ended with 1"),
            "late" => {
                shell.clock.sleep(shell.timeout).await;
                failed(FailureCode::Timeout, "longer than its time")
            }
            _ => futures::future::pending().await,
        }
    }

    /// Joins the patches; one that holds `clash` applies only where none before it did.
    async fn merge(&self, bundle: ByteStream, areas: Vec<AreaPatch>) -> Result<MergedPatch, Failure> {
        let unreadable = |error| Failure::new(FailureCode::SourceFailed, format!("{error}"));
        let tree: Vec<bytes::Bytes> = bundle.try_collect().await.map_err(unreadable)?;
        assert!(!tree.concat().is_empty(), "a tar is never empty");
        let mut merged = MergedPatch::default();
        for area in areas {
            let clashes = |patch: &[u8]| String::from_utf8_lossy(patch).contains("clash");
            if clashes(&area.patch) && clashes(&merged.patch) {
                merged.conflicts.push(area.substage);
            } else {
                merged.patch.extend(area.patch);
                merged.changed.extend(area.changed);
            }
        }
        Ok(merged)
    }
}
