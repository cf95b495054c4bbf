//! The folder of one job on the worker's disk, for the worker alone: the parts that a job sees are shown in its sandbox.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::TryStreamExt;
use pond_core::artifacts::ByteStream;
use pond_core::id::JobId;
use pond_core::sources::{self, Limits, TreeError};
use tokio::io::AsyncWriteExt;

const JOBS: &str = "jobs";
const BUNDLE: &str = "bundle.tar";

/// Removes the folders of jobs that an earlier life left. Blocks.
///
/// # Errors
/// When one of them stays.
pub fn remove_leftovers(state: &Path) -> io::Result<()> {
    match fs::read_dir(state.join(JOBS)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(entries) => entries.into_iter().try_for_each(|entry| remove(&entry?.path())),
    }
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
    /// Makes the folder, with an empty place for the checkout and one for the output.
    pub(crate) async fn create(state: &Path, job: JobId) -> io::Result<Self> {
        let path = state.join(JOBS).join(job.to_string());
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

    /// The name of the broker's socket, for this process.
    pub(crate) fn broker_socket(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/broker.sock", self.handle.as_raw_fd()))
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

    /// Removes the folder with all in it.
    pub(crate) async fn remove(mut self) {
        self.removed = true;
        let path = self.path.clone();
        if let Err(error) = blocking(move || remove(&path)).await {
            tracing::error!(folder = %self.path.display(), %error, "the folder of a job stays behind");
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

/// Removes a tree whose folders a job may have closed to everyone.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            fs::remove_dir_all(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Makes every folder of a tree ours to change; follows no link.
fn open_up(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_a_job_has_closed_are_removed_too() {
        let temp = tempfile::tempdir().expect("a folder");
        let inner = temp.path().join("job/a/b");
        fs::create_dir_all(&inner).expect("folders");
        fs::write(inner.join("file"), "x").expect("a file");
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o000)).expect("closed");
        remove(&temp.path().join("job")).expect("removed");
        assert!(!temp.path().join("job").exists());
        remove(&temp.path().join("job")).expect("what is not there needs no removing");
    }
}
