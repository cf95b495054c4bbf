//! The sample: a small git repository with a failing test that needs nothing but `sh`, and the script that fixes it.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use super::script::{Counts, Script, Turn};

/// What the agent is asked to do.
pub const SAMPLE_PROMPT: &str =
    "The test of this repository fails: run `sh test.sh`, find the bug, fix it, and run the test again.";

const README: &str = "# sum\n\n`src/sum.sh` adds up its arguments. `sh test.sh` tests it.\n";
const BROKEN: &str = "#!/bin/sh\n# Adds up its arguments.\ntotal=0\nfor number in \"$@\"; do\n  total=$((total - number))\ndone\necho \"$total\"\n";
const FIXED: &str = "#!/bin/sh\n# Adds up its arguments.\ntotal=0\nfor number in \"$@\"; do\n  total=$((total + number))\ndone\necho \"$total\"\n";
const TEST: &str = r#"#!/bin/sh
# Fails with what was expected and what came.
here=$(dirname "$0")
failed=0
expect() {
  want=$1
  shift
  got=$(sh "$here/src/sum.sh" "$@")
  if [ "$got" != "$want" ]; then
    echo "sum $*: expected $want, got $got"
    failed=1
  fi
}
expect 0
expect 5 5
expect 6 1 2 3
expect 1 3 -2
[ "$failed" = 0 ] && echo "all tests pass"
exit "$failed"
"#;

/// Why there is no sample.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// A file could not be written.
    #[error("cannot write the sample repository")]
    Write(#[from] io::Error),
    /// The `git` program is missing or failed.
    #[error("git {step}: {said}")]
    Git {
        /// Which command.
        step: &'static str,
        /// What it said.
        said: String,
    },
}

/// The sample repository on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Its folder.
    pub path: PathBuf,
    /// Its one commit, the same on every machine.
    pub commit: String,
}

impl Sample {
    /// Writes it into a folder that is new or empty.
    ///
    /// # Errors
    /// When the folder cannot be written or `git` cannot be run.
    pub fn write(path: &Path) -> Result<Self, SampleError> {
        fs::create_dir_all(path.join("src"))?;
        for (name, content, mode) in [
            ("README.md", README, 0o644),
            ("src/sum.sh", BROKEN, 0o755),
            ("test.sh", TEST, 0o755),
        ] {
            let file = path.join(name);
            fs::write(&file, content)?;
            fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
        }
        git(
            path,
            "init",
            &["-q", "--template=", "--object-format=sha1", "--initial-branch=main"],
        )?;
        git(path, "add", &["-A"])?;
        git(
            path,
            "commit",
            &["-q", "--no-verify", "--no-gpg-sign", "-m", "sum: adds up its arguments"],
        )?;
        let commit = git(path, "rev-parse", &["HEAD"])?;
        Ok(Self {
            path: path.to_owned(),
            commit,
        })
    }
}

/// Runs git with nothing of the machine's own configuration, so that the commit is the same everywhere.
fn git(path: &Path, step: &'static str, arguments: &[&str]) -> Result<String, SampleError> {
    let failed = |said: String| SampleError::Git { step, said };
    let mut command = Command::new("git");
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"] {
        command.env_remove(name);
    }
    for (role, what) in [("AUTHOR", "demo"), ("COMMITTER", "demo")] {
        command.env(format!("GIT_{role}_NAME"), what);
        command.env(format!("GIT_{role}_EMAIL"), "demo@example.invalid");
        command.env(format!("GIT_{role}_DATE"), "2025-01-01T00:00:00Z");
    }
    command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("LC_ALL", "C");
    let settings = [
        "-c",
        "core.hooksPath=/dev/null",
        "-c",
        "core.fileMode=true",
        "-c",
        "core.autocrlf=false",
    ];
    command
        .arg("-C")
        .arg(path)
        .args(settings)
        .arg(step)
        .args(arguments)
        .stdin(Stdio::null());
    let output = command.output().map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The script that fixes the sample with the tools `shell`, `read_file` and `write_file`.
pub fn fixing_script() -> Script {
    let counts = |input, output, cache_read, cache_write| Counts {
        input,
        output,
        cache_read,
        cache_write,
    };
    let test = json!({"command": "sh test.sh"});
    Script {
        turns: vec![
            Turn::tool(
                "I'll read the program first.",
                "read_file",
                json!({"path": "src/sum.sh"}),
            )
            .billed(counts(412, 41, 0, 380)),
            Turn::tool("The loop subtracts. Let me see the test fail.", "shell", test.clone())
                .billed(counts(96, 38, 380, 120)),
            Turn::tool(
                "It has to add.",
                "write_file",
                json!({"path": "src/sum.sh", "content": FIXED}),
            )
            .billed(counts(71, 117, 500, 77)),
            Turn::tool("Now the test again.", "shell", test).billed(counts(53, 33, 577, 140)),
            Turn::text("Fixed: `src/sum.sh` subtracted its arguments where it should add them. All tests pass now.")
                .billed(counts(48, 29, 717, 0)),
        ],
    }
}
