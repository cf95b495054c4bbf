//! What the backends of one worker share: where they keep things, uids, limits, the init, and the launcher that waits.

use std::fs;
use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use pond_core::sandbox::SandboxError;
use sha2::{Digest, Sha256};

use super::launch::{INIT_NAME, Parked};
use super::limits::Means;
use super::record::{Folder, Shelf, wait_until};
use super::uid::UidPool;

/// The init, as it was built with this worker.
static INIT: &[u8] = include_bytes!(env!("POND_INIT"));

/// How a worker's host is to be used.
#[derive(Debug, Clone)]
pub struct HostSettings {
    /// The worker's state folder. Its parents need not be open to anybody else.
    pub state: PathBuf,
    /// Host uids for jobs, where the worker is root; without them it refuses confined jobs.
    pub uid_range: Option<RangeInclusive<u32>>,
    /// By what limits are to hold; the best that is found, when absent.
    pub means: Option<Means>,
}

impl HostSettings {
    /// With the usual range of uids, in a state folder.
    pub fn new(state: impl Into<PathBuf>) -> Self {
        Self {
            state: state.into(),
            uid_range: Some(200_000..=265_535),
            means: None,
        }
    }
}

/// As whom jobs run.
pub(crate) enum Identity {
    /// The worker is root, and gives each job a uid of its own.
    Pool(UidPool),
    /// The worker is root, and has no uids to give.
    NoPool,
    /// The worker's own user.
    Own,
}

/// A worker's host.
pub struct Host {
    init: PathBuf,
    shelf: Shelf,
    means: Means,
    identity: Identity,
    number: AtomicU64,
    /// The launcher for the next start.
    spare: Mutex<Option<Parked>>,
    /// No launcher is to wait any more.
    closed: AtomicBool,
    /// So that background work ends with the host.
    this: Weak<Self>,
}

impl Host {
    /// Opens the state folder, lays the init into it, and looks what limits can hold by.
    ///
    /// # Errors
    /// When the state folder cannot be used, or the range holds uids of the host's own users.
    pub fn open(settings: HostSettings) -> Result<Arc<Self>, SandboxError> {
        let at = |error| SandboxError::io("the worker's state folder cannot be used", error);
        let shelf = Shelf::open(&settings.state).map_err(at)?;
        let init = lay_init(&settings.state).map_err(at)?;
        let identity = match (nix::unistd::geteuid().is_root(), settings.uid_range) {
            (false, _) => Identity::Own,
            (true, None) => Identity::NoPool,
            (true, Some(range)) => Identity::Pool(UidPool::new(range).ok_or_else(|| SandboxError::Unsupported {
                reason: "the uid range is empty or holds uids below 65536".into(),
                fix: "choose a range such as 200000-265535".into(),
            })?),
        };
        let means = settings.means.unwrap_or_else(Means::detect);
        let number = AtomicU64::new(1);
        let (spare, closed) = (Mutex::new(None), AtomicBool::new(false));
        Ok(Arc::new_cyclic(|this| Self {
            init,
            shelf,
            means,
            identity,
            number,
            spare,
            closed,
            this: this.clone(),
        }))
    }

    /// By what limits hold here.
    pub fn means(&self) -> &Means {
        &self.means
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The init on disk.
    pub(crate) fn init(&self) -> &Path {
        &self.init
    }

    /// Ends what earlier lives left. Blocks.
    pub(crate) fn recover(&self) -> Result<usize, SandboxError> {
        let ended = self.shelf.recover(&self.means);
        ended.map_err(|error| SandboxError::io("sandboxes of an earlier life cannot be ended", error))
    }

    /// A launcher: the one that waits, or else a new one. Blocks.
    pub(crate) fn launcher(&self) -> Result<Parked, SandboxError> {
        let spare = self.spare.lock().expect("no holder of this lock panics").take();
        // One that has died since is put away; nothing of a job was in it.
        match spare {
            Some(parked) if !parked.process.wait(std::time::Duration::ZERO) => Ok(parked),
            Some(dead) => {
                super::launched::put_away(dead);
                self.park()
            }
            None => self.park(),
        }
    }

    fn park(&self) -> Result<Parked, SandboxError> {
        Parked::start(&self.init, &self.means, self.folder()?)
    }

    /// The folder of a new sandbox, for one that no launcher becomes.
    pub(crate) fn folder(&self) -> Result<Folder, SandboxError> {
        let folder = self.shelf.folder(self.number.fetch_add(1, Ordering::Relaxed));
        folder.map_err(|error| SandboxError::io("the folder of a sandbox cannot be made", error))
    }

    /// What is on disk about this worker's sandboxes.
    pub(crate) fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// Has a launcher wait for the next start, made in the background.
    pub(crate) fn park_spare(&self) {
        let this = self.this.clone();
        let parking = std::thread::Builder::new().name("pond-spare".into()).spawn(move || {
            if let Some(host) = this.upgrade() {
                host.fill_spare();
            }
        });
        if let Err(error) = parking {
            tracing::warn!(%error, "no thread for a sandbox launcher");
        }
    }

    fn fill_spare(&self) {
        if self.spare.lock().expect("no holder of this lock panics").is_some() {
            return;
        }
        match self.park() {
            Ok(parked) => self.keep_spare(parked),
            Err(error) => tracing::warn!(%error, "no sandbox launcher waits; the next start will take longer"),
        }
    }

    fn keep_spare(&self, parked: Parked) {
        let mut spare = self.spare.lock().expect("no holder of this lock panics");
        let surplus = if self.closed.load(Ordering::Acquire) {
            Some(parked)
        } else {
            spare.replace(parked)
        };
        drop(spare);
        if let Some(surplus) = surplus {
            super::launched::put_away(surplus);
        }
    }

    /// Puts the waiting launcher away, and waits until everything that was let go of has ended. Blocks; for a worker that
    /// shuts down.
    ///
    /// # Errors
    /// When a sandbox is still in use after ten seconds, or cannot be ended.
    pub fn close(&self) -> Result<(), SandboxError> {
        let spare = {
            let mut spare = self.spare.lock().expect("no holder of this lock panics");
            self.closed.store(true, Ordering::Release);
            spare.take()
        };
        if let Some(parked) = spare {
            super::launched::put_away(parked);
        }
        wait_until(|| self.shelf.is_clear()).map_err(|error| SandboxError::io("sandboxes are left", error))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(parked) = self.spare.lock().expect("no holder of this lock panics").take() {
            super::launched::put_away(parked);
        }
    }
}

/// Writes the init below the state folder, in a folder named by its content, whole or not at all.
fn lay_init(state: &Path) -> io::Result<PathBuf> {
    let digest = hex::encode(&Sha256::digest(INIT)[..8]);
    let folder = state.join(format!("init-{digest}"));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    let folder = folder.canonicalize()?;
    let program = folder.join(INIT_NAME);
    if fs::read(&program).is_ok_and(|found| found == INIT) {
        return Ok(program);
    }
    let whole = folder.join(format!("{INIT_NAME}.{}", std::process::id()));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o755)
        .open(&whole)?;
    file.write_all(INIT)?;
    file.set_permissions(fs::Permissions::from_mode(0o755))?;
    drop(file);
    fs::rename(&whole, &program)?;
    Ok(program)
}
