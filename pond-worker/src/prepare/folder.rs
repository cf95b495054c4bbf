//! The folder of one job on the worker's disk, for the worker alone: the parts that a job sees are shown in its sandbox.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use pond_core::artifacts::ByteStream;
use pond_core::sources::{self, Limits, TreeError};
use tokio::io::AsyncWriteExt;

use super::removal::remove;

const JOBS: &str = "jobs";
/// Where folders lie that cannot be removed.
const ASIDE: &str = "jobs-aside";
/// How often one job's folder is put aside.
const MAX_ASIDE: usize = 1000;
/// How long a job's end waits for its folder to be removed.
const PATIENCE: Duration = Duration::from_secs(30);
const BUNDLE: &str = "bundle.tar";

/// Removes the folders of jobs that an earlier life left. What cannot be removed is put aside, tried again by the next
/// life, and never in the way of this one. Blocks.
///
/// # Errors
/// When the folder of all jobs cannot be read.
pub fn remove_leftovers(state: &Path) -> io::Result<()> {
    clear(state, remove)
}

fn clear(state: &Path, remove: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    for path in held(&state.join(ASIDE))? {
        if let Err(error) = remove(&path) {
            tracing::error!(folder = %path.display(), %error, "what was put aside of a job cannot be removed");
        }
    }
    for path in held(&state.join(JOBS))? {
        if let Err(error) = remove(&path) {
            tracing::error!(folder = %path.display(), %error, "the folder of a former job cannot be removed and is put aside");
            if let Err(error) = put_aside(state, &path) {
                tracing::error!(folder = %path.display(), %error, "the folder of a former job cannot be put aside");
            }
        }
    }
    Ok(())
}

/// What a folder of the worker's own holds.
fn held(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
    }
}

fn put_aside(state: &Path, path: &Path) -> io::Result<()> {
    let aside = state.join(ASIDE);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&aside)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // The same job may have been put aside before.
    let mut places = (0..MAX_ASIDE).map(|number| aside.join(format!("{name}.{number}")));
    let place = places.find(|place| place.symlink_metadata().is_err());
    fs::rename(path, place.ok_or(io::ErrorKind::AlreadyExists)?)
}

/// A job's folder. Dropped without [`WorkFolder::remove`], it is removed in the background.
#[derive(Debug)]
pub(crate) struct WorkFolder {
    path: PathBuf,
    /// Open, so that sockets in it have a short name however long the folder's is.
    handle: Arc<File>,
    has_bundle: bool,
    removed: bool,
}

impl WorkFolder {
    /// Makes the folder by a name of the worker's own, with an empty place for the checkout and one for the output.
    pub(crate) async fn create(state: &Path, name: &str) -> io::Result<Self> {
        let path = state.join(JOBS).join(name);
        blocking(move || {
            if path.exists() {
                // An earlier attempt on this very worker.
                remove(&path)?;
            }
            let private = |folder: &Path| fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
            private(&path)?;
            let handle = Arc::new(File::open(&path)?);
            let folder = Self {
                path,
                handle,
                has_bundle: false,
                removed: false,
            };
            private(&folder.output())?;
            private(&folder.scratch())?;
            private(&folder.trust())?;
            Ok(folder)
        })
        .await
    }

    /// What the job works on.
    pub(crate) fn checkout(&self) -> PathBuf {
        self.path.join("checkout")
    }

    /// Where the job leaves files.
    pub(crate) fn output(&self) -> PathBuf {
        self.path.join("output")
    }

    /// For the worker alone.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.path.join("scratch")
    }

    /// Where the certificates lie that the job trusts.
    pub(crate) fn trust(&self) -> PathBuf {
        self.path.join("trust")
    }

    /// The name of the broker's socket, for this process.
    pub(crate) fn broker_socket(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/broker.sock", self.handle.as_raw_fd()))
    }

    /// The name of the egress proxy's socket, for this process.
    pub(crate) fn egress_socket(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/egress.sock", self.handle.as_raw_fd()))
    }

    /// Keeps the bundle of the sources.
    pub(crate) async fn keep_bundle(&mut self, mut bundle: ByteStream, cap: u64) -> io::Result<()> {
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(self.path.join(BUNDLE))?;
        let mut file = tokio::fs::File::from_std(file);
        let mut size = 0u64;
        while let Some(bytes) = bundle.try_next().await.map_err(io::Error::other)? {
            size += bytes.len() as u64;
            if size > cap {
                return Err(io::Error::other("the bundle is larger than its cap"));
            }
            file.write_all(&bytes).await?;
        }
        file.flush().await?;
        self.has_bundle = true;
        Ok(())
    }

    /// Unpacks the bundle to `into`, readable by everyone; without one, makes an empty folder.
    pub(crate) async fn unpack(&self, into: PathBuf, limits: Limits) -> Result<(), TreeError> {
        let bundle = self.has_bundle.then(|| self.path.join(BUNDLE));
        let unpacked = tokio::task::spawn_blocking(move || match bundle {
            Some(bundle) => sources::extract(io::BufReader::new(File::open(bundle)?), &into, limits).map(drop),
            None => {
                fs::DirBuilder::new().mode(0o755).create(&into)?;
                // Whatever the umask says: the job's own uid has to read it.
                Ok(fs::set_permissions(&into, fs::Permissions::from_mode(0o755))?)
            }
        });
        unpacked
            .await
            .unwrap_or_else(|panic| Err(io::Error::other(panic).into()))
    }

    /// Removes the folder with all in it. One that takes long goes on being removed in the background: how many files a
    /// job makes may not put off its end.
    pub(crate) async fn remove(mut self) {
        self.removed = true;
        let path = self.path.clone();
        match tokio::time::timeout(PATIENCE, blocking(move || remove(&path))).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(folder = %self.path.display(), %error, "the folder of a job stays behind");
            }
            Err(_) => {
                tracing::warn!(folder = %self.path.display(), "the folder of a job takes long to be removed");
            }
        }
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        if self.removed {
            return;
        }
        let path = self.path.clone();
        // Removing blocks, and this may be a runtime's thread. What cannot be removed now is removed at the next start.
        let removing = std::thread::Builder::new().name("pond-job-folder".into()).spawn(move || {
            if let Err(error) = remove(&path) {
                tracing::warn!(folder = %path.display(), %error, "the folder of a job stays behind until the next start");
            }
        });
        drop(removing);
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|panic| Err(io::Error::other(panic)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_removed_at_a_start_is_put_aside_and_stands_in_no_way() {
        let state = tempfile::tempdir().expect("a folder");
        let (jobs, aside) = (state.path().join(JOBS), state.path().join(ASIDE));
        let never = |_: &Path| Err(io::ErrorKind::PermissionDenied.into());
        for count in 1..=2 {
            fs::create_dir_all(jobs.join("stays/output")).expect("folders");
            clear(state.path(), never).expect("in no way of the start");
            let left = (held(&jobs).expect("read").len(), held(&aside).expect("read").len());
            assert_eq!(left, (0, count));
        }
        remove_leftovers(state.path()).expect("removed");
        assert!(held(&aside).expect("read").is_empty(), "tried again by the next life");
    }
}
