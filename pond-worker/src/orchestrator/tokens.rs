//! Workers' tokens: only their digests are kept, in a file that grows by a line with each worker.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use pond_core::entropy::Entropy;
use pond_core::id::WorkerId;
use pond_core::secret::Secret;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const PREFIX: &str = "pond_wk_";

#[derive(Serialize, Deserialize)]
struct Line {
    worker_id: WorkerId,
    /// SHA-256 of the token in hex; none once the worker is revoked.
    sha256: Option<String>,
}

/// The tokens.
#[derive(Debug)]
pub(super) struct Tokens {
    path: PathBuf,
    known: Mutex<HashMap<[u8; 32], WorkerId>>,
}

impl Tokens {
    /// The tokens in a file; of a last line that was cut off by a crash nothing was told to anyone.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let mut known: HashMap<WorkerId, [u8; 32]> = HashMap::new();
        let file = match File::open(&path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        for line in file.into_iter().flat_map(|file| BufReader::new(file).lines()) {
            let Ok(Line { worker_id, sha256 }) = serde_json::from_str(&line?) else {
                continue;
            };
            match sha256
                .and_then(|text| hex::decode(text).ok())
                .and_then(|bytes| bytes.try_into().ok())
            {
                Some(hash) => drop(known.insert(worker_id, hash)),
                None => drop(known.remove(&worker_id)),
            }
        }
        let tokens = Self {
            path,
            known: Mutex::new(known.into_iter().map(|(worker, hash)| (hash, worker)).collect()),
        };
        tokens.rewrite()?;
        Ok(tokens)
    }

    /// Makes a worker's token. It is on disk before it is given out.
    pub(super) fn mint(&self, worker: WorkerId, entropy: &dyn Entropy) -> io::Result<Secret> {
        let token = Secret::new(format!("{PREFIX}{}", hex::encode(entropy.draw::<32>())));
        let hash = hash(token.expose());
        let mut known = self.lock();
        append(&self.path, &line(worker, Some(hash)))?;
        known.insert(hash, worker);
        Ok(token)
    }

    /// Whose a token is.
    pub(super) fn worker(&self, token: &str) -> Option<WorkerId> {
        self.lock().get(&hash(token)).copied()
    }

    /// Refuses a worker's token from now on.
    pub(super) fn revoke(&self, worker: WorkerId) -> io::Result<()> {
        let mut known = self.lock();
        known.retain(|_, of| *of != worker);
        append(&self.path, &line(worker, None))
    }

    /// Writes the file anew, without what is over.
    fn rewrite(&self) -> io::Result<()> {
        let known = self.lock();
        let mut text: Vec<String> = known.iter().map(|(hash, worker)| line(*worker, Some(*hash))).collect();
        text.sort();
        pond_core::secret_file::write(&self.path, &text.concat())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], WorkerId>> {
        self.known.lock().expect("no holder of this lock panics")
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn line(worker_id: WorkerId, hash: Option<[u8; 32]>) -> String {
    let sha256 = hash.map(hex::encode);
    let text = serde_json::to_string(&Line { worker_id, sha256 }).expect("plain fields serialise");
    format!("{text}\n")
}

fn append(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::options().append(true).create(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use pond_core::testing::SeededEntropy;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn tokens_outlive_their_process_as_digests_and_a_cut_line_breaks_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let entropy = SeededEntropy::new(1);
        let (one, two) = (Uuid::from_u128(1).into(), Uuid::from_u128(2).into());
        let tokens = Tokens::open(path.clone()).unwrap();
        let (first, second) = (tokens.mint(one, &entropy).unwrap(), tokens.mint(two, &entropy).unwrap());
        tokens.revoke(two).unwrap();
        append(&path, "{\"worker_id\":\"cut").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(first.expose()) && !text.contains(second.expose()));
        let again = Tokens::open(path).unwrap();
        assert_eq!(again.worker(first.expose()), Some(one));
        assert_eq!((again.worker(second.expose()), again.worker("")), (None, None));
    }
}
