//! Coming in: a code that is used once, keys that are proven, and the engine's key that the code vouches for.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pond_core::pool::EnginePublic;
use pond_core::secret::Secret;
use pond_sdk::api;

use super::identity::{Identity, IdentityError, Standing};
use super::peer::{Ask, Peer, PeerError};

const WITHIN: Duration = Duration::from_secs(30);

/// What a worker comes in with.
#[derive(Debug, Clone)]
pub struct EnrollRequest {
    /// `<code>.<digest of the engine's key>`.
    pub code: Secret,
    /// Name for people.
    pub name: String,
    /// Its tags; none: those of the code.
    pub tags: Option<Vec<String>>,
    /// What it can do; none: what the code says.
    pub capabilities: Option<Vec<String>>,
}

/// Why a worker does not come in.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// The code carries no digest.
    #[error("the code is not whole: expected <code>.<digest of the engine's key>, as the engine showed it")]
    BadCode,
    /// The engine behind the orchestrator is not the one that made the code.
    #[error("the key that the orchestrator shows is not that of the engine that made the code; nothing was kept")]
    OtherEngine,
    /// It is refused, or there is no answer.
    #[error("{}", .0.told())]
    Peer(#[from] PeerError),
    /// It came in and cannot remember it.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Brings a worker in, and writes down how it stands.
///
/// # Errors
/// [`EnrollError`]; nothing is kept then.
pub async fn enroll(peer: &Peer, identity: &mut Identity, request: EnrollRequest) -> Result<(), EnrollError> {
    let EnrollRequest {
        code,
        name,
        tags,
        capabilities,
    } = request;
    let (_, digest) = code.expose().rsplit_once('.').ok_or(EnrollError::BadCode)?;
    if digest.len() != 64 || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(EnrollError::BadCode);
    }
    let public = identity.keys().public();
    let body = api::Enroll {
        code: pond_sdk::Secret::new(code.expose()),
        name,
        public_keys: api::PublicKeys {
            x25519: STANDARD.encode(public.x25519),
            ed25519: STANDARD.encode(public.ed25519),
        },
        proof: STANDARD.encode(identity.keys().prove(code.expose())),
        tags,
        capabilities,
    };
    let ask = Ask {
        path: "/v1/worker/enroll",
        claim: None,
        within: WITHIN,
    };
    let answer: api::Enrolled = peer.post(ask, &body).await?;
    identity.keep(standing(answer, digest)?)?;
    Ok(())
}

/// What an answer means, if it is of the engine that the code names.
fn standing(answer: api::Enrolled, digest: &str) -> Result<Standing, EnrollError> {
    let malformed = |what: &str| PeerError::Malformed(what.to_owned());
    let key = STANDARD.decode(&answer.engine_key).ok();
    let engine = key.and_then(|key| EnginePublic::new(&key).ok());
    let engine = engine.ok_or_else(|| malformed("engine_key is no key"))?;
    if !engine.digest().eq_ignore_ascii_case(digest) {
        return Err(EnrollError::OtherEngine);
    }
    let token = answer.token.ok_or_else(|| malformed("there is no token"))?;
    Ok(Standing {
        worker: answer.worker_id.parse().map_err(|_| malformed("worker_id is no id"))?,
        token: Secret::new(token.expose()),
        engine,
        tags: answer.tags,
        capabilities: answer.capabilities,
    })
}

#[cfg(test)]
mod tests {
    use pond_core::pool::EngineKey;
    use pond_core::secret::SecretBytes;

    use super::*;

    fn answer(seed: u8) -> (api::Enrolled, EnginePublic) {
        let engine = EngineKey::new(&SecretBytes::new(vec![seed; 32])).unwrap().public();
        let answer = api::Enrolled {
            worker_id: "018f0000-0000-7000-8000-000000000001".into(),
            tags: Vec::new(),
            capabilities: Vec::new(),
            engine_key: STANDARD.encode(engine.as_bytes()),
            token: Some(pond_sdk::Secret::new("pond_wk_1")),
        };
        (answer, engine)
    }

    #[test]
    fn c17_58_only_the_key_that_the_code_names_is_pinned() {
        let ((good, engine), (other, _)) = (answer(1), answer(2));
        let digest = engine.digest();
        assert_eq!(standing(good.clone(), &digest).unwrap().engine, engine);
        assert!(matches!(standing(other, &digest), Err(EnrollError::OtherEngine)));
        for broken in [
            api::Enrolled {
                engine_key: "x".into(),
                ..good.clone()
            },
            api::Enrolled {
                token: None,
                ..good.clone()
            },
            api::Enrolled {
                worker_id: "x".into(),
                ..good
            },
        ] {
            assert!(matches!(standing(broken, &digest), Err(EnrollError::Peer(_))));
        }
    }
}
