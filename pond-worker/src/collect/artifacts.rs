//! The files that a job leaves, without secrets, sent on as artifacts.
//!
//! The output folder was the job's own, so nothing in it is trusted: only regular files right in it are opened, and no link
//! is followed. Its programs are dead by now, so nothing changes any more.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use futures::StreamExt;
use nix::libc::{O_CLOEXEC, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK};
use pond_core::Error;
use pond_core::artifacts::{ArtifactName, BlobError};
use pond_core::dispatch::Upload;
use pond_core::logs::Redactor;
use pond_core::runs::{Failure, FailureCode};
use pond_core::sources::Limits;
use serde_json::json;
use tokio_util::io::ReaderStream;

use super::halt::{Halt, blocking};
use super::patch::{self, CollectError};
use crate::prepare::WorkFolder;
use crate::work::{Claimed, Lines, Refused};

/// Files of one output folder.
const MAX_FILES: usize = 256;
/// Names that one log line tells.
const MAX_NAMES: usize = 20;
/// Entries of an output folder that are looked at.
const MAX_ENTRIES: usize = 10_000;
/// Bytes that are read at once.
const PIECE: usize = 64 << 10;
/// What Pond itself leaves of a job that may write.
const PATCH: &str = "changes.patch";
const CHANGED: &str = "changed-files.json";

/// What is collected from where.
pub(crate) struct Collecting<'a> {
    pub(crate) claimed: &'a Claimed,
    pub(crate) lines: &'a Lines,
    pub(crate) redactor: &'a Redactor,
    pub(crate) folder: &'a WorkFolder,
    /// What the sources may hold.
    pub(crate) limits: Limits,
    /// What the sources were.
    pub(crate) base: Option<&'a str>,
    /// Whether the job's changes are kept.
    pub(crate) with_patch: bool,
    /// Bytes that all artifacts together may have.
    pub(crate) cap: u64,
}

/// A file ready to be sent.
struct Ready {
    name: ArtifactName,
    file: File,
    size: u64,
    redacted: bool,
}

/// Takes out the patch and the output folder. What stands in the way of one does not stop the other.
pub(crate) async fn collect(collecting: &Collecting<'_>) -> Result<(), Refused> {
    let mut left = collecting.cap;
    let changes = match collecting.with_patch {
        true => collecting.send_changes(&mut left).await,
        false => Ok(()),
    };
    if let Err(Refused::Gone) = changes {
        return changes;
    }
    let files = collecting.send_output(&mut left).await;
    changes.and(files)
}

impl Collecting<'_> {
    /// What a refusal means for the job.
    pub(crate) fn failure(&self, error: &Error) -> Failure {
        match error {
            Error::TooLarge(_) => Failure::new(
                FailureCode::ArtifactTooLarge,
                format!("the artifacts are larger than their {} bytes", self.cap),
            ),
            error => Failure::new(
                FailureCode::Internal,
                format!("what the job left could not be kept: {error}"),
            ),
        }
    }

    async fn send_changes(&self, left: &mut u64) -> Result<(), Refused> {
        let scratch = self.folder.scratch();
        let base = scratch.join("base");
        let unpacked = self.folder.unpack(base.clone(), self.limits).await;
        unpacked.map_err(|error| lost("the sources as they were", &error))?;
        let work = scratch.join("patch");
        fs::create_dir(&work).map_err(|error| lost("the patch", &error))?;
        let changes = patch::changes(&base, &self.folder.checkout(), &work).await;
        let changes = match changes {
            Err(CollectError::TooLarge(what)) => {
                self.lines.note(format!("the changes are not kept: {what}")).await;
                return Err(Refused::Error(Error::TooLarge(self.cap)));
            }
            changes => changes.map_err(|error| lost("the patch", &error))?,
        };
        for note in &changes.notes {
            self.lines.note(self.redactor.text(note)).await;
        }
        let list = json!({"base": self.base, "files": changes.files, "conflicts": []});
        let list_file = work.join(CHANGED);
        fs::write(&list_file, list.to_string()).map_err(|error| lost("the list of changed files", &error))?;
        for (name, path) in [(PATCH, changes.patch), (CHANGED, list_file)] {
            let name = ArtifactName::new(name).map_err(|error| lost("an artifact's name", &error))?;
            let file = File::open(&path).map_err(|error| lost("the patch", &error))?;
            self.send(name, file, left).await?;
        }
        Ok(())
    }

    async fn send_output(&self, left: &mut u64) -> Result<(), Refused> {
        let folder = self.folder.output();
        let own = self.with_patch;
        let looked = blocking(move |_| look(&folder, own)).await;
        let Output { files, skipped } = looked.map_err(|error| lost("the output folder", &error))?;
        if let Some(line) = skipped.line() {
            self.lines.note(self.redactor.text(&line)).await;
        }
        let mut over = Ok(());
        for (name, file) in files {
            match self.send(name, file, left).await {
                // The smaller ones are kept all the same.
                Err(Refused::Error(error @ Error::TooLarge(_))) => over = Err(Refused::Error(error)),
                sent => sent?,
            }
        }
        over
    }

    /// Sends one file, without secrets.
    async fn send(&self, name: ArtifactName, file: File, left: &mut u64) -> Result<(), Refused> {
        let (redactor, scratch, room) = (self.redactor.clone(), self.folder.scratch(), *left);
        let ready = blocking(move |halt| redacted(&name, file, &redactor, &scratch, room, halt)).await;
        let ready = ready.map_err(|error| lost("an artifact", &error))?;
        let Some((ready, rest)) = ready.and_then(|ready| left.checked_sub(ready.size).map(|rest| (ready, rest))) else {
            return Err(Refused::Error(Error::TooLarge(self.cap)));
        };
        let upload = Upload {
            sha256: None,
            name: ready.name.clone(),
            redacted: ready.redacted,
        };
        let sent = self.claimed.call(|link, claim| {
            let (upload, file, size) = (upload.clone(), ready.file.try_clone(), ready.size);
            async move {
                let mut file = file.map_err(|error| Error::Unavailable("the artifact's file", Some(error.into())))?;
                file.rewind()
                    .map_err(|error| Error::Unavailable("the artifact's file", Some(error.into())))?;
                let reader = tokio::io::AsyncReadExt::take(tokio::fs::File::from_std(file), size);
                let bytes = ReaderStream::with_capacity(reader, PIECE)
                    .map(|piece| piece.map_err(|error| BlobError::Unavailable(Box::new(error))));
                link.artifact(&claim, upload, bytes.boxed()).await
            }
        });
        sent.await?;
        *left = rest;
        Ok(())
    }
}

