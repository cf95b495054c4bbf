//! Reads a definition, and tells of all its faults at once. Pointers address the request body.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::{Budget, Definition, Stage, order};
use crate::body::{Faults, Object};
use crate::runs::executors::{self, Executor};

/// Stages a definition may have.
pub const MAX_STAGES: usize = 500;
/// Bytes a definition may have as compact JSON.
pub const MAX_DEFINITION_BYTES: usize = 1 << 20;

/// Fields that the language has and this version does not serve yet: refused, so that nobody relies on them in silence.
const NOT_YET: [&str; 2] = ["retries", "when"];

/// Reads and checks a definition. `None` when it has faults.
pub fn read(definition: &Value, faults: &Faults) -> Option<Definition> {
    let found = Faults::new();
    let read = read_into(definition, &found);
    let clean = found.is_empty();
    faults.extend(found.take());
    read.filter(|_| clean)
}

fn read_into(definition: &Value, faults: &Faults) -> Option<Definition> {
    let mut object = Object::read(definition, "/definition", faults)?;
    if serde_json::to_vec(definition).is_ok_and(|text| text.len() > MAX_DEFINITION_BYTES) {
        faults.add(
            "/definition",
            format!("larger than {MAX_DEFINITION_BYTES} bytes as compact JSON"),
        );
        return None;
    }
    object.required("stages");
    let stages = object.array("stages");
    let edges = object.array("edges");
    object.close();
    let stages = stages?;
    if stages.is_empty() || stages.len() > MAX_STAGES {
        faults.add(
            "/definition/stages",
            format!("expected 1 to {MAX_STAGES} stages, found {}", stages.len()),
        );
        return None;
    }
    let stages: Vec<Option<Stage>> = stages
        .iter()
        .enumerate()
        .map(|(index, stage)| read_stage(index, stage, faults))
        .collect();
    let keys: Vec<Option<&str>> = stages
        .iter()
        .map(|stage| stage.as_ref().map(|stage| stage.key.as_str()))
        .collect();
    duplicates(&keys, faults);
    let predecessors = order::predecessors(edges, &keys, faults);
    Some(Definition {
        stages: stages.into_iter().collect::<Option<_>>()?,
        predecessors,
    })
}

fn duplicates(keys: &[Option<&str>], faults: &Faults) {
    let mut seen = HashSet::new();
    for (index, key) in keys.iter().enumerate() {
        if let Some(key) = key
            && !seen.insert(*key)
        {
            faults.add(
                format!("/definition/stages/{index}/key"),
                format!("the key '{key}' is there twice"),
            );
        }
    }
}

fn read_stage(index: usize, stage: &Value, faults: &Faults) -> Option<Stage> {
    let mut object = Object::read(stage, format!("/definition/stages/{index}"), faults)?;
    let key = object.required_text("key").filter(|key| {
        let fits = is_key(key);
        if !fits {
            object.fault(
                "key",
                "expected 1 to 64 of A-Z a-z 0-9 _ -, starting with a letter or digit",
            );
        }
        fits
    });
    let name = object.required_text("name").filter(|name| {
        let fits = (1..=200).contains(&name.chars().count());
        if !fits {
            object.fault("name", "expected 1 to 200 characters");
        }
        fits
    });
    let category = object.text("category").map(ToOwned::to_owned);
    let timeout = object.integer("timeout_sec", 1..=86_400).map(Duration::from_secs);
    let continue_on_error = object.boolean("continue_on_error").unwrap_or(false);
    let budget = object.object("budget").map(Budget::read).unwrap_or_default();
    for field in NOT_YET {
        if object.optional(field).is_some() {
            object.fault(field, "is not served by this version of Pond");
        }
    }
    object.required("executor");
    let executor = object.object("executor").and_then(read_executor);
    object.close();
    Some(Stage {
        key: key?.to_owned(),
        name: name?.to_owned(),
        category,
        executor: executor?,
        timeout,
        continue_on_error,
        budget,
    })
}

