//! Google's Gemini API (`POST /v1beta/models/{model}:generateContent`, `:streamGenerateContent`, `:countTokens`).
//!
//! Its servers take each key in two spellings (`fileData`, `file_data`), so every judgement here goes over all entries of an
//! object by their plain form: none is looked up by one spelling.

use std::borrow::Cow;

use hyper::Method;
use pond_core::config;
use pond_core::usage::Tokens;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::inspect::{self, Tool};
use super::json::{Edit, Json};
use super::{Asked, Seen, Wire};
use crate::broker::grant::{Feature, Grant};
use crate::broker::provider::{Auth, ClientBase, Provider, Route};
use crate::broker::refusal::Refusal;

/// The provider. Its key goes in a header: one in the query would stand in logs.
pub static GEMINI: Provider = Provider {
    name: config::GEMINI.name,
    keys: &[
        (config::GEMINI.keys[0], Auth::Header("x-goog-api-key")),
        (config::GEMINI.keys[1], Auth::Header("x-goog-api-key")),
    ],
    base_url_env: config::GEMINI.base_url,
    default_base: config::GEMINI.public_url,
    version_path: "/v1beta",
    client_base: ClientBase::Origin,
    dummy_key: "AIzaPondDummyKeyThatOpensNothing0000000",
    routes: &[
        Route {
            method: Method::POST,
            path: "/v1beta/models/{model}:generateContent",
            alias: None,
            query: &["alt=json"],
            wire: Some(&GenerateContent),
            billed: true,
        },
        Route {
            method: Method::POST,
            path: "/v1beta/models/{model}:streamGenerateContent",
            alias: None,
            query: &["alt=sse", "alt=json"],
            wire: Some(&StreamGenerateContent),
            billed: true,
        },
        Route {
            method: Method::POST,
            path: "/v1beta/models/{model}:countTokens",
            alias: None,
            query: &["alt=json"],
            wire: Some(&GenerateContent),
            billed: false,
        },
        Route {
            method: Method::GET,
            path: "/v1beta/models",
            alias: None,
            query: &["pageSize", "pageToken"],
            wire: None,
            billed: false,
        },
    ],
    beta: None,
    error,
};

/// The wire, of an answer that comes whole.
pub struct GenerateContent;

/// The same, of one that comes in parts: events, or elements of an array.
pub struct StreamGenerateContent;

impl Wire for GenerateContent {
    fn name(&self) -> &'static str {
        "gemini generate content"
    }

    fn judge(&self, model: Option<&str>, body: &Json<'_>, grant: &Grant) -> Result<Asked, Refusal> {
        judge(model, body, grant)
    }

    fn whole(&self, answer: &[u8]) -> Option<Tokens> {
        let answer: Part<'_> = serde_json::from_slice(answer).ok()?;
        Some(answer.usage?.tokens())
    }

    fn event(&self, data: &[u8], seen: &mut Seen) {
        event(data, seen);
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
        (None, error(refusal))
    }
}

impl Wire for StreamGenerateContent {
    fn name(&self) -> &'static str {
        "gemini stream generate content"
    }

    fn judge(&self, model: Option<&str>, body: &Json<'_>, grant: &Grant) -> Result<Asked, Refusal> {
        judge(model, body, grant)
    }

    /// Parts are read as they come, so there is nothing to read at once.
    fn whole(&self, _: &[u8]) -> Option<Tokens> {
        None
    }

    fn event(&self, data: &[u8], seen: &mut Seen) {
        event(data, seen);
    }

    fn bills_output(&self) -> bool {
        true
    }

    fn is_usage_alone(&self, _: &[u8]) -> bool {
        false
    }

    fn streams_array(&self) -> bool {
        true
    }

    fn error_event(&self, refusal: &Refusal) -> (Option<&'static str>, Value) {
        (None, error(refusal))
    }
}

/// An error in the provider's shape. It has a number and a status of a closed list; our code is the reason, and stands as
/// `type` too, where clients of the other wires find it.
fn error(refusal: &Refusal) -> Value {
    let status = match refusal.status.as_u16() {
        403 => "PERMISSION_DENIED",
        400..500 => "INVALID_ARGUMENT",
        _ => "UNAVAILABLE",
    };
    json!({"error": {
        "code": refusal.status.as_u16(), "message": refusal.message, "status": status, "type": refusal.code,
        "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": refusal.code, "domain": "pond"}],
    }})
}

/// A key without what its two spellings differ in.
fn plain(key: &str) -> String {
    key.bytes()
        .filter(|byte| *byte != b'_')
        .map(|byte| char::from(byte.to_ascii_lowercase()))
        .collect()
}

/// The entries of an object by their plain keys; `null` counts as absent.
fn entries<'j, 'a>(value: &'j Json<'a>) -> impl Iterator<Item = (String, &'j Json<'a>)> {
    let entries = match value {
        Json::Object(entries) => &entries[..],
        _ => &[],
    };
    let told = entries.iter().filter(|(_, value)| *value != Json::Null);
    told.map(|(key, value)| (plain(key), value))
}

fn judge(model: Option<&str>, body: &Json<'_>, grant: &Grant) -> Result<Asked, Refusal> {
    let asked = model.ok_or_else(|| Refusal::malformed("the path names no model"))?;
    let model = inspect::granted_model(grant, asked)?;
    let keeps = request(grant, asked, body)?;
    let edits = keeps.then_some(Edit::Set("store", "false")).into_iter().collect();
    Ok(Asked {
        model,
        edits,
        hide_usage: false,
    })
}

