//! Getting the objects, and no more of them than the limit.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use pond_core::sources::{Excess, Limits, SourceError};

use super::super::process::Group;
use super::command::{Reach, Workshop, bounded, disk};
use super::failure;

/// The reference that holds what was fetched.
pub(super) const FETCHED: &str = "refs/pond/fetched";

/// How often the repository is measured during a transfer.
const MEASURE: Duration = Duration::from_millis(100);

/// How much history is fetched.
pub(super) enum Depth {
    /// The commit alone.
    One,
    /// All before it.
    All,
}

impl Workshop {
    /// Fetches `wanted` (a reference or commit that is safe as an argument) into [`FETCHED`].
    pub(super) async fn transfer(&self, wanted: &str, depth: Depth, limits: Limits) -> Result<(), SourceError> {
        let refspec = format!("+{wanted}:{FETCHED}");
        let mut arguments = vec![
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-recurse-submodules",
            "--no-write-fetch-head",
        ];
        if matches!(depth, Depth::One) {
            arguments.push("--depth=1");
        }
        arguments.extend(["--end-of-options", &self.url, &refspec]);
        let mut command = self.command(Reach::Server, &arguments);
        let mut group = Group::spawn(command.stderr(Stdio::piped())).map_err(disk)?;
        let stderr = group.child.stderr.take();
        let ended = tokio::select! {
            ended = async { tokio::join!(group.wait(), bounded(stderr)) } => Ok(ended),
            excess = outgrown(self.repository(), limits.bytes) => Err(SourceError::TooLarge(excess)),
        };
        let (status, said) = match ended {
            Ok(ended) => ended,
            Err(excess) => {
                group.end().await;
                return Err(excess);
            }
        };
        let said = String::from_utf8_lossy(&said);
        if status.map_err(disk)?.success() {
            // A fast transfer may end between two looks.
            return match measured(self.repository()).await > limits.bytes {
                true => Err(SourceError::TooLarge(Excess::Bytes(limits.bytes))),
                false => Ok(()),
            };
        }
        tracing::debug!(said = %said.chars().take(500).collect::<String>(), "git could not fetch");
        Err(self.relay.trouble().unwrap_or_else(|| failure::meaning(&said)))
    }

    /// Whether the repository has `wanted`; asks and fetches nothing.
    pub(super) async fn has(&self, wanted: &str) -> Result<bool, SourceError> {
        // A commit cannot be asked for by name: that the repository answers must do.
        let commit = matches!(wanted.len(), 40 | 64) && wanted.bytes().all(|b| b.is_ascii_hexdigit());
        let said = self
            .run(
                Reach::Server,
                &["ls-remote", "--quiet", "--end-of-options", &self.url, wanted],
            )
            .await?;
        Ok(said.ok && (commit || !said.out.is_empty()))
    }

    /// The commit that a name stands for in what was fetched.
    pub(super) async fn commit(&self, name: &str) -> Result<String, SourceError> {
        let said = self
            .run(
                Reach::Inside,
                &[
                    "rev-parse",
                    "--verify",
                    "--quiet",
                    "--end-of-options",
                    &format!("{name}^{{commit}}"),
                ],
            )
            .await?;
        let text = String::from_utf8_lossy(&said.out).trim().to_owned();
        let hex = matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit());
        match said.ok && hex {
            true => Ok(text),
            false => Err(SourceError::Failed("the reference names no commit".into())),
        }
    }
}

/// Ends when the folder holds more than `limit` bytes.
async fn outgrown(folder: PathBuf, limit: u64) -> Excess {
    loop {
        tokio::time::sleep(MEASURE).await;
        if measured(folder.clone()).await > limit {
            return Excess::Bytes(limit);
        }
    }
}

async fn measured(folder: PathBuf) -> u64 {
    // A look that failed must stop the transfer, not let it run.
    tokio::task::spawn_blocking(move || bytes_in(&folder))
        .await
        .unwrap_or(u64::MAX)
}

/// Bytes of all files; files come and go meanwhile.
fn bytes_in(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => bytes_in(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}
