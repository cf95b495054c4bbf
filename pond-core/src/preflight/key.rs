//! `credential_missing` and `credential_host_mismatch` of sources: whether the credential that a source names may be sent to
//! where the source is. Nothing is opened here, and nothing dialled.

use async_trait::async_trait;

use super::{Check, Problem, Severity, Subject};
use crate::sources::{KeyRefused, Source, fits};

pub(super) struct SourceKeys;

#[async_trait]
impl Check for SourceKeys {
    async fn check(&self, subject: &Subject<'_>, found: &mut Vec<Problem>) {
        for (index, source) in subject.sources.iter().enumerate() {
            let Some(name) = source.credential() else { continue };
            let fit = match subject.effective.credential(name) {
                Some(credential) => fits(source, &credential.record),
                None => Err(KeyRefused::Missing),
            };
            if let Err(refused) = fit {
                found.push(problem(index, source, name, refused));
            }
        }
    }
}

fn problem(index: usize, source: &Source, name: &str, refused: KeyRefused) -> Problem {
    let provider = match source.kind {
        crate::sources::Kind::S3(_) => "s3",
        _ => "git",
    };
    let fix = match refused {
        KeyRefused::Missing | KeyRefused::Provider(_) => {
            format!("Store it: pond credential set {name} --provider {provider} --host HOST, with its secrets.")
        }
        KeyRefused::Lacks(secret) => {
            format!("Store it again with all of its secrets: pond credential set {name} --secret {secret}.")
        }
        KeyRefused::Place => {
            format!(
                "Use another credential, or store {name} again with this host (and bucket) and its secrets: pond credential set {name} --host HOST."
            )
        }
    };
    Problem {
        stage: None,
        severity: Severity::Error,
        code: refused.code(),
        message: format!("source '{}': credential '{name}' {refused}", source.label),
        fix,
        pointer: Some(format!("/sources/{index}/config/credential")),
        estimate: None,
    }
}
