//! Secrets at rest: AES-256-GCM under a versioned keyring, bound to the place they are stored in.

mod boxes;
mod keyring;
mod sealed;
mod server_key;
mod store;

pub(crate) use boxes::x25519_public;
pub use boxes::{BoxError, BoxPlace, Purpose, SEALED_BOX, SealedBox};
pub use keyring::{Keyring, KeyringError};
pub use sealed::{Place, Sealed, Sealer, SealingError};
pub use server_key::server_key;
pub use store::{KeyringStore, WrappedKey};
