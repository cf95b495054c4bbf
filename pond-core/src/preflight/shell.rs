//! `shell_disabled`, and `sandbox_invalid` where nothing could run a program: stages that are programs on the engine's host.

use async_trait::async_trait;

use super::{Check, Problem, Severity, Subject, of_stage, pointer};
use crate::runs::executors::{Replay, Work};

pub(super) struct Shell;

#[async_trait]
impl Check for Shell {
    async fn check(&self, subject: &Subject<'_>, found: &mut Vec<Problem>) {
        for (index, stage) in subject.definition.stages.iter().enumerate() {
            let problem = match stage.executor.work() {
                Work::Engine(work) if work.replay() == Replay::Once => {
                    if !subject.settings.allow_shell {
                        let message = "a program on the server's host is not allowed here";
                        let fix = "Set POND_ALLOW_SHELL=true on the server, or use a swarm stage.";
                        of_stage(stage, Severity::Error, "shell_disabled", message, fix)
                    } else if !subject.has_host {
                        let message = "this engine was built without what runs programs on its host";
                        let fix = "Build the engine with its host's tools (PondBuilder::host), or use a swarm stage.";
                        of_stage(stage, Severity::Error, "sandbox_invalid", message, fix)
                    } else {
                        continue;
                    }
                }
                Work::Engine(_) | Work::Pool(_) => continue,
            };
            found.push(Problem {
                pointer: pointer(index, "kind"),
                ..problem
            });
        }
    }
}
