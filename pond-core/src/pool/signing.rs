//! The engine's signature on what a worker is to do: it reaches the worker through an orchestrator that may change nothing.

use std::fmt;

use ed25519_dalek::{Signer, SigningKey, Verifier, VerifyingKey};
use sha2::{Digest, Sha256};

use crate::secret::SecretBytes;

/// An Ed25519 signature.
pub type Signature = [u8; 64];

/// The key that signs jobs and commands; one for all servers of a store.
pub struct EngineKey(SigningKey);

/// The public half, which workers pin.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct EnginePublic(VerifyingKey);

/// Something that no signature of the engine fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not signed by the engine")]
pub struct Unsigned;

impl EngineKey {
    /// The key of these 32 bytes.
    ///
    /// # Errors
    /// [`Unsigned`] when they are not 32.
    pub fn new(seed: &SecretBytes) -> Result<Self, Unsigned> {
        let seed = seed.expose().try_into().map_err(|_| Unsigned)?;
        Ok(Self(SigningKey::from_bytes(seed)))
    }

    /// The public half.
    pub fn public(&self) -> EnginePublic {
        EnginePublic(self.0.verifying_key())
    }

    /// Signs bytes.
    pub fn sign(&self, bytes: &[u8]) -> Signature {
        self.0.sign(bytes).to_bytes()
    }
}

impl fmt::Debug for EngineKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineKey")
            .field("kid", &self.public().digest())
            .finish_non_exhaustive()
    }
}

impl EnginePublic {
    /// The key of these bytes.
    ///
    /// # Errors
    /// [`Unsigned`] when they are no Ed25519 key.
    pub fn new(bytes: &[u8]) -> Result<Self, Unsigned> {
        let bytes = bytes.try_into().map_err(|_| Unsigned)?;
        VerifyingKey::from_bytes(bytes).map(Self).map_err(|_| Unsigned)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// SHA-256 of the key in hex: what enrolment codes carry, and the `kid` of signatures.
    pub fn digest(&self) -> String {
        hex::encode(Sha256::digest(self.as_bytes()))
    }

    /// Checks a signature; weak keys and malleable signatures are refused (RFC 8032 §5.1.7, strict).
    ///
    /// # Errors
    /// [`Unsigned`].
    pub fn verify(&self, bytes: &[u8], signature: &[u8]) -> Result<(), Unsigned> {
        let signature = ed25519_dalek::Signature::from_slice(signature).map_err(|_| Unsigned)?;
        self.0.verify_strict(bytes, &signature).map_err(|_| Unsigned)
    }
}

impl fmt::Debug for EnginePublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EnginePublic({})", self.digest())
    }
}

/// Whether a key, that is not pinned for more than this, made a signature.
pub(crate) fn verifies(key: &[u8; 32], bytes: &[u8], signature: &[u8]) -> bool {
    let key = VerifyingKey::from_bytes(key).ok().filter(|key| !key.is_weak());
    let signature = ed25519_dalek::Signature::from_slice(signature).ok();
    key.zip(signature)
        .is_some_and(|(key, signature)| key.verify(bytes, &signature).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_keys_and_the_bytes_alone() {
        let key = EngineKey::new(&SecretBytes::new(vec![1; 32])).unwrap();
        let signature = key.sign(b"job");
        assert_eq!(key.public().verify(b"job", &signature), Ok(()));
        assert_eq!(key.public().verify(b"jab", &signature), Err(Unsigned));
        let other = EngineKey::new(&SecretBytes::new(vec![2; 32])).unwrap();
        assert_eq!(other.public().verify(b"job", &signature), Err(Unsigned));
        for index in 0..64 {
            let mut broken = signature;
            broken[index] ^= 1;
            assert_eq!(key.public().verify(b"job", &broken), Err(Unsigned), "byte {index}");
        }
        assert_eq!(key.public().verify(b"job", &signature[..63]), Err(Unsigned));
        assert!(EngineKey::new(&SecretBytes::new(vec![1; 31])).is_err());
        assert_eq!(key.public().digest().len(), 64);
        assert!(!format!("{key:?}").contains("1, 1"));
    }
}
