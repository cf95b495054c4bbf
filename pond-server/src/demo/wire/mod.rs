//! How a turn looks on each provider's wire, written after their public documentation and apart from the broker's readers.

mod anthropic;
mod chat;
mod responses;

use axum::http::Method;
use serde_json::{Value, json};

use super::script::Turn;

/// What a path is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    Talk(Talk),
    CountTokens,
    Embeddings,
    Models,
}

/// The wires on which the model talks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Talk {
    Anthropic,
    Responses,
    Chat,
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

/// What a method and path is for.
pub(super) fn at(method: &Method, path: &str) -> Option<Wire> {
    match (method.as_str(), path) {
        ("POST", "/v1/messages") => Some(Wire::Talk(Talk::Anthropic)),
        ("POST", "/v1/messages/count_tokens") => Some(Wire::CountTokens),
        ("POST", "/v1/responses") => Some(Wire::Talk(Talk::Responses)),
        ("POST", "/v1/chat/completions") => Some(Wire::Talk(Talk::Chat)),
        ("POST", "/v1/embeddings") => Some(Wire::Embeddings),
        ("GET", "/v1/models") => Some(Wire::Models),
        _ => None,
    }
}

/// Whether a Chat request asks for the usage of its stream.
pub(super) fn usage_asked(body: &Value) -> bool {
    body["stream_options"]["include_usage"].as_bool() == Some(true)
}

impl Wire {
    /// An error in the provider's shape.
    pub(super) fn error(self, kind: &str, message: &str) -> Value {
        match self {
            Self::Talk(Talk::Anthropic) | Self::CountTokens => {
                json!({"type": "error", "error": {"type": kind, "message": message}})
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
        }
    }

    /// The answer as one document.
    pub(super) fn whole(self, answer: &Answer<'_>) -> Value {
        match self {
            Self::Anthropic => anthropic::whole(answer),
            Self::Responses => responses::whole(answer),
            Self::Chat => chat::whole(answer),
        }
    }

    /// The answer as a stream of events.
    pub(super) fn events(self, answer: &Answer<'_>) -> Vec<String> {
        match self {
            Self::Anthropic => anthropic::events(answer),
            Self::Responses => responses::events(answer),
            Self::Chat => chat::events(answer),
        }
    }

    /// Only the events that carry the text.
    pub(super) fn deltas(self, answer: &Answer<'_>) -> Vec<String> {
        match self {
            Self::Anthropic => anthropic::deltas(answer),
            Self::Responses => responses::deltas(answer),
            Self::Chat => chat::deltas(answer),
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
