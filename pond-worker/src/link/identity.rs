//! Who a worker is, kept in its state folder: its keys, made once, and how it stands with the engine.

use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pond_core::entropy::Entropy;
use pond_core::id::WorkerId;
use pond_core::pool::{EnginePublic, WorkerSecretKeys};
use pond_core::secret::{Secret, SecretBytes};
use pond_core::secret_file;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

const FILE: &str = "identity.json";

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file.
    #[error("{path} cannot be used: {kind}", path = .0.display(), kind = .1.kind())]
    Io(PathBuf, #[source] io::Error),
    /// What is in it.
    #[error("{} does not read; without it a worker needs a new code and an empty state folder", .0.display())]
    Malformed(PathBuf),
}

/// How an enrolled worker stands with the engine.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The worker.
    pub worker: WorkerId,
    /// Its token for the orchestrator.
    pub token: Secret,
    /// The engine's key, pinned.
    pub engine: EnginePublic,
    /// The tags it was given.
    pub tags: Vec<String>,
    /// What it may do.
    pub capabilities: Vec<String>,
}

/// An identity.
#[derive(Debug)]
pub struct Identity {
    path: PathBuf,
    keys: WorkerSecretKeys,
    standing: Option<Standing>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    #[serde(with = "pond_sdk::secret::wire")]
    keys: pond_sdk::Secret,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    enrolled: Option<Enrolled>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Enrolled {
    worker_id: WorkerId,
    #[serde(with = "pond_sdk::secret::wire")]
    token: pond_sdk::Secret,
    engine_key: String,
    tags: Vec<String>,
    capabilities: Vec<String>,
}

impl Identity {
    /// The identity in a state folder. Keys are made and written the first time, before anything is sent: a code is used
    /// once, and must not be spent on keys that a crash then loses.
    ///
    /// # Errors
    /// When the file can be neither read nor written, or does not read.
    pub fn open(state: &Path, entropy: &dyn Entropy) -> Result<Self, IdentityError> {
        let path = state.join(FILE);
        match secret_file::read(&path) {
            Ok(text) => {
                let malformed = || IdentityError::Malformed(path.clone());
                let record: Record = serde_json::from_str(&text).map_err(|_| malformed())?;
                let (keys, standing) = record.read().ok_or_else(malformed)?;
                Ok(Self { path, keys, standing })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let made = Self {
                    path,
                    keys: WorkerSecretKeys::make(entropy),
                    standing: None,
                };
                made.write()?;
                Ok(made)
            }
            Err(error) => Err(IdentityError::Io(path, error)),
        }
    }

    /// The identity in a state folder, if there is one.
    ///
    /// # Errors
    /// As [`Identity::open`].
    pub fn find(state: &Path, entropy: &dyn Entropy) -> Result<Option<Self>, IdentityError> {
        match state.join(FILE).exists() {
            true => Self::open(state, entropy).map(Some),
            false => Ok(None),
        }
    }

    /// The keys.
    pub fn keys(&self) -> &WorkerSecretKeys {
        &self.keys
    }

    /// How it stands, once it is in.
    pub fn standing(&self) -> Option<&Standing> {
        self.standing.as_ref()
    }

    /// Writes down how it stands.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep(&mut self, standing: Standing) -> Result<(), IdentityError> {
        self.standing = Some(standing);
        self.write()
    }

    fn write(&self) -> Result<(), IdentityError> {
        let enrolled = self.standing.as_ref().map(|standing| Enrolled {
            worker_id: standing.worker,
            token: pond_sdk::Secret::new(standing.token.expose()),
            engine_key: STANDARD.encode(standing.engine.as_bytes()),
            tags: standing.tags.clone(),
            capabilities: standing.capabilities.clone(),
        });
        let record = Record {
            keys: pond_sdk::Secret::new(STANDARD.encode(self.keys.to_bytes().expose())),
            enrolled,
        };
        let text = Zeroizing::new(serde_json::to_string(&record).expect("plain fields serialise"));
        secret_file::write(&self.path, &text).map_err(|error| IdentityError::Io(self.path.clone(), error))
    }
}

impl Record {
    fn read(self) -> Option<(WorkerSecretKeys, Option<Standing>)> {
        let keys = SecretBytes::new(STANDARD.decode(self.keys.expose()).ok()?);
        let standing = match self.enrolled {
            None => None,
            Some(enrolled) => Some(Standing {
                worker: enrolled.worker_id,
                token: Secret::new(enrolled.token.expose()),
                engine: EnginePublic::new(&STANDARD.decode(&enrolled.engine_key).ok()?).ok()?,
                tags: enrolled.tags,
                capabilities: enrolled.capabilities,
            }),
        };
        Some((WorkerSecretKeys::from_bytes(&keys)?, standing))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use pond_core::pool::EngineKey;
    use pond_core::testing::SeededEntropy;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn keys_and_standing_stay_and_nobody_else_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        let entropy = SeededEntropy::new(4);
        let mut first = Identity::open(folder.path(), &entropy).unwrap();
        assert!(first.standing().is_none());
        let standing = Standing {
            worker: Uuid::from_u128(3).into(),
            token: Secret::new("pond_wk_x"),
            engine: EngineKey::new(&SecretBytes::new(vec![1; 32])).unwrap().public(),
            tags: vec!["pool:trusted".into()],
            capabilities: vec!["harness.shell".into()],
        };
        first.keep(standing.clone()).unwrap();
        let again = Identity::open(folder.path(), &entropy).unwrap();
        assert_eq!(again.keys().public(), first.keys().public());
        let kept = again.standing().unwrap();
        assert_eq!((kept.worker, kept.engine), (standing.worker, standing.engine));
        assert_eq!(kept.token.expose(), "pond_wk_x");
        assert_eq!(
            (&kept.tags, &kept.capabilities),
            (&standing.tags, &standing.capabilities)
        );
        let mode = folder.path().join(FILE).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(folder.path().join(FILE), "{}").unwrap();
        let broken = Identity::open(folder.path(), &entropy);
        assert!(matches!(broken, Err(IdentityError::Malformed(_))));
    }
}
