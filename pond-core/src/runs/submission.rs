//! Reads the body of a submit or preflight, with all of its faults.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Inputs, StoredDefinition};
use crate::body::{Faults, Object};
use crate::error::{Error, Fault, Result};
use crate::id::ProjectId;
use crate::outbound::AllowPrivate;
use crate::sources::{self, Kind, Source};
use crate::workflow::{self, Budget, Definition};

/// Bytes that `context` may have.
const MAX_CONTEXT_BYTES: usize = 64 << 10;

/// A body that reads.
#[derive(Debug, Clone)]
pub(crate) struct Submission {
    pub(crate) trigger: Arc<str>,
    pub(crate) definition: Arc<Definition>,
    pub(crate) stored: StoredDefinition,
    pub(crate) sources: Vec<Source>,
    pub(crate) inputs: Inputs,
}

/// A body that may have faults: those of the definition are told as problems too.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) submission: Option<Submission>,
    /// Faults of the definition.
    pub(crate) definition: Vec<Fault>,
    /// All other faults.
    pub(crate) other: Vec<Fault>,
}

/// The parts that are kept just as they were sent.
#[derive(Deserialize)]
struct AsSent<'a> {
    #[serde(borrow, default)]
    context: Option<&'a RawValue>,
    #[serde(borrow, default)]
    sources: Option<&'a RawValue>,
    #[serde(borrow, default)]
    budget: Option<&'a RawValue>,
}

/// The project that a body names, before anything else is read: it says whose the call is.
///
/// # Errors
/// [`Error::Invalid`] when it names one that is no UUID.
pub(crate) fn named_project(body: &Value) -> Result<Option<ProjectId>> {
    match body.get("projectId") {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let id = value.as_str().and_then(|text| text.parse().ok());
            id.map(Some)
                .ok_or_else(|| Error::invalid("/projectId", "expected a UUID"))
        }
    }
}

/// Reads a body. `text` is JSON that was parsed to `body`.
pub(crate) fn read(text: &str, body: &Value, allow: &AllowPrivate) -> Reading {
    let (definition_faults, faults) = (Faults::new(), Faults::new());
    let submission = read_into(text, body, allow, &definition_faults, &faults);
    let (definition, other) = (definition_faults.take(), faults.take());
    let clean = definition.is_empty() && other.is_empty();
    Reading {
        submission: submission.filter(|_| clean),
        definition,
        other,
    }
}

fn read_into(
    text: &str,
    body: &Value,
    allow: &AllowPrivate,
    definition_faults: &Faults,
    faults: &Faults,
) -> Option<Submission> {
    let mut object = Object::read(body, "", faults)?;
    object.optional("projectId");
    if named_project(body).is_err() {
        object.fault("projectId", "expected a UUID");
    }
    let trigger = trigger(&mut object);
    let definition = object.required("definition").and_then(|json| {
        let read = workflow::read(json, definition_faults)?;
        match workflow::digest(json) {
            Ok(stored) => Some((Arc::new(read), stored)),
            Err(_) => {
                definition_faults.add(
                    "/definition",
                    "holds a number that JSON cannot carry exactly (RFC 8785)",
                );
                None
            }
        }
    });
    let sources = sources_of(&mut object, allow);
    let sha = sha(&mut object, &sources);
    if let Some(context) = object.optional("context")
        && !context.is_object()
    {
        object.fault("context", "expected an object");
    }
    let budget = object.object("budget").map(Budget::read);
    let sent: Option<AsSent<'_>> = serde_json::from_str(text).ok();
    let kept = |raw: Option<&RawValue>| raw.filter(|raw| raw.get() != "null").map(ToOwned::to_owned);
    let context = kept(sent.as_ref().and_then(|sent| sent.context));
    if context
        .as_ref()
        .is_some_and(|context| context.get().len() > MAX_CONTEXT_BYTES)
    {
        object.fault("context", format!("larger than {MAX_CONTEXT_BYTES} bytes"));
    }
    let raw_sources = kept(sent.as_ref().and_then(|sent| sent.sources)).filter(|_| !sources.is_empty());
    object.close();
    let (definition, stored) = definition?;
    let inputs = Inputs {
        sha,
        context,
        sources: raw_sources,
        budget: kept(sent.as_ref().and_then(|sent| sent.budget)).filter(|_| budget.is_some()),
        ..Inputs::default()
    };
    Some(Submission {
        trigger: Arc::from(trigger),
        definition,
        stored,
        sources,
        inputs,
    })
}

/// `[a-z0-9._-]{1,64}`, `api` when absent.
fn trigger(object: &mut Object<'_>) -> String {
    let Some(trigger) = object.text("trigger") else {
        return "api".into();
    };
    let fits = (1..=64).contains(&trigger.len())
        && trigger
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'));
    if !fits {
        object.fault("trigger", "expected 1 to 64 of a-z 0-9 . _ -");
    }
    trigger.to_owned()
}

fn sources_of(object: &mut Object<'_>, allow: &AllowPrivate) -> Vec<Source> {
    let Some(value) = object.optional("sources") else {
        return Vec::new();
    };
    match sources::parse(value, &object.pointer("sources"), allow) {
        Ok(sources) => sources,
        Err(faults) => {
            object.faults().extend(faults);
            Vec::new()
        }
    }
}

/// Pins the commit when there is exactly one git source, is only recorded when there is none.
fn sha(object: &mut Object<'_>, sources: &[Source]) -> Option<String> {
    let sha = object.text("sha")?;
    if !matches!(sha.len(), 40 | 64) || !sha.bytes().all(|b| b.is_ascii_hexdigit()) {
        object.fault("sha", "expected 40 or 64 hexadecimal digits");
    }
    if sources
        .iter()
        .filter(|source| matches!(source.kind, Kind::GitHttps(_)))
        .count()
        > 1
    {
        object.fault(
            "sha",
            "says nothing when there are several git sources; set ref on each",
        );
    }
    Some(sha.to_ascii_lowercase())
}
