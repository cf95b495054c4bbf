//! A stage that fans out: its list of areas is read when its turn has come, and what the areas left is put together when the
//! last of them has ended.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use super::advance::end_at;
use super::left::{bytes_of, is_of, left};
use super::{Draft, Parts, blob_key, open_bundle};
use crate::artifacts::{Artifact, ArtifactName, BlobError, ByteStream};
use crate::error::Result;
use crate::id::RunId;
use crate::runs::executors::{Fanout, Parse, Work};
use crate::runs::{
    Area, AreaMap, AreaPatch, BundleRef, Failure, FailureCode, MAX_MAP_BYTES, StageEvent, StageOutcome, StagePhase,
    StageState, StageStatus, Transition, Unit, area_key, read_areas,
};
use crate::workflow::Definition;

/// Characters of an area's title that the state of its run keeps.
const MAX_TITLE: usize = 200;
/// What an area leaves of its changes.
const PATCH: &str = "changes.patch";
const CHANGED: &str = "changed-files.json";
/// An empty tar file: the tree of a run without sources.
const EMPTY_TAR: [u8; 1024] = [0; 1024];

/// Reads the list of areas of a stage, or why there is none.
pub(super) async fn read_map(
    parts: &Parts,
    run: RunId,
    definition: &Definition,
    stage: usize,
) -> Result<Result<AreaMap, Failure>> {
    let invalid = |what: String| Failure::new(FailureCode::FanoutInvalid, what);
    let Some(fanout) = definition.stages[stage].fanout() else {
        return Ok(Err(invalid("the stage does not fan out".into())));
    };
    let Fanout {
        source,
        artifact: name,
        max_areas,
    } = fanout;
    let left = left(parts, run).await?;
    let source_index = definition.index(source);
    let of_source = |artifact: &&Artifact| {
        artifact.name == *name
            && artifact.substage.is_none()
            && source_index.is_some_and(|source| is_of(artifact, source))
    };
    let Some(artifact) = left.iter().find(of_source) else {
        return Ok(Err(invalid(format!("stage '{source}' left no artifact '{name}'"))));
    };
    let read = match bytes_of(parts, artifact, MAX_MAP_BYTES).await? {
        Ok(bytes) => read_areas(&bytes, *max_areas),
        Err(failure) => Err(failure.message),
    };
    Ok(read.map_err(|what| invalid(format!("artifact '{name}' of stage '{source}': {what}"))))
}

/// Writes what was read: the stage gets its areas, or is over.
pub(super) fn fan_out(draft: &mut Draft<'_>, index: usize, map: &Result<AreaMap, Failure>) -> Result<()> {
    let stage = &draft.state().stages[index];
    let waits = stage.phase.status() == StageStatus::Queued && stage.areas.is_empty();
    if !waits || draft.state().cancel_requested_at.is_some() {
        return Ok(());
    }
    let (unit, at) = (Unit::stage(index), draft.now);
    let map = match map {
        Ok(map) => map,
        Err(failure) => return end_at(draft, unit, at, StageOutcome::Failed(failure.clone())),
    };
    let taken = map.areas.len();
    if map.dropped > 0 {
        let text = format!(
            "{} areas more than the {taken} that are taken were dropped; see fanout.maxAreas",
            map.dropped
        );
        draft.say(unit, text);
    }
    if taken == 0 {
        draft.say(unit, "the list of areas is empty: there is nothing to do");
        draft.apply(Transition::unit(unit, StageEvent::Start { at, worker: None }))?;
        return end_at(draft, unit, at, StageOutcome::Done);
    }
    let title = |area: &Area| area.title.trim().chars().take(MAX_TITLE).collect();
    let titles = map.areas.iter().map(title).collect();
    draft.apply(Transition::FannedOut { index, titles })?;
    Ok(())
}

/// What the areas of a stage left together.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    artifacts: Vec<Artifact>,
    lines: Vec<String>,
    failure: Option<Failure>,
}

