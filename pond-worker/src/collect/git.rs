//! The git program with a closed configuration, on a repository of our own that no job has ever seen.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// How long one call may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// Whatever a configuration could bring in, said outright.
const CLOSED: [&str; 8] = [
    "core.hooksPath=/dev/null",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.fsmonitor=false",
    "core.autocrlf=false",
    "core.quotePath=true",
    "gc.auto=0",
    "diff.renameLimit=2000",
];

/// A bare repository in a scratch folder.
pub(super) struct Git {
    folder: PathBuf,
}

impl Git {
    /// Makes the repository. The folder is empty, and ours alone.
    pub(super) async fn create(folder: &Path) -> io::Result<Self> {
        let git = Self {
            folder: folder.to_owned(),
        };
        let init = [
            "init",
            "--quiet",
            "--bare",
            "--template=",
            "--object-format=sha1",
            "--initial-branch=none",
            ".",
        ];
        git.run(&init, None, &[]).await?;
        Ok(git)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs git on the repository; `index` names an index file in it.
    pub(super) async fn run(&self, args: &[&str], index: Option<&str>, input: &[u8]) -> io::Result<Vec<u8>> {
        let (code, out, said) = self.call(args, index, input, Stdio::piped()).await?;
        if code == Some(0) {
            Ok(out)
        } else {
            Err(failed(args, &said))
        }
    }

    /// Runs git with its output into a file.
    pub(super) async fn run_into(&self, args: &[&str], file: &Path) -> io::Result<()> {
        let out = std::fs::File::create(file)?;
        let (code, _, said) = self.call(args, None, &[], out.into()).await?;
        if code == Some(0) {
            Ok(())
        } else {
            Err(failed(args, &said))
        }
    }

    /// Which of these paths, each ended by NUL, the ignore files in a folder tell to leave out.
    pub(super) async fn ignored(&self, rules: &Path, paths: &[u8]) -> io::Result<Vec<u8>> {
        let work_tree = format!("--work-tree={}", rules.display());
        let args = [&work_tree, "check-ignore", "--no-index", "--stdin", "-z"];
        let (code, out, said) = self.call(&args, None, paths, Stdio::piped()).await?;
        // 1 says that none of them is.
        if matches!(code, Some(0 | 1)) {
            Ok(out)
        } else {
            Err(failed(&args, &said))
        }
    }

    async fn call(
        &self,
        args: &[&str],
        index: Option<&str>,
        input: &[u8],
        out: Stdio,
    ) -> io::Result<(Option<i32>, Vec<u8>, Vec<u8>)> {
        let mut command = Command::new("git");
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", "/dev/null")
            .env("LC_ALL", "C");
        command
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1");
        command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_DIR", &self.folder);
        if let Some(index) = index {
            command.env("GIT_INDEX_FILE", self.folder.join(index));
        }
        for setting in CLOSED {
            command.args(["-c", setting]);
        }
        command.args(args).current_dir(&self.folder).kill_on_drop(true);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(out)
            .stderr(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take();
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A git that ends early says why by its code.
                let _ = stdin.write_all(input).await;
            }
        };
        let done = async { tokio::join!(feed, child.wait_with_output()).1 };
        let done = tokio::time::timeout(PATIENCE, done)
            .await
            .map_err(|_| io::ErrorKind::TimedOut)??;
        Ok((done.status.code(), done.stdout, done.stderr))
    }
}

fn failed(args: &[&str], said: &[u8]) -> io::Error {
    let said = said[..said.len().min(300)].escape_ascii();
    io::Error::other(format!("git {} failed: {said}", args.first().unwrap_or(&"")))
}
