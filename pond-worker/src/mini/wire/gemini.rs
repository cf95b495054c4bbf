//! Google's Gemini API.

use serde_json::{Value, json};

use super::{Reply, Request, ToolCall, ToolResult, text};

pub(super) fn prompt(text: &str) -> Value {
    json!({"role": "user", "parts": [{"text": text}]})
}

pub(super) fn request(request: &Request<'_>) -> Value {
    let functions: Vec<Value> = (request.tools.iter())
        .map(|tool| {
            json!({"name": tool.name(), "description": tool.description(), "parametersJsonSchema": tool.schema()})
        })
        .collect();
    let mut body = json!({
        "contents": request.history, "systemInstruction": {"parts": [{"text": request.system}]},
        "generationConfig": {"maxOutputTokens": request.output_tokens},
    });
    if !functions.is_empty() {
        body["tools"] = json!([{"functionDeclarations": functions}]);
    }
    body
}

pub(super) fn reply(answer: &Value) -> Result<Reply, String> {
    let candidate = answer["candidates"].get(0).ok_or_else(|| blocked(answer))?;
    let parts = candidate["content"]["parts"].as_array().map_or(&[][..], Vec::as_slice);
    let mut reply = Reply {
        text: String::new(),
        calls: Vec::new(),
        history: Vec::new(),
        cut: candidate["finishReason"] == "MAX_TOKENS",
    };
    for part in parts {
        if let Value::Object(_) = &part["functionCall"] {
            reply.calls.push(call(&part["functionCall"], reply.calls.len())?);
        } else if part["thought"] != true {
            reply.text.push_str(part["text"].as_str().unwrap_or(""));
        }
    }
    if parts.is_empty() && !reply.cut && candidate["finishReason"] != "STOP" {
        return Err(format!("it ended with {}", candidate["finishReason"]));
    }
    // Told back as it is: signatures of its thoughts stand beside the parts.
    reply.history.push(json!({"role": "model", "parts": parts}));
    Ok(reply)
}

fn blocked(answer: &Value) -> String {
    match answer["promptFeedback"]["blockReason"].as_str() {
        Some(reason) => format!("the prompt was blocked: {reason}"),
        None => "it has no candidate".into(),
    }
}

/// Ids are told by newer models alone; elsewhere calls are told apart by their place.
fn call(function: &Value, place: usize) -> Result<ToolCall, String> {
    let id = function["id"]
        .as_str()
        .map_or_else(|| format!("place {place}"), str::to_owned);
    let arguments = match &function["args"] {
        args @ Value::Object(_) => Ok(args.clone()),
        Value::Null => Ok(json!({})),
        other => Err(other.to_string()),
    };
    Ok(ToolCall {
        id,
        name: text(function, "name")?,
        arguments,
    })
}

pub(super) fn results(calls: &[ToolCall], results: &[ToolResult]) -> Vec<Value> {
    let part = |(call, result): (&ToolCall, &ToolResult)| {
        let key = if result.is_error { "error" } else { "output" };
        let mut response = json!({"name": call.name, "response": {key: result.text}});
        if !call.id.starts_with("place ") {
            response["id"] = json!(call.id);
        }
        json!({"functionResponse": response})
    };
    let parts: Vec<Value> = calls.iter().zip(results).map(part).collect();
    vec![json!({"role": "user", "parts": parts})]
}
