//! Sealed boxes: secrets for one attempt of one job, readable by the worker it was handed to and by nobody on the way.
//!
//! HPKE (RFC 9180) in base mode with X25519, HKDF-SHA256 and AES-256-GCM. The associated data names the signed job, the worker,
//! the attempt and the purpose, so that a box opens nowhere else.

use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use std::convert::Infallible;

use crate::entropy::Entropy;
use crate::id::WorkerId;
use crate::secret::SecretBytes;

/// What the boxes are, as the wire names it.
pub const SEALED_BOX: &str = "hpke-x25519-sha256-aes256gcm";

const INFO: &[u8] = b"pond/v1/seal";

/// What is in a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The secrets of the job's credential.
    Credential,
    /// The key of its bundle.
    Bundle,
    /// Secrets that a command brings.
    Secrets,
}

impl Purpose {
    /// As the associated data spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Credential => "credential",
            Self::Bundle => "bundle",
            Self::Secrets => "secrets",
        }
    }
}

/// Where a box opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoxPlace {
    /// SHA-256 of the signed job.
    pub job: [u8; 32],
    /// The worker.
    pub worker: WorkerId,
    /// Number of the attempt.
    pub attempt: u32,
    /// What is in it.
    pub purpose: Purpose,
}

impl BoxPlace {
    /// The parts joined by one zero byte: the digest raw, the id and the attempt as text.
    pub(crate) fn associated_data(&self) -> Vec<u8> {
        let (worker, attempt) = (self.worker.to_string(), self.attempt.to_string());
        let parts = [
            &self.job[..],
            worker.as_bytes(),
            attempt.as_bytes(),
            self.purpose.as_str().as_bytes(),
        ];
        parts.join(&0)
    }
}

/// A box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedBox {
    /// The encapsulated key.
    pub enc: Vec<u8>,
    /// Ciphertext and tag.
    pub ciphertext: Vec<u8>,
}

/// A box that cannot be made or does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BoxError {
    /// The pinned key is no X25519 key.
    #[error("the worker's pinned key is no X25519 key")]
    BadKey,
    /// It was made for another key, worker, job, attempt or purpose, or was changed.
    #[error("the sealed box does not open here")]
    DoesNotOpen,
}

impl SealedBox {
    /// Seals `clear` to a worker's public X25519 key.
    ///
    /// # Errors
    /// [`BoxError::BadKey`].
    pub fn seal(to: &[u8; 32], place: &BoxPlace, clear: &[u8], entropy: &dyn Entropy) -> Result<Self, BoxError> {
        let key = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(to).map_err(|_| BoxError::BadKey)?;
        let sealed = hpke::single_shot_seal_with_rng::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
            &OpModeS::Base,
            &key,
            INFO,
            clear,
            &place.associated_data(),
            &mut Chance(entropy),
        );
        let (enc, ciphertext) = sealed.map_err(|_| BoxError::BadKey)?;
        Ok(Self {
            enc: enc.to_bytes().to_vec(),
            ciphertext,
        })
    }

    /// Opens it with the worker's secret X25519 key.
    ///
    /// # Errors
    /// [`BoxError`].
    pub fn open(&self, secret: &[u8], place: &BoxPlace) -> Result<SecretBytes, BoxError> {
        let key = <X25519HkdfSha256 as Kem>::PrivateKey::from_bytes(secret).map_err(|_| BoxError::BadKey)?;
        let enc = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(&self.enc).map_err(|_| BoxError::DoesNotOpen)?;
        let opened = hpke::single_shot_open::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &key,
            &enc,
            INFO,
            &self.ciphertext,
            &place.associated_data(),
        );
        opened.map(SecretBytes::new).map_err(|_| BoxError::DoesNotOpen)
    }
}

/// The public key of a secret X25519 key.
pub(crate) fn x25519_public(secret: &[u8]) -> Option<[u8; 32]> {
    let key = <X25519HkdfSha256 as Kem>::PrivateKey::from_bytes(secret).ok()?;
    let public = <X25519HkdfSha256 as Kem>::sk_to_pk(&key).to_bytes();
    public.as_slice().try_into().ok()
}

/// The engine's chance, as the library wants it.
struct Chance<'a>(&'a dyn Entropy);

impl TryRng for Chance<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes(self.0.draw()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_le_bytes(self.0.draw()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(bytes);
        Ok(())
    }
}

impl TryCryptoRng for Chance<'_> {}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::testing::SeededEntropy;

    fn place() -> BoxPlace {
        BoxPlace {
            job: [7; 32],
            worker: Uuid::from_u128(1).into(),
            attempt: 1,
            purpose: Purpose::Credential,
        }
    }

    #[test]
    fn c17_58_a_box_opens_at_its_place_with_its_key_alone() {
        let entropy = SeededEntropy::new(1);
        let (secret, other) = ([9; 32], [8; 32]);
        let public = x25519_public(&secret).unwrap();
        let sealed = SealedBox::seal(&public, &place(), b"clear", &entropy).unwrap();
        assert_eq!(sealed.enc.len(), 32);
        assert!(!sealed.ciphertext.windows(5).any(|part| part == b"clear"));
        assert_eq!(sealed.open(&secret, &place()).unwrap().expose(), b"clear");
        assert!(sealed.open(&other, &place()).is_err());
        let moved = [
            BoxPlace {
                job: [6; 32],
                ..place()
            },
            BoxPlace {
                worker: Uuid::from_u128(2).into(),
                ..place()
            },
            BoxPlace { attempt: 2, ..place() },
            BoxPlace {
                purpose: Purpose::Bundle,
                ..place()
            },
        ];
        for moved in moved {
            assert!(sealed.open(&secret, &moved).is_err(), "{moved:?}");
        }
        for index in 0..sealed.ciphertext.len() {
            let mut broken = sealed.clone();
            broken.ciphertext[index] ^= 1;
            assert!(broken.open(&secret, &place()).is_err(), "byte {index}");
        }
    }

    #[test]
    fn the_associated_data_is_as_the_wire_states_it() {
        let data = place().associated_data();
        let text = b"\x0000000000-0000-0000-0000-000000000001\x001\x00credential";
        assert_eq!(data, [&[7; 32][..], text].concat());
    }
}
