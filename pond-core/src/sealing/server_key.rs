//! Keys of the server itself: made once, kept sealed in the store, shared by all servers on it.

use super::{KeyringStore, Place, Sealer};
use crate::entropy::Entropy;
use crate::error::{Error, Result};
use crate::secret::SecretBytes;

/// The 32 random bytes of this name; made by whichever server asks first.
///
/// # Errors
/// When the store does not answer, or its keyring does not open what it holds.
pub async fn server_key(
    store: &dyn KeyringStore,
    sealer: &dyn Sealer,
    entropy: &dyn Entropy,
    name: &str,
) -> Result<SecretBytes> {
    let place = Place {
        scope: "org",
        kind: "server_key",
        record: name,
        field: "key",
    };
    let unusable = |error| Error::Internal(format!("the server key '{name}'"), Some(Box::new(error)));
    if store.server_key(name).await?.is_none() {
        let sealed = sealer.seal(place, &entropy.draw::<32>()).map_err(unusable)?;
        // Another server may be first; then its key is read below.
        store.add_server_key(name, sealed).await?;
    }
    let sealed = store.server_key(name).await?;
    let sealed = sealed.ok_or_else(|| Error::internal("a server key that was just added is not there"))?;
    sealer.open(place, &sealed).map_err(unusable)
}
