//! Reads a definition, and tells of all its faults at once. Pointers address the request body.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::{Budget, Definition, Retries, Stage, When, order};
use crate::body::{Faults, Object};
use crate::runs::executors::{self, Executor};

/// Stages a definition may have.
pub const MAX_STAGES: usize = 500;
/// Bytes a definition may have as compact JSON.
pub const MAX_DEFINITION_BYTES: usize = 1 << 20;

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
    for (index, stage) in stages.iter().enumerate() {
        if let Some(stage) = stage {
            names_before(index, stage, &keys, &predecessors, faults);
        }
    }
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

/// A stage may ask only of those before it: they have ended when it is their turn to be asked.
fn names_before(index: usize, stage: &Stage, keys: &[Option<&str>], predecessors: &[Vec<usize>], faults: &Faults) {
    if stage.when.is_none() && stage.fanout().is_none() {
        return;
    }
    let before: HashSet<&str> = order::before(predecessors, index)
        .into_iter()
        .filter_map(|stage| keys[stage])
        .collect();
    let told = |key: &str| format!("no stage before this one has the key '{key}'");
    let named = stage.when.as_ref().map(When::stages).unwrap_or_default();
    if let Some(key) = named.into_iter().find(|key| !before.contains(key)) {
        faults.add(format!("/definition/stages/{index}/when"), told(key));
    }
    if let Some(fanout) = stage.fanout()
        && !before.contains(fanout.source.as_str())
    {
        let pointer = format!("/definition/stages/{index}/executor/fanout/source");
        faults.add(pointer, told(&fanout.source));
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
    let retries = object.object("retries").map(Retries::read).unwrap_or_default();
    let when = read_when(&mut object);
    let budget = object.object("budget").map(Budget::read).unwrap_or_default();
    object.required("executor");
    let executor = object.object("executor").and_then(read_executor);
    object.close();
    Some(Stage {
        key: key?.to_owned(),
        name: name?.to_owned(),
        category,
        executor: executor?,
        timeout,
        retries,
        when,
        continue_on_error,
        budget,
    })
}

fn read_when(object: &mut Object<'_>) -> Option<When> {
    match When::parse(object.text("when")?) {
        Ok(when) => Some(when),
        Err(fault) => {
            object.fault("when", fault.to_string());
            None
        }
    }
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
            {"key": "-", "name": "", "timeout_sec": 0, "when": "", "executor": {"kind": "noop"}}], "edge": []});
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
    fn c17_12_a_bad_condition_or_retry_is_a_fault_at_its_place() {
        let with = |field: &str, value: Value| {
            let mut second = stage("b");
            second[field] = value;
            json!({"stages": [stage("a"), second, stage("c")]})
        };
        let table = [
            (with("when", json!("")), "/definition/stages/1/when"),
            (with("when", json!(1)), "/definition/stages/1/when"),
            (with("when", json!("success() &&")), "/definition/stages/1/when"),
            (
                with("when", json!("stages.c.status == 'done'")),
                "/definition/stages/1/when",
            ),
            (
                with("when", json!("stages.b.status == 'done'")),
                "/definition/stages/1/when",
            ),
            (
                with("when", json!("stages.x.status == 'done'")),
                "/definition/stages/1/when",
            ),
            (with("retries", json!({"max": 11})), "/definition/stages/1/retries/max"),
            (
                with("retries", json!({"backoff_sec": 1})),
                "/definition/stages/1/retries/max",
            ),
            (
                with("retries", json!({"max": 1, "backoff_sec": 3601})),
                "/definition/stages/1/retries/backoff_sec",
            ),
            (
                with("retries", json!({"max": 1, "wait": 1})),
                "/definition/stages/1/retries/wait",
            ),
            (with("budget", json!({"usd": 0})), "/definition/stages/1/budget/usd"),
        ];
        for (definition, pointer) in table {
            assert_eq!(pointers(&definition), [pointer], "{definition}");
        }
        let far = json!({"stages": [stage("a"), stage("b"),
            {"key": "c", "name": "x", "when": "stages.a.status == 'done'", "retries": {"max": 2, "backoff_sec": 5},
             "budget": {"wall_sec": 9}, "executor": {"kind": "noop"}}]});
        let read = good(&far);
        assert_eq!(
            (read.stages[2].retries.max, read.stages[2].budget.wall_sec),
            (2, Some(9))
        );
        assert_eq!(Vec::from_iter(read.before(2)), [0, 1]);
    }

    #[test]
    fn fan_out_reads_from_a_stage_before_it() {
        let swarm = |source: &str| {
            json!({"stages": [stage("a"), {"key": "b", "name": "x", "executor": {
                "kind": "swarm", "prompt": "{{AREA_TITLE}}", "sandbox": {"profile": "untrusted-code-read"},
                "fanout": {"source": source, "artifact": "map.json"}}}]})
        };
        assert_eq!(good(&swarm("a")).stages[1].fanout().unwrap().max_areas, 20);
        assert_eq!(pointers(&swarm("b")), ["/definition/stages/1/executor/fanout/source"]);
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
