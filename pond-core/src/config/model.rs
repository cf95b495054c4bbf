//! Models: an LLM of a provider, reached with a credential, perhaps with prices.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::name::entry_name;
use super::{EntryKind, Record};
use crate::body::Object;
use crate::usage::{Price, Prices};

/// A model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// Its key.
    pub key: String,
    /// Its name for people.
    pub label: Option<String>,
    /// Its provider.
    pub provider: String,
    /// What the provider calls it.
    pub model_id: String,
    /// The credential it is reached with.
    pub credential_name: String,
    /// A capability that its worker must have.
    pub capability: Option<String>,
    /// What it costs.
    pub prices: Prices,
}

impl Record for Model {
    const KIND: EntryKind = EntryKind::Model;

    fn name(&self) -> &str {
        &self.key
    }

    fn read(object: &mut Object<'_>) -> Option<Self> {
        let key = entry_name(object, "key");
        let label = object.text("label").map(ToOwned::to_owned);
        let provider = super::credential::provider_name(object);
        let model_id = object.required_text("model_id").filter(|id| {
            let fits = is_model_id(id);
            if !fits {
                object.fault("model_id", "expected 1 to 200 of A-Z a-z 0-9 . _ : / @ -");
            }
            fits
        });
        let credential_name = entry_name(object, "credential_name");
        let capability = super::harness::capability(object);
        let prices = Prices {
            input: price(object, "input_cost_per_mtok"),
            output: price(object, "output_cost_per_mtok"),
            cache_read: price(object, "cache_read_cost_per_mtok"),
            cache_write: price(object, "cache_write_cost_per_mtok"),
        };
        Some(Self {
            key: key?,
            label,
            provider: provider?,
            model_id: model_id?.to_owned(),
            credential_name: credential_name?,
            capability,
            prices,
        })
    }
}

fn is_model_id(id: &str) -> bool {
    (1..=200).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'/' | b'@' | b'-'))
}

/// A price is read from the digits that were sent, never by way of a float's sum.
fn price(object: &mut Object<'_>, field: &'static str) -> Option<Price> {
    let value = object.optional(field)?;
    let Value::Number(number) = value else {
        object.fault(field, "expected a number");
        return None;
    };
    match Price::parse(&number.to_string()) {
        Ok(price) => Some(price),
        Err(bad) => {
            object.fault(field, bad.to_string());
            None
        }
    }
}
