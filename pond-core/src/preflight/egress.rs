//! `egress_narrowed`: what a stage asks to reach and will not.

use async_trait::async_trait;

use super::{Check, Problem, Severity, Subject, of_stage, pointer, swarms};
use crate::egress::EgressPolicy;
use crate::outbound::HostPattern;
use crate::runs::executors::SandboxBlock;
use crate::sandbox::Profile;

pub(super) struct Egress;

#[async_trait]
impl Check for Egress {
    async fn check(&self, subject: &Subject<'_>, found: &mut Vec<Problem>) {
        for (index, stage, swarm) in swarms(subject.definition) {
            let Ok(block) = &swarm.sandbox else { continue };
            let Some((message, fix)) = narrowed(block, subject) else {
                continue;
            };
            let problem = of_stage(stage, Severity::Warning, "egress_narrowed", &message, fix);
            found.push(Problem {
                pointer: pointer(index, "sandbox/allow_hosts"),
                ..problem
            });
        }
    }
}

/// What is dropped of a block's `allow_hosts`, and what to do about it.
fn narrowed(block: &SandboxBlock, subject: &Subject<'_>) -> Option<(String, &'static str)> {
    if block.allow_hosts.is_empty() {
        return None;
    }
    if block.profile != Profile::UntrustedCodeWrite {
        let message = format!(
            "allow_hosts is dropped: profile '{}' has no egress proxy",
            block.profile.as_str()
        );
        return Some((
            message,
            "Take executor.sandbox.allow_hosts out, or use profile untrusted-code-write.",
        ));
    }
    let policy = EgressPolicy::new(
        subject.effective.egress().iter().map(Into::into),
        &block.allow_hosts,
        &[],
    );
    let beyond: Vec<&str> = policy.narrowed().iter().map(HostPattern::as_str).collect();
    if beyond.is_empty() {
        return None;
    }
    let message = format!(
        "allow_hosts goes beyond the egress rules in scope; dropped: {}",
        beyond.join(", ")
    );
    Some((
        message,
        "Have an admin allow them (pond egress set HOST), or take them out of executor.sandbox.allow_hosts.",
    ))
}
