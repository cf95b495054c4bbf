//! The keyring.

use crate::sealing::WrappedKey;
use crate::store::SharedStore;

/// Of two keys of one version the first stays; keys come by version.
pub async fn the_first_key_of_a_version_stays(store: SharedStore) {
    let key = |version, wrapped: &[u8]| WrappedKey {
        version,
        wrapped: wrapped.to_vec(),
    };
    assert_eq!(store.wrapped_keys().await.unwrap(), []);
    assert!(store.add_wrapped_key(key(2, b"two")).await.unwrap());
    assert!(store.add_wrapped_key(key(1, b"\0one")).await.unwrap());
    assert!(!store.add_wrapped_key(key(2, b"other")).await.unwrap());
    assert_eq!(store.wrapped_keys().await.unwrap(), [key(1, b"\0one"), key(2, b"two")]);
}
