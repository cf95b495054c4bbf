//! Tokens and codes: 256 random bits behind a prefix that says what they are, stored as their SHA-256 and looked up by it.

use sha2::{Digest, Sha256};

use crate::entropy::Entropy;
use crate::secret::Secret;

/// Makes a token: the prefix and 64 hexadecimal digits.
pub fn make(prefix: &str, entropy: &dyn Entropy) -> Secret {
    Secret::new(format!("{prefix}{}", hex::encode(entropy.draw::<32>())))
}

/// What is stored of a token.
pub fn hash(token: &Secret) -> [u8; 32] {
    Sha256::digest(token.expose().as_bytes()).into()
}
