//! What a job has changed: a patch that `git apply` takes, and the list of changed files.
//!
//! The edited tree may have been made to harm its reader, so nothing in it is obeyed: its own `.git` is never opened, its
//! attributes shape nothing, its links are not followed. Both trees are walked by our own steps; the files that differ are
//! copied under numbers into a repository of our own, and only git's comparison of two trees of that one is used.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::git::Git;
use super::halt::{Halt, blocking};
use super::tree::{Entry, Excess, MAX_FILE, Tree, same};

/// Bytes of all changed files together, before and after.
const MAX_CHANGED: u64 = 2 << 30;
/// Files of one patch.
const MAX_DIFFER: usize = 200_000;
/// Ignored files that are listed.
const MAX_IGNORED: usize = 10_000;

/// Why changes could not be collected.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// A tree, the scratch folder, or git.
    #[error("{what}")]
    Failed {
        /// What was tried.
        what: &'static str,
        /// What came of it.
        #[source]
        source: io::Error,
    },
    /// A tree, or what differs, is larger than any job's may be.
    #[error("{0}")]
    TooLarge(String),
    /// The patch does not turn the base into the edited tree.
    #[error("the patch does not reproduce the changes")]
    NotReproduced,
}

pub(super) fn failed(what: &'static str) -> impl Fn(io::Error) -> CollectError {
    move |source| match source.get_ref().and_then(|source| source.downcast_ref::<Excess>()) {
        Some(excess) => CollectError::TooLarge(excess.to_string()),
        None => CollectError::Failed { what, source },
    }
}

/// How a file was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is new.
    Added,
    /// Its content, mode or kind is another.
    Modified,
    /// It is gone.
    Deleted,
    /// It has another path, and perhaps another content.
    Renamed,
}

/// One changed file, as `changed-files.json` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedFile {
    /// Where it is, or was, from the root of the checkout.
    pub path: String,
    /// How it was changed.
    pub status: Status,
    /// Where it was, if it was renamed.
    pub old_path: Option<String>,
    /// Lines added; 0 for a binary file.
    pub additions: u64,
    /// Lines taken away; 0 for a binary file.
    pub deletions: u64,
    /// Whether it is not text.
    pub binary: bool,
    /// Whether the base says to ignore it: it is listed and not in the patch.
    pub ignored: bool,
}

/// What a job has changed.
#[derive(Debug)]
pub struct Changes {
    /// The patch, in the scratch folder; of zero bytes when nothing was changed.
    pub patch: PathBuf,
    /// The changed files in the order of their paths.
    pub files: Vec<ChangedFile>,
    /// What was left out, for the log.
    pub notes: Vec<String>,
}

/// Compares the tree a job was given with what it has left. `scratch` is an empty folder of the worker's own.
///
/// # Errors
/// When a tree cannot be read or is larger than any job's may be, or git fails.
pub async fn changes(base: &Path, edited: &Path, scratch: &Path) -> Result<Changes, CollectError> {
    let staging = scratch.join("staged");
    fs::create_dir(&staging).map_err(failed("the scratch folder cannot be used"))?;
    let repository = scratch.join("repository");
    fs::create_dir(&repository).map_err(failed("the scratch folder cannot be used"))?;
    let git = Git::create(&repository).await.map_err(failed("git does not work"))?;
    let rules = scratch.join("rules");
    let paths = (base.to_owned(), edited.to_owned(), rules.clone());
    let mut comparison = blocking(move |halt| compare(&paths.0, &paths.1, &paths.2, halt))
        .await
        .map_err(failed("the trees cannot be compared"))?;
    let ignored = comparison
        .take_ignored(&git, &rules)
        .await
        .map_err(failed("the ignore rules cannot be read"))?;
    if comparison.differ.len() > MAX_DIFFER {
        return Err(failed("what differs")(Excess("changed files").into()));
    }
    let trees = comparison
        .store(&git, staging)
        .await
        .map_err(failed("the changed files cannot be stored"))?;
    let patch = scratch.join("changes.patch");
    let renames = write_patch(&git, &trees, &patch).await?;
    let mut files = list(&git, &trees, renames)
        .await
        .map_err(failed("the changed files cannot be listed"))?;
    files.extend(ignored);
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(Changes {
        patch,
        files,
        notes: comparison.notes,
    })
}

