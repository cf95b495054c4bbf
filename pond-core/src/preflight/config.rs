//! Whether the names that a stage gives, or leaves out, mean something: harness, model, credential, provider, wire.

use async_trait::async_trait;

use super::{Check, Problem, Severity, Subject, of_stage, pointer, swarms};
use crate::config::{Harness, Model, Named, Provider, Stored};
use crate::pool::{lacking_key, provider_fault};
use crate::runs::executors::Swarm;
use crate::workflow::Stage;

pub(super) struct Config;

#[async_trait]
impl Check for Config {
    async fn check(&self, subject: &Subject<'_>, found: &mut Vec<Problem>) {
        for (index, stage, swarm) in swarms(subject.definition) {
            let harness = harness(subject, index, stage, swarm, found);
            let Some(model) = model(subject, index, stage, swarm, harness.as_ref(), found) else {
                continue;
            };
            let confined = swarm.sandbox.as_ref().is_ok_and(|block| block.profile.is_confined());
            credential(subject, stage, &model, found);
            provider(stage, &model, harness.as_ref(), confined, found);
        }
    }
}

/// A name was left out, and there are several to choose from.
fn choose(index: usize, stage: &Stage, field: &str, names: &[String]) -> Problem {
    let message = format!("names no {field}, and several are registered: {}", names.join(", "));
    let fix = format!("Set executor.{field} to one of them.");
    let problem = of_stage(stage, Severity::Error, "definition_invalid", &message, fix);
    Problem {
        pointer: pointer(index, field),
        ..problem
    }
}

fn harness(
    subject: &Subject<'_>,
    index: usize,
    stage: &Stage,
    swarm: &Swarm,
    found: &mut Vec<Problem>,
) -> Option<Harness> {
    let default = subject.settings.default_harness.as_deref();
    let (message, fix) = match subject.effective.harness(swarm.harness.as_deref(), default) {
        Named::Found(harness) => return Some(harness.record),
        Named::Several(names) => {
            found.push(choose(index, stage, "harness", &names));
            return None;
        }
        Named::Unregistered(name) => (
            format!("harness '{name}' is not registered"),
            format!("Register it: pond harness from-preset {name}, or pond harness create."),
        ),
        Named::NoneThere => (
            "no harness is registered".to_owned(),
            "Register one: pond harness from-preset mini.".to_owned(),
        ),
    };
    found.push(of_stage(
        stage,
        Severity::Warning,
        "harness_unregistered",
        &message,
        fix,
    ));
    None
}

fn model(
    subject: &Subject<'_>,
    index: usize,
    stage: &Stage,
    swarm: &Swarm,
    harness: Option<&Harness>,
    found: &mut Vec<Problem>,
) -> Option<Model> {
    if swarm.model.is_none() && !harness.is_some_and(Harness::needs_model) {
        return None;
    }
    let default = subject.settings.default_model.as_deref();
    let message = match subject.effective.model(swarm.model.as_deref(), default) {
        Named::Found(Stored { record, .. }) => return Some(record),
        Named::Several(names) => {
            found.push(choose(index, stage, "model", &names));
            return None;
        }
        Named::Unregistered(name) => format!("model '{name}' is not registered"),
        Named::NoneThere => "its harness needs a model, and none is registered".to_owned(),
    };
    let fix = "Register it: pond model create.";
    let problem = of_stage(stage, Severity::Error, "model_unregistered", &message, fix);
    found.push(Problem {
        pointer: pointer(index, "model"),
        ..problem
    });
    None
}

fn credential(subject: &Subject<'_>, stage: &Stage, model: &Model, found: &mut Vec<Problem>) {
    let name = &model.credential_name;
    let known = subject.effective.credential(name);
    if let Some(fault) = known.and_then(|credential| provider_fault(model, &credential.record)) {
        let fix = format!("Register model '{}' with a credential of its provider.", model.key);
        found.push(of_stage(stage, Severity::Error, "credential_missing", &fault, fix));
        return;
    }
    let (message, fix) = match known {
        None => (
            format!("model '{}' names credential '{name}', which is not there", model.key),
            format!("Store it: pond credential set {name} --provider {}.", model.provider),
        ),
        Some(credential) => match lacking_key(&credential.record) {
            None => {
                features(stage, &credential.record.remote_features, name, found);
                return;
            }
            Some(keys) => (
                format!("credential '{name}' has none of {}", keys.join(", ")),
                format!("Store it again: pond credential set {name} --secret {}.", keys[0]),
            ),
        },
    };
    found.push(of_stage(stage, Severity::Error, "credential_missing", &message, fix));
}

fn features(stage: &Stage, open: &std::collections::BTreeSet<String>, name: &str, found: &mut Vec<Problem>) {
    if open.is_empty() {
        return;
    }
    let list: Vec<&str> = open.iter().map(String::as_str).collect();
    let message = format!("credential '{name}' lets the provider itself act: {}", list.join(", "));
    let fix = "Take what is not needed out of the credential's remote_features.";
    found.push(of_stage(stage, Severity::Info, "remote_features", &message, fix));
}

fn provider(stage: &Stage, model: &Model, harness: Option<&Harness>, confined: bool, found: &mut Vec<Problem>) {
    let Some(provider) = Provider::find(&model.provider) else {
        if confined {
            let message = format!("provider '{}' is none that the broker speaks to", model.provider);
            let fix = "Use a model of anthropic, openai, openai_compatible or openrouter.";
            found.push(of_stage(stage, Severity::Error, "provider_not_brokered", &message, fix));
        }
        return;
    };
    let Some(wire) = harness.and_then(|harness| harness.wire.as_deref()) else {
        return;
    };
    if !provider.wires.contains(&wire) {
        let message = format!(
            "its harness speaks '{wire}', which provider '{}' does not",
            model.provider
        );
        let fix = format!("Use a model of a provider that speaks {wire}, or another harness.");
        found.push(of_stage(stage, Severity::Warning, "wire_mismatch", &message, fix));
    }
}
