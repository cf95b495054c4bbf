//! The keyring.

use crate::sealing::{Sealed, WrappedKey};
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

/// Of two shared keys of one name the first stays.
pub async fn the_first_server_key_of_a_name_stays(store: SharedStore) {
    let sealed = |bytes: &[u8]| Sealed {
        key_version: 3,
        bytes: bytes.to_vec(),
    };
    assert_eq!(store.server_key("a").await.unwrap(), None);
    assert!(store.add_server_key("a", sealed(b"\0one")).await.unwrap());
    assert!(!store.add_server_key("a", sealed(b"two")).await.unwrap());
    assert!(store.add_server_key("b", sealed(b"two")).await.unwrap());
    assert_eq!(store.server_key("a").await.unwrap(), Some(sealed(b"\0one")));
}
