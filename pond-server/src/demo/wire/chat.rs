//! OpenAI Chat Completions.

use serde_json::{Value, json};

use super::{Answer, call_id, pieces};

fn finish_reason(answer: &Answer<'_>) -> &'static str {
    if answer.turn.tools.is_empty() {
        "stop"
    } else {
        "tool_calls"
    }
}

/// The prompt's tokens hold the cached ones, on this wire.
fn usage(answer: &Answer<'_>) -> Value {
    let counts = answer.turn.counts;
    let prompt = counts.input + counts.cache_read + counts.cache_write;
    json!({
        "prompt_tokens": prompt, "completion_tokens": counts.output, "total_tokens": prompt + counts.output,
        "prompt_tokens_details": {"cached_tokens": counts.cache_read, "cache_write_tokens": counts.cache_write},
        "completion_tokens_details": {"reasoning_tokens": 0},
    })
}

fn function(tool: &super::super::script::ToolUse) -> Value {
    json!({"name": tool.name, "arguments": tool.arguments.to_string()})
}

pub(super) fn whole(answer: &Answer<'_>) -> Value {
    let calls: Vec<Value> = (answer.turn.tools.iter().enumerate())
        .map(|(index, tool)| json!({"id": call_id(answer, index), "type": "function", "function": function(tool)}))
        .collect();
    let content = (!answer.turn.text.is_empty()).then_some(&answer.turn.text);
    let mut message = json!({"role": "assistant", "content": content, "refusal": null});
    if !calls.is_empty() {
        message["tool_calls"] = Value::Array(calls);
    }
    json!({
        "id": format!("chatcmpl-{}", answer.id), "object": "chat.completion", "created": 1_700_000_000,
        "model": answer.model, "usage": usage(answer),
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": finish_reason(answer)}],
    })
}

fn chunk(answer: &Answer<'_>, choices: &Value, usage: Option<Value>) -> String {
    let mut chunk = json!({
        "id": format!("chatcmpl-{}", answer.id), "object": "chat.completion.chunk", "created": 1_700_000_000,
        "model": answer.model, "choices": choices,
    });
    if answer.usage_asked {
        chunk["usage"] = usage.unwrap_or(Value::Null);
    }
    format!("data: {chunk}\n\n")
}

fn delta(answer: &Answer<'_>, delta: &Value, finish: Option<&str>) -> String {
    chunk(
        answer,
        &json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]),
        None,
    )
}

pub(super) fn deltas(answer: &Answer<'_>) -> Vec<String> {
    pieces(&answer.turn.text)
        .into_iter()
        .map(|text| delta(answer, &json!({"content": text}), None))
        .collect()
}

pub(super) fn events(answer: &Answer<'_>) -> Vec<String> {
    let mut events = vec![delta(answer, &json!({"role": "assistant", "content": ""}), None)];
    events.extend(deltas(answer));
    for (index, tool) in answer.turn.tools.iter().enumerate() {
        let call = json!({
            "index": index, "id": call_id(answer, index), "type": "function",
            "function": {"name": tool.name, "arguments": ""},
        });
        events.push(delta(answer, &json!({"tool_calls": [call]}), None));
        for part in pieces(&tool.arguments.to_string()) {
            let call = json!({"index": index, "function": {"arguments": part}});
            events.push(delta(answer, &json!({"tool_calls": [call]}), None));
        }
    }
    events.push(delta(answer, &json!({}), Some(finish_reason(answer))));
    if answer.usage_asked {
        events.push(chunk(answer, &json!([]), Some(usage(answer))));
    }
    events.push("data: [DONE]\n\n".into());
    events
}