fn read_executor(mut object: Object<'_>) -> Option<Arc<dyn Executor>> {
    let kind = object.required_text("kind")?;
    let Some((_, read)) = executors::KINDS.iter().find(|(name, _)| *name == kind) else {
        let known: Vec<&str> = executors::KINDS.iter().map(|(name, _)| *name).collect();
        object.fault(
            "kind",
            format!("no executor of this kind here; known are {}", known.join(", ")),
        );
        return None;
    };
    let executor = read(&mut object);
    object.close();
    executor
}

/// `[A-Za-z0-9][A-Za-z0-9_-]{0,63}`
fn is_key(key: &str) -> bool {
    key.len() <= 64
        && key.starts_with(|c: char| c.is_ascii_alphanumeric())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stage(key: &str) -> Value {
        json!({"key": key, "name": "x", "executor": {"kind": "noop"}})
    }

    fn pointers(definition: &Value) -> Vec<String> {
        let faults = Faults::new();
        assert!(read(definition, &faults).is_none());
        faults.take().into_iter().map(|fault| fault.pointer).collect()
    }

    fn good(definition: &Value) -> Definition {
        let faults = Faults::new();
        let read = read(definition, &faults);
        assert_eq!(faults.take(), []);
        read.unwrap()
    }

    #[test]
    fn c17_07_each_fault_has_its_pointer() {
        let many: Vec<Value> = (0..501).map(|i| stage(&format!("s{i}"))).collect();
        let table = [
            (json!({"stages": []}), "/definition/stages"),
            (json!({"stages": many}), "/definition/stages"),
            (json!({}), "/definition/stages"),
            (json!([]), "/definition"),
            (json!({"stages": [stage("a"), stage("a")]}), "/definition/stages/1/key"),
            (
                json!({"stages": [stage("a")], "edges": [{"from": "a", "to": "b"}]}),
                "/definition/edges/0/to",
            ),
            (
                json!({"stages": [stage("a")], "edges": [{"from": "a", "to": "a"}]}),
                "/definition/edges/0/to",
            ),
            (
                json!({"stages": [stage("a"), stage("b"), stage("c")], "edges": [
                    {"from": "a", "to": "b"}, {"from": "b", "to": "c"}, {"from": "c", "to": "a"}]}),
                "/definition/edges",
            ),
            (
                json!({"stages": [{"key": "a", "executor": {"kind": "noop"}}]}),
                "/definition/stages/0/name",
            ),
            (
                json!({"stages": [{"key": "a", "name": "x"}]}),
                "/definition/stages/0/executor",
            ),
        ];
        for (definition, pointer) in table {
            assert_eq!(pointers(&definition), [pointer], "{definition}");
        }
        let long = "x".repeat(MAX_DEFINITION_BYTES);
        assert_eq!(
            pointers(&json!({"stages": [stage("a")], "edges": long})),
            ["/definition"]
        );
    }

    #[test]
    fn c17_06_unknown_fields_and_kinds_are_faults() {
        let definition = json!({"stages": [
            {"key": "a", "name": "x", "retry": 1, "executor": {"kind": "noop", "tick": 1}},
            {"key": "b", "name": "x", "executor": {"kind": "dance"}},
            {"key": "-", "name": "", "timeout_sec": 0, "when": "always()", "executor": {"kind": "noop"}}], "edge": []});
        assert_eq!(
            pointers(&definition),
            [
                "/definition/edge",
                "/definition/stages/0/executor/tick",
                "/definition/stages/0/retry",
                "/definition/stages/1/executor/kind",
                "/definition/stages/2/key",
                "/definition/stages/2/name",
                "/definition/stages/2/timeout_sec",
                "/definition/stages/2/when",
            ]
        );
    }

    #[test]
    fn array_order_or_edges_give_the_predecessors() {
        let stages = json!([stage("a"), stage("b"), stage("c")]);
        assert_eq!(
            good(&json!({"stages": stages})).predecessors,
            [vec![], vec![0], vec![1]]
        );
        assert_eq!(
            good(&json!({"stages": stages, "edges": []})).predecessors,
            [vec![], vec![0], vec![1]]
        );
        let edges = json!([{"from": "c", "to": "a"}, {"from": "c", "to": "a"}]);
        let read = good(&json!({"stages": stages, "edges": edges}));
        assert_eq!(read.predecessors, [vec![2], vec![], vec![]]);
        assert_eq!(read.topological(), [1, 2, 0]);
    }
}
