//! The socket by which a container's init comes in: open for one connection, before any program of the job runs.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pond_core::sandbox::SandboxError;
use tokio::net::UnixListener;

use super::container::Container;

/// How long the init may take from its start until it has come in.
const COMES: Duration = Duration::from_secs(20);

/// A socket of a sandbox's folder. Dropped, it is closed and removed: what the container still shows of it leads nowhere.
pub(super) struct Door {
    path: PathBuf,
    listener: Option<std::os::unix::net::UnixListener>,
}

impl Door {
    /// Opens it, for whoever finds it: the folder is closed to everybody else, and shown to the container alone.
    pub(super) fn open(folder: &Path) -> Result<Self, SandboxError> {
        let at = |error| SandboxError::io("the socket of a sandbox cannot be made", error);
        Self::try_open(folder).map_err(at)
    }

    fn try_open(folder: &Path) -> io::Result<Self> {
        let path = folder.join("control");
        // By the folder's descriptor: the name of a socket may have 107 bytes at most, which a state folder's path may pass.
        let opened = fs::OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_DIRECTORY)
            .open(folder)?;
        let short = format!("/proc/self/fd/{}/control", opened.as_raw_fd());
        let listener = std::os::unix::net::UnixListener::bind(short)?;
        listener.set_nonblocking(true)?;
        let door = Self {
            path,
            listener: Some(listener),
        };
        fs::set_permissions(&door.path, fs::Permissions::from_mode(0o666))?;
        Ok(door)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for the init, and makes sure that it is one of this host and runs as whom it was started; says its pid.
    pub(super) async fn admit(&mut self, uid: u32, container: &Container) -> Result<(StdStream, u32), SandboxError> {
        let at = |error| SandboxError::io("the sandbox's init cannot be heard", error);
        let listener = self.listener.take().expect("admits once");
        let listener = UnixListener::from_std(listener).map_err(at)?;
        let stream = match tokio::time::timeout(COMES, listener.accept()).await {
            Ok(accepted) => accepted.map_err(at)?.0,
            Err(_) => return Err(container.silent().await),
        };
        let peer = stream.peer_cred().map_err(at)?;
        if (peer.uid(), peer.gid()) != (uid, uid) {
            return Err(SandboxError::Unsupported {
                reason: format!("the engine runs a job as uid {} where {uid} was asked for", peer.uid()),
                fix: "use an engine that maps uids as it tells, or bubblewrap".into(),
            });
        }
        let pid = peer
            .pid()
            .and_then(|pid| u32::try_from(pid).ok())
            .filter(|pid| *pid > 1);
        let pid = pid.ok_or_else(|| SandboxError::Unsupported {
            reason: "the processes of the engine's containers cannot be seen by this worker".into(),
            fix: "run worker and engine side by side on one host, or use bubblewrap".into(),
        })?;
        Ok((stream.into_std().map_err(at)?, pid))
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // It goes with its folder, if not now.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_is_no_matter_and_a_closed_door_leads_nowhere() {
        let folder = tempfile::tempdir().expect("a folder");
        let deep = folder.path().join("a".repeat(200));
        fs::create_dir(&deep).expect("own folder");
        let door = Door::open(&deep).expect("opens");
        let link = folder.path().join("shown");
        fs::hard_link(door.path(), &link).expect("what a mount would show");
        StdStream::connect(&link).expect("it is open");
        let path = door.path().to_owned();
        drop(door);
        assert!(!path.exists());
        let refused = StdStream::connect(&link).expect_err("it is closed");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}