/// What differs between two trees.
struct Comparison {
    base: Arc<Tree>,
    edited: Arc<Tree>,
    /// The paths whose entries differ.
    differ: BTreeSet<Vec<u8>>,
    notes: Vec<String>,
}

/// The trees of the changed files, before and after, in our own repository.
pub(super) struct Trees {
    pub(super) before: String,
    pub(super) after: String,
}

fn compare(base: &Path, edited: &Path, rules: &Path, halt: &Halt) -> io::Result<Comparison> {
    let base = Tree::read(base, halt)?;
    let mut edited = Tree::read(edited, halt)?;
    let mut notes = std::mem::take(&mut edited.notes);
    let mut differ = BTreeSet::new();
    let mut changed = 0u64;
    let paths: BTreeSet<&[u8]> = base
        .entries
        .keys()
        .chain(edited.entries.keys())
        .map(Vec::as_slice)
        .collect();
    for path in paths {
        halt.check()?;
        let (before, after) = (base.entries.get(path), edited.entries.get(path));
        if !differs(&base, &edited, path, before, after, halt) {
            continue;
        }
        let size = [before, after].into_iter().flatten().map(size).sum::<u64>();
        let too_large = [before, after].into_iter().flatten().any(is_too_large);
        changed = changed.saturating_add(if too_large { 0 } else { size });
        if too_large || changed > MAX_CHANGED {
            notes.add(path, "is changed, but too large for the patch");
        } else if after.is_some_and(|entry| matches!(entry, Entry::File { .. })) && edited.open(path).is_err() {
            notes.add(path, "cannot be read and is left out");
        } else {
            differ.insert(path.to_owned());
        }
    }
    lay_rules(&base, rules, halt)?;
    Ok(Comparison {
        base: Arc::new(base),
        edited: Arc::new(edited),
        differ,
        notes: notes.0,
    })
}

fn size(entry: &Entry) -> u64 {
    match entry {
        Entry::File { size, .. } => *size,
        Entry::Link(target) => target.len() as u64,
    }
}

fn is_too_large(entry: &Entry) -> bool {
    size(entry) > MAX_FILE
}

fn differs(
    base: &Tree,
    edited: &Tree,
    path: &[u8],
    before: Option<&Entry>,
    after: Option<&Entry>,
    halt: &Halt,
) -> bool {
    match (before, after) {
        (Some(before @ Entry::File { .. }), Some(after @ Entry::File { .. })) if before == after => {
            let content = || same(base.open(path)?, edited.open(path)?, halt);
            !content().unwrap_or(false)
        }
        (before, after) => before != after,
    }
}

/// Copies the base's ignore files to where git may read them.
fn lay_rules(base: &Tree, rules: &Path, halt: &Halt) -> io::Result<()> {
    fs::create_dir(rules)?;
    for (path, entry) in &base.entries {
        halt.check()?;
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        if name == b".gitignore" && matches!(entry, Entry::File { .. }) {
            let place = rules.join(std::ffi::OsStr::from_bytes(path));
            fs::create_dir_all(place.parent().unwrap_or(rules))?;
            let mut text = Vec::new();
            base.open(path)?.take(1 << 20).read_to_end(&mut text)?;
            fs::write(place, text)?;
        }
    }
    Ok(())
}

