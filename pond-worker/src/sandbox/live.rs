//! A sandbox that lives, whatever confines it: programs, ways out, limits, and its end.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use async_trait::async_trait;
use pond_core::sandbox::{
    Enforcement, Exec, LimitKind, Limits, Mount, Process as Program, Running, SandboxError, Spec, Stats,
};
use tokio::task::JoinSet;

use super::init::{Control, Frame, MAX_FDS};
use super::remains::{Body, Guard, Remains, end_in_background};
use super::{bridges, program};

/// Open files of one process.
const MAX_FILES: u64 = 8192;
const RLIMIT_NOFILE: u32 = 7;
/// Bytes of one file of a confined job, so that not all of a disk goes between two looks at its folders.
const MAX_FILE: u64 = 16 << 30;
const RLIMIT_FSIZE: u32 = 1;

/// What programs find inside.
pub(crate) struct Inside {
    pub(crate) home: PathBuf,
    pub(crate) tmp: PathBuf,
    pub(crate) path: String,
    pub(crate) user: String,
    /// Where folders of the host are found inside.
    pub(crate) view: View,
    /// Processes that are not the job's: the init, and what confines it.
    pub(crate) own_pids: u32,
}

impl Inside {
    /// The limits of a job and of what is around it.
    pub(crate) fn whole(&self, limits: &Limits) -> Limits {
        Limits {
            pids: limits.pids.saturating_add(self.own_pids),
            ..*limits
        }
    }

    /// Where a path inside is found by programs.
    fn locate(&self, mounts: &[Mount], path: PathBuf) -> PathBuf {
        match self.view {
            View::Inside => path,
            View::Host => {
                let found = mounts
                    .iter()
                    .find_map(|mount| Some((mount, path.strip_prefix(&mount.inside).ok()?)));
                found.map(|(mount, below)| mount.host.join(below)).unwrap_or(path)
            }
        }
    }
}

/// How paths inside relate to paths of the host.
pub(crate) enum View {
    /// Mounts are where the spec wants them.
    Inside,
    /// There are no mounts: a path inside means the folder of the host.
    Host,
}

/// Who programs are, on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The worker's own user.
    Worker,
    /// A uid that the worker may give files to.
    Job(u32),
}

/// What is wrong with a spec on any backend.
pub(crate) fn check(spec: &Spec) -> Result<(), SandboxError> {
    let named = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if spec.name.is_empty() || spec.name.len() > 128 || !spec.name.bytes().all(named) {
        return Err(SandboxError::failed(
            "a sandbox's name is lower-case letters, digits and dashes",
        ));
    }
    if spec.bridges.len() > MAX_FDS {
        return Err(SandboxError::failed(format!("a sandbox has at most {MAX_FDS} bridges")));
    }
    let sound = |path: &Path| path.is_absolute() && !path.components().any(|part| part == Component::ParentDir);
    if spec
        .mounts
        .iter()
        .any(|mount| !sound(&mount.host) || !sound(&mount.inside))
    {
        return Err(SandboxError::failed(
            "folders of a sandbox are named by absolute paths without `..`",
        ));
    }
    if spec.limits.memory == 0 || spec.limits.pids == 0 || spec.limits.millicpus == 0 || spec.limits.tmpfs == 0 {
        return Err(SandboxError::failed("a limit of nothing is no limit"));
    }
    Ok(())
}

/// What the init is told first: `more` limits of each process, and a filter for system calls where none is in force yet.
pub(crate) fn setup_frame(spec: &Spec, inside: &Inside, more: Vec<(u32, u64)>, filter: &[u8]) -> Frame {
    let mut limits = vec![(RLIMIT_NOFILE, MAX_FILES)];
    if matches!(inside.view, View::Inside) {
        limits.push((RLIMIT_FSIZE, MAX_FILE));
    }
    limits.extend(more);
    let env: [(&str, &[u8]); 6] = [
        ("PATH", inside.path.as_bytes()),
        ("HOME", inside.home.as_os_str().as_encoded_bytes()),
        ("TMPDIR", inside.tmp.as_os_str().as_encoded_bytes()),
        ("LANG", b"C.UTF-8"),
        ("USER", inside.user.as_bytes()),
        ("LOGNAME", inside.user.as_bytes()),
    ];
    Frame::new(Frame::SETUP)
        .path(&inside.home)
        .list(spec.home.iter(), |frame, file| {
            frame.path(&file.path).text(file.content.expose())
        })
        .list(limits.iter(), |frame, (resource, value)| {
            frame.number(*resource).large(*value)
        })
        .list(spec.bridges.iter(), |frame, bridge| frame.number(bridge.port.into()))
        .list(env.iter(), |frame, (name, value)| frame.text(name).text(value))
        .text(filter)
}

fn first_folder(spec: &Spec, inside: &Inside) -> PathBuf {
    match (spec.mounts.first(), &inside.view) {
        (None, _) => inside.home.clone(),
        (Some(mount), View::Inside) => mount.inside.clone(),
        (Some(mount), View::Host) => mount.host.clone(),
    }
}

