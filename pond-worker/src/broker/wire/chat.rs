//! OpenAI Chat Completions (`POST /v1/chat/completions`), with OpenRouter's additions.

use std::borrow::Cow;

use pond_core::usage::Tokens;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::inspect::{self, Tool};
use super::json::{Edit, Json};
use super::{Asked, Seen, Wire};
use crate::broker::grant::{Feature, Grant};
use crate::broker::refusal::Refusal;

/// The wire.
pub struct Chat;

impl Wire for Chat {
    fn name(&self) -> &'static str {
        "openai chat completions"
    }

    fn judge(&self, _: Option<&str>, body: &Json<'_>, grant: &Grant) -> Result<Asked, Refusal> {
        let model = inspect::model(grant, body)?;
        inspect::request(grant, body, tool)?;
        let mut edits = Vec::new();
        // What is left out means false on this wire, and not every compatible server knows the field.
        if !grant.allows(Feature::Store) && body.get("store").is_some_and(|store| *store != Json::Bool(false)) {
            edits.push(Edit::Set("store", "false"));
        }
        let asks_usage = body
            .get("stream_options")
            .is_some_and(|options| options.is("include_usage", true));
        let hide_usage = body.is("stream", true) && !asks_usage;
        if hide_usage {
            edits.push(Edit::SetIn("stream_options", "include_usage", "true"));
        }
        Ok(Asked {
            model,
            edits,
            hide_usage,
        })
    }

    fn whole(&self, answer: &[u8]) -> Option<Tokens> {
        let answer: Whole = serde_json::from_slice(answer).ok()?;
        Some(answer.usage?.tokens())
    }

    fn event(&self, data: &[u8], seen: &mut Seen) {
        let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(data) else {
            return;
        };
        if let Some(usage) = chunk.usage {
            seen.tokens = usage.tokens();
            seen.settled = true;
        }
        seen.text += chunk
            .choices
            .iter()
            .flatten()
            .filter_map(|choice| choice.delta.as_ref())
            .map(Delta::bytes)
            .sum::<u64>();
    }

    fn bills_output(&self) -> bool {
        true
    }

    fn is_usage_alone(&self, data: &[u8]) -> bool {
        let chunk = serde_json::from_slice::<UsageAlone>(data);
        chunk.is_ok_and(|chunk| chunk.usage.is_some() && chunk.choices.is_empty())
    }

    fn streams_array(&self) -> bool {
        false
    }

    fn error_event(&self, refusal: &Refusal) -> (Option<&'static str>, Value) {
        (None, super::openai::error(refusal))
    }
}

/// Tool types and who carries them out.
fn tool(tool: &Json<'_>) -> Tool {
    match tool.text("type").unwrap_or("") {
        "function" | "custom" => Tool::Client,
        kind if kind.starts_with("web_search") || kind == "openrouter:web_search" => Tool::Remote(Feature::WebSearch),
        "openrouter:web_fetch" => Tool::Remote(Feature::WebFetch),
        "mcp" => Tool::Remote(Feature::Mcp),
        "file_search" => Tool::Remote(Feature::FileSearch),
        "code_interpreter" => Tool::Remote(Feature::CodeExecution),
        _ => Tool::Unknown,
    }
}

#[derive(Deserialize)]
struct Whole {
    usage: Option<Usage>,
}

/// The counts as the wire tells them: `prompt_tokens` holds the cached ones too.
#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
    prompt_tokens_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    cached_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
}

impl Usage {
    fn tokens(&self) -> Tokens {
        let details = self.prompt_tokens_details.as_ref();
        let cache_read = details.and_then(|details| details.cached_tokens).unwrap_or(0);
        let cache_write = details.and_then(|details| details.cache_write_tokens).unwrap_or(0);
        let input = self
            .prompt_tokens
            .saturating_sub(cache_read)
            .saturating_sub(cache_write);
        Tokens {
            input,
            output: self.completion_tokens,
            cache_read,
            cache_write,
        }
    }
}

#[derive(Deserialize)]
struct Chunk<'a> {
    usage: Option<Usage>,
    #[serde(borrow)]
    choices: Option<Vec<Choice<'a>>>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow)]
    content: Option<Cow<'a, str>>,
    #[serde(borrow)]
    reasoning: Option<Cow<'a, str>>,
    #[serde(borrow)]
    reasoning_content: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tool_calls: Option<Vec<ToolCall<'a>>>,
}

impl Delta<'_> {
    fn bytes(&self) -> u64 {
        let calls = self
            .tool_calls
            .iter()
            .flatten()
            .filter_map(|call| call.function.as_ref()?.arguments.as_ref());
        let texts = [&self.content, &self.reasoning, &self.reasoning_content]
            .into_iter()
            .flatten();
        texts.chain(calls).map(|text| text.len() as u64).sum()
    }
}

#[derive(Deserialize)]
struct ToolCall<'a> {
    #[serde(borrow)]
    function: Option<Function<'a>>,
}

#[derive(Deserialize)]
struct Function<'a> {
    #[serde(borrow)]
    arguments: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct UsageAlone {
    usage: Option<IgnoredAny>,
    choices: Vec<IgnoredAny>,
}
