//! Anthropic Messages.

use serde_json::{Value, json};

use super::{Reply, Request, ToolCall, ToolResult, text};

pub(super) fn request(request: &Request<'_>) -> Value {
    let cache = json!({"type": "ephemeral"});
    let tools: Vec<Value> = (request.tools.iter())
        .map(|tool| json!({"name": tool.name(), "description": tool.description(), "input_schema": tool.schema()}))
        .collect();
    let mut messages = request.history.to_vec();
    // Everything up to here is sent again with the next call, so the provider may as well keep it.
    if let Some(Value::Array(content)) = messages.last_mut().map(|message| &mut message["content"])
        && let Some(block) = content.last_mut()
    {
        block["cache_control"] = cache.clone();
    }
    let mut body = json!({
        "model": request.model, "max_tokens": request.output_tokens, "messages": messages,
        "system": [{"type": "text", "text": request.system, "cache_control": cache}],
    });
    if !tools.is_empty() {
        body["tools"] = Value::Array(tools);
    }
    body
}

pub(super) fn reply(answer: &Value) -> Result<Reply, String> {
    let content = answer["content"].as_array().ok_or("it has no content")?;
    let mut reply = Reply {
        text: String::new(),
        calls: Vec::new(),
        history: Vec::new(),
        cut: false,
    };
    for block in content {
        match block["type"].as_str() {
            Some("text") => reply.text.push_str(&text(block, "text")?),
            Some("tool_use") => reply.calls.push(ToolCall {
                id: text(block, "id")?,
                name: text(block, "name")?,
                arguments: match &block["input"] {
                    input @ Value::Object(_) => Ok(input.clone()),
                    other => Err(other.to_string()),
                },
            }),
            // Thinking is told back with the rest, as it is signed.
            _ => {}
        }
    }
    reply.cut = answer["stop_reason"] == "max_tokens";
    reply.history.push(json!({"role": "assistant", "content": content}));
    Ok(reply)
}

pub(super) fn results(calls: &[ToolCall], results: &[ToolResult]) -> Vec<Value> {
    let block = |(call, result): (&ToolCall, &ToolResult)| json!({"type": "tool_result", "tool_use_id": call.id, "content": result.text, "is_error": result.is_error});
    let content: Vec<Value> = calls.iter().zip(results).map(block).collect();
    vec![json!({"role": "user", "content": content})]
}
