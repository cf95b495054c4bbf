//! `pond run artifacts`: lists what a run left, or fetches it into `DIR/<stage>[/<area>]/<name>`.

use std::path::{Path, PathBuf};

use clap::Args;
use futures::{StreamExt, TryStreamExt};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::super::console::Console;
use super::super::exit::{Exit, Fault};
use super::show;
use crate::api::Artifact;
use crate::{ArtifactPlace, Client};

/// The longest name of an artifact.
const MAX_NAME: usize = 128;

/// What stands behind `pond run artifacts`.
#[derive(Debug, Args)]
pub(super) struct ArtifactsArgs {
    /// The run
    id: String,
    /// Fetch them into this folder, below one of the stage's key
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Only those of this stage
    #[arg(long, value_name = "KEY")]
    stage: Option<String>,
    /// Only those of this area
    #[arg(long, value_name = "KEY")]
    substage: Option<String>,
}

/// Carries out `pond run artifacts`.
pub(super) async fn run(args: ArtifactsArgs, client: &Client, console: &mut Console) -> Result<Exit, Fault> {
    let place = ArtifactPlace {
        stage: args.stage,
        substage: args.substage,
    };
    let artifacts: Vec<Artifact> = client.runs().artifacts(&args.id, place).try_collect().await?;
    let mut paths = Vec::new();
    if let Some(out) = &args.out {
        let folder = console.io.cwd.join(out);
        for artifact in &artifacts {
            let path = fetch(client, &args.id, artifact, &folder).await?;
            console.chat(&format!("{}", path.display()))?;
            paths.push(path.display().to_string());
        }
    }
    if console.json() {
        let paths = args.out.is_some().then_some(paths);
        console.result(&json!({ "artifacts": artifacts, "paths": paths }))?;
    } else if args.out.is_none() {
        show::artifacts(&artifacts, console)?;
    }
    Ok(Exit::Ok)
}

async fn fetch(client: &Client, id: &str, artifact: &Artifact, folder: &Path) -> Result<PathBuf, Fault> {
    let path = path(folder, artifact)?;
    let parent = path.parent().unwrap_or(folder);
    let failed = |error: std::io::Error| Fault::Usage(format!("cannot write {}: {error}", path.display()));
    tokio::fs::create_dir_all(parent).await.map_err(failed)?;
    // No artifact's name begins with a dot, so this is none of theirs. It gets its name when it is whole.
    let partial = parent.join(format!(".{}.part", artifact.name));
    let mut file = tokio::fs::File::create(&partial).await.map_err(failed)?;
    let download = client
        .runs()
        .download(id, &artifact.name, &ArtifactPlace::of(artifact))
        .await?;
    let mut bytes = download.bytes;
    while let Some(chunk) = bytes.next().await {
        file.write_all(&chunk?).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)?;
    drop(file);
    tokio::fs::rename(&partial, &path).await.map_err(failed)?;
    Ok(path)
}

/// Where an artifact goes. The server is not trusted with names: none may lead out of the folder.
fn path(folder: &Path, artifact: &Artifact) -> Result<PathBuf, Fault> {
    let parts = [Some(&artifact.stage), artifact.substage.as_ref(), Some(&artifact.name)];
    let mut path = folder.to_owned();
    for part in parts.into_iter().flatten() {
        if !is_name(part) {
            return Err(Fault::usage(
                "the server named an artifact in a way that may lead out of the folder",
            ));
        }
        path.push(part);
    }
    Ok(path)
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_NAME
        && !text.starts_with('.')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        for good in ["changes.patch", "a", "area-001", &"x".repeat(128)] {
            assert!(is_name(good), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "/etc",
            ".hidden",
            "a\0",
            "a b",
            "é",
            &"x".repeat(129),
        ] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
