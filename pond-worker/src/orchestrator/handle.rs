//! Pairing: what an orchestrator is to the engine, kept in `backend-handle.json`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pond_core::id::OrchestratorId;
use pond_core::secret::Secret;
use pond_core::secret_file;
use pond_sdk::api;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::state_dir::{StateDir, StateError};
use crate::link::peer::{Ask, BadPeer, Peer, PeerError, PeerUrl, Tls};
use crate::net::{DialerSettings, SetupError};

const FILE: &str = "backend-handle.json";
/// The version of the protocol that is spoken here.
const PROTOCOL: u32 = 1;
const WITHIN: Duration = Duration::from_secs(30);

/// Why there is no handle.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// It was never paired.
    #[error("{} is not there: pair this orchestrator first, with `orchestrator pair`", .0.display())]
    NotPaired(PathBuf),
    /// The file cannot be used.
    #[error("{} cannot be used: {kind}", .0.display(), kind = .1.kind())]
    Io(PathBuf, #[source] io::Error),
    /// What is in it.
    #[error("{} does not read: pair again", .0.display())]
    Malformed(PathBuf),
    /// The engine's address.
    #[error("the engine's address in {}: {}", .0.display(), .1)]
    Peer(PathBuf, BadPeer),
}

/// Why pairing failed.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// It is paired already.
    #[error("{} is there already: this orchestrator is paired; name another --state-dir, or remove the file", .0.display())]
    Paired(PathBuf),
    /// The network.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// It is refused, or there is no answer.
    #[error("{}", .0.told())]
    Peer(#[from] PeerError),
    /// The engine speaks another protocol.
    #[error("the engine speaks versions {min} to {max} of the pool's protocol, and this program version {PROTOCOL}")]
    Protocol {
        /// The oldest it speaks.
        min: u32,
        /// The newest it speaks.
        max: u32,
    },
    /// The handle could not be kept.
    #[error(transparent)]
    Handle(#[from] HandleError),
}

/// What an orchestrator is to the engine.
#[derive(Debug, Clone)]
pub struct Handle {
    /// The engine.
    pub engine: PeerUrl,
    /// The orchestrator.
    pub id: OrchestratorId,
    /// Its token.
    pub token: Secret,
}

#[derive(Serialize, Deserialize)]
struct Record {
    pond: String,
    orch_id: OrchestratorId,
    #[serde(with = "pond_sdk::secret::wire")]
    token: pond_sdk::Secret,
}

impl Handle {
    /// The handle in a state folder.
    ///
    /// # Errors
    /// [`HandleError`].
    pub fn read(state: &Path, tls: Tls) -> Result<Self, HandleError> {
        let path = state.join(FILE);
        let text = match secret_file::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(HandleError::NotPaired(path)),
            Err(error) => return Err(HandleError::Io(path, error)),
        };
        let record: Record = serde_json::from_str(&text).map_err(|_| HandleError::Malformed(path.clone()))?;
        Ok(Self {
            engine: PeerUrl::parse(&record.pond, tls).map_err(|bad| HandleError::Peer(path, bad))?,
            id: record.orch_id,
            token: Secret::new(record.token.expose()),
        })
    }

    fn write(&self, path: &Path) -> Result<(), HandleError> {
        let record = Record {
            pond: self.engine.as_str().to_owned(),
            orch_id: self.id,
            token: pond_sdk::Secret::new(self.token.expose()),
        };
        let text = Zeroizing::new(serde_json::to_string(&record).expect("plain fields serialise"));
        secret_file::write(path, &text).map_err(|error| HandleError::Io(path.to_owned(), error))
    }
}

/// Pairs with an engine, and keeps the handle in a state folder, mode 0600.
///
/// # Errors
/// [`PairError`]; nothing is kept then.
pub async fn pair(
    state: &Path,
    engine: PeerUrl,
    code: &Secret,
    name: Option<String>,
    network: &DialerSettings,
) -> Result<Handle, PairError> {
    let folder = StateDir::open(state)?;
    let path = folder.file(FILE);
    // A code is used once: what stands in the way is found before it is sent.
    if path.exists() {
        return Err(PairError::Paired(path));
    }
    let body = api::Pair {
        code: pond_sdk::Secret::new(code.expose()),
        name,
    };
    let ask = Ask {
        path: "/v1/orch/pair",
        claim: None,
        within: WITHIN,
    };
    let paired: api::Paired = Peer::new(&engine, network)?.post(ask, &body).await?;
    let api::Protocol { min, max } = paired.protocol;
    if !(min..=max).contains(&PROTOCOL) {
        return Err(PairError::Protocol { min, max });
    }
    let id = paired.orch_id.parse();
    let handle = Handle {
        engine,
        id: id.map_err(|_| PeerError::Malformed("orch_id is no id".into()))?,
        token: Secret::new(paired.token.expose()),
    };
    handle.write(&path)?;
    Ok(handle)
}
