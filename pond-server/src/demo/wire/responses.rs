//! OpenAI Responses.

use serde_json::{Value, json};

use super::{Answer, call_id, named, pieces};

/// Answers stand in the input as runs of items that the model made.
pub(super) fn turns_so_far(body: &Value) -> usize {
    let items = body["input"].as_array().map_or(&[][..], Vec::as_slice);
    let made = |item: &Value| {
        item["role"] == "assistant" || matches!(item["type"].as_str(), Some("function_call" | "reasoning"))
    };
    let ends = items
        .iter()
        .enumerate()
        .filter(|(at, item)| made(item) && !items.get(at + 1).is_some_and(made));
    ends.count()
}

/// The input's tokens hold the cached ones, on this wire.
fn usage(answer: &Answer<'_>) -> Value {
    let counts = answer.turn.counts;
    let input = counts.input + counts.cache_read + counts.cache_write;
    json!({
        "input_tokens": input,
        "input_tokens_details": {"cached_tokens": counts.cache_read, "cache_write_tokens": counts.cache_write},
        "output_tokens": counts.output, "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": input + counts.output,
    })
}

fn response(answer: &Answer<'_>, status: &str, output: &[Value], usage: &Value) -> Value {
    json!({
        "id": format!("resp_{}", answer.id), "object": "response", "created_at": 1_700_000_000, "status": status,
        "error": null, "incomplete_details": null, "model": answer.model, "output": output, "store": false,
        "parallel_tool_calls": true, "usage": usage,
    })
}

fn text_item(answer: &Answer<'_>, text: &str, status: &str) -> Value {
    let content = json!([{"type": "output_text", "text": text, "annotations": []}]);
    let id = format!("msg_{}", answer.id);
    json!({"type": "message", "id": id, "status": status, "role": "assistant", "content": content})
}

fn call_item(answer: &Answer<'_>, index: usize, arguments: &str, status: &str) -> Value {
    let tool = &answer.turn.tools[index];
    json!({
        "type": "function_call", "id": format!("fc_{}_{index}", answer.id), "call_id": call_id(answer, index),
        "name": tool.name, "arguments": arguments, "status": status,
    })
}

fn output(answer: &Answer<'_>) -> Vec<Value> {
    let text = (!answer.turn.text.is_empty()).then(|| text_item(answer, &answer.turn.text, "completed"));
    let calls = answer.turn.tools.iter().enumerate();
    let calls = calls.map(|(index, tool)| call_item(answer, index, &tool.arguments.to_string(), "completed"));
    text.into_iter().chain(calls).collect()
}

pub(super) fn whole(answer: &Answer<'_>) -> Value {
    response(answer, "completed", &output(answer), &usage(answer))
}

fn text_delta(answer: &Answer<'_>, text: &str) -> Value {
    let id = format!("msg_{}", answer.id);
    json!({"type": "response.output_text.delta", "item_id": id, "output_index": 0, "content_index": 0, "delta": text})
}

pub(super) fn deltas(answer: &Answer<'_>) -> Vec<String> {
    pieces(&answer.turn.text)
        .into_iter()
        .map(|text| named(&text_delta(answer, &text)))
        .collect()
}

pub(super) fn events(answer: &Answer<'_>) -> Vec<String> {
    let started = response(answer, "in_progress", &[], &Value::Null);
    let mut events = vec![
        json!({"type": "response.created", "response": started}),
        json!({"type": "response.in_progress", "response": started}),
    ];
    let mut at = 0;
    if !answer.turn.text.is_empty() {
        events.push(json!({"type": "response.output_item.added", "output_index": 0, "item": text_item(answer, "", "in_progress")}));
        events.extend(pieces(&answer.turn.text).iter().map(|text| text_delta(answer, text)));
        let (id, text) = (format!("msg_{}", answer.id), &answer.turn.text);
        events.push(json!({"type": "response.output_text.done", "item_id": id, "output_index": 0, "content_index": 0, "text": text}));
        events.push(json!({"type": "response.output_item.done", "output_index": 0, "item": text_item(answer, text, "completed")}));
        at = 1;
    }
    for (index, tool) in answer.turn.tools.iter().enumerate() {
        let (at, id, arguments) = (
            at + index,
            format!("fc_{}_{index}", answer.id),
            tool.arguments.to_string(),
        );
        let added = call_item(answer, index, "", "in_progress");
        events.push(json!({"type": "response.output_item.added", "output_index": at, "item": added}));
        for part in pieces(&arguments) {
            let kind = "response.function_call_arguments.delta";
            events.push(json!({"type": kind, "item_id": id, "output_index": at, "delta": part}));
        }
        let kind = "response.function_call_arguments.done";
        events.push(json!({"type": kind, "item_id": id, "output_index": at, "arguments": arguments}));
        let done = call_item(answer, index, &arguments, "completed");
        events.push(json!({"type": "response.output_item.done", "output_index": at, "item": done}));
    }
    events.push(json!({"type": "response.completed", "response": whole(answer)}));
    for (number, event) in events.iter_mut().enumerate() {
        event["sequence_number"] = json!(number);
    }
    events.iter().map(named).collect()
}
