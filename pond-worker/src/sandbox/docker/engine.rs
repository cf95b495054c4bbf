//! The engine, by its API on a socket of this host, and what has to be known of it before it is trusted with a job.

use std::path::PathBuf;

use bollard::errors::Error;
use bollard::models::SystemInfo;
use bollard::{API_DEFAULT_VERSION, ClientVersion};
use pond_core::sandbox::SandboxError;
use tokio::sync::OnceCell;

/// Seconds that the engine may take for an answer.
const PATIENCE: u64 = 60;

/// A Docker Engine.
pub(super) struct Engine {
    /// Nothing when it is not to be reached by a socket of this host.
    socket: Option<PathBuf>,
    version: OnceCell<ClientVersion>,
}

/// What the engine says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    /// The host's uid that is root in its user namespaces, where it has them.
    pub(super) remapped: Option<u32>,
}

impl Engine {
    /// At a `DOCKER_HOST`. A path alone is a socket too.
    pub(super) fn new(host: &str) -> Self {
        let path = host.strip_prefix("unix://").unwrap_or(host);
        Self {
            socket: path.starts_with('/').then(|| path.into()),
            version: OnceCell::new(),
        }
    }

    /// Whether there is a socket at all.
    pub(super) fn is_there(&self) -> bool {
        self.socket.as_ref().is_some_and(|socket| socket.exists())
    }

    /// A client of its own for the runtime that it is used on; nothing is kept open between requests.
    pub(super) async fn connect(&self) -> Result<bollard::Docker, SandboxError> {
        let socket = self.socket.as_ref().ok_or_else(|| SandboxError::Unsupported {
            reason: "containers need an engine on this host, reached by its Unix socket".into(),
            fix: "set DOCKER_HOST to unix:// and the path of a socket".into(),
        })?;
        let path = socket.to_string_lossy();
        let client = |version: &ClientVersion| {
            bollard::Docker::connect_with_unix(&path, PATIENCE, version).map_err(|error| self.absent(&error))
        };
        let version = self.version.get_or_try_init(|| async {
            let agreed = client(API_DEFAULT_VERSION)?.negotiate_version().await;
            Ok::<_, SandboxError>(agreed.map_err(|error| self.absent(&error))?.client_version())
        });
        client(version.await?)
    }

    fn absent(&self, error: &Error) -> SandboxError {
        let socket = self.socket.as_deref().unwrap_or_else(|| "".as_ref()).display();
        SandboxError::Unsupported {
            reason: format!("no Docker Engine answers at {socket}: {}", told(error)),
            fix: "start one, let this worker's user use its socket, or set DOCKER_HOST".into(),
        }
    }

    /// What it says of itself. Asked anew each time: an engine may be started again with other settings.
    pub(super) async fn facts(&self) -> Result<Facts, SandboxError> {
        let info = self.connect().await?.info().await;
        facts(&info.map_err(failed("the engine does not tell what it can"))?)
    }

    /// Asks from a thread that may wait, whatever runtime it is on or not on.
    pub(super) fn wait_for<T: Send>(
        &self,
        ask: impl AsyncFnOnce(bollard::Docker) -> Result<T, SandboxError> + Send,
    ) -> Result<T, SandboxError> {
        let alone = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| SandboxError::io("the engine cannot be asked", error))?;
            runtime.block_on(async { ask(self.connect().await?).await })
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("pond-docker".into());
            let asked = thread.spawn_scoped(scope, alone);
            let asked = asked.map_err(|error| SandboxError::io("the engine cannot be asked", error))?;
            asked
                .join()
                .map_err(|_| SandboxError::failed("asking the engine panicked"))?
        })
    }
}

