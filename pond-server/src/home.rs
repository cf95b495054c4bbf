//! The state folder: who holds it, and the keys that are made once and kept in it.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use pond_core::entropy::Entropy;
use pond_core::id::EngineId;
use pond_core::secret::Secret;
use pond_core::secret_file;

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Another server holds it.
    #[error("POND_STATE_DIR: another server uses {0}; stop it, or name another folder")]
    InUse(PathBuf),
    /// It cannot be read or written.
    #[error("POND_STATE_DIR: {what} {path}: {kind}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What kind of error.
        kind: io::ErrorKind,
    },
}

/// A state folder, held as long as this lives.
#[derive(Debug)]
pub struct Home {
    path: PathBuf,
    _lock: File,
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HomeError {
    let path = path.to_owned();
    move |error| HomeError::Io {
        what,
        path,
        kind: error.kind(),
    }
}

impl Home {
    /// Makes the folder for its owner alone if it is not there, and takes hold of it.
    ///
    /// # Errors
    /// When another process holds it, or it cannot be used.
    pub fn open(path: &Path) -> Result<Self, HomeError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed("cannot make", path))?;
        let path = path.canonicalize().map_err(failed("cannot open", path))?;
        let file = path.join("lock");
        let mut options = OpenOptions::new();
        let lock = options.create(true).truncate(false).write(true).mode(0o600).open(&file);
        let lock = lock.map_err(failed("cannot open", &file))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(HomeError::InUse(path)),
            Err(TryLockError::Error(error)) => Err(failed("cannot lock", &file)(error)),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A folder in it, made for its owner alone if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn folder(&self, name: &str) -> Result<PathBuf, HomeError> {
        let path = self.path.join(name);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(failed("cannot make", &path))?;
        Ok(path)
    }

    /// A secret that is made once, and whether it was made now.
    ///
    /// # Errors
    /// When its file can be neither read nor written.
    pub fn kept(&self, name: &str, make: impl FnOnce() -> Secret) -> Result<(Secret, bool), HomeError> {
        let path = self.path.join(name);
        secret_file::keep(&path, make).map_err(failed("cannot read or write", &path))
    }

    /// The file of the service token.
    pub fn service_token_path(&self) -> PathBuf {
        self.path.join(SERVICE_TOKEN)
    }

    /// The service token, made at the first start.
    ///
    /// # Errors
    /// As [`Home::kept`].
    pub fn service_token(&self, entropy: &dyn Entropy) -> Result<Secret, HomeError> {
        let make = || Secret::new(format!("pond_st_{}", hex::encode(entropy.draw::<32>())));
        Ok(self.kept(SERVICE_TOKEN, make)?.0)
    }

    /// The engine's life that last worked from this folder.
    pub fn former_engine(&self) -> Option<EngineId> {
        secret_file::read(&self.path.join(ENGINE)).ok()?.trim().parse().ok()
    }

    /// Remembers the engine's life that works from this folder now.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn remember_engine(&self, id: EngineId) -> Result<(), HomeError> {
        let path = self.path.join(ENGINE);
        secret_file::write(&path, &id.to_string()).map_err(failed("cannot write", &path))
    }
}

const SERVICE_TOKEN: &str = "service-token";
const ENGINE: &str = "engine";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use pond_core::testing::SeededEntropy;

    use super::*;

    #[test]
    fn c17_81_a_second_server_on_a_state_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let home = Home::open(&path).unwrap();
        assert!(matches!(Home::open(&path), Err(HomeError::InUse(_))));
        drop(home);
        assert!(Home::open(&path).is_ok());
    }

    #[test]
    fn keys_are_made_once_for_their_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(&folder.path().join("state")).unwrap();
        let first = home.service_token(&SeededEntropy::new(1)).unwrap();
        let second = home.service_token(&SeededEntropy::new(2)).unwrap();
        assert_eq!(first.expose(), second.expose());
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(home.path()), mode(&home.service_token_path())), (0o700, 0o600));
    }
}
