//! The digest that names a definition.

use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::runs::StoredDefinition;

/// The RFC 8785 form of a definition and its SHA-256: two spellings of one workflow are the same definition.
///
/// # Errors
/// When a number has no RFC 8785 form.
pub fn digest(definition: &Value) -> Result<StoredDefinition, serde_json::Error> {
    let json = serde_json_canonicalizer::to_string(definition)?;
    let digest = Sha256::digest(json.as_bytes()).into();
    Ok(StoredDefinition {
        digest,
        json: Arc::from(json),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn spelling_does_not_change_the_digest() {
        let one: Value = serde_json::from_str(r#"{"b": 1.0, "a": [ "ä" ]}"#).unwrap();
        let two = json!({"a": ["\u{e4}"], "b": 1});
        assert_eq!(digest(&one).unwrap().digest, digest(&two).unwrap().digest);
        assert_eq!(&*digest(&one).unwrap().json, r#"{"a":["ä"],"b":1}"#);
    }
}