fn lost(what: &str, error: &dyn std::fmt::Display) -> Refused {
    Refused::Error(Error::internal(format!("{what}: {error}")))
}

/// The file itself, or a copy without its secrets; nothing for one of more bytes than there is room for. How long a file
/// says it is costs nothing to say, so that is asked before any of it is read.
fn redacted(
    name: &ArtifactName,
    mut file: File,
    redactor: &Redactor,
    scratch: &Path,
    room: u64,
    halt: &Halt,
) -> io::Result<Option<Ready>> {
    let size = file.metadata()?.len();
    if size > room {
        return Ok(None);
    }
    let ready = |file, size, redacted| {
        Some(Ready {
            name: name.clone(),
            file,
            size,
            redacted,
        })
    };
    if redactor.is_empty() {
        return Ok(ready(file, size, false));
    }
    let mut clean = tempfile::tempfile_in(scratch)?;
    let mut stream = redactor.stream();
    let (mut piece, mut out, mut written) = (vec![0; PIECE], Vec::new(), 0u64);
    loop {
        halt.check()?;
        let read = file.read(&mut piece)?;
        match read {
            0 => stream.finish(&mut out),
            read => stream.push(&piece[..read], &mut out),
        }
        // What stands for a secret may be longer than it was.
        written += out.len() as u64;
        if written > room {
            return Ok(None);
        }
        clean.write_all(&out)?;
        out.clear();
        if read == 0 {
            break;
        }
    }
    Ok(match stream.touched() {
        true => ready(clean, written, true),
        false => ready(file, size, false),
    })
}

/// What is found in an output folder.
struct Output {
    files: Vec<(ArtifactName, File)>,
    skipped: Skipped,
}

/// What is not kept.
#[derive(Default)]
struct Skipped {
    names: Vec<String>,
    more: usize,
}

impl Skipped {
    fn add(&mut self, name: &[u8]) {
        if self.names.len() < MAX_NAMES {
            let name = name[..name.len().min(200)].escape_ascii().to_string();
            self.names.push(name);
        } else {
            self.more += 1;
        }
    }

    fn line(&self) -> Option<String> {
        if self.names.is_empty() {
            return None;
        }
        let more = match self.more {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Some(format!(
            "not kept of the output folder, which takes up to {MAX_FILES} files with plain names and no sub-folders: {}{more}",
            self.names.join(", ")
        ))
    }
}

/// Opens the files of an output folder in the order of their names. `own`: Pond's own names are not the job's to use.
fn look(folder: &Path, own: bool) -> io::Result<Output> {
    let root = File::options()
        .read(true)
        .custom_flags(O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC)
        .open(folder)?;
    // Through the open folder itself, whatever its name leads to.
    let here = PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd()));
    let mut entries = fs::read_dir(&here)?.take(MAX_ENTRIES).collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    let (mut files, mut skipped) = (Vec::new(), Skipped::default());
    for entry in entries {
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        let bytes = name.as_encoded_bytes();
        if kind.is_dir() {
            name_files_below(&entry.path(), bytes, &mut skipped)?;
            continue;
        }
        if !kind.is_file() {
            // Links are ignored, and so is what is no file at all.
            continue;
        }
        let fits = name.to_str().and_then(|name| ArtifactName::new(name).ok());
        let fits = fits.filter(|name| !(own && [PATCH, CHANGED].contains(&name.as_str())));
        match fits {
            Some(name) if files.len() < MAX_FILES => files.push((name, open(&entry.path())?)),
            _ => skipped.add(bytes),
        }
    }
    Ok(Output { files, skipped })
}

