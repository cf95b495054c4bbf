//! OpenAI Embeddings (`POST /v1/embeddings`): billed by input alone.

use pond_core::usage::Tokens;
use serde::Deserialize;

use super::inspect;
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

    fn judge(&self, body: &Json<'_>, grant: &Grant) -> Result<Asked, Refusal> {
        Ok(Asked {
            model: inspect::model(grant, body)?,
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
}

#[derive(Deserialize)]
struct Whole {
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: u64,
}
