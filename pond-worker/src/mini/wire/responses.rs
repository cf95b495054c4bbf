//! OpenAI Responses.

use serde_json::{Value, json};

use super::{Reply, Request, ToolCall, ToolResult, arguments, text};

pub(super) fn request(request: &Request<'_>) -> Value {
    let tools: Vec<Value> = (request.tools.iter())
        .map(|tool| {
            let (name, about, schema) = (tool.name(), tool.description(), tool.schema());
            json!({"type": "function", "name": name, "description": about, "parameters": schema, "strict": false})
        })
        .collect();
    let mut body = json!({
        "model": request.model, "max_output_tokens": request.output_tokens, "instructions": request.system,
        "input": request.history, "store": false,
    });
    if !tools.is_empty() {
        body["tools"] = Value::Array(tools);
    }
    body
}

pub(super) fn reply(answer: &Value) -> Result<Reply, String> {
    let output = answer["output"].as_array().ok_or("it has no output")?;
    let mut reply = Reply {
        text: String::new(),
        calls: Vec::new(),
        history: Vec::new(),
        cut: false,
    };
    for item in output {
        match item["type"].as_str() {
            Some("message") => {
                let said = said(item);
                reply.history.push(json!({"role": "assistant", "content": said}));
                reply.text.push_str(&said);
            }
            Some("function_call") => {
                let (id, name) = (text(item, "call_id")?, text(item, "name")?);
                let given = item["arguments"].as_str().unwrap_or("");
                // Without the item's own id: nothing is kept at the provider, so the id would be looked for in vain, as
                // would be that of the reasoning before it, which is left out altogether.
                reply
                    .history
                    .push(json!({"type": "function_call", "call_id": id, "name": name, "arguments": given}));
                reply.calls.push(ToolCall {
                    id,
                    name,
                    arguments: arguments(given),
                });
            }
            _ => {}
        }
    }
    if answer["status"] == "failed" {
        return Err(answer["error"]["message"].as_str().unwrap_or("it failed").to_owned());
    }
    reply.cut = answer["status"] == "incomplete";
    Ok(reply)
}

fn said(message: &Value) -> String {
    let parts = message["content"].as_array().map_or(&[][..], Vec::as_slice);
    parts
        .iter()
        .filter_map(|part| part["text"].as_str().or_else(|| part["refusal"].as_str()))
        .collect()
}

pub(super) fn results(calls: &[ToolCall], results: &[ToolResult]) -> Vec<Value> {
    let item = |(call, result): (&ToolCall, &ToolResult)| json!({"type": "function_call_output", "call_id": call.id, "output": result.text});
    calls.iter().zip(results).map(item).collect()
}
