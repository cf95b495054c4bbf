//! The output folder of a job, and files without secrets.
//!
//! The folder was the job's own, so nothing in it is trusted: only regular files right in it are opened, and no link is
//! followed. Its programs are dead by now, so nothing changes any more.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc::{O_CLOEXEC, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK};
use pond_core::artifacts::ArtifactName;
use pond_core::logs::{Marks, Redactor};

use super::halt::Halt;

/// Files of one output folder.
const MAX_FILES: usize = 256;
/// Names that one log line tells.
const MAX_NAMES: usize = 20;
/// Entries of an output folder that are looked at.
const MAX_ENTRIES: usize = 10_000;
/// Bytes that are read at once.
const PIECE: usize = 64 << 10;

/// A file without secrets.
pub(crate) struct Clean {
    pub(crate) file: File,
    pub(crate) size: u64,
    /// Whether a secret was cut from it.
    pub(crate) redacted: bool,
}

impl Clean {
    /// All that it holds.
    pub(crate) fn read(mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file.rewind()?;
        self.file.take(self.size).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// The file itself, or a copy without its secrets; nothing for one of more bytes than there is room for. How long a file
/// says it is costs nothing to say, so that is asked before any of it is read.
pub(crate) fn without_secrets(
    mut file: File,
    redactor: &Redactor,
    scratch: &Path,
    room: u64,
    halt: &Halt,
) -> io::Result<Option<Clean>> {
    let size = file.metadata()?.len();
    if size > room {
        return Ok(None);
    }
    // Most files hold none, and are not copied.
    if !redact(&mut file, redactor, halt, &mut |_| Ok(()))? {
        let redacted = false;
        return Ok(Some(Clean { file, size, redacted }));
    }
    file.rewind()?;
    let mut clean = tempfile::tempfile_in(scratch)?;
    let mut written = 0u64;
    redact(&mut file, redactor, halt, &mut |bytes| {
        // What stands for a secret may be longer than it was.
        written += bytes.len() as u64;
        match written > room {
            true => Ok(()),
            false => clean.write_all(bytes),
        }
    })?;
    Ok((written <= room).then_some(Clean {
        file: clean,
        size: written,
        redacted: true,
    }))
}

/// Reads a file and gives what it holds without secrets; says whether there were any.
fn redact(
    file: &mut File,
    redactor: &Redactor,
    halt: &Halt,
    give: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<bool> {
    let mut stream = redactor.stream(Marks::Nameless);
    let (mut piece, mut out) = (vec![0; PIECE], Vec::new());
    loop {
        halt.check()?;
        let read = file.read(&mut piece)?;
        match read {
            0 => stream.finish(&mut out),
            read => stream.push(&piece[..read], &mut out),
        }
        give(&out)?;
        out.clear();
        if read == 0 {
            return Ok(stream.touched());
        }
    }
}

/// What is found in an output folder.
pub(crate) struct Output {
    /// The files to keep, in the order of their names.
    pub(crate) files: Vec<(ArtifactName, File)>,
    pub(crate) skipped: Skipped,
}

/// What is not kept.
#[derive(Default)]
pub(crate) struct Skipped {
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

    /// A log line that names it.
    pub(crate) fn line(&self) -> Option<String> {
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

/// Opens the files of an output folder in the order of their names. Those named `taken` are not the job's to use.
pub(crate) fn look(folder: &Path, taken: &[ArtifactName]) -> io::Result<Output> {
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
        let fits = fits.filter(|name| !taken.contains(name));
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
        let output = look(temp.path(), &[ArtifactName::new("changes.patch").expect("a name")]).expect("looked");
        let kept: Vec<&str> = output.files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(kept, ["a.json", "b.txt"]);
        let line = output.skipped.line().expect("a line");
        for name in [".hidden", "with space", "sub/x", "sub/deep", "changes.patch"] {
            assert!(line.contains(name), "{line}");
        }
        assert!(!line.contains("link") && !line.contains("pipe"), "{line}");
        let free = look(temp.path(), &[]).expect("looked");
        assert_eq!(free.files.len(), 3, "without a patch of Pond's own the name is free");
    }

    #[test]
    fn more_files_than_allowed_are_skipped_and_counted() {
        let temp = tempfile::tempdir().expect("a folder");
        for number in 0..MAX_FILES + 30 {
            fs::write(temp.path().join(format!("f{number:04}")), "").expect("a file");
        }
        let output = look(temp.path(), &[ArtifactName::new("changes.patch").expect("a name")]).expect("looked");
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
            let mut ready = without_secrets(
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
            assert!(!kept.contains("KEY"), "artifacts hold no names: {kept}");
        }
    }

    #[test]
    fn a_file_of_more_bytes_than_there_is_room_for_is_not_read() {
        let temp = tempfile::tempdir().expect("a folder");
        let secret = pond_core::secret::Secret::new("a-long-enough-secret");
        let redactor = Redactor::new([("KEY", &secret)]);
        let path = temp.path().join("f");
        let tried = |room: u64, halt: &Halt| {
            let file = File::open(&path).expect("open");
            without_secrets(file, &redactor, temp.path(), room, halt).expect("no error")
        };
        // Reading it would take hours and fill the disk.
        File::create(&path).expect("a file").set_len(8 << 40).expect("sparse");
        assert!(tried(256 << 20, &Halt::default()).is_none());
        fs::write(&path, "0123456789").expect("a file");
        assert!(tried(9, &Halt::default()).is_none());
        assert_eq!(tried(10, &Halt::default()).map(|ready| ready.size), Some(10));
    }
}
