//! A strict fake of a running sandbox: programs of this host in one folder, with a cleared environment.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use async_trait::async_trait;
use bytes::Bytes;
use pond_core::sandbox::{Enforcement, Exec, Exit, Output, Process, Running, SandboxError, Signal, Stats, Stream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::mpsc;

/// Runs programs in a folder.
pub(super) struct Host {
    pub(super) folder: PathBuf,
}

#[async_trait]
impl Running for Host {
    fn enforcement(&self) -> Enforcement {
        Enforcement::Rlimits
    }

    async fn exec(&self, exec: Exec) -> Result<Process, SandboxError> {
        assert!(!exec.argv.is_empty() && exec.argv.iter().all(|argument| !argument.contains('\0')));
        let mut command = Command::new(&exec.argv[0]);
        command.args(&exec.argv[1..]).env_clear().env("PATH", "/usr/bin:/bin");
        command.envs(exec.env.iter().map(|(name, value)| (name, value.expose())));
        command
            .current_dir(exec.cwd.as_ref().unwrap_or(&self.folder))
            .process_group(0)
            .kill_on_drop(true);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| SandboxError::io("spawn", error))?;
        let (sender, output) = mpsc::channel(16);
        let (signals, mut asked) = mpsc::channel::<Signal>(4);
        let group = i32::try_from(child.id().expect("it runs")).expect("a pid");
        let (mut stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        tokio::spawn(async move {
            if let Some(mut stdin) = stdin.take() {
                // A program need not read its input.
                let _ = stdin.write_all(&exec.stdin).await;
            }
        });
        let outs = tokio::spawn(copy(stdout.expect("piped"), Stream::Stdout, sender.clone()));
        let errs = tokio::spawn(copy(stderr.expect("piped"), Stream::Stderr, sender.clone()));
        tokio::spawn(async move {
            while let Some(signal) = asked.recv().await {
                let signal = match signal {
                    Signal::Term => nix::sys::signal::Signal::SIGTERM,
                    Signal::Kill => nix::sys::signal::Signal::SIGKILL,
                };
                let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(group), signal);
            }
        });
        tokio::spawn(async move {
            let status = child.wait().await.expect("a child");
            let _ = (outs.await, errs.await);
            let _ = sender.send(Output::Exited(exit(status))).await;
        });
        Ok(Process { output, signals })
    }

    async fn stats(&self) -> Result<Stats, SandboxError> {
        Ok(Stats::default())
    }

    async fn freeze(&self) -> Result<(), SandboxError> {
        Err(SandboxError::failed("this fake does not freeze"))
    }

    async fn thaw(&self) -> Result<(), SandboxError> {
        Err(SandboxError::failed("this fake does not freeze"))
    }

    async fn keep(&self, _: std::time::Instant) -> Result<(), SandboxError> {
        Ok(())
    }

    async fn kill(&self) -> Result<(), SandboxError> {
        Ok(())
    }
}

fn exit(status: ExitStatus) -> Exit {
    status
        .code()
        .map_or_else(|| Exit::Signal(status.signal().unwrap_or(0)), Exit::Code)
}

async fn copy(mut from: impl AsyncRead + Unpin, stream: Stream, to: mpsc::Sender<Output>) {
    let mut buffer = vec![0; 8192];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if to
            .send(Output::Bytes(stream, Bytes::copy_from_slice(&buffer[..length])))
            .await
            .is_err()
        {
            break;
        }
    }
}