/// Judges a request; whether it asks for something to be kept that is to be said no to.
fn request(grant: &Grant, model: &str, body: &Json<'_>) -> Result<bool, Refusal> {
    let mut keeps = false;
    for (key, value) in entries(body) {
        match key.as_str() {
            "model" => same_model(model, value)?,
            "store" => keeps = !grant.allows(Feature::Store) && *value != Json::Bool(false),
            "cachedcontent" => inspect::require(grant, Feature::Store, "cachedContent")?,
            "tools" => tools(grant, value)?,
            "contents" | "systeminstruction" => conversation(grant, value)?,
            // Of a count of tokens: the request whose tokens are counted. Nothing of it is carried out, let alone kept.
            "generatecontentrequest" => {
                request(grant, model, value)?;
            }
            _ => {}
        }
    }
    Ok(keeps)
}

/// The model stands in the path; one in the body must be that very one.
fn same_model(model: &str, named: &Json<'_>) -> Result<(), Refusal> {
    let named = named.as_text().unwrap_or("");
    match named.strip_prefix("models/").unwrap_or(named) == model {
        true => Ok(()),
        false => {
            let text = "the body names another model than the path";
            Err(Refusal::forbidden("model_not_allowed", text))
        }
    }
}

/// Judges the list of tools: each is an object with a key for what it is, or with several.
fn tools(grant: &Grant, list: &Json<'_>) -> Result<(), Refusal> {
    let Json::Array(list) = list else {
        return Err(Refusal::malformed("`tools` is no list"));
    };
    for tool in list {
        let mut kinds = entries(tool).peekable();
        if kinds.peek().is_none() {
            inspect::refuse_tool("tool without a kind")?;
        }
        for (key, _) in kinds {
            match kind(&key) {
                Tool::Client => {}
                Tool::Remote(feature) => inspect::require(grant, feature, &key)?,
                Tool::Unknown => inspect::refuse_tool(&key)?,
            }
        }
    }
    Ok(())
}

/// Kinds of tools and who carries them out, after the provider's list.
fn kind(key: &str) -> Tool {
    match key {
        "functiondeclarations" | "functions" | "computeruse" => Tool::Client,
        "googlesearch" | "googlesearchretrieval" | "enterprisewebsearch" | "googlemaps" => {
            Tool::Remote(Feature::WebSearch)
        }
        "urlcontext" => Tool::Remote(Feature::WebFetch),
        "codeexecution" => Tool::Remote(Feature::CodeExecution),
        "filesearch" | "retrieval" => Tool::Remote(Feature::FileSearch),
        "mcpservers" => Tool::Remote(Feature::Mcp),
        _ => Tool::Unknown,
    }
}

/// Walks a conversation for files that the provider would fetch, or has kept.
fn conversation(grant: &Grant, value: &Json<'_>) -> Result<(), Refusal> {
    if let Json::Array(items) = value {
        return items.iter().try_for_each(|item| conversation(grant, item));
    }
    for (key, inner) in entries(value) {
        match key.as_str() {
            // What the model gave to a function, and what that gave back, is data, whatever it looks like.
            "args" | "response" => {}
            "filedata" | "fileuri" | "gcsuri" => inspect::require(grant, Feature::RemoteUrl, &key)?,
            _ => conversation(grant, inner)?,
        }
    }
    Ok(())
}

/// An answer, or a part of one.
#[derive(Deserialize)]
struct Part<'a> {
    #[serde(rename = "usageMetadata")]
    usage: Option<Usage>,
    #[serde(borrow)]
    candidates: Option<Vec<Candidate<'a>>>,
}

/// The counts as the wire tells them, cumulative: the prompt's hold the cached ones too, and thoughts are told beside the
/// answer's own.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Usage {
    #[serde(default)]
    prompt_token_count: u64,
    #[serde(default)]
    cached_content_token_count: u64,
    #[serde(default)]
    tool_use_prompt_token_count: u64,
    #[serde(default)]
    candidates_token_count: u64,
    #[serde(default)]
    thoughts_token_count: u64,
}

impl Usage {
    fn tokens(&self) -> Tokens {
        let own = self.prompt_token_count.saturating_sub(self.cached_content_token_count);
        Tokens {
            input: own.saturating_add(self.tool_use_prompt_token_count),
            output: self.candidates_token_count.saturating_add(self.thoughts_token_count),
            cache_read: self.cached_content_token_count,
            cache_write: 0,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate<'a> {
    #[serde(borrow)]
    content: Option<Content<'a>>,
    finish_reason: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow)]
    parts: Option<Vec<Said<'a>>>,
}

#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "functionCall")]
    call: Option<&'a serde_json::value::RawValue>,
}

fn event(data: &[u8], seen: &mut Seen) {
    let Ok(part) = serde_json::from_slice::<Part<'_>>(data) else {
        return;
    };
    let candidates = part.candidates.as_deref().unwrap_or_default();
    let parts = candidates
        .iter()
        .filter_map(|candidate| candidate.content.as_ref())
        .flat_map(|content| content.parts.as_deref().unwrap_or_default());
    seen.text += parts
        .map(|said| said.text.as_ref().map_or(0, |text| text.len()) + said.call.map_or(0, |call| call.get().len()))
        .sum::<usize>() as u64;
    let Some(usage) = part.usage else { return };
    seen.tokens = usage.tokens();
    seen.knows_input = true;
    // Told with each part; the last word is that of the part that says why it ended, or that holds nothing else.
    seen.settled = candidates.iter().all(|candidate| candidate.finish_reason.is_some());
}
