//! OpenAI Chat Completions.

use serde_json::{Value, json};

use super::{Reply, Request, ToolCall, ToolResult, arguments, text};

pub(super) fn request(request: &Request<'_>) -> Value {
    let tools: Vec<Value> = (request.tools.iter())
        .map(|tool| {
            let function = json!({"name": tool.name(), "description": tool.description(), "parameters": tool.schema()});
            json!({"type": "function", "function": function})
        })
        .collect();
    let mut messages = vec![json!({"role": "system", "content": request.system})];
    messages.extend_from_slice(request.history);
    let mut body = json!({"model": request.model, "max_tokens": request.output_tokens, "messages": messages});
    if !tools.is_empty() {
        body["tools"] = Value::Array(tools);
    }
    body
}

pub(super) fn reply(answer: &Value) -> Result<Reply, String> {
    let choice = answer["choices"].get(0).ok_or("it has no choice")?;
    let message = &choice["message"];
    let calls = message["tool_calls"].as_array().map_or(&[][..], Vec::as_slice);
    let read = |call: &Value| -> Result<ToolCall, String> {
        let function = &call["function"];
        let arguments = arguments(function["arguments"].as_str().unwrap_or(""));
        Ok(ToolCall {
            id: text(call, "id")?,
            name: text(function, "name")?,
            arguments,
        })
    };
    let parsed = calls.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let said = message["content"].as_str().unwrap_or("");
    // Only what the wire defines: compatible servers add fields that they do not take back.
    let mut repeated = json!({"role": "assistant", "content": message["content"]});
    if !calls.is_empty() {
        repeated["tool_calls"] = json!(calls);
    }
    let cut = choice["finish_reason"] == "length";
    Ok(Reply {
        text: said.to_owned(),
        calls: parsed,
        history: vec![repeated],
        cut,
    })
}

pub(super) fn results(calls: &[ToolCall], results: &[ToolResult]) -> Vec<Value> {
    let message = |(call, result): (&ToolCall, &ToolResult)| json!({"role": "tool", "tool_call_id": call.id, "content": result.text});
    calls.iter().zip(results).map(message).collect()
}
