//! How a turn looks on each provider's wire, written after their public documentation and apart from the broker's readers.

mod anthropic;
mod chat;
mod gemini;
mod responses;

use axum::http::{HeaderMap, Method};
use serde_json::{Value, json};

use super::script::{Counts, Turn};

/// What a path is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    Talk(Talk),
    CountTokens,
    GeminiTokens,
    Embeddings,
    Models,
}

/// The wires on which the model talks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Talk {
    Anthropic,
    Responses,
    Chat,
    Gemini(Streaming),
}

/// How an answer comes on a wire where the path says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Streaming {
    Whole,
    Events,
    Array,
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) wire: Wire,
    /// The model, where the path names it.
    pub(super) model: Option<String>,
}

/// One answer to be put on a wire.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer<'a> {
    pub(super) model: &'a str,
    pub(super) id: usize,
    pub(super) turn: &'a Turn,
    /// Chat streams tell the usage only when asked.
    pub(super) usage_asked: bool,
}

/// What a method, path and query is for.
pub(super) fn at(method: &Method, path: &str, query: &str) -> Option<Asked> {
    let wire = match (method.as_str(), path) {
        ("POST", "/v1/messages") => Some(Wire::Talk(Talk::Anthropic)),
        ("POST", "/v1/messages/count_tokens") => Some(Wire::CountTokens),
        ("POST", "/v1/responses") => Some(Wire::Talk(Talk::Responses)),
        ("POST", "/v1/chat/completions") => Some(Wire::Talk(Talk::Chat)),
        ("POST", "/v1/embeddings") => Some(Wire::Embeddings),
        ("GET", "/v1/models" | "/v1beta/models") => Some(Wire::Models),
        ("POST", path) => return gemini_at(path, query),
        _ => None,
    };
    wire.map(|wire| Asked { wire, model: None })
}

fn gemini_at(path: &str, query: &str) -> Option<Asked> {
    let (model, verb) = path.strip_prefix("/v1beta/models/")?.split_once(':')?;
    let wire = match verb {
        "generateContent" => Wire::Talk(Talk::Gemini(Streaming::Whole)),
        "streamGenerateContent" if query == "alt=sse" => Wire::Talk(Talk::Gemini(Streaming::Events)),
        "streamGenerateContent" => Wire::Talk(Talk::Gemini(Streaming::Array)),
        "countTokens" => Wire::GeminiTokens,
        _ => return None,
    };
    Some(Asked {
        wire,
        model: Some(model.to_owned()),
    })
}

/// Whether a Chat request asks for the usage of its stream.
pub(super) fn usage_asked(body: &Value) -> bool {
    body["stream_options"]["include_usage"].as_bool() == Some(true)
}

impl Wire {
    /// Whether every message has a role that this wire knows. Anthropic's knows `system` among them by a beta alone.
    pub(super) fn knows_roles(self, body: &Value, headers: &HeaderMap) -> bool {
        if self != Self::Talk(Talk::Anthropic) {
            return true;
        }
        let betas = headers.get_all("anthropic-beta");
        let by_beta = (betas.iter().filter_map(|value| value.to_str().ok()))
            .any(|betas| betas.contains("mid-conversation-system-"));
        let messages = body["messages"].as_array().map_or(&[][..], Vec::as_slice);
        messages.iter().all(|message| match message["role"].as_str() {
            Some("user" | "assistant") => true,
            Some("system") => by_beta,
            _ => false,
        })
    }

    /// An error in the provider's shape.
    pub(super) fn error(self, kind: &str, message: &str) -> Value {
        match self {
            Self::Talk(Talk::Anthropic) | Self::CountTokens => {
                json!({"type": "error", "error": {"type": kind, "message": message}})
            }
            Self::Talk(Talk::Gemini(_)) | Self::GeminiTokens => {
                json!({"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT", "type": kind}})
            }
            _ => json!({"error": {"message": message, "type": kind, "param": null, "code": null}}),
        }
    }
}

impl Talk {
    /// How many answers the request already holds.
    pub(super) fn turns_so_far(self, body: &Value) -> usize {
        match self {
            Self::Anthropic | Self::Chat => {
                let messages = body["messages"].as_array().map_or(&[][..], Vec::as_slice);
                messages.iter().filter(|message| message["role"] == "assistant").count()
            }
            Self::Responses => responses::turns_so_far(body),
            Self::Gemini(_) => {
                let contents = body["contents"].as_array().map_or(&[][..], Vec::as_slice);
                contents.iter().filter(|content| content["role"] == "model").count()
            }
        }
    }

    /// The counts as this wire has words for them.
    pub(super) fn told(self, counts: Counts) -> Counts {
        match self {
            Self::Anthropic | Self::Responses | Self::Chat => counts,
            // What goes to a cache is input like any other here.
            Self::Gemini(_) => Counts {
                input: counts.input + counts.cache_write,
                cache_write: 0,
                ..counts
            },
        }
    }

    /// Whether this request is to be answered in parts.
    pub(super) fn streams(self, body: &Value) -> bool {
        match self {
            Self::Anthropic | Self::Responses | Self::Chat => body["stream"].as_bool() == Some(true),
            Self::Gemini(streaming) => streaming != Streaming::Whole,
        }
    }

    /// The type of an answer in parts.
    pub(super) fn stream_type(self) -> &'static str {
        match self {
            Self::Gemini(Streaming::Array) => "application/json; charset=UTF-8",
            _ => "text/event-stream; charset=utf-8",
        }
    }

    /// The answer as one document.
    pub(super) fn whole(self, answer: &Answer<'_>) -> Value {
        match self {
            Self::Anthropic => anthropic::whole(answer),
            Self::Responses => responses::whole(answer),
            Self::Chat => chat::whole(answer),
            Self::Gemini(_) => gemini::whole(answer),
        }
    }

    /// The answer as a stream of events.
    pub(super) fn events(self, answer: &Answer<'_>) -> Vec<String> {
        match self {
            Self::Anthropic => anthropic::events(answer),
            Self::Responses => responses::events(answer),
            Self::Chat => chat::events(answer),
            Self::Gemini(Streaming::Array) => gemini::array(&gemini::parts(answer)),
            Self::Gemini(_) => gemini::parts(answer).iter().map(gemini::event).collect(),
        }
    }

    /// Only the events that carry the text.
    pub(super) fn deltas(self, answer: &Answer<'_>) -> Vec<String> {
        match self {
            Self::Anthropic => anthropic::deltas(answer),
            Self::Responses => responses::deltas(answer),
            Self::Chat => chat::deltas(answer),
            // Behind the first element each one follows a comma.
            Self::Gemini(Streaming::Array) => gemini::deltas(answer)
                .iter()
                .map(|part| format!(",\r\n{part}"))
                .collect(),
            Self::Gemini(_) => gemini::deltas(answer).iter().map(gemini::event).collect(),
        }
    }
}

/// An event with a name, as Anthropic and Responses send it.
fn named(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or(""))
}

/// Text in pieces of a few characters, as it streams.
fn pieces(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    characters.chunks(12).map(|piece| piece.iter().collect()).collect()
}

/// The id of the n-th tool call of a turn.
fn call_id(answer: &Answer<'_>, index: usize) -> String {
    format!("call_{}_{index}", answer.id)
}
