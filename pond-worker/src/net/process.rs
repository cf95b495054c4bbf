//! A child process in a group of its own that never outlives whoever waits for it.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long a killed group may take to be gone.
const END: Duration = Duration::from_secs(2);

/// A running process with everything it started; killed when dropped.
pub(super) struct Group {
    pub(super) child: Child,
    id: Option<Pid>,
}

impl Group {
    /// Starts the command as the leader of a new group.
    pub(super) fn spawn(command: &mut Command) -> io::Result<Self> {
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        let id = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        Ok(Self { child, id })
    }

    /// Waits for the leader's end. Whatever it left running ends then too.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        self.kill();
        Ok(status)
    }

    /// Kills the whole group and waits until nobody of it is left, so that its files can be removed; not for long, since a
    /// dead process that nobody reaps still counts.
    pub(super) async fn end(&mut self) {
        let id = self.id;
        self.kill();
        let gone = async {
            // An error would mean that it is not our child any more, which is as good.
            let _ = self.child.wait().await;
            while id.is_some_and(|id| killpg(id, None).is_ok()) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let _ = timeout(END, gone).await;
    }

    /// Kills the whole group. Once is enough: the number may belong to others later.
    pub(super) fn kill(&mut self) {
        if let Some(id) = self.id.take() {
            // It may be gone already.
            let _ = killpg(id, Signal::SIGKILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}
