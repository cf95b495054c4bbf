//! `secret_in_environment`: where secrets would stand in clear.

use async_trait::async_trait;

use super::{Check, Problem, Severity, Subject, of_stage, swarms};
use crate::config::{Named, Placeholder};

pub(super) struct Secrets;

/// How keys of well-known services begin.
const KEY_SHAPES: [&str; 10] = [
    "sk-",
    "sk_live_",
    "ghp_",
    "gho_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "AKIA",
    "AIza",
    "-----BEGIN",
];

#[async_trait]
impl Check for Secrets {
    async fn check(&self, subject: &Subject<'_>, found: &mut Vec<Problem>) {
        for (_, stage, swarm) in swarms(subject.definition) {
            let confined = swarm.sandbox.as_ref().is_ok_and(|block| block.profile.is_confined());
            for (name, value) in subject.effective.variables() {
                if looks_like_key(&value) {
                    let message = format!("variable '{name}' is shaped like a key, and every stage can read it");
                    let fix = format!("Delete it (pond variable delete {name}) and store it as a credential.");
                    found.push(of_stage(
                        stage,
                        Severity::Warning,
                        "secret_in_environment",
                        &message,
                        fix,
                    ));
                }
            }
            let default = subject.settings.default_harness.as_deref();
            let Named::Found(harness) = subject.effective.harness(swarm.harness.as_deref(), default) else {
                continue;
            };
            // A confined job gets a dummy or a sealed token in its place.
            for placeholder in harness.record.placeholders().into_iter().filter(|_| !confined) {
                let Placeholder::Secret(name) = placeholder else {
                    continue;
                };
                let message = format!("the harness puts the real value of '{name}' into a file of the job");
                let fix = "Use a confined profile, under which the agent gets a dummy or a sealed token.";
                found.push(of_stage(
                    stage,
                    Severity::Warning,
                    "secret_in_environment",
                    &message,
                    fix,
                ));
            }
        }
    }
}

fn looks_like_key(value: &str) -> bool {
    value.len() >= 16 && KEY_SHAPES.iter().any(|shape| value.starts_with(shape))
}
