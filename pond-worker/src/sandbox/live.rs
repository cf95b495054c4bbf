//! A sandbox that lives, whatever confines it: programs, bridges, limits, and its end.

use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pond_core::sandbox::{
    Bridge, Enforcement, Exec, LimitKind, Mount, Process as Program, Running, SandboxError, Spec, Stats,
};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::host::Host;
use super::init::{Control, Frame, MAX_FDS};
use super::launch::{Parked, Process};
use super::limits::{Group, rlimit};
use super::program;
use super::record::{Folder, wait_until};
use super::uid::UidLease;

/// Bytes that are under way in a connection of a bridge, each way.
const PIECE: usize = 64 << 10;
/// Connections of one bridge at a time.
const MAX_CONNECTIONS: usize = 256;
/// Open files of one process.
const MAX_FILES: u64 = 8192;
const RLIMIT_NOFILE: u32 = 7;
/// Bytes of one file of a confined job, so that not all of a disk goes between two looks at its folders.
const MAX_FILE: u64 = 16 << 30;
const RLIMIT_FSIZE: u32 = 1;
/// How long a sandbox may take to end before that is an error.
const PATIENCE: Duration = Duration::from_secs(10);

/// The first and the longest pause before a sandbox that did not end is ended again.
const RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// What a backend decides about a start.
pub(crate) struct Plan {
    /// What the launcher is to become; itself, when absent.
    pub(crate) confinement: Option<Confinement>,
    /// Inside.
    pub(crate) home: PathBuf,
    /// Inside.
    pub(crate) tmp: PathBuf,
    pub(crate) path: String,
    pub(crate) user: String,
    /// Where folders of the host are found inside.
    pub(crate) view: View,
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

/// How paths inside relate to paths of the host.
pub(crate) enum View {
    /// Mounts are where the spec wants them.
    Inside,
    /// There are no mounts: a path inside means the folder of the host.
    Host,
}

/// Starts a sandbox by a backend's plan, made once its launcher's folder is known. Nothing is left behind on an error.
pub(crate) async fn start(
    host: Arc<Host>,
    spec: Spec,
    plan: impl FnOnce(&Host, &Spec, &Path) -> Result<Plan, SandboxError> + Send + 'static,
) -> Result<Box<dyn Running>, SandboxError> {
    check(&spec)?;
    let prepared = tokio::task::spawn_blocking(move || prepare(&host, spec, plan)).await;
    let (remains, control, spec, plan) = prepared.map_err(|_| SandboxError::failed("a sandbox start panicked"))??;
    let uid = plan
        .confinement
        .as_ref()
        .and_then(|confinement| confinement.uid.as_ref())
        .map(UidLease::uid);
    let frames = vec![
        launch_frame(&plan, uid),
        setup_frame(&spec, &plan, remains.group.as_ref(), uid),
    ];
    // The caller may lose patience and drop this start while it waits.
    let mut guard = Guard(Some(remains));
    match Control::open(control, frames).await {
        Ok((control, listeners)) => {
            let mut remains = guard.0.take().expect("taken here alone");
            let control = Arc::new(control);
            remains.control = Some(Arc::clone(&control));
            remains.uid = plan.confinement.and_then(|confinement| confinement.uid);
            let group = Arc::clone(&remains.group);
            let remains = Mutex::new(Some(remains));
            let cwd = first_folder(&spec, &plan.view, &plan.home);
            let mounts = spec.mounts;
            let places = [plan.tmp, plan.home];
            let disk = Mutex::new(false);
            let mut live = Live {
                control,
                group,
                remains,
                uid,
                cwd,
                mounts,
                view: plan.view,
                places,
                disk,
                bridges: Mutex::default(),
            };
            live.bridge(spec.bridges, listeners)?;
            Ok(Box::new(live))
        }
        Err(error) => Err(failed_start(guard.0.take().expect("taken here alone"), error).await),
    }
}

fn prepare(
    host: &Arc<Host>,
    spec: Spec,
    plan: impl FnOnce(&Host, &Spec, &Path) -> Result<Plan, SandboxError>,
) -> Result<(Remains, std::os::unix::net::UnixStream, Spec, Plan), SandboxError> {
    let Parked {
        folder,
        group,
        process,
        control,
    } = host.launcher()?;
    let host = Arc::clone(host);
    let remains = Remains {
        control: None,
        process,
        group: Arc::from(group),
        folder: Some(folder),
        uid: None,
        host,
    };
    let folder = remains.folder.as_ref().expect("set in the line above");
    let plan = plan(&remains.host, &spec, folder.path())?;
    let uid = plan
        .confinement
        .as_ref()
        .and_then(|confinement| confinement.uid.as_ref())
        .map(UidLease::uid);
    if uid.is_some() {
        let at = |error| SandboxError::io("the record of a sandbox cannot be written", error);
        folder
            .write(remains.process.pid, uid, &remains.group.folders())
            .map_err(at)?;
    }
    let unlimited = |error| SandboxError::io("the limits of a sandbox cannot be put in force", error);
    let mut limits = spec.limits;
    limits.pids = limits.pids.saturating_add(own_pids(&plan.view));
    remains.group.limit(&limits).map_err(unlimited)?;
    Ok((remains, control, spec, plan))
}

/// What is wrong with a spec on any backend.
fn check(spec: &Spec) -> Result<(), SandboxError> {
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

fn setup_frame(spec: &Spec, plan: &Plan, group: &dyn Group, uid: Option<u32>) -> Frame {
    let mut limits = vec![(RLIMIT_NOFILE, MAX_FILES)];
    if matches!(plan.view, View::Inside) {
        limits.push((RLIMIT_FSIZE, MAX_FILE));
    }
    if group.enforcement() == Enforcement::Rlimits {
        let mut all = spec.limits;
        all.pids = all.pids.saturating_add(own_pids(&plan.view));
        limits.extend(rlimit::per_process(&all, uid.is_some()));
    }
    let env: [(&str, &[u8]); 6] = [
        ("PATH", plan.path.as_bytes()),
        ("HOME", plan.home.as_os_str().as_encoded_bytes()),
        ("TMPDIR", plan.tmp.as_os_str().as_encoded_bytes()),
        ("LANG", b"C.UTF-8"),
        ("USER", plan.user.as_bytes()),
        ("LOGNAME", plan.user.as_bytes()),
    ];
    Frame::new(Frame::SETUP)
        .path(&plan.home)
        .list(spec.home.iter(), |frame, file| {
            frame.path(&file.path).text(file.content.expose())
        })
        .list(limits.iter(), |frame, (resource, value)| {
            frame.number(*resource).large(*value)
        })
        .list(spec.bridges.iter(), |frame, bridge| frame.number(bridge.port.into()))
        .list(env.iter(), |frame, (name, value)| frame.text(name).text(value))
}

fn first_folder(spec: &Spec, view: &View, home: &Path) -> PathBuf {
    match (spec.mounts.first(), view) {
        (None, _) => home.to_owned(),
        (Some(mount), View::Inside) => mount.inside.clone(),
        (Some(mount), View::Host) => mount.host.clone(),
    }
}

async fn failed_start(remains: Remains, error: std::io::Error) -> SandboxError {
    let process = Arc::clone(&remains.process);
    // Its own words tell more than the stream that ended; they are there once it has.
    let said = tokio::task::spawn_blocking(move || {
        drop(remains);
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

/// Ends a launcher that never started anything.
pub(crate) fn put_away(parked: Parked) {
    drop(parked.control);
    parked.process.kill();
    let ended = parked.process.wait(PATIENCE);
    if let Err(error) = wait_until(|| Ok(parked.group.remove().is_ok())) {
        tracing::warn!(%error, ended, "the control groups of a sandbox launcher stay behind");
    }
    parked.folder.remove();
}

/// What has to be ended and removed, once.
struct Remains {
    control: Option<Arc<Control>>,
    process: Arc<Process>,
    group: Arc<dyn Group>,
    folder: Option<Folder>,
    uid: Option<UidLease>,
    host: Arc<Host>,
}

/// The processes that are not the job's: the init, and what confines it.
fn own_pids(view: &View) -> u32 {
    match view {
        View::Inside => 2,
        View::Host => 1,
    }
}

impl Remains {
    /// Ends every process and removes what is left. Until that has come to its end, the uid is held and the record stays.
    /// Blocks.
    fn end(&mut self) -> Result<(), SandboxError> {
        if self.folder.is_none() {
            return Ok(());
        }
        if let Some(control) = &self.control {
            control.close();
        }
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
            .map_err(|error| SandboxError::io("the control groups of a sandbox cannot be removed", error))?;
        if let Some(folder) = self.folder.take() {
            folder.remove();
        }
        self.uid = None;
        Ok(())
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            // The record is still there: the next life tries again. Until then nobody else may become who still runs.
            std::mem::forget(self.uid.take());
            tracing::error!(%error, "a sandbox stays behind");
        }
    }
}

/// A running sandbox.
struct Live {
    control: Arc<Control>,
    group: Arc<dyn Group>,
    remains: Mutex<Option<Remains>>,
    uid: Option<u32>,
    cwd: PathBuf,
    mounts: Vec<Mount>,
    view: View,
    /// The folders whose size is limited.
    places: [PathBuf; 2],
    /// Whether one of them has been seen full.
    disk: Mutex<bool>,
    bridges: Mutex<JoinSet<()>>,
}

impl Live {
    fn bridge(&mut self, bridges: Vec<Bridge>, listeners: Vec<OwnedFd>) -> Result<(), SandboxError> {
        if bridges.len() != listeners.len() {
            return Err(SandboxError::failed("the sandbox opened other ports than asked for"));
        }
        let bad = |error| SandboxError::io("a port of the sandbox cannot be served", error);
        let serving = self.bridges.get_mut().expect("no holder of this lock panics");
        for (bridge, listener) in bridges.into_iter().zip(listeners) {
            let listener = std::net::TcpListener::from(listener);
            let at = listener.local_addr().map_err(bad)?;
            if !at.ip().is_loopback() || at.port() != bridge.port {
                return Err(SandboxError::failed("the sandbox opened another port than asked for"));
            }
            listener.set_nonblocking(true).map_err(bad)?;
            serving.spawn(serve(TcpListener::from_std(listener).map_err(bad)?, bridge.socket));
        }
        Ok(())
    }

    fn here(&self) -> Result<(), SandboxError> {
        if self.control.is_gone() {
            Err(SandboxError::failed("the sandbox has gone"))
        } else {
            Ok(())
        }
    }

    /// Where a path inside is found by programs.
    fn locate(&self, path: PathBuf) -> PathBuf {
        match self.view {
            View::Inside => path,
            View::Host => {
                let found = self
                    .mounts
                    .iter()
                    .find_map(|mount| Some((mount, path.strip_prefix(&mount.inside).ok()?)));
                found.map(|(mount, below)| mount.host.join(below)).unwrap_or(path)
            }
        }
    }
}

#[async_trait]
impl Running for Live {
    async fn exec(&self, exec: Exec) -> Result<Program, SandboxError> {
        self.here()?;
        let cwd = exec.cwd.map_or_else(|| self.cwd.clone(), |cwd| self.locate(cwd));
        let pairs: Vec<(&str, &str)> = exec
            .env
            .iter()
            .map(|(name, value)| (name.as_str(), value.expose()))
            .collect();
        let (streams, stdio) = program::pipes(self.uid)?;
        let started = self.control.exec(&exec.argv, &pairs, &cwd, stdio).await?;
        Ok(program::attend(Arc::clone(&self.control), started, streams, exec.stdin))
    }

    fn enforcement(&self) -> Enforcement {
        self.group.enforcement()
    }

    async fn stats(&self) -> Result<Stats, SandboxError> {
        // Also when all of its processes have ended, so that what ended them can be told.
        if self.remains.lock().expect("no holder of this lock panics").is_none() {
            return Err(SandboxError::failed("the sandbox has gone"));
        }
        let group = Arc::clone(&self.group);
        let usage = tokio::task::spawn_blocking(move || group.usage()).await;
        let usage = usage.map_err(|_| SandboxError::failed("reading a sandbox's use panicked"))?;
        let usage = usage.map_err(|error| SandboxError::io("a sandbox's use cannot be read", error))?;
        let mut breached = usage.breached;
        // On the host itself a full disk is the host's matter.
        if matches!(self.view, View::Inside) && !self.control.is_gone() {
            let full = match self.control.space(&[&self.places[0], &self.places[1]]).await {
                Ok(space) => space.iter().any(|(free, total)| *total > 0 && *free == 0),
                Err(_) => false,
            };
            let mut disk = self.disk.lock().expect("no holder of this lock panics");
            *disk |= full;
            if *disk {
                breached.push(LimitKind::Disk);
            }
        }
        let pids = usage.pids.map(|count| count.saturating_sub(own_pids(&self.view)));
        Ok(Stats {
            memory: usage.memory,
            cpu: usage.cpu,
            pids,
            breached,
        })
    }

    async fn freeze(&self) -> Result<(), SandboxError> {
        self.here()?;
        let group = Arc::clone(&self.group);
        let frozen = tokio::task::spawn_blocking(move || group.freeze()).await;
        let frozen = frozen.map_err(|_| SandboxError::failed("freezing a sandbox panicked"))?;
        frozen.map_err(|error| SandboxError::io("a sandbox cannot be frozen", error))
    }

    async fn thaw(&self) -> Result<(), SandboxError> {
        self.here()?;
        self.group
            .thaw()
            .map_err(|error| SandboxError::io("a sandbox cannot be thawed", error))
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

/// Holds what a start has made so far; let go of, it is ended.
struct Guard(Option<Remains>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(remains) = self.0.take() {
            end_in_background(remains);
        }
    }
}

/// Ending blocks, and this may be a runtime's thread. Where no other can be had, it is done here after all.
fn end_in_background(remains: Remains) {
    let remains = Arc::new(Mutex::new(Some(remains)));
    let theirs = Arc::clone(&remains);
    let end = move || {
        let remains = theirs.lock().expect("no holder of this lock panics").take();
        if let Some(remains) = remains {
            end_at_last(remains, RETRY);
        }
    };
    if std::thread::Builder::new()
        .name("pond-sandbox-end".into())
        .spawn(end)
        .is_err()
    {
        drop(remains.lock().expect("no holder of this lock panics").take());
    }
}

/// Tries until it has ended; what cannot be killed now may be later.
fn end_at_last(mut remains: Remains, mut pause: Duration) {
    while let Err(error) = remains.end() {
        tracing::error!(%error, "a sandbox stays behind, and is ended again later");
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_RETRY);
    }
}

/// Leads connections of a port inside to a socket of the worker.
async fn serve(listener: TcpListener, socket: PathBuf) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        while connections.try_join_next().is_some() {}
        let Ok((inside, _)) = listener.accept().await else {
            // Out of descriptors, most likely: others will be given back.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let socket = socket.clone();
        connections.spawn(async move {
            let _permit = permit;
            let _ = lead(inside, &socket).await;
        });
    }
}

async fn lead(mut inside: TcpStream, socket: &Path) -> std::io::Result<()> {
    let mut outside = UnixStream::connect(socket).await?;
    inside.set_nodelay(true)?;
    tokio::io::copy_bidirectional_with_sizes(&mut inside, &mut outside, PIECE, PIECE)
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::sandbox::HostSettings;
    use crate::sandbox::limits::{Means, Usage};
    use crate::sandbox::uid::UidPool;

    /// A group that cannot be killed a number of times.
    struct Stubborn {
        group: Box<dyn Group>,
        refusals: AtomicUsize,
    }

    impl Group for Stubborn {
        fn add(&self, pid: u32) -> io::Result<()> {
            self.group.add(pid)
        }

        fn limit(&self, limits: &pond_core::sandbox::Limits) -> io::Result<()> {
            self.group.limit(limits)
        }

        fn usage(&self) -> io::Result<Usage> {
            self.group.usage()
        }

        fn freeze(&self) -> io::Result<()> {
            self.group.freeze()
        }

        fn thaw(&self) -> io::Result<()> {
            self.group.thaw()
        }

        fn kill(&self) -> io::Result<usize> {
            let less = |left: usize| left.checked_sub(1);
            match self.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) {
                Ok(_) => Err(io::Error::other("it does not die")),
                Err(_) => self.group.kill(),
            }
        }

        fn remove(&self) -> io::Result<()> {
            self.group.remove()
        }

        fn folders(&self) -> Vec<PathBuf> {
            self.group.folders()
        }

        fn enforcement(&self) -> Enforcement {
            self.group.enforcement()
        }
    }

    fn remains(host: &Arc<Host>, uids: &UidPool, refusals: usize) -> (Remains, PathBuf) {
        let parked = host.launcher().expect("a launcher");
        let place = parked.folder.path().to_owned();
        let remains = Remains {
            control: None,
            process: parked.process,
            group: Arc::new(Stubborn {
                group: parked.group,
                refusals: refusals.into(),
            }),
            folder: Some(parked.folder),
            uid: uids.lease(),
            host: Arc::clone(host),
        };
        (remains, place)
    }

    fn host(state: &Path) -> Arc<Host> {
        let settings = HostSettings {
            state: state.to_owned(),
            uid_range: None,
            means: Some(Means::Rlimits),
        };
        Host::open(settings).expect("the host opens")
    }

    #[test]
    fn what_cannot_be_killed_keeps_its_uid_and_its_record_until_it_is() {
        let state = tempfile::tempdir().expect("a folder");
        let host = host(state.path());
        let uids = UidPool::new(4_000_000_100..=4_000_000_100).expect("a sound range");
        let (mut remains, place) = remains(&host, &uids, 1);
        remains.end().expect_err("it cannot be killed");
        assert!(uids.lease().is_none(), "nobody else gets the uid of what still runs");
        assert!(place.exists(), "the next life knows of it");
        remains.end().expect("it dies now");
        assert!(uids.lease().is_some() && !place.exists());
    }

    #[test]
    fn it_is_tried_until_it_dies_and_a_uid_that_is_let_go_of_alive_is_never_given_again() {
        let state = tempfile::tempdir().expect("a folder");
        let host = host(state.path());
        let uids = UidPool::new(4_000_000_101..=4_000_000_101).expect("a sound range");
        let (first, place) = remains(&host, &uids, 3);
        end_at_last(first, Duration::from_millis(1));
        assert!(!place.exists());
        let (second, place) = remains(&host, &uids, 1);
        let process = Arc::clone(&second.process);
        drop(second);
        assert!(uids.lease().is_none() && place.exists());
        process.kill();
        assert!(process.wait(PATIENCE), "own child");
    }
}