/// Names what a sub-folder holds right in it; what lies deeper stands behind its folder's name.
fn name_files_below(folder: &Path, name: &[u8], skipped: &mut Skipped) -> io::Result<()> {
    let opened = File::options()
        .read(true)
        .custom_flags(O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC)
        .open(folder);
    let Ok(opened) = opened else {
        skipped.add(name);
        return Ok(());
    };
    let here = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
    let mut below: Vec<Vec<u8>> = fs::read_dir(&here)?
        .take(MAX_ENTRIES)
        .flatten()
        .map(|entry| [name, b"/", entry.file_name().as_encoded_bytes()].concat())
        .collect();
    below.sort();
    below.iter().for_each(|path| skipped.add(path));
    Ok(())
}

/// Opens a regular file, whatever it has become since it was looked at.
fn open(path: &Path) -> io::Result<File> {
    let file = File::options()
        .read(true)
        .custom_flags(O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
        .open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("not a regular file")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn c17_120_only_regular_files_with_plain_names_are_kept_and_the_rest_is_named() {
        let temp = tempfile::tempdir().expect("a folder");
        let at = |name: &str| temp.path().join(name);
        fs::create_dir_all(at("sub/deep")).expect("folders");
        for name in ["b.txt", "a.json", ".hidden", "with space", "sub/x", "changes.patch"] {
            fs::write(at(name), name).expect("a file");
        }
        symlink("/etc/passwd", at("link")).expect("a link");
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        let output = look(temp.path(), true).expect("looked");
        let kept: Vec<&str> = output.files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(kept, ["a.json", "b.txt"]);
        let line = output.skipped.line().expect("a line");
        for name in [".hidden", "with space", "sub/x", "sub/deep", "changes.patch"] {
            assert!(line.contains(name), "{line}");
        }
        assert!(!line.contains("link") && !line.contains("pipe"), "{line}");
        let free = look(temp.path(), false).expect("looked");
        assert_eq!(free.files.len(), 3, "without a patch of Pond's own the name is free");
    }

    #[test]
    fn more_files_than_allowed_are_skipped_and_counted() {
        let temp = tempfile::tempdir().expect("a folder");
        for number in 0..MAX_FILES + 30 {
            fs::write(temp.path().join(format!("f{number:04}")), "").expect("a file");
        }
        let output = look(temp.path(), true).expect("looked");
        assert_eq!(output.files.len(), MAX_FILES);
        assert!(output.skipped.line().expect("a line").ends_with("and 10 more"));
    }

    #[test]
    fn a_file_with_a_secret_is_copied_without_it() {
        let temp = tempfile::tempdir().expect("a folder");
        let secret = pond_core::secret::Secret::new("a-long-enough-secret");
        let redactor = Redactor::new([("KEY", &secret)]);
        let path = temp.path().join("f");
        for (text, cut) in [("plain", false), ("x a-long-enough-secret y", true)] {
            fs::write(&path, text).expect("a file");
            let name = ArtifactName::new("f").expect("a name");
            let mut ready = redacted(
                &name,
                File::open(&path).expect("open"),
                &redactor,
                temp.path(),
                100,
                &Halt::default(),
            )
            .expect("read")
            .expect("there is room");
            ready.file.rewind().expect("rewound");
            let mut kept = String::new();
            ready.file.read_to_string(&mut kept).expect("text");
            assert_eq!(ready.redacted, cut);
            assert_eq!((kept.len() as u64, kept.contains(secret.expose())), (ready.size, false));
        }
    }

    #[test]
    fn a_file_of_more_bytes_than_there_is_room_for_is_not_read() {
        let temp = tempfile::tempdir().expect("a folder");
        let secret = pond_core::secret::Secret::new("a-long-enough-secret");
        let redactor = Redactor::new([("KEY", &secret)]);
        let path = temp.path().join("f");
        let tried = |room: u64, halt: &Halt| {
            let (name, file) = (
                ArtifactName::new("f").expect("a name"),
                File::open(&path).expect("open"),
            );
            redacted(&name, file, &redactor, temp.path(), room, halt).expect("no error")
        };
        // Reading it would take hours and fill the disk.
        File::create(&path).expect("a file").set_len(8 << 40).expect("sparse");
        assert!(tried(256 << 20, &Halt::default()).is_none());
        fs::write(&path, "0123456789").expect("a file");
        assert!(tried(9, &Halt::default()).is_none());
        assert_eq!(tried(10, &Halt::default()).map(|ready| ready.size), Some(10));
    }
}
