//! `unknown_placeholder`: whether each placeholder of a prompt, or of a harness's templates, can be filled.

use async_trait::async_trait;
use serde_json::Value;

use super::{Check, Problem, Severity, Subject, of_stage, pointer, swarms};
use crate::config::{Named, Placeholder};
use crate::runs::executors::Swarm;
use crate::workflow::{Insert, at_path, inserts};

pub(super) struct Prompt;

#[async_trait]
impl Check for Prompt {
    async fn check(&self, subject: &Subject<'_>, found: &mut Vec<Problem>) {
        for (index, stage, swarm) in swarms(subject.definition) {
            let mut told = Vec::new();
            for insert in inserts(&swarm.prompt) {
                let Some((message, fix)) = fault(subject, index, swarm, &insert) else {
                    continue;
                };
                if told.contains(&insert) {
                    continue;
                }
                let problem = of_stage(stage, Severity::Error, "unknown_placeholder", &message, fix);
                found.push(Problem {
                    pointer: pointer(index, "prompt"),
                    ..problem
                });
                told.push(insert);
            }
            let default = subject.settings.default_harness.as_deref();
            let Named::Found(harness) = subject.effective.harness(swarm.harness.as_deref(), default) else {
                continue;
            };
            for placeholder in harness.record.placeholders() {
                let Placeholder::Unknown(name) = placeholder else {
                    continue;
                };
                let key = &harness.record.key;
                let message = format!("harness '{key}' has a placeholder that means nothing: {{{{{name}}}}}");
                let fix = format!("Register harness '{key}' again without it: pond harness create.");
                found.push(of_stage(stage, Severity::Error, "unknown_placeholder", &message, fix));
            }
        }
    }
}

/// What is wrong with a placeholder, and what to do.
fn fault(subject: &Subject<'_>, index: usize, swarm: &Swarm, insert: &Insert) -> Option<(String, String)> {
    let area = |name: &str| {
        let message = format!("{{{{{name}}}}} means something only with fanout");
        let fix = format!("Set executor.fanout, or take {{{{{name}}}}} out of executor.prompt.");
        swarm.fanout.is_none().then_some((message, fix))
    };
    match insert {
        Insert::AreaTitle => area("AREA_TITLE"),
        Insert::Globs => area("GLOBS"),
        Insert::Why => area("WHY"),
        Insert::Artifact(name) => {
            let message = format!("no stage before it can leave artifact '{name}'");
            let fix = "Name an artifact of a stage before this one in executor.prompt, or add the edge to it.";
            (!subject.definition.can_have(index, name)).then(|| (message, fix.to_owned()))
        }
        Insert::Input(path) => {
            let context = subject.context.map(|raw| serde_json::from_str::<Value>(raw.get()));
            let context = context.and_then(Result::ok).unwrap_or_default();
            let path_text = path.join(".");
            let message = format!("context has nothing at '{path_text}'");
            let fix = format!("Add {path_text} to context, or take {{{{INPUT:{path_text}}}}} out of executor.prompt.");
            at_path(&context, path).is_none().then_some((message, fix))
        }
        Insert::Unknown(name) => {
            let message = format!("{{{{{name}}}}} is no placeholder");
            let fix = format!("Write \\{{{{{name}}}}} in executor.prompt if it is meant as it stands.");
            Some((message, fix))
        }
    }
}
