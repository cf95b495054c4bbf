//! The keyring: data keys by version, wrapped by the root key. Seals under the newest, opens under any.

use std::collections::BTreeMap;
use std::sync::Arc;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{KeyringStore, Place, Sealed, Sealer, SealingError, WrappedKey};
use crate::entropy::Entropy;
use crate::secret::{Secret, SecretBytes};
use crate::store::StoreError;

const NONCE: usize = 12;

/// Why a keyring could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The root key is not 32 bytes in standard base64.
    #[error("the root key is not 32 bytes in base64")]
    BadRootKey,
    /// The keys in the store were wrapped by another root key.
    #[error("the root key does not open the keyring of this store")]
    WrongRootKey,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The keys of a store, opened.
pub struct Keyring {
    keys: BTreeMap<u32, Aes256Gcm>,
    entropy: Arc<dyn Entropy>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring")
            .field("versions", &self.keys.keys())
            .finish_non_exhaustive()
    }
}

impl Keyring {
    /// Reads a root key as settings hold it: 32 bytes in standard base64.
    ///
    /// # Errors
    /// When it is not.
    pub fn root_key(text: &Secret) -> Result<SecretBytes, KeyringError> {
        match STANDARD.decode(text.expose().trim()) {
            Ok(bytes) if bytes.len() == 32 => Ok(SecretBytes::new(bytes)),
            _ => Err(KeyringError::BadRootKey),
        }
    }

    /// Makes a root key, as text.
    pub fn make_root_key(entropy: &dyn Entropy) -> Secret {
        Secret::new(STANDARD.encode(entropy.draw::<32>()))
    }

    /// Opens the keyring of a store, and makes its first key if there is none.
    ///
    /// # Errors
    /// When the root key is not the store's.
    pub async fn open(
        store: &dyn KeyringStore,
        root: &SecretBytes,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, KeyringError> {
        let root = cipher(root.expose()).ok_or(KeyringError::BadRootKey)?;
        if store.wrapped_keys().await?.is_empty() {
            let key = SecretBytes::new(entropy.draw::<32>().to_vec());
            let wrapped = encrypt(&root, &wrap_data(1), key.expose(), &*entropy);
            // Another server may have been first; then its key is read below.
            store.add_wrapped_key(WrappedKey { version: 1, wrapped }).await?;
        }
        let mut keys = BTreeMap::new();
        for WrappedKey { version, wrapped } in store.wrapped_keys().await? {
            let key = decrypt(&root, &wrap_data(version), &wrapped).ok_or(KeyringError::WrongRootKey)?;
            keys.insert(version, cipher(key.expose()).ok_or(KeyringError::WrongRootKey)?);
        }
        Ok(Self { keys, entropy })
    }
}

impl Sealer for Keyring {
    fn seal(&self, place: Place<'_>, clear: &[u8]) -> Result<Sealed, SealingError> {
        let (version, key) = self.keys.last_key_value().ok_or(SealingError::UnknownKey(0))?;
        let bytes = encrypt(key, &place.associated_data(*version), clear, &*self.entropy);
        Ok(Sealed {
            key_version: *version,
            bytes,
        })
    }

