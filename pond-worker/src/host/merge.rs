//! Merges what the areas of a stage changed, on the sources as they were.

use std::collections::BTreeSet;

use pond_core::artifacts::ByteStream;
use pond_core::runs::{AreaPatch, Failure, FailureCode, MergedPatch};
use serde::Deserialize;
use serde_json::json;

use super::{Bench, internal};
use crate::collect::{ChangedFile, CollectError, Edit, Merged, merge};
use crate::prepare::WorkFolder;

/// What an area's `changed-files.json` says.
#[derive(Deserialize)]
struct Changed {
    base: Option<String>,
    files: Vec<ChangedFile>,
}

pub(super) async fn run(bench: &Bench, bundle: ByteStream, areas: Vec<AreaPatch>) -> Result<MergedPatch, Failure> {
    let mut folder = bench.folder("merge").await?;
    let merged = in_folder(bench, &mut folder, bundle, areas).await;
    folder.remove().await;
    merged
}

async fn in_folder(
    bench: &Bench,
    folder: &mut WorkFolder,
    bundle: ByteStream,
    areas: Vec<AreaPatch>,
) -> Result<MergedPatch, Failure> {
    bench.keep(folder, bundle).await?;
    bench.unpack(folder, folder.checkout()).await?;
    let lists: Vec<Option<Changed>> = areas
        .iter()
        .map(|area| serde_json::from_slice(&area.changed).ok())
        .collect();
    // What says of itself no more than nonsense cannot be merged either; an area without changes may say nothing.
    let edits = areas.iter().zip(&lists).filter_map(|(area, list)| {
        Some(Edit {
            name: &area.substage,
            patch: &area.patch,
            paths: paths(list.as_ref()?),
        })
    });
    let edits: Vec<Edit<'_>> = edits.collect();
    let Merged {
        patch,
        mut files,
        applied,
    } = merge(&folder.checkout(), &edits, &folder.scratch())
        .await
        .map_err(|error| failed(&error))?;
    let is_applied = |area: &AreaPatch| applied.contains(area.substage.as_str());
    let (mut base, mut listed) = (None, BTreeSet::new());
    for (area, list) in areas.iter().zip(lists) {
        let Some(list) = list.filter(|_| is_applied(area)) else {
            continue;
        };
        base = base.or(list.base);
        // Those are in no patch; several areas may have made the same one.
        files.extend(
            list.files
                .into_iter()
                .filter(|file| file.ignored && listed.insert(file.path.clone())),
        );
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    let conflicts: Vec<String> = areas
        .iter()
        .filter(|area| !(is_applied(area) || area.patch.is_empty() && area.changed.is_empty()))
        .map(|area| area.substage.clone())
        .collect();
    let changed = json!({"base": base, "files": files, "conflicts": conflicts}).to_string();
    Ok(MergedPatch {
        patch: tokio::fs::read(&patch)
            .await
            .map_err(|error| internal("the merged patch", &error))?,
        changed: changed.into_bytes(),
        conflicts,
    })
}

/// The paths at which an area changed something that it was given.
fn paths(list: &Changed) -> BTreeSet<&str> {
    let files = list.files.iter().filter(|file| !file.ignored);
    files
        .flat_map(|file| [Some(file.path.as_str()), file.old_path.as_deref()])
        .flatten()
        .collect()
}

fn failed(error: &CollectError) -> Failure {
    match error {
        CollectError::TooLarge(what) => Failure::new(FailureCode::SourceTooLarge, what),
        error => {
            let cause = std::error::Error::source(error).map(|source| format!(": {source}"));
            internal(
                "the changes of the areas",
                &format!("{error}{}", cause.unwrap_or_default()),
            )
        }
    }
}
