//! Clear text that must not get out: a redacted `Debug`, no `Serialize` of its own, zeroized when dropped.
//!
//! A field that has to carry a secret to the server says so itself, with [`wire_map`].

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// A secret text, such as a token or a provider's key.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Takes the text in.
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// The clear text, for the one place that needs it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.expose().is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([redacted])")
    }
}

/// A secret on the wire: for `#[serde(with = "secret::wire")]`.
pub mod wire {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Secret;

    /// Writes the clear text.
    pub fn serialize<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(secret.expose())
    }

    /// Reads a text straight into a secret.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        String::deserialize(deserializer).map(Secret::new)
    }
}

/// A secret that may be absent: for `#[serde(default, with = "secret::wire_option")]`.
pub mod wire_option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Secret;

    /// Writes the clear text.
    pub fn serialize<S: Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
        secret.as_ref().map(Secret::expose).serialize(serializer)
    }

    /// Reads a text straight into a secret.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.map(Secret::new))
    }
}

/// Named secrets on the wire: for `#[serde(with = "secret::wire_map")]` on an optional map.
pub mod wire_map {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Secret;

    /// Writes the clear texts.
    pub fn serialize<S: Serializer>(map: &Option<BTreeMap<String, Secret>>, serializer: S) -> Result<S::Ok, S::Error> {
        let clear: Option<BTreeMap<&str, &str>> = map.as_ref().map(|map| {
            map.iter()
                .map(|(name, secret)| (name.as_str(), secret.expose()))
                .collect()
        });
        clear.serialize(serializer)
    }

    /// Reads texts straight into secrets.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<BTreeMap<String, Secret>>, D::Error> {
        let clear = Option::<BTreeMap<String, String>>::deserialize(deserializer)?;
        Ok(clear.map(|map| map.into_iter().map(|(name, text)| (name, Secret::new(text))).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::new("sk-clear")), "Secret([redacted])");
    }
}
