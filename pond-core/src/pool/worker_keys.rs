//! The keys of a worker: made on its host, proven when it enrols, pinned from then on.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256};

use super::WorkerKeys;
use super::signing::{Signature, verifies};
use crate::entropy::Entropy;
use crate::sealing::{BoxError, BoxPlace, SealedBox, x25519_public};
use crate::secret::SecretBytes;

const PROOF: &[u8] = b"pond-enroll-v1";
const ATTESTATION: &[u8] = b"pond-attest-v1";

/// The secret halves.
#[derive(Clone)]
pub struct WorkerSecretKeys {
    x25519: SecretBytes,
    ed25519: SecretBytes,
    public: WorkerKeys,
}

impl WorkerSecretKeys {
    /// Makes keys.
    pub fn make(entropy: &dyn Entropy) -> Self {
        let bytes = SecretBytes::new(entropy.draw::<64>().to_vec());
        Self::from_bytes(&bytes).expect("any 64 bytes are two keys")
    }

    /// The keys of 64 bytes: X25519, then Ed25519.
    pub fn from_bytes(bytes: &SecretBytes) -> Option<Self> {
        let (x25519, ed25519) = bytes.expose().split_first_chunk::<32>()?;
        let ed25519: &[u8; 32] = ed25519.try_into().ok()?;
        let public = WorkerKeys {
            x25519: x25519_public(x25519)?,
            ed25519: SigningKey::from_bytes(ed25519).verifying_key().to_bytes(),
        };
        Some(Self {
            x25519: SecretBytes::new(x25519.to_vec()),
            ed25519: SecretBytes::new(ed25519.to_vec()),
            public,
        })
    }

    /// The 64 bytes, for the file that they are kept in.
    pub fn to_bytes(&self) -> SecretBytes {
        SecretBytes::new([self.x25519.expose(), self.ed25519.expose()].concat())
    }

    /// The public halves.
    pub fn public(&self) -> WorkerKeys {
        self.public
    }

    /// Proves, with a code just as it is sent, that both keys are this worker's.
    pub fn prove(&self, code: &str) -> Signature {
        let seed: &[u8; 32] = self.ed25519.expose().try_into().expect("kept as 32 bytes");
        SigningKey::from_bytes(seed)
            .sign(&proof(code, &self.public.x25519))
            .to_bytes()
    }

    /// Signs what this worker says of its own host.
    pub fn attest(&self, report: &[u8]) -> Signature {
        let seed: &[u8; 32] = self.ed25519.expose().try_into().expect("kept as 32 bytes");
        SigningKey::from_bytes(seed).sign(&attestation(report)).to_bytes()
    }

    /// Opens a box that was sealed to this worker.
    ///
    /// # Errors
    /// [`BoxError`].
    pub fn open(&self, sealed: &SealedBox, place: &BoxPlace) -> Result<SecretBytes, BoxError> {
        sealed.open(self.x25519.expose(), place)
    }
}

impl fmt::Debug for WorkerSecretKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerSecretKeys")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

impl WorkerKeys {
    /// Both keys as people compare them.
    pub fn fingerprint(&self) -> String {
        let digest = Sha256::new()
            .chain_update(self.x25519)
            .chain_update(self.ed25519)
            .finalize();
        format!("SHA256:{}", STANDARD_NO_PAD.encode(digest))
    }

    /// Whether the holder of these keys said this of its host.
    pub fn attests(&self, report: &[u8], signature: &[u8]) -> bool {
        verifies(&self.ed25519, &attestation(report), signature)
    }

    /// Whether the holder of both keys offered this code.
    pub fn proves(&self, code: &str, proof_of: &[u8]) -> bool {
        verifies(&self.ed25519, &proof(code, &self.x25519), proof_of)
    }
}

fn attestation(report: &[u8]) -> Vec<u8> {
    [ATTESTATION, &Sha256::digest(report)].concat()
}

fn proof(code: &str, x25519: &[u8; 32]) -> Vec<u8> {
    [PROOF, &Sha256::digest(code.as_bytes()), x25519].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SeededEntropy;

    #[test]
    fn a_proof_is_of_one_code_and_both_keys() {
        let entropy = SeededEntropy::new(1);
        let (keys, other) = (WorkerSecretKeys::make(&entropy), WorkerSecretKeys::make(&entropy));
        let proof = keys.prove("pond_ec_a");
        assert!(keys.public().proves("pond_ec_a", &proof));
        assert!(!keys.public().proves("pond_ec_b", &proof));
        assert!(!other.public().proves("pond_ec_a", &proof));
        let mixed = WorkerKeys {
            x25519: other.public().x25519,
            ..keys.public()
        };
        assert!(!mixed.proves("pond_ec_a", &proof));
        assert!(
            !WorkerKeys {
                ed25519: [0; 32],
                ..keys.public()
            }
            .proves("pond_ec_a", &proof)
        );
        let again = WorkerSecretKeys::from_bytes(&keys.to_bytes()).unwrap();
        assert_eq!(again.public(), keys.public());
        let print = keys.public().fingerprint();
        assert!(print.starts_with("SHA256:") && print.len() == 7 + 43, "{print}");
        assert_ne!(print, mixed.fingerprint());
    }
}
