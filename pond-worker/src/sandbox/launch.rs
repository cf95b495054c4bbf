//! Launchers: processes of the embedded init that wait, in control groups of their own, to be told what to become.
//!
//! Moving a process into a group waits for the kernel's grace period (6 to 14 ms, measured), more than all else of a start
//! together. So one launcher is always parked ahead, and a start takes that.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use pond_core::sandbox::SandboxError;

use super::limits::{Group, Means};
use super::record::{Folder, Held};

/// The init's file name, and so the name of its process.
pub(crate) const INIT_NAME: &str = "pond-init";
/// What is kept of what a launcher says when it fails.
const MAX_SAID: u64 = 4096;

/// A launcher that waits.
pub(crate) struct Parked {
    pub(crate) folder: Folder,
    pub(crate) group: Box<dyn Group>,
    pub(crate) process: Arc<Process>,
    pub(crate) control: UnixStream,
}

impl Parked {
    /// Starts a launcher and puts it into a group of its own. Blocks.
    pub(crate) fn start(init: &Path, means: &Means, folder: Folder) -> Result<Self, SandboxError> {
        let group = match means.group(folder.id()) {
            Ok(group) => group,
            Err(error) => {
                folder.remove();
                return Err(SandboxError::io(
                    "the control groups of a sandbox cannot be made",
                    error,
                ));
            }
        };
        let undo = |error| {
            let _ = group.remove();
            folder.remove();
            SandboxError::io("the sandbox launcher cannot be started", error)
        };
        let (control, process) = match UnixStream::pair().and_then(|(ours, theirs)| Ok((ours, spawn(init, theirs)?))) {
            Ok(started) => started,
            Err(error) => return Err(undo(error)),
        };
        let parked = Self {
            folder,
            group,
            process,
            control,
        };
        parked
            .enter()
            .map_err(|error| SandboxError::io("a sandbox cannot be put under limits", error))?;
        Ok(parked)
    }

    fn enter(&self) -> io::Result<()> {
        self.folder.write(Held {
            root: Some(self.process.pid),
            groups: self.group.folders(),
            ..Held::default()
        })?;
        self.group.add(self.process.pid as u32)
    }
}

/// A launcher as a child of this process, whatever it became.
pub(crate) struct Process {
    pub(crate) pid: i32,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    ended: bool,
    said: String,
}

impl Process {
    /// Sends SIGKILL, if it is still there.
    pub(crate) fn kill(&self) {
        let state = self.state.lock().expect("no holder of this lock panics");
        // Not collected yet while this lock is held and it has not ended, so the number is its own.
        if !state.ended {
            let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
        }
    }

    /// Waits for its end; false when that does not come in time.
    pub(crate) fn wait(&self, within: Duration) -> bool {
        let until = Instant::now() + within;
        let mut state = self.state.lock().expect("no holder of this lock panics");
        while !state.ended {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .expect("no holder of this lock panics")
                .0;
        }
        true
    }

    /// What it said on its standard error.
    pub(crate) fn said(&self) -> String {
        self.state
            .lock()
            .expect("no holder of this lock panics")
            .said
            .trim()
            .to_owned()
    }

    fn live(&self, mut child: Child) {
        let mut said = Vec::new();
        if let Some(mut stderr) = child.stderr.take() {
            let _ = stderr.by_ref().take(MAX_SAID).read_to_end(&mut said);
            let _ = io::copy(&mut stderr, &mut io::sink());
        }
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        while waitid(Id::Pid(Pid::from_raw(self.pid)), flags) == Err(nix::Error::EINTR) {}
        let mut state = self.state.lock().expect("no holder of this lock panics");
        let _ = child.wait();
        state.ended = true;
        state.said = String::from_utf8_lossy(&said).into_owned();
        self.changed.notify_all();
    }
}

/// Starts the launcher from a thread that lives as long as it does: the kernel's "die with your parent" means the thread
/// that a process was started from, and a runtime's threads come and go.
fn spawn(init: &Path, control: UnixStream) -> io::Result<Arc<Process>> {
    let (told, hear) = sync_channel(1);
    let init = init.to_owned();
    std::thread::Builder::new()
        .name("pond-sandbox".into())
        .stack_size(128 << 10)
        .spawn(move || {
            let mut command = Command::new(&init);
            command
                .env_clear()
                .stdin(OwnedFd::from(control))
                .stdout(Stdio::null())
                .stderr(Stdio::piped());
            let started = spawn_once_closed(command.current_dir("/"));
            drop(command);
            match started {
                Err(error) => drop(told.send(Err(error))),
                Ok(child) => {
                    let process = Process {
                        pid: child.id() as i32,
                        state: Mutex::default(),
                        changed: Condvar::new(),
                    };
                    let process = Arc::new(process);
                    let _ = told.send(Ok(Arc::clone(&process)));
                    process.live(child);
                }
            }
        })?;
    hear.recv().map_err(io::Error::other)?
}

/// Starts a program that this process has just written. While another thread starts something, its child holds the written
/// file open for a moment, and the kernel does not execute a file that is open for writing.
fn spawn_once_closed(command: &mut Command) -> io::Result<Child> {
    let until = Instant::now() + Duration::from_secs(2);
    loop {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(2));
            }
            outcome => return outcome,
        }
    }
}
