//! Google's Gemini API.

use serde_json::{Value, json};

use super::{Answer, call_id, pieces};

/// The prompt's tokens hold the cached ones, on this wire, and those written to a cache, for which it has no word.
fn usage(answer: &Answer<'_>, output: u64) -> Value {
    let counts = answer.turn.counts;
    let prompt = counts.input + counts.cache_read + counts.cache_write;
    // Some of the output are thoughts, told apart and billed alike.
    let thoughts = output / 3;
    json!({
        "promptTokenCount": prompt, "cachedContentTokenCount": counts.cache_read,
        "candidatesTokenCount": output - thoughts, "thoughtsTokenCount": thoughts,
        "totalTokenCount": prompt + output,
    })
}

fn part(answer: &Answer<'_>, parts: &[Value], finish: Option<&str>, output: u64) -> Value {
    let mut candidate = json!({"index": 0, "content": {"role": "model", "parts": parts}});
    if let Some(finish) = finish {
        candidate["finishReason"] = json!(finish);
    }
    json!({
        "candidates": [candidate], "usageMetadata": usage(answer, output), "modelVersion": answer.model,
        "responseId": format!("gemini_{}", answer.id),
    })
}

fn calls(answer: &Answer<'_>) -> Vec<Value> {
    let tools = answer.turn.tools.iter().enumerate();
    tools
        .map(|(index, tool)| {
            let call = json!({"id": call_id(answer, index), "name": tool.name, "args": tool.arguments});
            json!({"functionCall": call})
        })
        .collect()
}

pub(super) fn whole(answer: &Answer<'_>) -> Value {
    let text = (!answer.turn.text.is_empty()).then(|| json!({"text": answer.turn.text}));
    let parts: Vec<Value> = text.into_iter().chain(calls(answer)).collect();
    part(answer, &parts, Some("STOP"), answer.turn.counts.output)
}

pub(super) fn deltas(answer: &Answer<'_>) -> Vec<Value> {
    let text = pieces(&answer.turn.text);
    let said = text
        .into_iter()
        .map(|text| part(answer, &[json!({"text": text})], None, 0));
    said.collect()
}

pub(super) fn parts(answer: &Answer<'_>) -> Vec<Value> {
    let mut parts = deltas(answer);
    parts.push(part(answer, &calls(answer), Some("STOP"), answer.turn.counts.output));
    parts
}

/// A part as an event.
pub(super) fn event(part: &Value) -> String {
    format!("data: {part}\r\n\r\n")
}

/// Parts as the pieces of an array.
pub(super) fn array(parts: &[Value]) -> Vec<String> {
    let opened = parts.iter().enumerate().map(|(at, part)| match at {
        0 => format!("[{part}"),
        _ => format!(",\r\n{part}"),
    });
    opened.chain(["]".to_owned()]).collect()
}