/// Refuses an engine that could not hold what a job is held by.
fn facts(info: &SystemInfo) -> Result<Facts, SandboxError> {
    let unsupported = |reason: &str, fix: &str| SandboxError::Unsupported {
        reason: reason.into(),
        fix: fix.into(),
    };
    let options = info.security_options.as_deref().unwrap_or_default();
    let has = |name: &str| {
        let is_it = |option: &String| option.split(',').any(|part| part.strip_prefix("name=") == Some(name));
        options.iter().any(is_it)
    };
    if has("rootless") {
        return Err(unsupported(
            "the engine runs rootless: the root of its containers is its own user",
            "use an engine that runs as root, or bubblewrap",
        ));
    }
    let held = [info.memory_limit, info.pids_limit, info.cpu_cfs_quota];
    if held.iter().any(|held| *held != Some(true)) {
        return Err(unsupported(
            "the engine cannot limit memory, processes and CPU time on this host",
            "give it control groups with memory, pids and cpu",
        ));
    }
    let remapped = match has("userns") {
        false => None,
        true => Some(remapped_root(info).ok_or_else(|| {
            unsupported(
                "the engine has user namespaces, and does not tell whose",
                "use an engine of version 1.10 or later, or bubblewrap",
            )
        })?),
    };
    Ok(Facts { remapped })
}

/// The engine keeps what belongs to a mapping in a folder that is named by uid and gid of its root.
fn remapped_root(info: &SystemInfo) -> Option<u32> {
    let folder = info.docker_root_dir.as_deref()?.rsplit('/').next()?;
    let (uid, gid) = folder.split_once('.')?;
    let uid: u32 = uid.parse().ok()?;
    (gid.parse() == Ok(uid)).then_some(uid)
}

/// What went wrong, as one line.
pub(super) fn told(error: &Error) -> String {
    match error {
        Error::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        other => {
            let cause = std::error::Error::source(other).map(|source| format!(": {source}"));
            format!("{other}{}", cause.unwrap_or_default())
        }
    }
}

/// A refusal or failure of the engine.
pub(super) fn failed(what: &str) -> impl Fn(Error) -> SandboxError {
    move |error| SandboxError::failed(format!("{what}: {}", told(&error)))
}

/// The status of the engine's answer.
pub(super) fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> SystemInfo {
        SystemInfo {
            memory_limit: Some(true),
            pids_limit: Some(true),
            cpu_cfs_quota: Some(true),
            docker_root_dir: Some("/var/lib/docker".into()),
            security_options: Some(vec!["name=seccomp,profile=default".into()]),
            ..SystemInfo::default()
        }
    }

    #[test]
    fn an_engine_that_cannot_hold_a_job_is_refused() {
        assert_eq!(facts(&info()).expect("sound"), Facts { remapped: None });
        let changes: [fn(&mut SystemInfo); 5] = [
            |info| info.memory_limit = Some(false),
            |info| info.pids_limit = None,
            |info| info.cpu_cfs_quota = Some(false),
            |info| info.security_options = Some(vec!["name=rootless".into()]),
            |info| info.security_options = Some(vec!["name=userns".into()]),
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut info = info();
            change(&mut info);
            assert!(
                matches!(facts(&info), Err(SandboxError::Unsupported { .. })),
                "{number}"
            );
        }
    }

    #[test]
    fn the_root_of_user_namespaces_is_found() {
        let with = |folder: &str| {
            facts(&SystemInfo {
                security_options: Some(vec!["name=seccomp,profile=default".into(), "name=userns".into()]),
                docker_root_dir: Some(folder.into()),
                ..info()
            })
        };
        assert_eq!(
            with("/var/lib/docker/165536.165536").expect("told").remapped,
            Some(165_536)
        );
        assert!(with("/var/lib/docker/165536.100").is_err());
        assert!(with("/var/lib/docker").is_err());
    }

    #[test]
    fn only_a_socket_of_this_host_is_an_engine() {
        for (host, is_socket) in [
            ("unix:///run/docker.sock", true),
            ("/run/docker.sock", true),
            ("tcp://127.0.0.1:2375", false),
            ("ssh://host", false),
            ("", false),
        ] {
            assert_eq!(Engine::new(host).socket.is_some(), is_socket, "{host}");
        }
    }
}
