//! `sandbox_invalid`, `unconfined_sandbox`: whether each agent stage says how it is confined, and may be so.

use async_trait::async_trait;

use super::{Check, Problem, Severity, Subject, of_stage, pointer, swarms};

pub(super) struct Sandbox;

#[async_trait]
impl Check for Sandbox {
    async fn check(&self, subject: &Subject<'_>, found: &mut Vec<Problem>) {
        for (index, stage, swarm) in swarms(subject.definition) {
            match &swarm.sandbox {
                Err(fault) => {
                    let fix = "Set executor.sandbox to {\"profile\": \"untrusted-code-write\"} or another valid block.";
                    let problem = of_stage(stage, Severity::Error, "sandbox_invalid", &fault.message, fix);
                    found.push(Problem {
                        pointer: Some(fault.pointer.clone()),
                        ..problem
                    });
                }
                Ok(block) if !block.profile.is_confined() => {
                    let required = subject.settings.require_sandbox;
                    let severity = if required { Severity::Error } else { Severity::Warning };
                    let message = "profile 'none' runs the agent unconfined on the worker's host";
                    let fix = "Set executor.sandbox.profile to untrusted-code-read or untrusted-code-write.";
                    let problem = of_stage(stage, severity, "unconfined_sandbox", message, fix);
                    found.push(Problem {
                        pointer: pointer(index, "sandbox/profile"),
                        ..problem
                    });
                }
                Ok(_) => {}
            }
        }
    }
}
