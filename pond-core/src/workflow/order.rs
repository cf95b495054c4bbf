//! The order of stages: from array order or edges to predecessors.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use crate::body::{Faults, Object};

/// Reads `edges`, and gives the predecessors of each stage. Absent or empty: each stage follows the one before it.
pub(super) fn predecessors(edges: Option<&[Value]>, keys: &[Option<&str>], faults: &Faults) -> Vec<Vec<usize>> {
    let Some(edges) = edges.filter(|edges| !edges.is_empty()) else {
        return (0..keys.len())
            .map(|index| index.checked_sub(1).into_iter().collect())
            .collect();
    };
    let places: HashMap<&str, usize> = keys
        .iter()
        .enumerate()
        .rev()
        .filter_map(|(index, key)| key.map(|key| (key, index)))
        .collect();
    let mut predecessors = vec![BTreeSet::new(); keys.len()];
    for (index, edge) in edges.iter().enumerate() {
        let Some(mut edge) = Object::read(edge, format!("/definition/edges/{index}"), faults) else {
            continue;
        };
        let from = end(&mut edge, "from", &places);
        let to = end(&mut edge, "to", &places);
        if let (Some(from), Some(to)) = (from, to) {
            if from == to {
                edge.fault("to", "a stage cannot follow itself");
            } else {
                predecessors[to].insert(from);
            }
        }
        edge.close();
    }
    let predecessors: Vec<Vec<usize>> = predecessors.into_iter().map(|set| set.into_iter().collect()).collect();
    if topological(&predecessors).is_none() {
        faults.add("/definition/edges", "the edges form a cycle");
    }
    predecessors
}

fn end(edge: &mut Object<'_>, name: &'static str, places: &HashMap<&str, usize>) -> Option<usize> {
    let key = edge.required_text(name)?;
    let place = places.get(key).copied();
    if place.is_none() {
        edge.fault(name, format!("no stage has the key '{key}'"));
    }
    place
}

/// All stages that come before one, near and far.
pub(super) fn before(predecessors: &[Vec<usize>], index: usize) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut open: Vec<usize> = predecessors[index].clone();
    while let Some(stage) = open.pop() {
        if found.insert(stage) {
            open.extend(&predecessors[stage]);
        }
    }
    found
}

/// All stages in an order in which each comes after its predecessors, or none when there is a cycle.
pub(super) fn topological(predecessors: &[Vec<usize>]) -> Option<Vec<usize>> {
    let mut successors = vec![Vec::new(); predecessors.len()];
    let mut missing: Vec<usize> = predecessors.iter().map(Vec::len).collect();
    for (stage, before) in predecessors.iter().enumerate() {
        for &earlier in before {
            successors[earlier].push(stage);
        }
    }
    let mut ready: BTreeSet<usize> = (0..missing.len()).filter(|&stage| missing[stage] == 0).collect();
    let mut order = Vec::with_capacity(missing.len());
    while let Some(stage) = ready.pop_first() {
        order.push(stage);
        for &later in &successors[stage] {
            missing[later] -= 1;
            if missing[later] == 0 {
                ready.insert(later);
            }
        }
    }
    (order.len() == missing.len()).then_some(order)
}
