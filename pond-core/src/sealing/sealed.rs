//! The port to sealing, and what it gives.

use crate::secret::SecretBytes;

/// A ciphertext as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Version of the key it was sealed under.
    pub key_version: u32,
    /// 12-byte nonce, ciphertext, 16-byte tag.
    pub bytes: Vec<u8>,
}

/// Where a secret stands. A ciphertext moved to another place does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The project, or the org.
    pub scope: &'a str,
    /// Kind of record.
    pub kind: &'a str,
    /// The record.
    pub record: &'a str,
    /// The field.
    pub field: &'a str,
}

impl Place<'_> {
    /// Associated data: key version and the parts, each with its length, so that no two places read alike.
    pub(super) fn associated_data(&self, key_version: u32) -> Vec<u8> {
        let mut data = b"pond/v1/sealed".to_vec();
        data.extend(key_version.to_be_bytes());
        for part in [self.scope, self.kind, self.record, self.field] {
            data.extend(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            data.extend(part.as_bytes());
        }
        data
    }
}

/// Why something could not be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealingError {
    /// The key of this version is not on the ring.
    #[error("key version {0} is not on the keyring")]
    UnknownKey(u32),
    /// It was changed, moved, or sealed under another key.
    #[error("the ciphertext does not open here")]
    DoesNotOpen,
}

/// Seals and opens secrets.
pub trait Sealer: Send + Sync + 'static {
    /// Seals a secret for one place, under the newest key.
    ///
    /// # Errors
    /// When there is no key.
    fn seal(&self, place: Place<'_>, clear: &[u8]) -> Result<Sealed, SealingError>;

    /// Opens what was sealed for this place.
    ///
    /// # Errors
    /// When it was changed, moved, or its key is gone.
    fn open(&self, place: Place<'_>, sealed: &Sealed) -> Result<SecretBytes, SealingError>;
}