/// Puts together what the areas of a stage left: parsed records in the order of the areas, and one patch.
pub(super) async fn gather(
    parts: &Parts,
    run: RunId,
    definition: &Arc<Definition>,
    index: usize,
    bundle: Option<BundleRef>,
) -> Result<Gathered> {
    let Work::Pool(swarm) = definition.stages[index].executor.work() else {
        return Ok(Gathered::default());
    };
    let left = left(parts, run).await?;
    let own: Vec<Artifact> = left
        .into_iter()
        .filter(|artifact| is_of(artifact, index) && artifact.substage.is_some())
        .collect();
    let gathering = Gathering {
        parts,
        run,
        index,
        key: definition.key(index),
        own,
    };
    let mut gathered = Gathered::default();
    if let Some(parse) = &swarm.parse {
        gathering.records(parse, &mut gathered).await?;
    }
    gathering.patches(bundle, &mut gathered).await?;
    Ok(gathered)
}

struct Gathering<'a> {
    parts: &'a Parts,
    run: RunId,
    index: usize,
    key: &'a str,
    /// What its areas left, ordered by area: their keys sort as they are numbered.
    own: Vec<Artifact>,
}

impl Gathering<'_> {
    fn named<'a>(&'a self, name: &'a ArtifactName) -> impl Iterator<Item = &'a Artifact> {
        self.own.iter().filter(move |artifact| artifact.name == *name)
    }

    async fn records(&self, parse: &Parse, gathered: &mut Gathered) -> Result<()> {
        let pieces: VecDeque<String> = self
            .named(&parse.output)
            .map(|artifact| artifact.blob.clone())
            .collect();
        if pieces.is_empty() {
            return Ok(());
        }
        let redacted = self.named(&parse.output).any(|artifact| artifact.redacted);
        let bytes = chained(self.parts.blobs.clone(), pieces);
        self.keep(&parse.output, bytes, redacted, gathered).await
    }

    /// The pairs of patch and list that areas left, in their order, as far as they may be read.
    async fn area_patches(&self, gathered: &mut Gathered) -> Result<Vec<AreaPatch>> {
        let (patch, changed) = (name(PATCH), name(CHANGED));
        let mut areas = Vec::new();
        let mut left = self.parts.settings.artifact_cap;
        for artifact in self.named(&patch) {
            let list = self.named(&changed).find(|other| other.substage == artifact.substage);
            let (Some(substage), Some(list)) = (&artifact.substage, list) else {
                continue;
            };
            let patch = bytes_of(self.parts, artifact, left).await?;
            let changed = bytes_of(self.parts, list, left).await?;
            match (patch, changed) {
                (Ok(patch), Ok(changed)) => {
                    left = left.saturating_sub(artifact.size).saturating_sub(list.size);
                    let substage = substage.clone();
                    areas.push(AreaPatch {
                        substage,
                        patch,
                        changed,
                    });
                }
                (Err(failure), _) | (_, Err(failure)) => {
                    let line = format!("{substage}: its patch is not merged: {}", failure.message);
                    gathered.lines.push(line);
                }
            }
        }
        Ok(areas)
    }

    async fn patches(&self, bundle: Option<BundleRef>, gathered: &mut Gathered) -> Result<()> {
        let areas = self.area_patches(gathered).await?;
        if areas.is_empty() {
            return Ok(());
        }
        let Some(host) = &self.parts.host else {
            let text = "the patches of the areas are not merged: this engine was built without the tools of its host";
            gathered.lines.push(text.into());
            return Ok(());
        };
        let tree = match &bundle {
            Some(bundle) => open_bundle(self.parts, self.run, bundle).await?,
            None => stream::once(async { Ok(Bytes::from_static(&EMPTY_TAR)) }).boxed(),
        };
        let merged = match host.merge(tree, areas).await {
            Ok(merged) => merged,
            Err(failure) => {
                let line = format!("the patches of the areas are not merged: {}", failure.message);
                gathered.lines.push(line);
                gathered.failure.get_or_insert(failure);
                return Ok(());
            }
        };
        for conflict in &merged.conflicts {
            let line = format!("{conflict}: its patch does not apply after those before it");
            gathered.lines.push(line);
        }
        let redacted = self.named(&name(PATCH)).any(|artifact| artifact.redacted);
        self.keep(&name(PATCH), whole(merged.patch), redacted, gathered).await?;
        self.keep(&name(CHANGED), whole(merged.changed), redacted, gathered)
            .await
    }

    async fn keep(
        &self,
        name: &ArtifactName,
        bytes: ByteStream,
        redacted: bool,
        gathered: &mut Gathered,
    ) -> Result<()> {
        let blob = blob_key(self.parts, self.run);
        let cap = self.parts.settings.artifact_cap;
        let (size, sha256) = match self.parts.blobs.put(&blob, bytes, cap).await {
            Ok(put) => put,
            Err(BlobError::TooLarge(cap)) => {
                let message =
                    format!("'{name}' of all areas is larger than {cap} bytes; raise POND_ARTIFACT_MAX_BYTES");
                let failure = Failure::new(FailureCode::ArtifactTooLarge, message);
                gathered.failure.get_or_insert(failure);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        gathered.artifacts.push(Artifact {
            stage: u32::try_from(self.index).unwrap_or(u32::MAX),
            stage_key: self.key.to_owned(),
            substage: None,
            name: name.clone(),
            size,
            sha256,
            redacted,
            created_at: self.parts.clock.now(),
            blob,
        });
        Ok(())
    }
}

fn name(name: &'static str) -> ArtifactName {
    ArtifactName::new(name).expect("the name is one")
}

fn whole(bytes: Vec<u8>) -> ByteStream {
    stream::once(async move { Ok(Bytes::from(bytes)) }).boxed()
}

/// The contents of blobs one after another, each on lines of its own.
fn chained(blobs: Arc<dyn crate::artifacts::BlobStore>, pieces: VecDeque<String>) -> ByteStream {
    let each = stream::iter(pieces).then(move |key| {
        let blobs = blobs.clone();
        async move { Ok::<_, BlobError>(ends_with_a_line(blobs.get(&key, None).await?)) }
    });
    each.try_flatten().boxed()
}

/// Adds a line end where a content has none at its end.
fn ends_with_a_line(bytes: ByteStream) -> ByteStream {
    let state = Some((bytes, b'\n'));
    stream::try_unfold(state, |state| async move {
        let Some((mut bytes, last)) = state else {
            return Ok(None);
        };
        match bytes.try_next().await? {
            Some(piece) => {
                let last = piece.last().copied().unwrap_or(last);
                Ok(Some((piece, Some((bytes, last)))))
            }
            None if last == b'\n' => Ok(None),
            None => Ok(Some((Bytes::from_static(b"\n"), None))),
        }
    })
    .boxed()
}

/// Writes what was put together, and ends the stage.
pub(super) fn write_gathered(draft: &mut Draft<'_>, index: usize, gathered: &Gathered) -> Result<()> {
    let stage = &draft.state().stages[index];
    if stage.phase.status().is_terminal() {
        return Ok(());
    }
    let outcome = outcome(stage, gathered.failure.clone());
    let unit = Unit::stage(index);
    for line in &gathered.lines {
        draft.say(unit, line.clone());
    }
    for artifact in &gathered.artifacts {
        draft.artifact(artifact.clone());
    }
    end_at(draft, unit, draft.now, outcome)
}

/// A stage ends as its areas did: with the failure of the first that failed, cancelled when one was, else well.
fn outcome(stage: &StageState, of_gathering: Option<Failure>) -> StageOutcome {
    let ended = |wanted: StageStatus| {
        let areas = stage.areas.iter().enumerate();
        areas.filter(move |(_, area)| area.phase.status() == wanted)
    };
    if let Some((area, state)) = ended(StageStatus::Failed).next() {
        let (failed, all) = (ended(StageStatus::Failed).count(), stage.areas.len());
        let failure = state.phase.failure().cloned();
        let failure = failure.unwrap_or_else(|| Failure::new(FailureCode::Internal, "an area failed"));
        let message = format!(
            "{}: {} ({failed} of {all} areas failed)",
            area_key(area),
            failure.message
        );
        return StageOutcome::Failed(Failure::new(failure.code, message));
    }
    if ended(StageStatus::Cancelled).next().is_some() {
        return StageOutcome::Cancelled;
    }
    of_gathering.map_or(StageOutcome::Done, StageOutcome::Failed)
}

/// Whether an area of a stage waits in line or could.
pub(super) fn has_waiting_area(stage: &StageState) -> bool {
    let mut areas = stage.areas.iter();
    areas.any(|area| matches!(area.phase, StagePhase::Queued { .. }))
}
