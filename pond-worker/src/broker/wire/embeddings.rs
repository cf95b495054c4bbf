//! OpenAI Embeddings (`POST /v1/embeddings`): billed by input alone.

use pond_core::usage::Tokens;
use serde::Deserialize;
use serde_json::Value;

use super::inspect::{self, Tool};
use super::json::Json;
use super::{Asked, Seen, Wire};
use crate::broker::grant::Grant;
use crate::broker::refusal::Refusal;

/// The wire.
pub struct Embeddings;

impl Wire for Embeddings {
    fn name(&self) -> &'static str {
        "openai embeddings"
    }

    fn judge(&self, _: Option<&str>, body: &Json<'_>, grant: &Grant) -> Result<Asked, Refusal> {
        let model = inspect::model(grant, body)?;
        inspect::request(grant, body, |_| Tool::Unknown)?;
        if body.get("messages").is_some() || !body.get("input").is_none_or(is_text) {
            return Err(Refusal::malformed(
                "only text and tokens are embedded, given as `input`",
            ));
        }
        Ok(Asked {
            model,
            edits: Vec::new(),
            hide_usage: false,
        })
    }

    fn whole(&self, answer: &[u8]) -> Option<Tokens> {
        let answer: Whole = serde_json::from_slice(answer).ok()?;
        Some(Tokens {
            input: answer.usage?.prompt_tokens,
            ..Tokens::default()
        })
    }

    fn event(&self, _: &[u8], _: &mut Seen) {}

    fn bills_output(&self) -> bool {
        false
    }

    fn is_usage_alone(&self, _: &[u8]) -> bool {
        false
    }

    fn streams_array(&self) -> bool {
        false
    }

    fn error_event(&self, refusal: &Refusal) -> (Option<&'static str>, Value) {
        (None, super::openai::error(refusal))
    }
}

/// Whether this is a text, tokens, or a list of either: the provider fetches nothing for any of them.
fn is_text(input: &Json<'_>) -> bool {
    let tokens = |list: &Json<'_>| matches!(list, Json::Array(items) if items.iter().all(|item| *item == Json::Number));
    match input {
        Json::String(_) => true,
        Json::Array(items) => tokens(input) || items.iter().all(|item| item.as_text().is_some() || tokens(item)),
        _ => false,
    }
}

#[derive(Deserialize)]
struct Whole {
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: u64,
}