impl Comparison {
    /// Takes new files that the base ignores out of what differs, to be listed only.
    async fn take_ignored(&mut self, git: &Git, rules: &Path) -> io::Result<Vec<ChangedFile>> {
        let new: Vec<&Vec<u8>> = self
            .differ
            .iter()
            .filter(|path| !self.base.entries.contains_key(*path))
            .collect();
        let mut asked = Vec::new();
        for path in new {
            // So that no name is taken for a pattern of git's own.
            asked.extend_from_slice(b"./");
            asked.extend_from_slice(path);
            asked.push(0);
        }
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let told = git.ignored(rules, &asked).await?;
        let mut files = Vec::new();
        for path in told
            .split(|byte| *byte == 0)
            .filter_map(|path| path.strip_prefix(b"./"))
        {
            self.differ.remove(path);
            let (path, status, old_path) = (Tree::shown(path), Status::Added, None);
            files.push(ChangedFile {
                path,
                status,
                old_path,
                additions: 0,
                deletions: 0,
                binary: false,
                ignored: true,
            });
        }
        if files.len() > MAX_IGNORED {
            self.notes.push(format!(
                "{} of {} ignored files are not listed",
                files.len() - MAX_IGNORED,
                files.len()
            ));
            files.truncate(MAX_IGNORED);
        }
        Ok(files)
    }

    /// Puts what differs into the repository, as a tree of before and one of after.
    async fn store(&self, git: &Git, staging: PathBuf) -> io::Result<Trees> {
        let mut trees = Vec::new();
        for (side, tree) in [("before", &self.base), ("after", &self.edited)] {
            let chosen: Chosen = self
                .differ
                .iter()
                .filter_map(|path| Some((path.clone(), tree.entries.get(path)?.clone())))
                .collect();
            let folder = staging.join(side);
            let (theirs, place) = (Arc::clone(tree), folder.clone());
            let chosen = blocking(move |halt| stage(&theirs, &chosen, &place, halt).map(|()| chosen)).await?;
            trees.push(write_tree(git, &chosen, &folder, side).await?);
        }
        let after = trees.pop().unwrap_or_default();
        Ok(Trees {
            before: trees.pop().unwrap_or_default(),
            after,
        })
    }
}

/// What differs, as it is on one side.
pub(super) type Chosen = BTreeMap<Vec<u8>, Entry>;

/// Copies files, and what links say, under numbers.
pub(super) fn stage(tree: &Tree, chosen: &Chosen, folder: &Path, halt: &Halt) -> io::Result<()> {
    fs::create_dir(folder)?;
    for (number, (path, entry)) in chosen.iter().enumerate() {
        halt.check()?;
        let place = folder.join(number.to_string());
        match entry {
            Entry::Link(target) => fs::write(place, target)?,
            Entry::File { .. } => {
                let mut file = tree.open(path)?.take(MAX_FILE);
                io::copy(&mut file, &mut fs::File::create(place)?)?;
            }
        }
    }
    Ok(())
}

/// Git's mode of an entry.
pub(super) fn mode(entry: &Entry) -> &'static str {
    match entry {
        Entry::Link(_) => "120000",
        Entry::File { executable: true, .. } => "100755",
        Entry::File { executable: false, .. } => "100644",
    }
}

pub(super) async fn write_tree(git: &Git, chosen: &Chosen, folder: &Path, index: &str) -> io::Result<String> {
    let mut places = String::new();
    for number in 0..chosen.len() {
        let _ = writeln!(places, "{}/{number}", folder.display());
    }
    let ids = git
        .run(
            &["hash-object", "-w", "--no-filters", "--stdin-paths"],
            None,
            places.as_bytes(),
        )
        .await?;
    let ids = String::from_utf8(ids).map_err(io::Error::other)?;
    let mut lines = Vec::new();
    let mut count = 0;
    for ((path, entry), id) in chosen.iter().zip(ids.lines()) {
        lines.extend_from_slice(format!("{} {id}\t", mode(entry)).as_bytes());
        lines.extend_from_slice(path);
        lines.push(0);
        count += 1;
    }
    if count != chosen.len() {
        return Err(io::Error::other("git stored another number of files"));
    }
    git.run(&["update-index", "-z", "--index-info"], Some(index), &lines)
        .await?;
    tree_of(git, index).await
}

pub(super) async fn tree_of(git: &Git, index: &str) -> io::Result<String> {
    let id = git.run(&["write-tree"], Some(index), &[]).await?;
    Ok(String::from_utf8_lossy(&id).trim().to_owned())
}

