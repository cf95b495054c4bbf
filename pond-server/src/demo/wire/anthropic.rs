//! Anthropic Messages.

use serde_json::{Value, json};

use super::{Answer, call_id, named, pieces};

fn stop_reason(answer: &Answer<'_>) -> &'static str {
    if answer.turn.tools.is_empty() {
        "end_turn"
    } else {
        "tool_use"
    }
}

fn message(answer: &Answer<'_>, content: &[Value], stop: Option<&str>, output: u64) -> Value {
    let counts = answer.turn.counts;
    json!({
        "id": format!("msg_{}", answer.id), "type": "message", "role": "assistant", "model": answer.model,
        "content": content, "stop_reason": stop, "stop_sequence": null,
        "usage": {
            "input_tokens": counts.input, "cache_creation_input_tokens": counts.cache_write,
            "cache_read_input_tokens": counts.cache_read, "output_tokens": output,
        },
    })
}

fn tool_id(answer: &Answer<'_>, index: usize) -> String {
    format!("toolu_{}", call_id(answer, index))
}

pub(super) fn whole(answer: &Answer<'_>) -> Value {
    let mut content = Vec::new();
    if !answer.turn.text.is_empty() {
        content.push(json!({"type": "text", "text": answer.turn.text}));
    }
    for (index, tool) in answer.turn.tools.iter().enumerate() {
        let id = tool_id(answer, index);
        content.push(json!({"type": "tool_use", "id": id, "name": tool.name, "input": tool.arguments}));
    }
    message(answer, &content, Some(stop_reason(answer)), answer.turn.counts.output)
}

pub(super) fn deltas(answer: &Answer<'_>) -> Vec<String> {
    let delta =
        |text| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}});
    pieces(&answer.turn.text)
        .into_iter()
        .map(|text| named(&delta(text)))
        .collect()
}

pub(super) fn events(answer: &Answer<'_>) -> Vec<String> {
    let start = message(answer, &[], None, 1);
    let mut events = vec![named(&json!({"type": "message_start", "message": start}))];
    let mut next = 0;
    if !answer.turn.text.is_empty() {
        let block = json!({"type": "text", "text": ""});
        events.push(named(
            &json!({"type": "content_block_start", "index": 0, "content_block": block}),
        ));
        events.push(named(&json!({"type": "ping"})));
        events.extend(deltas(answer));
        events.push(named(&json!({"type": "content_block_stop", "index": 0})));
        next = 1;
    }
    for (index, tool) in answer.turn.tools.iter().enumerate() {
        let (at, id) = (next + index, tool_id(answer, index));
        let block = json!({"type": "tool_use", "id": id, "name": tool.name, "input": {}});
        events.push(named(
            &json!({"type": "content_block_start", "index": at, "content_block": block}),
        ));
        for part in pieces(&tool.arguments.to_string()) {
            let delta = json!({"type": "input_json_delta", "partial_json": part});
            events.push(named(
                &json!({"type": "content_block_delta", "index": at, "delta": delta}),
            ));
        }
        events.push(named(&json!({"type": "content_block_stop", "index": at})));
    }
    events.push(named(&json!({
        "type": "message_delta", "delta": {"stop_reason": stop_reason(answer), "stop_sequence": null},
        "usage": {"output_tokens": answer.turn.counts.output},
    })));
    events.push(named(&json!({"type": "message_stop"})));
    events
}
