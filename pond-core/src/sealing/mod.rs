//! Secrets at rest: AES-256-GCM under a versioned keyring, bound to the place they are stored in.

mod keyring;
mod sealed;
mod server_key;
mod store;

pub use keyring::{Keyring, KeyringError};
pub use sealed::{Place, Sealed, Sealer, SealingError};
pub use server_key::server_key;
pub use store::{KeyringStore, WrappedKey};