/// Whether moved files are told as such.
#[derive(Clone, Copy)]
pub(super) enum Renames {
    Found,
    Not,
}

impl Renames {
    fn flag(self) -> &'static str {
        match self {
            Self::Found => "--find-renames",
            Self::Not => "--no-renames",
        }
    }
}

/// Writes the patch, and makes sure that it does what it should. Where git cannot apply its own renames (a file that moves
/// to below its own former name), they are told as files that go and come.
pub(super) async fn write_patch(git: &Git, trees: &Trees, patch: &Path) -> Result<Renames, CollectError> {
    for renames in [Renames::Found, Renames::Not] {
        let args = [
            "diff-tree",
            "-r",
            "-p",
            "--binary",
            "--full-index",
            "--no-ext-diff",
            "--no-textconv",
            "--no-color",
        ];
        let args = [
            &args[..],
            &[
                "--src-prefix=a/",
                "--dst-prefix=b/",
                renames.flag(),
                &trees.before,
                &trees.after,
            ],
        ];
        git.run_into(&args.concat(), patch)
            .await
            .map_err(failed("the patch cannot be written"))?;
        if reproduces(git, trees, patch)
            .await
            .map_err(failed("the patch cannot be tried"))?
        {
            return Ok(renames);
        }
    }
    Err(CollectError::NotReproduced)
}

async fn reproduces(git: &Git, trees: &Trees, patch: &Path) -> io::Result<bool> {
    if fs::metadata(patch)?.len() == 0 {
        return Ok(trees.before == trees.after);
    }
    let index = Some("tried");
    let _ = fs::remove_file(git.folder().join("tried"));
    git.run(&["read-tree", &trees.before], index, &[]).await?;
    let patch = patch.to_string_lossy();
    if git
        .run(&["apply", "--cached", "--whitespace=nowarn", &patch], index, &[])
        .await
        .is_err()
    {
        return Ok(false);
    }
    Ok(tree_of(git, "tried").await? == trees.after)
}

pub(super) async fn list(git: &Git, trees: &Trees, renames: Renames) -> io::Result<Vec<ChangedFile>> {
    let ask = async |form: &str| {
        git.run(
            &[
                "diff-tree",
                "-r",
                "-z",
                form,
                renames.flag(),
                &trees.before,
                &trees.after,
            ],
            None,
            &[],
        )
        .await
    };
    let (statuses, counts) = (ask("--name-status").await?, ask("--numstat").await?);
    parse(&statuses, &counts).ok_or_else(|| io::Error::other("git's list of files is not understood"))
}

fn parse(statuses: &[u8], counts: &[u8]) -> Option<Vec<ChangedFile>> {
    let mut statuses = fields(statuses);
    let mut counts = fields(counts);
    let mut files = Vec::new();
    while let Some(letter) = statuses.next() {
        let status = match letter.first()? {
            b'A' => Status::Added,
            b'D' => Status::Deleted,
            b'R' => Status::Renamed,
            b'M' | b'T' => Status::Modified,
            _ => return None,
        };
        let first = statuses.next()?;
        let second = if status == Status::Renamed {
            Some(statuses.next()?)
        } else {
            None
        };
        let count = counts.next()?;
        let mut parts = count.splitn(3, |byte| *byte == b'\t');
        let (added, removed) = (parts.next()?, parts.next()?);
        if second.is_some() {
            counts.nth(1)?;
        }
        let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse().ok();
        files.push(ChangedFile {
            path: Tree::shown(second.unwrap_or(first)),
            status,
            old_path: second.is_some().then(|| Tree::shown(first)),
            additions: number(added).unwrap_or(0),
            deletions: number(removed).unwrap_or(0),
            binary: added == b"-",
            ignored: false,
        });
    }
    Some(files)
}

fn fields(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.strip_suffix(b"\0")
        .into_iter()
        .flat_map(|text| text.split(|byte| *byte == 0))
}
