//! Sandboxes that a launcher becomes: it waits in control groups of its own, is told the job's uid and what to be, and the
//! init inside answers on the very stream it was started with.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pond_core::sandbox::{Enforcement, Running, SandboxError, Spec};

use super::host::Host;
use super::init::Frame;
use super::launch::{Parked, Process};
use super::limits::{Group, Usage, rlimit};
use super::live::{self, Inside, Owner};
use super::record::{Held, wait_until};
use super::remains::{Body, Guard, PATIENCE, Remains};
use super::uid::UidLease;

/// What a backend decides about a start.
pub(crate) struct Plan {
    /// What the launcher is to become; itself, when absent.
    pub(crate) confinement: Option<Confinement>,
    /// What programs find.
    pub(crate) inside: Inside,
}

/// The confining program.
pub(crate) struct Confinement {
    pub(crate) uid: Option<UidLease>,
    /// Paths of the host to show on the stage, when a uid is given.
    pub(crate) sources: Vec<PathBuf>,
    /// Contents it gets as descriptors from 10 on.
    pub(crate) files: Vec<Vec<u8>>,
    pub(crate) argv: Vec<String>,
}

impl Plan {
    fn uid(&self) -> Option<u32> {
        let lease = self.confinement.as_ref()?.uid.as_ref();
        lease.map(UidLease::uid)
    }
}

/// A launcher, whatever it became, in a group of its own.
pub(super) struct Launched {
    pub(super) process: Arc<Process>,
    pub(super) group: Box<dyn Group>,
}

impl Body for Launched {
    fn enforcement(&self) -> Enforcement {
        self.group.enforcement()
    }

    fn usage(&self) -> Result<Usage, SandboxError> {
        let usage = self.group.usage();
        usage.map_err(|error| SandboxError::io("a sandbox's use cannot be read", error))
    }

    fn freeze(&self) -> Result<(), SandboxError> {
        let frozen = self.group.freeze();
        frozen.map_err(|error| SandboxError::io("a sandbox cannot be frozen", error))
    }

    fn thaw(&self) -> Result<(), SandboxError> {
        let thawed = self.group.thaw();
        thawed.map_err(|error| SandboxError::io("a sandbox cannot be thawed", error))
    }

    fn end(&self) -> Result<(), SandboxError> {
        let none_left = wait_until(|| {
            if self.group.kill()? > 0 {
                return Ok(false);
            }
            // Nothing is left below it, so it can go without anything being lost sight of.
            self.process.kill();
            Ok(self.process.wait(Duration::from_millis(5)))
        });
        none_left.map_err(|error| SandboxError::io("a sandbox cannot be ended", error))?;
        wait_until(|| Ok(self.group.remove().is_ok()))
            .map_err(|error| SandboxError::io("the control groups of a sandbox cannot be removed", error))
    }
}

/// Ends a launcher that never started anything.
pub(super) fn put_away(parked: Parked) {
    drop(parked.control);
    parked.process.kill();
    let ended = parked.process.wait(PATIENCE);
    if let Err(error) = wait_until(|| Ok(parked.group.remove().is_ok())) {
        tracing::warn!(%error, ended, "the control groups of a sandbox launcher stay behind");
    }
    parked.folder.remove();
}

/// Starts a sandbox by a backend's plan, made once its launcher's folder is known. Nothing is left behind on an error.
pub(crate) async fn start(
    host: Arc<Host>,
    spec: Spec,
    plan: impl FnOnce(&Host, &Spec, &Path) -> Result<Plan, SandboxError> + Send + 'static,
) -> Result<Box<dyn Running>, SandboxError> {
    live::check(&spec)?;
    let prepared = tokio::task::spawn_blocking(move || prepare(&host, spec, plan)).await;
    let prepared = prepared.map_err(|_| SandboxError::failed("a sandbox start panicked"))??;
    let Prepared {
        remains,
        process,
        control,
        spec,
        plan,
        uid,
    } = prepared;
    let limits = match remains.body.enforcement() {
        Enforcement::Rlimits => rlimit::per_process(&plan.inside.whole(&spec.limits), uid.is_some()),
        _ => Vec::new(),
    };
    let frames = vec![
        launch_frame(&plan, uid),
        live::setup_frame(&spec, &plan.inside, limits, &[]),
    ];
    let owner = uid.map_or(Owner::Worker, Owner::Job);
    // The caller may lose patience and drop this start while it waits.
    match live::bring_up(Guard(Some(remains)), control, frames, spec, plan.inside, owner).await {
        Ok(live) => Ok(Box::new(live)),
        Err((guard, error)) => Err(failed(guard, process, error).await),
    }
}

/// What is made ready without waiting for anything inside.
struct Prepared {
    remains: Remains,
    process: Arc<Process>,
    control: std::os::unix::net::UnixStream,
    spec: Spec,
    plan: Plan,
    /// The job's own, on the host.
    uid: Option<u32>,
}

fn prepare(
    host: &Arc<Host>,
    spec: Spec,
    plan: impl FnOnce(&Host, &Spec, &Path) -> Result<Plan, SandboxError>,
) -> Result<Prepared, SandboxError> {
    let Parked {
        folder,
        group,
        process,
        control,
    } = host.launcher()?;
    let body = Arc::new(Launched {
        process: Arc::clone(&process),
        group,
    });
    let mut remains = Remains {
        control: None,
        body: Arc::clone(&body) as Arc<dyn Body>,
        folder: Some(folder),
        uid: None,
        _host: Arc::clone(host),
    };
    let folder = remains.folder.as_ref().expect("set in the line above");
    let mut plan = plan(host, &spec, folder.path())?;
    let uid = plan.uid();
    if uid.is_some() {
        let at = |error| SandboxError::io("the record of a sandbox cannot be written", error);
        let held = Held {
            root: Some(process.pid),
            uid,
            groups: body.group.folders(),
            container: None,
        };
        folder.write(held).map_err(at)?;
    }
    remains.uid = plan.confinement.as_mut().and_then(|confinement| confinement.uid.take());
    let unlimited = |error| SandboxError::io("the limits of a sandbox cannot be put in force", error);
    body.group.limit(&plan.inside.whole(&spec.limits)).map_err(unlimited)?;
    Ok(Prepared {
        remains,
        process,
        control,
        spec,
        plan,
        uid,
    })
}

fn launch_frame(plan: &Plan, uid: Option<u32>) -> Frame {
    let uid = uid.unwrap_or(u32::MAX);
    let frame = Frame::new(Frame::LAUNCH).number(uid).number(uid);
    match &plan.confinement {
        None => frame.number(0).number(0).number(0),
        Some(confinement) => frame
            .list(confinement.sources.iter(), |frame, path| frame.path(path))
            .list(confinement.files.iter(), Frame::text)
            .list(confinement.argv.iter(), Frame::text),
    }
}

async fn failed(mut guard: Guard, process: Arc<Process>, error: std::io::Error) -> SandboxError {
    // Its own words tell more than the stream that ended; they are there once it has.
    let said = tokio::task::spawn_blocking(move || {
        drop(guard.0.take());
        process.wait(PATIENCE);
        process.said()
    });
    match said.await.unwrap_or_default() {
        said if said.is_empty() => SandboxError::io("the sandbox does not start", error),
        said if said.contains("namespace") || said.contains("uid map") => SandboxError::Unsupported {
            reason: format!("this host gives no user namespace: {said}"),
            fix: "allow them (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns)".into(),
        },
        said => SandboxError::io(format!("the sandbox does not start: {said}"), error),
    }
}
