//! OpenAI Responses (`POST /v1/responses`).

use std::borrow::Cow;

use pond_core::usage::Tokens;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::inspect::{self, Tool};
use super::json::{Edit, Json};
use super::{Asked, Seen, Wire};
use crate::broker::grant::{Feature, Grant};
use crate::broker::refusal::Refusal;

/// The wire.
pub struct Responses;

impl Wire for Responses {
    fn name(&self) -> &'static str {
        "openai responses"
    }

    fn judge(&self, _: Option<&str>, body: &Json<'_>, grant: &Grant) -> Result<Asked, Refusal> {
        let model = inspect::model(grant, body)?;
        inspect::request(grant, body, tool)?;
        // What is left out means true on this wire.
        let keeps = !grant.allows(Feature::Store) && !body.is("store", false);
        let edits = if keeps {
            vec![Edit::Set("store", "false")]
        } else {
            Vec::new()
        };
        Ok(Asked {
            model,
            edits,
            hide_usage: false,
        })
    }

    fn whole(&self, answer: &[u8]) -> Option<Tokens> {
        let answer: Whole = serde_json::from_slice(answer).ok()?;
        Some(answer.usage?.tokens())
    }

    fn event(&self, data: &[u8], seen: &mut Seen) {
        let Ok(event) = serde_json::from_slice::<Event<'_>>(data) else {
            return;
        };
        match event.kind.as_ref() {
            "response.completed" | "response.incomplete" | "response.failed" => {
                if let Some(usage) = event.response.and_then(|response| response.usage) {
                    seen.tokens = usage.tokens();
                    seen.settled = true;
                }
            }
            kind if kind.ends_with(".delta") => seen.text += event.delta.map_or(0, |delta| delta.get().len() as u64),
            _ => {}
        }
    }

    fn bills_output(&self) -> bool {
        true
    }

    fn is_usage_alone(&self, _: &[u8]) -> bool {
        false
    }

    fn streams_array(&self) -> bool {
        false
    }

    fn error_event(&self, refusal: &Refusal) -> (Option<&'static str>, Value) {
        let data = json!({"type": "error", "code": refusal.code, "message": refusal.message, "param": null});
        (Some("error"), data)
    }
}

/// Tool types and who carries them out, after the provider's list of tools.
fn tool(tool: &Json<'_>) -> Tool {
    match tool.text("type").unwrap_or("") {
        // `tool_search` goes through the tools of the request itself.
        "function"
        | "custom"
        | "namespace"
        | "local_shell"
        | "apply_patch"
        | "computer"
        | "computer_use_preview"
        | "tool_search" => Tool::Client,
        // Carried out by the client only where it says so; else in a container of the provider.
        "shell" => match tool.get("environment").and_then(|environment| environment.text("type")) {
            Some("local") => Tool::Client,
            _ => Tool::Remote(Feature::CodeExecution),
        },
        "code_interpreter" | "programmatic_tool_calling" => Tool::Remote(Feature::CodeExecution),
        "mcp" => Tool::Remote(Feature::Mcp),
        "file_search" => Tool::Remote(Feature::FileSearch),
        kind if kind.starts_with("web_search") || kind == "openrouter:web_search" => Tool::Remote(Feature::WebSearch),
        "openrouter:web_fetch" => Tool::Remote(Feature::WebFetch),
        _ => Tool::Unknown,
    }
}

#[derive(Deserialize)]
struct Whole {
    usage: Option<Usage>,
}

/// The counts as the wire tells them: `input_tokens` holds the cached ones too.
#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    input_tokens: u64,
    #[serde(default)]
    output_tokens: u64,
    input_tokens_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    cached_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
}

impl Usage {
    fn tokens(&self) -> Tokens {
        let details = self.input_tokens_details.as_ref();
        let cache_read = details.and_then(|details| details.cached_tokens).unwrap_or(0);
        let cache_write = details.and_then(|details| details.cache_write_tokens).unwrap_or(0);
        let input = self.input_tokens.saturating_sub(cache_read).saturating_sub(cache_write);
        Tokens {
            input,
            output: self.output_tokens,
            cache_read,
            cache_write,
        }
    }
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    response: Option<Whole>,
}
