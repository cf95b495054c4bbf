//! The prompt of a job, with its placeholders filled: made when the job is dispatched, and final from then on.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;

use super::Parts;
use super::areas::read_map;
use super::left::{bytes_of, left, seen_by};
use crate::artifacts::ArtifactName;
use crate::error::Result;
use crate::id::RunId;
use crate::runs::executors::Work;
use crate::runs::{Area, Failure, FailureCode, Unit};
use crate::workflow::{Definition, Insert, at_path, inserts, render, shown};

/// Bytes of an artifact that may be inserted.
const MAX_INSERTED: u64 = 256 << 10;
/// Bytes that a prompt may have when it is filled.
const MAX_FILLED: usize = 1 << 20;

/// The prompt of what a job runs, or the failure that it ends with.
///
/// # Errors
/// When the store or the blobs do not answer: nothing is known then.
pub(crate) async fn prompt(parts: &Parts, run: RunId, unit: Unit) -> Result<Result<String, Failure>> {
    let look = parts
        .ledger
        .look(run, |loaded| (loaded.definition.clone(), loaded.head.inputs.clone()));
    let (definition, inputs) = look.await?;
    let Work::Pool(swarm) = definition.stages[unit.stage].executor.work() else {
        return Err(crate::error::Error::internal("a prompt of an engine stage"));
    };
    let asked = inserts(&swarm.prompt);
    let area = match unit.area {
        Some(area) if asked.iter().any(is_of_area) => match area_of(parts, run, &definition, unit.stage, area).await? {
            Ok(area) => Some(area),
            Err(failure) => return Ok(Err(failure)),
        },
        _ => None,
    };
    let texts = match texts(parts, run, &definition, unit.stage, &asked).await? {
        Ok(texts) => texts,
        Err(failure) => return Ok(Err(failure)),
    };
    let filling = Filling {
        area,
        texts,
        context: context(inputs.context.as_deref()),
    };
    Ok(filling.fill(&swarm.prompt))
}

fn is_of_area(insert: &Insert) -> bool {
    matches!(insert, Insert::AreaTitle | Insert::Globs | Insert::Why)
}

fn context(raw: Option<&RawValue>) -> Value {
    let read = raw.map(|raw| serde_json::from_str(raw.get()));
    read.and_then(std::result::Result::ok).unwrap_or_default()
}

/// An area as its list tells it; the state of a run keeps no more of it than its title.
async fn area_of(
    parts: &Parts,
    run: RunId,
    definition: &Arc<Definition>,
    stage: usize,
    area: usize,
) -> Result<Result<Area, Failure>> {
    let map = match read_map(parts, run, definition, stage).await? {
        Ok(map) => map,
        Err(failure) => return Ok(Err(failure)),
    };
    let gone = || Failure::new(FailureCode::FanoutInvalid, "the list of areas has changed");
    Ok(map.areas.into_iter().nth(area).ok_or_else(gone))
}

/// The texts of the artifacts that are asked for.
async fn texts(
    parts: &Parts,
    run: RunId,
    definition: &Definition,
    stage: usize,
    asked: &[Insert],
) -> Result<Result<BTreeMap<ArtifactName, String>, Failure>> {
    let mut texts = BTreeMap::new();
    let names = asked.iter().filter_map(|insert| match insert {
        Insert::Artifact(name) => Some(name),
        _ => None,
    });
    let names: std::collections::BTreeSet<&ArtifactName> = names.collect();
    if names.is_empty() {
        return Ok(Ok(texts));
    }
    let left = left(parts, run).await?;
    for name in names {
        let Some(artifact) = seen_by(&left, definition, stage, name) else {
            let message = format!("the prompt asks for artifact '{name}', which no stage before this one left");
            return Ok(Err(Failure::new(FailureCode::ArtifactMissing, message)));
        };
        let bytes = match bytes_of(parts, artifact, MAX_INSERTED).await? {
            Ok(bytes) => bytes,
            Err(failure) => return Ok(Err(failure)),
        };
        let Ok(text) = String::from_utf8(bytes) else {
            let message = format!("artifact '{name}' is no text, and the prompt asks for it");
            return Ok(Err(Failure::new(FailureCode::ArtifactInvalid, message)));
        };
        texts.insert(name.clone(), text);
    }
    Ok(Ok(texts))
}

/// What the placeholders of one job become.
struct Filling {
    area: Option<Area>,
    texts: BTreeMap<ArtifactName, String>,
    context: Value,
}

impl Filling {
    fn fill(&self, template: &str) -> Result<String, Failure> {
        let mut size = template.len();
        render(template, |insert| {
            let text = self.text(insert)?;
            size = size.saturating_add(text.len());
            if size > MAX_FILLED {
                let message = format!("the prompt is larger than {MAX_FILLED} bytes with its placeholders filled");
                return Err(Failure::new(FailureCode::ArtifactTooLarge, message));
            }
            Ok(text)
        })
    }

    /// Preflight has refused what cannot be filled; a definition that came by another way fails here.
    fn text(&self, insert: &Insert) -> Result<String, Failure> {
        let text = match (insert, &self.area) {
            (Insert::AreaTitle, Some(area)) => Some(area.title.clone()),
            (Insert::Globs, Some(area)) => Some(area.globs.join(" ")),
            (Insert::Why, Some(area)) => Some(area.why.clone()),
            (Insert::Artifact(name), _) => self.texts.get(name).cloned(),
            (Insert::Input(path), _) => at_path(&self.context, path).map(shown),
            (Insert::AreaTitle | Insert::Globs | Insert::Why | Insert::Unknown(_), _) => None,
        };
        text.ok_or_else(|| {
            Failure::new(
                FailureCode::JobInvalid,
                "the prompt has a placeholder that means nothing",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filling() -> Filling {
        let name = ArtifactName::new("notes.md").unwrap();
        Filling {
            area: Some(Area {
                title: "core {{WHY}}".into(),
                globs: vec!["a/**".into(), "b.rs".into()],
                why: "big".into(),
            }),
            texts: BTreeMap::from([(name, "{{INPUT:secret}}".into())]),
            context: json!({"secret": "s", "n": [1, 2]}),
        }
    }

    #[test]
    fn c17_28_artifact_and_area_texts_are_inserted_as_they_are() {
        let filled =
            filling().fill("{{ARTIFACT:notes.md}} {{AREA_TITLE}} {{GLOBS}} {{WHY}} {{INPUT:n}} {{INPUT:secret}}");
        assert_eq!(filled.unwrap(), "{{INPUT:secret}} core {{WHY}} a/** b.rs big [1,2] s");
        let failed = |template: &str| filling().fill(template).unwrap_err().code;
        assert_eq!(failed("{{ARTIFACT:other}}"), FailureCode::JobInvalid);
        assert_eq!(failed("{{INPUT:gone}}"), FailureCode::JobInvalid);
    }

    #[test]
    fn a_prompt_that_grows_over_its_bound_is_refused() {
        let mut filling = filling();
        filling.context = json!({"x": "x".repeat(64 << 10)});
        let failure = filling.fill(&"{{INPUT:x}}".repeat(17)).unwrap_err();
        assert_eq!(failure.code, FailureCode::ArtifactTooLarge);
        assert!(filling.fill(&"{{INPUT:x}}".repeat(15)).is_ok());
    }
}
