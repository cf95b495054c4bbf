//! What `mini` says and hears on each provider's wire. One file per wire.

mod anthropic;
mod chat;
mod gemini;
mod responses;

use std::collections::BTreeSet;

use serde_json::Value;

use super::tools::Tool;

/// The wires that `mini` speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MiniWire {
    /// Anthropic Messages.
    Anthropic,
    /// OpenAI Responses.
    Responses,
    /// OpenAI Chat Completions.
    Chat,
    /// Google's Gemini API.
    Gemini,
}

/// A request to be put on a wire.
pub(super) struct Request<'a> {
    pub(super) model: &'a str,
    pub(super) system: &'a str,
    /// In the wire's own form.
    pub(super) history: &'a [Value],
    pub(super) tools: &'a BTreeSet<Tool>,
    pub(super) output_tokens: u32,
}

/// An answer as read from a wire.
#[derive(Debug, PartialEq)]
pub(super) struct Reply {
    pub(super) text: String,
    pub(super) calls: Vec<ToolCall>,
    /// What the next request repeats of it, in the wire's own form.
    pub(super) history: Vec<Value>,
    /// It was cut off at its limit.
    pub(super) cut: bool,
}

/// A tool call of the model.
#[derive(Debug, PartialEq)]
pub(super) struct ToolCall {
    pub(super) id: String,
    pub(super) name: String,
    /// An object, or the text that is none.
    pub(super) arguments: Result<Value, String>,
}

/// What a tool gave back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ToolResult {
    pub(super) text: String,
    pub(super) is_error: bool,
}

impl ToolResult {
    pub(super) fn ok(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            is_error: false,
        }
    }

    pub(super) fn error(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            is_error: true,
        }
    }
}

impl MiniWire {
    /// The wire for a provider; none for one that `mini` cannot talk to.
    pub fn of(provider: &str) -> Option<Self> {
        match provider {
            "anthropic" => Some(Self::Anthropic),
            "openai" => Some(Self::Responses),
            // What every compatible server has.
            "openai_compatible" | "openrouter" => Some(Self::Chat),
            "gemini" => Some(Self::Gemini),
            _ => None,
        }
    }

    /// Its path at the broker, for a model.
    pub(super) fn path(self, model: &str) -> String {
        match self {
            Self::Anthropic => "/v1/messages".into(),
            Self::Responses => "/v1/responses".into(),
            Self::Chat => "/v1/chat/completions".into(),
            Self::Gemini => format!("/v1beta/models/{model}:generateContent"),
        }
    }

    /// Headers it asks for.
    pub(super) fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Anthropic => &[("anthropic-version", "2023-06-01")],
            Self::Responses | Self::Chat | Self::Gemini => &[],
        }
    }

    /// The user's words.
    pub(super) fn prompt(self, text: &str) -> Value {
        match self {
            Self::Gemini => gemini::prompt(text),
            Self::Anthropic | Self::Responses | Self::Chat => serde_json::json!({"role": "user", "content": text}),
        }
    }

    pub(super) fn request(self, request: &Request<'_>) -> Value {
        match self {
            Self::Anthropic => anthropic::request(request),
            Self::Responses => responses::request(request),
            Self::Chat => chat::request(request),
            Self::Gemini => gemini::request(request),
        }
    }

    /// Reads an answer.
    pub(super) fn reply(self, answer: &Value) -> Result<Reply, String> {
        match self {
            Self::Anthropic => anthropic::reply(answer),
            Self::Responses => responses::reply(answer),
            Self::Chat => chat::reply(answer),
            Self::Gemini => gemini::reply(answer),
        }
    }

    /// The results of its tool calls, in their order.
    pub(super) fn results(self, calls: &[ToolCall], results: &[ToolResult]) -> Vec<Value> {
        match self {
            Self::Anthropic => anthropic::results(calls, results),
            Self::Responses => responses::results(calls, results),
            Self::Chat => chat::results(calls, results),
            Self::Gemini => gemini::results(calls, results),
        }
    }
}

/// Arguments that come as text.
fn arguments(text: &str) -> Result<Value, String> {
    let text = if text.trim().is_empty() { "{}" } else { text };
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        _ => Err(text.chars().take(200).collect()),
    }
}

/// A field that must be text.
fn text(value: &Value, name: &str) -> Result<String, String> {
    value[name]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| format!("`{name}` is missing"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_wire_reads_its_own_tool_call() {
        let anthropic = json!({"stop_reason": "tool_use", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": "a"},
            {"type": "tool_use", "id": "t1", "name": "shell", "input": {"command": "ls"}},
        ]});
        let chat = json!({"choices": [{"finish_reason": "tool_calls", "message": {"role": "assistant", "content": "a",
            "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "shell", "arguments": "{\"command\":\"ls\"}"}}]}}]});
        let responses = json!({"status": "completed", "output": [
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]},
            {"type": "function_call", "id": "fc_1", "call_id": "t1", "name": "shell", "arguments": "{\"command\":\"ls\"}"},
        ]});
        let gemini = json!({"candidates": [{"finishReason": "STOP", "content": {"role": "model", "parts": [
            {"text": "hm", "thought": true},
            {"text": "a"},
            {"functionCall": {"id": "t1", "name": "shell", "args": {"command": "ls"}}, "thoughtSignature": "c2ln"},
        ]}}]});
        for (wire, answer) in [
            (MiniWire::Anthropic, anthropic),
            (MiniWire::Chat, chat),
            (MiniWire::Responses, responses),
            (MiniWire::Gemini, gemini),
        ] {
            let reply = wire.reply(&answer).expect("an answer");
            let call = ToolCall {
                id: "t1".into(),
                name: "shell".into(),
                arguments: Ok(json!({"command": "ls"})),
            };
            assert_eq!((reply.text.as_str(), reply.cut), ("a", false), "{wire:?}");
            assert_eq!(reply.calls, [call], "{wire:?}");
        }
    }

    #[test]
    fn each_wire_tells_an_answer_that_was_cut_off() {
        let anthropic = json!({"stop_reason": "max_tokens", "content": [{"type": "text", "text": "a"}]});
        let chat = json!({"choices": [{"finish_reason": "length", "message": {"content": "a"}}]});
        let responses = json!({"status": "incomplete", "output": []});
        let gemini = json!({"candidates": [{"finishReason": "MAX_TOKENS", "content": {"parts": []}}]});
        for (wire, answer) in [
            (MiniWire::Anthropic, anthropic),
            (MiniWire::Chat, chat),
            (MiniWire::Responses, responses),
            (MiniWire::Gemini, gemini),
        ] {
            assert!(wire.reply(&answer).expect("an answer").cut, "{wire:?}");
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for wire in [
            MiniWire::Anthropic,
            MiniWire::Chat,
            MiniWire::Responses,
            MiniWire::Gemini,
        ] {
            assert!(wire.reply(&json!({"error": "x"})).is_err(), "{wire:?}");
            assert!(wire.reply(&json!([])).is_err(), "{wire:?}");
        }
    }

    #[test]
    fn arguments_must_be_an_object() {
        assert_eq!(arguments(""), Ok(json!({})));
        assert_eq!(arguments("[1]"), Err("[1]".into()));
        assert_eq!(arguments("{\"a\":"), Err("{\"a\":".into()));
    }
}
