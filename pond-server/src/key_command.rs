//! The operator's command that prints the root key: a program run without a shell, in next to no environment, and not for
//! long. What it prints is in no log.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use pond_core::secret::Secret;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use zeroize::Zeroizing;

/// How long it may take.
const TIME: Duration = Duration::from_secs(10);
/// Bytes that it may print.
const MAX_PRINTED: usize = 4 << 10;

/// A program and its arguments, with what it gets to see of the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyCommand {
    words: Vec<String>,
    path: Option<String>,
    home: Option<String>,
}

/// Ends the program with all that it started.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let group = self.0.id().and_then(|id| i32::try_from(id).ok());
        // None: it has ended and been waited for, and its number may be another's by now.
        if let Some(group) = group {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    }
}

impl KeyCommand {
    /// The command of a line: words between white space, and nothing else is read into it.
    pub(crate) fn new(line: &str, path: Option<&str>, home: Option<&str>) -> Self {
        Self {
            words: line.split_whitespace().map(ToOwned::to_owned).collect(),
            path: path.map(ToOwned::to_owned),
            home: home.map(ToOwned::to_owned),
        }
    }

    /// Runs it, and gives what it printed.
    pub(crate) async fn run(&self) -> Result<Secret, String> {
        self.run_within(TIME).await
    }

    async fn run_within(&self, time: Duration) -> Result<Secret, String> {
        let mut child = Ending(self.start()?);
        let printed = tokio::time::timeout(time, printed(&mut child.0)).await;
        printed.unwrap_or_else(|_| Err(format!("took longer than {} s", time.as_secs_f32())))
    }

    fn start(&self) -> Result<Child, String> {
        let (program, arguments) = self.words.split_first().ok_or("names no program")?;
        let kept = [("PATH", &self.path), ("HOME", &self.home)];
        let kept = kept
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_ref()?)));
        Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(kept)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("cannot be run: {}", error.kind()))
    }
}

async fn printed(child: &mut Child) -> Result<Secret, String> {
    let output = child.stdout.take().ok_or("has no output")?;
    let secret = read(output).await?;
    let status = child.wait().await.map_err(|error| error.kind().to_string())?;
    if !status.success() {
        return Err(format!("ended with {status}"));
    }
    Ok(secret)
}

/// Reads into one buffer that never moves, so that no copy stays behind.
async fn read(mut output: impl AsyncRead + Unpin) -> Result<Secret, String> {
    let mut buffer = Zeroizing::new([0; MAX_PRINTED + 1]);
    let mut filled = 0;
    loop {
        let read = output.read(&mut buffer[filled..]).await;
        match read.map_err(|error| error.kind().to_string())? {
            0 => break,
            read => filled += read,
        }
        if filled > MAX_PRINTED {
            return Err(format!("printed more than {MAX_PRINTED} bytes"));
        }
    }
    let text = std::str::from_utf8(&buffer[..filled]).map_err(|_| "printed no text")?;
    Ok(Secret::new(text.trim()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;

    const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

    fn script(folder: &Path, text: &str) -> KeyCommand {
        let path = folder.join("print-key");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        let line = format!(" {}  one   $HOME;two ", path.display());
        KeyCommand::new(&line, Some(PATH), Some("/home/of-the-test"))
    }

    async fn run(text: &str) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let printed = script(folder.path(), text).run().await;
        printed.map(|secret| secret.expose().to_owned())
    }

    #[tokio::test]
    async fn c17_119_no_shell_reads_the_line_and_little_is_to_be_seen() {
        assert_eq!(run("echo \"$#|$1|$2\"").await.unwrap(), "2|one|$HOME;two");
        assert_eq!(
            run("echo \"$PATH|$HOME\"").await.unwrap(),
            format!("{PATH}|/home/of-the-test")
        );
        let names = run("env | cut -d= -f1 | sort | tr '\\n' ' '").await.unwrap();
        // The shell of the script adds PWD and its like on its own.
        let foreign = names
            .split(' ')
            .find(|name| !["HOME", "PATH", "PWD", "OLDPWD", "SHLVL", "_"].contains(name));
        assert_eq!(foreign, None, "{names}");
        let by_name = KeyCommand::new("echo key", Some(PATH), None).run().await.unwrap();
        assert_eq!(by_name.expose(), "key");
    }

    #[tokio::test]
    async fn c17_119_what_fails_or_says_too_much_is_told_without_its_words() {
        for (text, why) in [
            ("echo CANARY; exit 3", "ended with exit status: 3"),
            ("echo CANARY >&2; printf '\\377'", "printed no text"),
            ("exec head -c 5000 /dev/zero", "printed more than 4096 bytes"),
        ] {
            assert_eq!(run(text).await.unwrap_err(), why);
        }
        let absent = KeyCommand::new("/nowhere/at-all", None, None).run().await;
        assert!(absent.unwrap_err().starts_with("cannot be run"));
    }

    #[tokio::test]
    async fn c17_119_what_is_slow_is_ended_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let noted = folder.path().join("pid");
        // The child holds the output open after its parent is gone.
        let command = script(
            folder.path(),
            &format!("sleep 600 & echo $! > {}; wait", noted.display()),
        );
        let running = tokio::spawn(async move { command.run_within(Duration::from_secs(1)).await.map(|_| ()) });
        let ended = tokio::time::timeout(Duration::from_secs(20), running)
            .await
            .expect("in time")
            .unwrap();
        assert!(ended.unwrap_err().starts_with("took longer"));
        let pid: i32 = std::fs::read_to_string(&noted).unwrap().trim().parse().unwrap();
        let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let gone = |stat: &str| stat.is_empty() || stat.contains(") Z ");
        let waited = std::time::Instant::now();
        while !gone(&state()) {
            assert!(waited.elapsed() < Duration::from_secs(20), "it lives on: {}", state());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
