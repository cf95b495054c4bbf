//! Writing a commit's files from its objects. Not by `git checkout`, which would heed the repository's attributes.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Stdio;

use pond_core::sources::{Excess, FileMode, Limits, SourceError, Stats, TreeError, TreeWriter};

use tokio::time::{Instant, timeout_at};

use super::super::process::Group;
use super::command::{Reach, Workshop, disk};

/// The most bytes of names in one tree, which are held in memory.
const MAX_NAMES: usize = 64 << 20;

/// The longest target of a link.
const MAX_TARGET: u64 = 4096;

/// One line of `ls-tree`.
struct Line {
    mode: u32,
    object: String,
    path: Vec<u8>,
}

impl Workshop {
    /// Writes the files of `commit` to `into`. Links that lead outside, submodules and `.git` are left out. None when time
    /// ran out: then nothing is left.
    pub(super) async fn check_out(
        &self,
        commit: &str,
        into: &Path,
        limits: Limits,
        until: Instant,
    ) -> Result<Option<Stats>, SourceError> {
        let Ok(lines) = timeout_at(until, self.list(commit, limits)).await else {
            return Ok(None);
        };
        let lines = lines?;
        let mut command = self.command(Reach::Inside, &["cat-file", "--batch"]);
        let mut group = Group::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped())).map_err(disk)?;
        let (Some(ask), Some(answer)) = (group.child.stdin.take(), group.child.stdout.take()) else {
            return Err(SourceError::Failed("git gave no streams".into()));
        };
        let (ask, answer) = (
            ask.into_owned_fd().map_err(disk)?,
            answer.into_owned_fd().map_err(disk)?,
        );
        let into = into.to_owned();
        let write = move || write(&lines, File::from(ask), File::from(answer), &into, limits);
        // If this future is dropped, the group is killed, and the thread ends on its closed stream.
        let mut written = tokio::task::spawn_blocking(write);
        let Ok(stats) = timeout_at(until, &mut written).await else {
            group.end().await;
            // Its writer takes away what is there so far.
            drop(written.await);
            return Ok(None);
        };
        let stats = stats.map_err(|_| SourceError::Failed("the source cannot be stored".into()))??;
        if stats.left_out > 0 {
            tracing::info!(links = stats.left_out, "links that lead outside were left out");
        }
        Ok(Some(stats))
    }

    /// Every file of the commit, in git's order. The program is ended as soon as there are too many.
    async fn list(&self, commit: &str, limits: Limits) -> Result<Vec<Line>, SourceError> {
        let arguments = ["ls-tree", "-r", "-z", "--full-tree", "--end-of-options", commit];
        let mut command = self.command(Reach::Inside, &arguments);
        let mut group = Group::spawn(command.stdout(Stdio::piped())).map_err(disk)?;
        let Some(out) = group.child.stdout.take() else {
            return Err(SourceError::Failed("git gave no streams".into()));
        };
        let out = File::from(out.into_owned_fd().map_err(disk)?);
        let read = tokio::task::spawn_blocking(move || lines(BufReader::new(out), limits));
        let lines = read
            .await
            .map_err(|_| SourceError::Failed("the source cannot be read".into()))??;
        match group.wait().await.map_err(disk)?.success() {
            true => Ok(lines),
            false => Err(SourceError::Failed("the commit's files cannot be listed".into())),
        }
    }
}

fn lines(mut out: impl BufRead, limits: Limits) -> Result<Vec<Line>, TreeError> {
    const BAD: TreeError = TreeError::Malformed("a list of files");
    let (mut lines, mut names) = (Vec::new(), 0usize);
    loop {
        let mut record = Vec::new();
        // Longer than any path that a tree takes: refused here instead of filling memory.
        let read = (&mut out).take(64 << 10).read_until(0, &mut record)?;
        if read == 0 {
            return Ok(lines);
        }
        record.pop_if(|last| *last == 0).ok_or(BAD)?;
        names += record.len();
        if lines.len() as u64 >= limits.files || names > MAX_NAMES {
            return Err(TreeError::TooLarge(Excess::Files(limits.files)));
        }
        let tab = record.iter().position(|byte| *byte == b'\t').ok_or(BAD)?;
        let path = record.split_off(tab + 1);
        let mut words = std::str::from_utf8(&record).map_err(|_| BAD)?.split_whitespace();
        let (Some(mode), Some(kind), Some(object)) = (words.next(), words.next(), words.next()) else {
            return Err(BAD);
        };
        // A submodule is a commit of another repository.
        if kind == "blob" {
            let mode = u32::from_str_radix(mode, 8).map_err(|_| BAD)?;
            lines.push(Line {
                mode,
                object: object.to_owned(),
                path,
            });
        }
    }
}

fn write(lines: &[Line], mut ask: File, answer: File, into: &Path, limits: Limits) -> Result<Stats, TreeError> {
    let mut answer = BufReader::new(answer);
    let mut tree = TreeWriter::new(into, limits)?;
    for line in lines {
        writeln!(ask, "{}", line.object)?;
        let size = blob_size(&mut answer, &line.object)?;
        let mut content = (&mut answer).take(size);
        match line.mode & 0o170_000 {
            0o120_000 => {
                let mut target = Vec::new();
                if size > MAX_TARGET {
                    return Err(TreeError::Malformed("a link is too long"));
                }
                content.read_to_end(&mut target)?;
                tree.link(&line.path, &target)?;
            }
            _ => tree.file(&line.path, FileMode::of(line.mode), size, &mut content)?,
        }
        let mut end = [0];
        answer.read_exact(&mut end)?;
    }
    tree.finish_without_escaping_links()
}

/// Reads `<object> blob <size>`.
fn blob_size(answer: &mut impl BufRead, object: &str) -> Result<u64, TreeError> {
    const BAD: TreeError = TreeError::Malformed("an object is missing");
    let mut line = String::new();
    answer.take(256).read_line(&mut line)?;
    let rest = line
        .strip_prefix(object)
        .and_then(|rest| rest.strip_prefix(" blob "))
        .ok_or(BAD)?;
    rest.trim_end().parse().map_err(|_| BAD)
}
