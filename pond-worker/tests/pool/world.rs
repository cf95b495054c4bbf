//! A hand-played engine, and the real program as orchestrator and worker.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::engine::Played;

/// Longer than anything here may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// A running program; killed when dropped.
pub(super) struct Running {
    child: Child,
    /// What it said first on standard output.
    pub(super) said: String,
    log: PathBuf,
}

/// A command of the program, with nothing of this process's environment but `PATH`.
pub(super) fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pond-worker"));
    command
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null());
    command
}

impl Running {
    pub(super) fn start(mut command: Command, log: &Path) -> Self {
        let file = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(file).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut said)
            .unwrap();
        let log = log.to_owned();
        assert!(
            said.contains("ready"),
            "{said} {}",
            std::fs::read_to_string(&log).unwrap()
        );
        Self { child, said, log }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// SIGKILL.
    pub(super) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and its exit code.
    pub(super) fn stop(mut self) -> Option<i32> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.pid()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        self.child.wait().unwrap().code()
    }

    /// Waits until it ends by itself.
    pub(super) async fn ends(mut self) -> Option<i32> {
        let waited = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status.code();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waited).await.expect("it ends")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) struct World {
    pub(super) engine: Played,
    pub(super) folder: tempfile::TempDir,
    pub(super) orchestrator: Option<Running>,
    pub(super) at: SocketAddr,
}

impl World {
    /// An engine, and an orchestrator that is paired with it.
    pub(super) async fn start() -> Self {
        let engine = Played::start().await;
        let addr = engine.addr;
        Self::with(engine, addr).await
    }

    /// The orchestrator dials the engine at `dialled`.
    pub(super) async fn with(engine: Played, dialled: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Jobs have uids of their own.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let state = folder.path().join("orchestrator");
        let url = format!("http://{dialled}");
        let mut pair = program(&["orchestrator", "pair", "--pond", &url, "--code", "pond_pc_1"]);
        pair.arg("--state-dir").arg(&state);
        let paired = tokio::task::spawn_blocking(move || pair.output().unwrap())
            .await
            .unwrap();
        assert!(paired.status.success(), "{}", String::from_utf8_lossy(&paired.stderr));
        let mut world = Self {
            engine,
            folder,
            orchestrator: None,
            at: "127.0.0.1:0".parse().unwrap(),
        };
        world.serve().await;
        world
    }

    /// Starts the orchestrator, at the place where it was before.
    pub(super) async fn serve(&mut self) {
        let bind = self.at.to_string();
        let mut command = program(&[
            "orchestrator",
            "serve",
            "--bind",
            &bind,
            "--token",
            "S3CR3T-OF-THE-POOL",
        ]);
        command.arg("--state-dir").arg(self.folder.path().join("orchestrator"));
        let log = self.folder.path().join("orchestrator.log");
        let running = tokio::task::spawn_blocking(move || Running::start(command, &log))
            .await
            .unwrap();
        let (_, at) = running.said.trim().rsplit_once('/').unwrap();
        self.at = at.parse().unwrap();
        self.orchestrator = Some(running);
    }

    /// Starts a worker; it comes in where it has not before.
    pub(super) async fn worker(&self, name: &str, at: SocketAddr) -> Running {
        let (state, code) = (self.folder.path().join(name), self.engine.code());
        let url = format!("http://{at}");
        let mut command = program(&[
            "worker",
            "--orchestrator",
            &url,
            "--allow-unconfined",
            "--concurrency",
            "2",
        ]);
        command.args(["--enroll-code", &code]).arg("--state-dir").arg(state);
        let log = self.folder.path().join(format!("{name}.log"));
        tokio::task::spawn_blocking(move || Running::start(command, &log))
            .await
            .unwrap()
    }
}