/// Tells the init how to set the sandbox up, and takes it into use once it stands.
pub(crate) async fn bring_up(
    mut guard: Guard,
    stream: UnixStream,
    frames: Vec<Frame>,
    spec: Spec,
    inside: Inside,
    owner: Owner,
) -> Result<Live, (Guard, io::Error)> {
    let (control, listeners) = match Control::open(stream, frames).await {
        Ok(opened) => opened,
        Err(error) => return Err((guard, error)),
    };
    let control = Arc::new(control);
    let cwd = first_folder(&spec, &inside);
    let bridges = match bridges::serve_all(spec.bridges, listeners) {
        Ok(bridges) => Mutex::new(bridges),
        Err(error) => return Err((guard, io::Error::other(error))),
    };
    let mut remains = guard.0.take().expect("taken here alone");
    remains.control = Some(Arc::clone(&control));
    let body = Arc::clone(&remains.body);
    Ok(Live {
        control,
        body,
        remains: Mutex::new(Some(remains)),
        owner,
        cwd,
        mounts: spec.mounts,
        inside,
        disk: Mutex::new(false),
        bridges,
    })
}

/// A running sandbox.
pub(crate) struct Live {
    control: Arc<Control>,
    body: Arc<dyn Body>,
    remains: Mutex<Option<Remains>>,
    owner: Owner,
    cwd: PathBuf,
    mounts: Vec<Mount>,
    inside: Inside,
    /// Whether a folder of limited size has been seen full.
    disk: Mutex<bool>,
    bridges: Mutex<JoinSet<()>>,
}

impl Live {
    fn here(&self) -> Result<(), SandboxError> {
        if self.control.is_gone() {
            Err(SandboxError::failed("the sandbox has gone"))
        } else {
            Ok(())
        }
    }

    async fn body<T: Send + 'static>(
        &self,
        what: &str,
        ask: impl FnOnce(&dyn Body) -> Result<T, SandboxError> + Send + 'static,
    ) -> Result<T, SandboxError> {
        let body = Arc::clone(&self.body);
        let asked = tokio::task::spawn_blocking(move || ask(&*body)).await;
        asked.map_err(|_| SandboxError::failed(format!("{what} a sandbox panicked")))?
    }
}

#[async_trait]
impl Running for Live {
    async fn exec(&self, exec: Exec) -> Result<Program, SandboxError> {
        self.here()?;
        let cwd = exec
            .cwd
            .map_or_else(|| self.cwd.clone(), |cwd| self.inside.locate(&self.mounts, cwd));
        let pairs: Vec<(&str, &str)> = exec
            .env
            .iter()
            .map(|(name, value)| (name.as_str(), value.expose()))
            .collect();
        let (streams, stdio) = program::pipes(self.owner)?;
        let started = self.control.exec(&exec.argv, &pairs, &cwd, stdio).await?;
        Ok(program::attend(Arc::clone(&self.control), started, streams, exec.stdin))
    }

    fn enforcement(&self) -> Enforcement {
        self.body.enforcement()
    }

    async fn stats(&self) -> Result<Stats, SandboxError> {
        // Also when all of its processes have ended, so that what ended them can be told.
        if self.remains.lock().expect("no holder of this lock panics").is_none() {
            return Err(SandboxError::failed("the sandbox has gone"));
        }
        let usage = self.body("reading the use of", |body| body.usage()).await?;
        let mut breached = usage.breached;
        // On the host itself a full disk is the host's matter.
        if matches!(self.inside.view, View::Inside) && !self.control.is_gone() {
            let full = match self.control.space(&[&self.inside.tmp, &self.inside.home]).await {
                Ok(space) => space.iter().any(|(free, total)| *total > 0 && *free == 0),
                Err(_) => false,
            };
            let mut disk = self.disk.lock().expect("no holder of this lock panics");
            *disk |= full;
            if *disk {
                breached.push(LimitKind::Disk);
            }
        }
        let pids = usage.pids.map(|count| count.saturating_sub(self.inside.own_pids));
        Ok(Stats {
            memory: usage.memory,
            cpu: usage.cpu,
            pids,
            breached,
        })
    }

    async fn freeze(&self) -> Result<(), SandboxError> {
        self.here()?;
        self.body("freezing", |body| body.freeze()).await
    }

    async fn thaw(&self) -> Result<(), SandboxError> {
        self.here()?;
        self.body("thawing", |body| body.thaw()).await
    }

    async fn keep(&self, until: Instant) -> Result<(), SandboxError> {
        self.here()?;
        self.control.keep(until).await
    }

    async fn kill(&self) -> Result<(), SandboxError> {
        let remains = self.remains.lock().expect("no holder of this lock panics").take();
        let Some(mut remains) = remains else { return Ok(()) };
        // Their ports belong to the sandbox's network, which is to go too.
        self.bridges.lock().expect("no holder of this lock panics").abort_all();
        let ended = tokio::task::spawn_blocking(move || {
            let ended = remains.end();
            if ended.is_err() {
                end_in_background(remains);
            }
            ended
        })
        .await;
        ended.map_err(|_| SandboxError::failed("ending a sandbox panicked"))?
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(remains) = self.remains.get_mut().ok().and_then(Option::take) {
            self.control.close();
            end_in_background(remains);
        }
    }
}
