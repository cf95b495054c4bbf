//! No confinement: plain processes of the worker's own user, on the host's files and network, held together so that they
//! end together. For profile `none`, which an operator has to allow.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use pond_core::sandbox::{BackendKind, Running, Sandbox, SandboxError, Spec};

use super::host::Host;
use super::launched::{self, Plan};
use super::live::{Inside, View};
use super::probe;

/// Where programs are looked up.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The backend that does not confine.
pub struct NoSandbox {
    host: Arc<Host>,
    path: String,
}

impl NoSandbox {
    /// On this host, with an ordinary `PATH`.
    pub fn new(host: Arc<Host>) -> Self {
        Self {
            host,
            path: PATH.into(),
        }
    }

    /// With another `PATH` for its programs.
    #[must_use]
    pub fn with_path(self, path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            ..self
        }
    }
}

#[async_trait]
impl Sandbox for NoSandbox {
    fn kind(&self) -> BackendKind {
        BackendKind::None
    }

    async fn probe(&self) -> Result<(), SandboxError> {
        probe::run(self, pond_core::sandbox::Profile::None).await
    }

    async fn start(&self, spec: Spec) -> Result<Box<dyn Running>, SandboxError> {
        if spec.profile.is_confined() {
            return Err(SandboxError::Unsupported {
                reason: format!(
                    "backend none does not confine, as profile {} asks",
                    spec.profile.as_str()
                ),
                fix: "use bubblewrap or docker".into(),
            });
        }
        let path = self.path.clone();
        launched::start(Arc::clone(&self.host), spec, move |host, _, folder| {
            let plan = plan(path, folder);
            host.park_spare();
            plan
        })
        .await
    }

    async fn recover(&self) -> Result<usize, SandboxError> {
        let host = Arc::clone(&self.host);
        let recovered = tokio::task::spawn_blocking(move || host.recover()).await;
        recovered.map_err(|_| SandboxError::failed("recovery panicked"))?
    }
}

fn plan(path: String, folder: &Path) -> Result<Plan, SandboxError> {
    let (home, tmp) = (folder.join("home"), folder.join("tmp"));
    for made in [&home, &tmp] {
        let outcome = fs::DirBuilder::new().mode(0o700).create(made);
        outcome.map_err(|error| SandboxError::io("the home folder cannot be made", error))?;
    }
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
    let user = user.map_or_else(|| "pond".into(), |user| user.name);
    Ok(Plan {
        confinement: None,
        inside: Inside {
            home,
            tmp,
            path,
            user,
            view: View::Host,
            own_pids: 1,
        },
    })
}
