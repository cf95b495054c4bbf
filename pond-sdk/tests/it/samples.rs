//! Answers of a server, as the contract spells them.

use serde_json::{Value, json};

/// Id of the run that all answers are about.
pub(crate) const RUN: &str = "0190a5c8-0000-7000-8000-000000000001";

/// A run in this state.
pub(crate) fn run(status: &str) -> Value {
    json!({
        "id": RUN, "projectId": "0190a5c8-0000-7000-8000-0000000000aa", "status": status, "trigger": "cli", "sha": null,
        "context": null, "sources": [], "budget": null, "definitionDigest": "ab".repeat(32),
        "createdAt": "2030-01-01T00:00:00.000Z", "startedAt": null, "finishedAt": null, "cancelRequestedAt": null,
        "error": null, "retryOf": null, "parentRunId": null,
    })
}

/// A run in this state, and its one stage.
pub(crate) fn detail(status: &str) -> Value {
    json!({"run": run(status), "stages": [{
        "key": "fix", "name": "Fix", "category": null, "kind": "swarm", "status": status, "attempt": 1,
        "progress": {"done": 1, "total": 1}, "startedAt": null, "finishedAt": null, "workerId": null, "error": null,
        "childRunId": null, "parse": null, "receipt": null, "substages": [],
    }]})
}

/// A log line.
pub(crate) fn line(id: u64, text: &str) -> Value {
    json!({
        "id": id, "ts": "2030-01-01T00:00:00.000Z", "stage": "fix", "substage": null, "stream": "stdout",
        "source": "agent", "line": text,
    })
}

/// The end of the run as an event's data.
pub(crate) fn ended(status: &str) -> Value {
    json!({"scope": "run", "key": null, "from": "running", "to": status, "error": null})
}

/// An event as it stands in an SSE stream.
pub(crate) fn sse(id: u64, kind: &str, data: &Value) -> String {
    format!("id: {id}\nevent: {kind}\ndata: {data}\n\n")
}

/// Usage of the run.
pub(crate) fn usage() -> Value {
    let counts = json!({
        "calls": 2, "input_tokens": 100, "output_tokens": 20, "cache_read_tokens": 3, "cache_write_tokens": 4,
        "cost_usd": "0.0012",
    });
    json!({"runId": RUN, "totals": counts, "stages": [], "substages": [], "models": [], "unpriced_calls": 1, "estimated": true})
}
