//! A tree of files that may have been made to harm whoever reads it: walked by our own steps from folder to folder, never
//! through a link, and within bounds.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, readlinkat, statat};

use super::halt::Halt;

/// Entries of a tree.
const MAX_ENTRIES: usize = 1_000_000;
/// Folders within folders.
const MAX_DEPTH: usize = 128;
/// Bytes of a file that is compared.
pub(super) const MAX_FILE: u64 = 128 << 20;
/// Bytes of a path.
const MAX_PATH: usize = 4096;
/// Bytes of all paths and of what links say, together.
const MAX_TEXT: usize = 64 << 20;
/// Notes of one walk, and the bytes of a path in one.
const MAX_NOTES: usize = 100;
const MAX_SHOWN: usize = 500;

/// A tree that is larger than any job's may be.
#[derive(Debug, thiserror::Error)]
#[error("the tree holds too many {0}")]
pub(super) struct Excess(pub(super) &'static str);

impl From<Excess> for io::Error {
    fn from(excess: Excess) -> Self {
        Self::other(excess)
    }
}

/// What was left out, for the log.
#[derive(Debug, Default)]
pub(super) struct Notes(pub(super) Vec<String>);

impl Notes {
    pub(super) fn add(&mut self, path: &[u8], what: &str) {
        if self.0.len() < MAX_NOTES {
            // Names from inside reach logs: whatever is not plain is escaped.
            let shown = path[..path.len().min(MAX_SHOWN)].escape_ascii();
            let more = if path.len() > MAX_SHOWN { "…" } else { "" };
            self.0.push(format!("{shown}{more} {what}"));
        }
    }
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// A regular file.
    File { executable: bool, size: u64 },
    /// A symbolic link, and what it says.
    Link(Vec<u8>),
}

/// A tree: what is at each path, relative to its root, as bytes.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
    pub(super) entries: BTreeMap<Vec<u8>, Entry>,
    pub(super) notes: Notes,
    seen: usize,
    text: usize,
}

impl Tree {
    /// Walks a folder. Blocks.
    ///
    /// # Errors
    /// [`Excess`] in it when the tree is larger than any job's may be.
    pub(super) fn read(root: &Path, halt: &Halt) -> io::Result<Self> {
        let root = openat(rustix::fs::CWD, root, FOLDER, Mode::empty())?;
        let start = root.try_clone()?;
        let mut tree = Self {
            root,
            entries: BTreeMap::new(),
            notes: Notes::default(),
            seen: 0,
            text: 0,
        };
        tree.walk(&start, &[], 0, halt)?;
        Ok(tree)
    }

