//! Several patches made from one tree, put together: each applies after those before it, or is left out whole.
//!
//! Nothing is ever laid out as files: patches are applied to an index of our own repository, so that what one says of links
//! and paths cannot lead anywhere. The index knows every path of the tree, but holds only the files that a patch says it
//! changes; all others stand for themselves by one empty file, which no patch fits.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::git::Git;
use super::halt::blocking;
use super::patch::{
    ChangedFile, Chosen, CollectError, Trees, failed, list, mode, stage, tree_of, write_patch, write_tree,
};
use super::tree::Tree;

/// The index that the patches are applied to.
const INDEX: &str = "merged";

/// A patch to be merged.
pub(crate) struct Edit<'a> {
    pub(crate) name: &'a str,
    pub(crate) patch: &'a [u8],
    /// The paths of the tree that it changes. A patch that changes others does not apply.
    pub(crate) paths: BTreeSet<&'a str>,
}

/// What came of it.
pub(crate) struct Merged {
    /// The patch of all together, in the scratch folder.
    pub(crate) patch: PathBuf,
    /// What it changes, in the order of paths.
    pub(crate) files: Vec<ChangedFile>,
    /// The names of those in it.
    pub(crate) applied: BTreeSet<String>,
}

/// Merges patches in their order onto the tree that each was made from. `scratch` is an empty folder of the worker's own.
///
/// # Errors
/// When the tree cannot be read, or git fails.
pub(crate) async fn merge(base: &Path, edits: &[Edit<'_>], scratch: &Path) -> Result<Merged, CollectError> {
    let repository = scratch.join("repository");
    fs::create_dir(&repository).map_err(failed("the scratch folder cannot be used"))?;
    let git = Git::create(&repository).await.map_err(failed("git does not work"))?;
    let root = base.to_owned();
    let tree = blocking(move |halt| Tree::read(&root, halt)).await;
    let tree = Arc::new(tree.map_err(failed("the sources cannot be read"))?);
    let before = index(&git, tree, edits, scratch.join("staged"));
    let before = before.await.map_err(failed("the sources cannot be stored"))?;
    let mut applied = BTreeSet::new();
    for (number, edit) in edits.iter().enumerate() {
        let file = scratch.join(format!("{number}.patch"));
        fs::write(&file, edit.patch).map_err(failed("the scratch folder cannot be used"))?;
        if edit.patch.is_empty() || apply(&git, &file).await {
            applied.insert(edit.name.to_owned());
        }
    }
    let after = tree_of(&git, INDEX)
        .await
        .map_err(failed("the merged tree cannot be stored"))?;
    let trees = Trees { before, after };
    let patch = scratch.join("changes.patch");
    let renames = write_patch(&git, &trees, &patch).await?;
    let files = list(&git, &trees, renames)
        .await
        .map_err(failed("the changed files cannot be listed"))?;
    Ok(Merged { patch, files, applied })
}

/// Makes the index of the tree, and gives the id of what it says.
async fn index(git: &Git, tree: Arc<Tree>, edits: &[Edit<'_>], staged: PathBuf) -> io::Result<String> {
    let wanted: BTreeSet<&str> = edits.iter().flat_map(|edit| edit.paths.iter().copied()).collect();
    let empty = git.run(&["hash-object", "-w", "--stdin"], None, &[]).await?;
    let empty = String::from_utf8_lossy(&empty).trim().to_owned();
    let (mut chosen, mut lines): (Chosen, Vec<u8>) = (BTreeMap::new(), Vec::new());
    for (path, entry) in &tree.entries {
        if wanted.contains(Tree::shown(path).as_str()) {
            chosen.insert(path.clone(), entry.clone());
            continue;
        }
        lines.extend_from_slice(format!("{} {empty}\t", mode(entry)).as_bytes());
        lines.extend_from_slice(path);
        lines.push(0);
    }
    git.run(&["update-index", "-z", "--index-info"], Some(INDEX), &lines)
        .await?;
    let (theirs, place) = (Arc::clone(&tree), staged.clone());
    let chosen = blocking(move |halt| stage(&theirs, &chosen, &place, halt).map(|()| chosen)).await?;
    write_tree(git, &chosen, &staged, INDEX).await
}

/// Applies a patch whole, or not at all.
async fn apply(git: &Git, patch: &Path) -> bool {
    let patch = patch.to_string_lossy();
    let args = ["apply", "--cached", "--whitespace=nowarn", &patch];
    git.run(&args, Some(INDEX), &[]).await.is_ok()
}
