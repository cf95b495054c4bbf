//! `source_unreachable`: the one check that dials. Bounded, and with one answer whatever the cause, so that it cannot be
//! used to map inner networks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{OnceCell, Semaphore};

use super::{Check, Problem, Severity, Subject};
use crate::clock::{Clock, Timestamp};
use crate::id::ProjectId;
use crate::sources::{Kind, Source};

/// Checks of one project that dial at once.
const AT_ONCE: usize = 4;
/// An answer is kept this long.
const KEPT: Duration = Duration::from_secs(60);
/// A check that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(5);
/// Answers kept in all; the oldest go first.
const MAX_KEPT: usize = 10_000;

type Answer = Arc<OnceCell<bool>>;

/// What was found out lately.
#[derive(Default)]
pub(crate) struct Reachability {
    slots: Mutex<HashMap<ProjectId, Arc<Semaphore>>>,
    answers: Mutex<HashMap<(ProjectId, String), (Timestamp, Answer)>>,
}

impl Reachability {
    /// The place of an answer: a fresh one when there is none from the last minute. All who ask at once share it.
    fn answer(&self, project: ProjectId, source: &Source, now: Timestamp) -> Answer {
        let mut answers = self.answers.lock().expect("no holder of this lock panics");
        if answers.len() >= MAX_KEPT {
            answers.retain(|_, (asked, _)| now.since(*asked) < KEPT);
        }
        let key = (project, place(source));
        let (asked, answer) = answers.entry(key).or_insert_with(|| (now, Answer::default()));
        if now.since(*asked) >= KEPT {
            (*asked, *answer) = (now, Answer::default());
        }
        answer.clone()
    }

    fn slots(&self, project: ProjectId) -> Arc<Semaphore> {
        let mut slots = self.slots.lock().expect("no holder of this lock panics");
        slots
            .entry(project)
            .or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE)))
            .clone()
    }
}

/// What a source's answer is kept under: all that says where it is.
fn place(source: &Source) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let parts = match &source.kind {
        Kind::GitHttps(git) => {
            let reference = git.reference.as_ref().map(|reference| reference.as_str().to_owned());
            vec![
                "git".to_owned(),
                git.url.as_str().to_owned(),
                text(&reference),
                text(&git.credential),
            ]
        }
        Kind::Folder(folder) => vec!["folder".to_owned(), folder.path.clone()],
        Kind::Tarball(tarball) => vec!["tarball".to_owned(), tarball.url.as_str().to_owned()],
        Kind::S3(s3) => {
            let endpoint = s3.endpoint_url.as_ref().map(|url| url.as_str().to_owned());
            vec![
                "s3".to_owned(),
                text(&endpoint),
                s3.bucket.clone(),
                s3.prefix.clone(),
                text(&s3.credential),
            ]
        }
    };
    // No part holds a line end.
    parts.join("\n")
}

pub(super) struct Reachable;

#[async_trait]
impl Check for Reachable {
    async fn check(&self, subject: &Subject<'_>, found: &mut Vec<Problem>) {
        let Some(dial) = &subject.dial else { return };
        let slots = dial.reachability.slots(subject.project);
        for (index, source) in subject.sources.iter().enumerate() {
            // One whose credential may not be used is an error already, and nothing is dialled for it.
            let Ok(Ok(key)) = dial.config.source_key(subject.project, source).await else {
                continue;
            };
            let answer = dial.reachability.answer(subject.project, source, subject.now);
            let reachable = answer.get_or_init(|| async {
                let Ok(_slot) = slots.acquire().await else { return false };
                let patience = crate::clock::SystemClock.sleep(PATIENCE);
                tokio::select! {
                    biased;
                    reachable = dial.fetch.reachable(source, key.as_ref(), &dial.scope) => reachable,
                    () = patience => false,
                }
            });
            if !*reachable.await {
                found.push(Problem {
                    stage: None,
                    severity: Severity::Warning,
                    code: "source_unreachable",
                    message: format!("source '{}' could not be reached", source.label),
                    fix: "Check the source's address, ref and credential.".into(),
                    pointer: Some(format!("/sources/{index}")),
                    estimate: None,
                });
            }
        }
    }
}