    /// Goes [`MAX_DEPTH`] deep at most.
    fn walk(&mut self, folder: &OwnedFd, prefix: &[u8], depth: usize, halt: &Halt) -> io::Result<()> {
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            self.seen += 1;
            if self.seen > MAX_ENTRIES {
                return Err(Excess("files").into());
            }
            halt.check()?;
            if prefix.len() + name.len() > MAX_PATH {
                self.notes
                    .add(&[prefix, name].concat(), "has too long a path and is left out");
                continue;
            }
            let path = [prefix, name].concat();
            if is_git(name) {
                self.notes.add(&path, "is git's own and left out");
                continue;
            }
            self.take(folder, name, path, depth, halt)?;
        }
        Ok(())
    }

    fn take(&mut self, folder: &OwnedFd, name: &[u8], path: Vec<u8>, depth: usize, halt: &Halt) -> io::Result<()> {
        let name = OsStr::from_bytes(name);
        let found = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => found,
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory if depth >= MAX_DEPTH => self.notes.add(&path, "is too deep and left out"),
            FileType::Directory => match openat(folder, name, FOLDER, Mode::empty()) {
                Ok(inner) => self.walk(&inner, &[&path, &b"/"[..]].concat(), depth + 1, halt)?,
                Err(_) => self.notes.add(&path, "cannot be read and is left out"),
            },
            FileType::RegularFile => {
                let (executable, size) = (found.st_mode & 0o100 != 0, found.st_size.unsigned_abs());
                self.keep(path, Entry::File { executable, size })?;
            }
            FileType::Symlink if is_modules(name.as_bytes()) => {
                self.notes.add(&path, "is a link that git refuses, and left out");
            }
            FileType::Symlink => {
                let target = readlinkat(folder, name, Vec::new())?;
                self.keep(path, Entry::Link(target.into_bytes()))?;
            }
            _ => self.notes.add(&path, "is neither file, folder nor link, and left out"),
        }
        Ok(())
    }

    fn keep(&mut self, path: Vec<u8>, entry: Entry) -> io::Result<()> {
        let target = match &entry {
            Entry::Link(target) => target.len(),
            Entry::File { .. } => 0,
        };
        self.text += path.len() + target;
        if self.text > MAX_TEXT {
            return Err(Excess("and too long names").into());
        }
        self.entries.insert(path, entry);
        Ok(())
    }

    /// Opens a file of the tree, by steps that follow no link.
    pub(super) fn open(&self, path: &[u8]) -> io::Result<File> {
        let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let (name, folders) = parts.split_last().ok_or(io::ErrorKind::NotFound)?;
        let mut at = self.root.try_clone()?;
        for folder in folders {
            at = openat(at.as_fd(), OsStr::from_bytes(folder), FOLDER, Mode::empty())?;
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(openat(at.as_fd(), OsStr::from_bytes(name), flags, Mode::empty())?);
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    /// A path of the tree, for messages and the record of changes.
    pub(super) fn shown(path: &[u8]) -> String {
        String::from_utf8_lossy(path).into_owned()
    }
}

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Whether two files have the same content; what is longer than [`MAX_FILE`] is judged by its beginning.
pub(super) fn same(one: File, other: File, halt: &Halt) -> io::Result<bool> {
    let (mut one, mut other) = (one.take(MAX_FILE), other.take(MAX_FILE));
    let (mut left, mut right) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        halt.check()?;
        let (a, b) = (fill(&mut one, &mut left)?, fill(&mut other, &mut right)?);
        if left[..a] != right[..b] {
            return Ok(false);
        }
        if a == 0 {
            return Ok(true);
        }
    }
}

fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// Whether a name is that of git's own folder, in any of the ways that git takes for it on any system. It refuses whole
/// patches that hold one.
fn is_git(name: &[u8]) -> bool {
    name.split(|byte| *byte == b'\\')
        .any(|part| matches!(&plain(part)[..], b".git" | b"git~1"))
}

/// Whether a name is that of the list of submodules, which may be no link.
fn is_modules(name: &[u8]) -> bool {
    name.split(|byte| *byte == b'\\').any(|part| {
        let part = plain(part);
        part == b".gitmodules" || part.starts_with(b"gitmod~") || part.starts_with(b"gi7eba~")
    })
}

/// A name as other file systems see it: without stream, final dots and blanks, in lower case.
fn plain(name: &[u8]) -> Vec<u8> {
    let name = name.split(|byte| *byte == b':').next().unwrap_or_default();
    let end = name
        .iter()
        .rposition(|byte| !matches!(byte, b' ' | b'.'))
        .map_or(0, |last| last + 1);
    name[..end].to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gits_own_names_are_known_in_every_spelling() {
        for name in [
            ".git",
            ".GIT",
            ".git.",
            ".git ",
            ".git::$INDEX_ALLOCATION",
            "git~1",
            "GIT~1",
            "a\\.git",
        ] {
            assert!(is_git(name.as_bytes()), "{name}");
        }
        for name in [".gitignore", ".github", "git", "git~2", "..git", "x.git"] {
            assert!(!is_git(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn no_link_is_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("real")).expect("own folder");
        std::fs::write(folder.path().join("real/file"), "x").expect("own folder");
        std::os::unix::fs::symlink("real", folder.path().join("link")).expect("own folder");
        std::os::unix::fs::symlink("real/file", folder.path().join("other")).expect("own folder");
        let tree = Tree::read(folder.path(), &Halt::default()).expect("readable");
        let paths: Vec<String> = tree.entries.keys().map(|path| Tree::shown(path)).collect();
        assert_eq!(paths, ["link", "other", "real/file"]);
        assert!(tree.open(b"real/file").is_ok());
        assert!(tree.open(b"link/file").is_err() && tree.open(b"other").is_err());
    }
}
