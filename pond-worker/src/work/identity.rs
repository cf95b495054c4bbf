//! Who a worker is: an id that stays with its state folder, and the lock that makes it the only one there.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use pond_core::clock::Clock;
use pond_core::entropy::Entropy;
use pond_core::id::WorkerId;
use serde::{Deserialize, Serialize};

use super::settings::WorkerError;

const RECORD: &str = "worker.json";
const LOCK: &str = "worker.lock";
/// How long a former life may take to let go of the folder.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Serialize, Deserialize)]
struct Record {
    worker_id: WorkerId,
}

/// A worker's state folder, held by one process at a time until this is dropped.
#[derive(Debug)]
pub struct StateFolder {
    _lock: Flock<File>,
}

impl StateFolder {
    /// Makes the folder, with mode 0700, if it is not there, and takes it; a former life has a moment to let go of it.
    ///
    /// # Errors
    /// When another worker has it, or it cannot be used.
    pub async fn open(state: &Path, clock: &dyn Clock) -> Result<Self, WorkerError> {
        lock(state, clock).await.map(|lock| Self { _lock: lock })
    }
}

/// Makes the state folder and takes it; it is given back when the lock is dropped, or its process ends.
pub(crate) async fn lock(state: &Path, clock: &dyn Clock) -> Result<Flock<File>, WorkerError> {
    let at = WorkerError::state("it cannot be made or opened");
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state)
        .map_err(&at)?;
    let open = || {
        File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(state.join(LOCK))
    };
    let until = clock.now().plus(PATIENCE);
    let mut file = open().map_err(&at)?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((_, nix::errno::Errno::EAGAIN)) if clock.now() >= until => return Err(WorkerError::InUse),
            Err((again, nix::errno::Errno::EAGAIN)) => file = again,
            Err((_, error)) => return Err(at(error.into())),
        }
        clock.sleep(PAUSE).await;
    }
}

/// The id kept in the state folder, drawn the first time.
pub(super) fn worker_id(state: &Path, clock: &dyn Clock, entropy: &dyn Entropy) -> Result<WorkerId, WorkerError> {
    let path = state.join(RECORD);
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice::<Record>(&text)
            .map(|record| record.worker_id)
            .map_err(|error| WorkerError::state("worker.json does not read")(error.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let worker_id = WorkerId::mint(clock, entropy);
            write(&path, &Record { worker_id }).map_err(WorkerError::state("worker.json cannot be written"))?;
            Ok(worker_id)
        }
        Err(error) => Err(WorkerError::state("worker.json cannot be read")(error)),
    }
}

/// Whole or not at all.
fn write(path: &Path, record: &Record) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(&serde_json::to_vec(record)?)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use pond_core::clock::SystemClock;
    use pond_core::entropy::SystemEntropy;

    use super::*;

    #[tokio::test]
    async fn the_id_stays_and_nobody_else_reads_it() {
        let temp = tempfile::tempdir().expect("a folder");
        let state = temp.path().join("state");
        let _lock = lock(&state, &SystemClock).await.expect("taken");
        let first = worker_id(&state, &SystemClock, &SystemEntropy).expect("an id");
        assert_eq!(worker_id(&state, &SystemClock, &SystemEntropy).expect("an id"), first);
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&state), mode(&state.join(RECORD))), (0o700, 0o600));
    }
}
