//! Confinement by Docker Engine: a container without network, with a root nobody can write to, and the same init in it as in
//! every other sandbox.
//!
//! A container inherits no descriptor, so its init connects out: to a socket that is shown to it alone, takes one connection
//! before anything else runs inside, and is then closed and removed. Everything that is said of a job goes over that
//! connection; the container's own settings, which whoever may use the engine can read, hold no word of it.

mod container;
mod control;
mod engine;
mod image;
mod recovery;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use pond_core::sandbox::{BackendKind, Profile, Running, Sandbox, SandboxError, Spec};

use self::container::{Container, Guest};
use self::control::Door;
use self::engine::{Engine, Facts};
use super::guest::{self, HOME, TMP, USER};
use super::host::{Host, Identity};
use super::live::{self, Inside, Live, Owner, View};
use super::record::Held;
use super::remains::{Body, Guard, Remains};
use super::uid::UidLease;
use super::{probe, seccomp};

/// How the engine is used.
#[derive(Debug, Clone)]
pub struct DockerSettings {
    /// Where the engine is: `unix://` and the path of its socket on this host.
    pub host: String,
    /// The image of jobs that name none.
    pub image: Option<String>,
    /// Whether images that are not on this host may be pulled.
    pub pull: bool,
}

impl Default for DockerSettings {
    fn default() -> Self {
        Self {
            host: "unix:///var/run/docker.sock".into(),
            image: None,
            pull: false,
        }
    }
}

/// The backend that confines by Docker Engine.
#[derive(Clone)]
pub struct Docker {
    host: Arc<Host>,
    engine: Arc<Engine>,
    settings: Arc<DockerSettings>,
}

impl Docker {
    /// On this host.
    pub fn new(host: Arc<Host>, settings: DockerSettings) -> Self {
        Self {
            host,
            engine: Arc::new(Engine::new(&settings.host)),
            settings: Arc::new(settings),
        }
    }
}

#[async_trait]
impl Sandbox for Docker {
    fn kind(&self) -> BackendKind {
        BackendKind::Docker
    }

    async fn probe(&self) -> Result<(), SandboxError> {
        probe::run(self, Profile::UntrustedCodeRead).await
    }

    async fn start(&self, spec: Spec) -> Result<Box<dyn Running>, SandboxError> {
        if !spec.profile.is_confined() {
            return Err(SandboxError::Unsupported {
                reason: "docker confines, which profile none does not ask for".into(),
                fix: "use backend none".into(),
            });
        }
        live::check(&spec)?;
        let start = self.clone();
        // In a task of its own: the engine does what it was asked to do whether anybody still waits for it or not, so this
        // goes on to where it can be undone.
        let started = tokio::spawn(async move { start.begin(spec).await }).await;
        let live = started.map_err(|_| SandboxError::failed("a sandbox start panicked"))??;
        Ok(Box::new(live))
    }

    async fn recover(&self) -> Result<usize, SandboxError> {
        let (host, engine) = (Arc::clone(&self.host), Arc::clone(&self.engine));
        let recovered =
            tokio::task::spawn_blocking(move || Ok(host.recover()? + recovery::recover(&host, &engine)?)).await;
        recovered.map_err(|_| SandboxError::failed("recovery panicked"))?
    }
}

/// What is made ready before the container.
struct Ready {
    guard: Guard,
    body: Arc<Container>,
    who: Who,
    door: Door,
    etc: PathBuf,
}