    fn open(&self, place: Place<'_>, sealed: &Sealed) -> Result<SecretBytes, SealingError> {
        let version = sealed.key_version;
        let key = self.keys.get(&version).ok_or(SealingError::UnknownKey(version))?;
        decrypt(key, &place.associated_data(version), &sealed.bytes).ok_or(SealingError::DoesNotOpen)
    }
}

fn wrap_data(version: u32) -> Vec<u8> {
    [b"pond/v1/keyring".as_slice(), &version.to_be_bytes()].concat()
}

fn cipher(key: &[u8]) -> Option<Aes256Gcm> {
    Aes256Gcm::new_from_slice(key).ok()
}

/// A random 96-bit nonce: at most 2³² seals per key keep a repeat below 2⁻³² (NIST SP 800-38D §8.3).
fn encrypt(key: &Aes256Gcm, data: &[u8], clear: &[u8], entropy: &dyn Entropy) -> Vec<u8> {
    let nonce = entropy.draw::<NONCE>();
    let payload = Payload { msg: clear, aad: data };
    let sealed = key
        .encrypt(&Nonce::from(nonce), payload)
        .expect("AES-GCM seals whatever fits into memory");
    [nonce.as_slice(), &sealed].concat()
}

fn decrypt(key: &Aes256Gcm, data: &[u8], bytes: &[u8]) -> Option<SecretBytes> {
    let (nonce, sealed) = bytes.split_first_chunk::<NONCE>()?;
    let payload = Payload { msg: sealed, aad: data };
    key.decrypt(&Nonce::from(*nonce), payload).ok().map(SecretBytes::new)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::*;
    use crate::testing::SeededEntropy;

    #[derive(Default)]
    struct Keys(Mutex<Vec<WrappedKey>>, Mutex<BTreeMap<String, Sealed>>);

    #[async_trait]
    impl KeyringStore for Keys {
        async fn wrapped_keys(&self) -> Result<Vec<WrappedKey>, StoreError> {
            Ok(self.0.lock().unwrap().clone())
        }

        async fn add_wrapped_key(&self, key: WrappedKey) -> Result<bool, StoreError> {
            let mut keys = self.0.lock().unwrap();
            let new = !keys.iter().any(|known| known.version == key.version);
            if new {
                keys.push(key);
            }
            Ok(new)
        }

        async fn server_key(&self, name: &str) -> Result<Option<Sealed>, StoreError> {
            Ok(self.1.lock().unwrap().get(name).cloned())
        }

        async fn add_server_key(&self, name: &str, sealed: Sealed) -> Result<bool, StoreError> {
            let mut keys = self.1.lock().unwrap();
            let new = !keys.contains_key(name);
            keys.entry(name.to_owned()).or_insert(sealed);
            Ok(new)
        }
    }

    const PLACE: Place<'static> = Place {
        scope: "org",
        kind: "credential",
        record: "a",
        field: "secrets",
    };

    async fn ring(keys: &Keys, root: u8) -> Result<Keyring, KeyringError> {
        Keyring::open(keys, &SecretBytes::new(vec![root; 32]), Arc::new(SeededEntropy::new(1))).await
    }

    #[tokio::test]
    async fn c17_76_a_wrong_root_key_and_a_moved_ciphertext_do_not_open() {
        let keys = Keys::default();
        let first = ring(&keys, 1).await.unwrap();
        let sealed = first.seal(PLACE, b"clear").unwrap();
        assert!(!sealed.bytes.windows(5).any(|part| part == b"clear"));
        let again = ring(&keys, 1).await.unwrap();
        assert_eq!(again.open(PLACE, &sealed).unwrap().expose(), b"clear");
        for moved in [
            Place {
                scope: "other",
                ..PLACE
            },
            Place { kind: "model", ..PLACE },
            Place { record: "b", ..PLACE },
            Place { field: "env", ..PLACE },
            Place {
                kind: "credentiala",
                record: "",
                ..PLACE
            },
        ] {
            assert_eq!(
                again.open(moved, &sealed).unwrap_err(),
                SealingError::DoesNotOpen,
                "{moved:?}"
            );
        }
        for index in 0..sealed.bytes.len() {
            let mut broken = sealed.clone();
            broken.bytes[index] ^= 1;
            assert!(again.open(PLACE, &broken).is_err(), "bit of byte {index}");
        }
        assert!(matches!(ring(&keys, 2).await, Err(KeyringError::WrongRootKey)));
    }

    #[tokio::test]
    async fn a_server_key_is_made_once() {
        let (keys, entropy) = (Keys::default(), SeededEntropy::new(2));
        let one = ring(&keys, 1).await.unwrap();
        let first = crate::sealing::server_key(&keys, &one, &entropy, "audit")
            .await
            .unwrap();
        let two = ring(&keys, 1).await.unwrap();
        let again = crate::sealing::server_key(&keys, &two, &entropy, "audit")
            .await
            .unwrap();
        assert_eq!(first.expose(), again.expose());
        let other = crate::sealing::server_key(&keys, &two, &entropy, "jobs").await.unwrap();
        assert_ne!(first.expose(), other.expose());
        let moved = keys.server_key("jobs").await.unwrap().unwrap();
        keys.1.lock().unwrap().insert("audit".into(), moved);
        assert!(
            crate::sealing::server_key(&keys, &two, &entropy, "audit")
                .await
                .is_err()
        );
    }

    #[test]
    fn a_root_key_is_32_bytes_in_base64() {
        let made = Keyring::make_root_key(&SeededEntropy::new(1));
        assert_eq!(Keyring::root_key(&made).unwrap().expose().len(), 32);
        for bad in ["", "short", "AAAA"] {
            assert!(matches!(
                Keyring::root_key(&Secret::new(bad)),
                Err(KeyringError::BadRootKey)
            ));
        }
    }
}
