//! `no_capable_worker`: whether a worker that fits is online.

use async_trait::async_trait;

use super::{Check, Problem, Severity, Subject, swarms};
use crate::pool::{Missing, likely_needs};

pub(super) struct CapableWorker;

#[async_trait]
impl Check for CapableWorker {
    async fn check(&self, subject: &Subject<'_>, found: &mut Vec<Problem>) {
        for (_, stage, swarm) in swarms(subject.definition) {
            let Some(needs) = likely_needs(swarm, subject.project, subject.effective, subject.settings) else {
                continue;
            };
            let Some(missing) =
                subject
                    .presence
                    .missing(&needs, subject.project, subject.now, subject.settings.worker_offline)
            else {
                continue;
            };
            found.push(Problem {
                stage: Some(stage.key.clone()),
                severity: Severity::Warning,
                code: "no_capable_worker",
                message: no_capable_worker_message(&stage.key, &missing),
                fix: "Attach a worker with these tags and capabilities, or start pond up, which has one.".into(),
                pointer: None,
                estimate: None,
            });
        }
    }
}

/// The one text, in preflight and when the grace has ended.
pub(crate) fn no_capable_worker_message(stage: &str, missing: &Missing) -> String {
    let list = |what: &str, items: &std::collections::BTreeSet<String>| {
        let items: Vec<&str> = items.iter().map(String::as_str).collect();
        (!items.is_empty()).then(|| format!("{what} {}", items.join(", ")))
    };
    let lacking: Vec<String> = [list("tags", &missing.tags), list("capabilities", &missing.capabilities)]
        .into_iter()
        .flatten()
        .collect();
    let who = if missing.nobody {
        "no worker is online"
    } else {
        "no worker that is online has"
    };
    let joint = if missing.nobody { "; needed are " } else { " " };
    format!(
        "stage '{stage}': no attached worker can serve it: {who}{joint}{}",
        lacking.join(" and ")
    )
}