impl Docker {
    async fn begin(&self, spec: Spec) -> Result<Live, SandboxError> {
        let facts = self.engine.facts().await?;
        let image = image::find(&self.engine, &self.settings, spec.image.as_deref()).await?;
        let (host, engine, mounts) = (Arc::clone(&self.host), Arc::clone(&self.engine), spec.mounts.clone());
        let ready = tokio::task::spawn_blocking(move || {
            let who = Who::of(&host, facts)?;
            guest::hand_over(&mounts, who.outside)?;
            prepare(&host, engine, who)
        });
        let Ready {
            guard,
            body,
            who,
            mut door,
            etc,
        } = ready
            .await
            .map_err(|_| SandboxError::failed("a sandbox start panicked"))??;
        let guest = Guest {
            spec: &spec,
            image: &image,
            uid: who.inside,
            init: self.host.init(),
            socket: door.path(),
            etc: &etc,
            mark: self.host.shelf().mark(),
        };
        let inside = Inside {
            home: HOME.into(),
            tmp: TMP.into(),
            path: image.path.clone(),
            user: USER.into(),
            view: View::Inside,
            own_pids: 1,
        };
        let config = guest.config(&inside.whole(&spec.limits))?;
        body.start(config).await?;
        let (stream, pid) = door.admit(who.outside, &body).await?;
        drop(door);
        record(
            &guard,
            Held {
                root: i32::try_from(pid).ok(),
                ..body.held()
            },
        )?;
        body.met(pid, &inside.whole(&spec.limits)).await?;
        let frames = vec![live::setup_frame(
            &spec,
            &inside,
            Vec::new(),
            &seccomp::filter(seccomp::Memory::OfTheWhole),
        )];
        let owner = Owner::Job(who.outside);
        let up = live::bring_up(guard, stream, frames, spec, inside, owner).await;
        up.map_err(|(_, error)| SandboxError::io("the sandbox does not start", error))
    }
}

fn prepare(host: &Arc<Host>, engine: Arc<Engine>, mut who: Who) -> Result<Ready, SandboxError> {
    let folder = host.folder()?;
    let body = Arc::new(Container::new(engine, &folder, who.outside));
    let remains = Remains {
        control: None,
        body: Arc::clone(&body) as Arc<dyn Body>,
        folder: Some(folder),
        uid: who.lease.take(),
        _host: Arc::clone(host),
    };
    let folder = remains
        .folder
        .as_ref()
        .map_or_else(PathBuf::new, |folder| folder.path().to_owned());
    let guard = Guard(Some(remains));
    // Ahead of the container, so that none is without a record.
    record(&guard, body.held())?;
    let door = Door::open(&folder)?;
    let etc = guest::make_etc(&folder, who.inside)?;
    Ok(Ready {
        guard,
        body,
        who,
        door,
        etc,
    })
}

/// Writes the record of a sandbox that is being started.
fn record(guard: &Guard, held: Held) -> Result<(), SandboxError> {
    let folder = guard.0.as_ref().and_then(|remains| remains.folder.as_ref());
    let written = folder.map_or(Ok(()), |folder| folder.write(held));
    written.map_err(|error| SandboxError::io("the record of a sandbox cannot be written", error))
}

/// Who a job is.
struct Who {
    /// Its uid and gid in the container.
    inside: u32,
    /// The same uid and gid, as the host has them.
    outside: u32,
    lease: Option<UidLease>,
}

impl Who {
    fn of(host: &Host, facts: Facts) -> Result<Self, SandboxError> {
        let Identity::Pool(pool) = host.identity() else {
            return Err(match host.identity() {
                Identity::Own => SandboxError::Unsupported {
                    reason: "this worker is not root, and so cannot give a job's folders to the uid of a container"
                        .into(),
                    fix: "start it as root, or use bubblewrap".into(),
                },
                _ => guest::no_pool(),
            });
        };
        let Some(base) = facts.remapped else {
            let lease = guest::lease(host)?;
            let outside = lease.as_ref().map_or(0, UidLease::uid);
            return Ok(Self {
                inside: outside,
                outside,
                lease,
            });
        };
        // Both hold: the job's uid is one of the worker's range, and one that the engine maps into its user namespaces.
        let mapped = base.saturating_add(1)..=base.saturating_add(65_534);
        let lease = pool.lease_in(&mapped).ok_or_else(|| SandboxError::Unsupported {
            reason: format!(
                "the engine has user namespaces for the uids from {} to {}, and none of these is free in the worker's range",
                mapped.start(),
                mapped.end()
            ),
            fix: format!("start the worker with --uid-range {}-{}", mapped.start(), mapped.end()),
        })?;
        Ok(Self {
            inside: lease.uid() - base,
            outside: lease.uid(),
            lease: Some(lease),
        })
    }
}
