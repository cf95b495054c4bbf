//! Writing a tree from names that somebody else chose: nothing lands outside, nothing goes over the limits, and what failed
//! leaves nothing behind.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use super::links::Links;

/// The longest path, and the deepest, in a tree.
const MAX_PATH: usize = 2048;
const MAX_DEPTH: usize = 128;

/// How much one tree may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of content.
    pub bytes: u64,
    /// Files, folders and links together.
    pub files: u64,
}

/// Which limit was crossed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excess {
    /// More bytes than this.
    Bytes(u64),
    /// More entries than this.
    Files(u64),
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(limit) => write!(f, "larger than {limit} bytes"),
            Self::Files(limit) => write!(f, "more than {limit} files"),
        }
    }
}

/// Why a tree was not written or not read. Never tells a name or a path.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// An entry would reach out of the tree.
    #[error("holds {0}")]
    Unsafe(&'static str),
    /// Over a limit.
    #[error("is {0}")]
    TooLarge(Excess),
    /// Not well-formed.
    #[error("is not well-formed: {0}")]
    Malformed(&'static str),
    /// The disk, or the reader of the content.
    #[error("cannot be read or written")]
    Io(#[from] io::Error),
}

/// What a tree holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of content.
    pub bytes: u64,
    /// Files, folders and links together.
    pub files: u64,
    /// Links left out because they lead outside.
    pub left_out: u64,
}

/// Writes one tree into a folder of its own. Dropped without [`finish`](Self::finish), it removes what it wrote.
#[derive(Debug)]
pub struct TreeWriter {
    root: PathBuf,
    limits: Limits,
    stats: Stats,
    /// Folders known to be real ones, made here. Nothing here turns a folder into something else.
    folders: BTreeSet<PathBuf>,
    links: BTreeSet<PathBuf>,
    finished: bool,
}

impl TreeWriter {
    /// Starts in `root`, which must not exist or be an empty folder.
    pub fn new(root: &Path, limits: Limits) -> Result<Self, TreeError> {
        match fs::DirBuilder::new().mode(0o755).create(root) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let real = root.symlink_metadata()?.is_dir();
                if !real || fs::read_dir(root)?.next().is_some() {
                    return Err(io::Error::from(io::ErrorKind::DirectoryNotEmpty).into());
                }
            }
            made => made?,
        }
        Ok(Self {
            root: root.to_owned(),
            limits,
            stats: Stats::default(),
            folders: BTreeSet::new(),
            links: BTreeSet::new(),
            finished: false,
        })
    }

    /// How many more bytes fit.
    pub fn room(&self) -> u64 {
        self.limits.bytes - self.stats.bytes
    }

    /// Makes a folder and those above it.
    pub fn folder(&mut self, path: &[u8]) -> Result<(), TreeError> {
        let Some(path) = entry_path(path)? else {
            return Ok(());
        };
        self.count()?;
        self.folders_to(&path)
    }

    /// Writes a file of `size` bytes.
    pub fn file(&mut self, path: &[u8], mode: FileMode, size: u64, content: &mut dyn Read) -> Result<(), TreeError> {
        if size > self.room() {
            return Err(TreeError::TooLarge(Excess::Bytes(self.limits.bytes)));
        }
        let Some(place) = self.place(path)? else {
            io::copy(content, &mut io::sink())?;
            return Ok(());
        };
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode.bits())
            .open(place)?;
        let written = io::copy(&mut content.take(size), &mut file)?;
        self.stats.bytes += written;
        if written < size {
            return Err(TreeError::Malformed("a file is cut short"));
        }
        Ok(())
    }

    /// Makes a symbolic link; whether it may stay is judged at the end, when all it may lead through is there.
    pub fn link(&mut self, path: &[u8], target: &[u8]) -> Result<(), TreeError> {
        if target.is_empty() || target.len() > MAX_PATH || target.contains(&0) {
            return Err(TreeError::Malformed("a link has no valid target"));
        }
        let Some(place) = self.place(path)? else {
            return Ok(());
        };
        symlink(OsStr::from_bytes(target), &place)?;
        let relative = place.strip_prefix(&self.root).map(Path::to_owned).unwrap_or(place);
        self.links.insert(relative);
        Ok(())
    }

    /// Ends the tree, refusing it if a link leads outside.
    pub fn finish(mut self) -> Result<Stats, TreeError> {
        let mut links = Links::new();
        for link in &self.links {
            if links.escapes(&self.root, link)? {
                return Err(TreeError::Unsafe("a link that leads outside"));
            }
        }
        self.finished = true;
        Ok(self.stats)
    }

    /// Ends the tree, leaving out links that lead outside.
    pub fn finish_without_escaping_links(mut self) -> Result<Stats, TreeError> {
        let mut links = Links::new();
        for link in &self.links {
            if links.escapes(&self.root, link)? {
                fs::remove_file(self.root.join(link))?;
                self.stats.left_out += 1;
            }
        }
        self.finished = true;
        Ok(self.stats)
    }

    /// A free place for a file or link, the folders above it made; none for what is left out.
    fn place(&mut self, path: &[u8]) -> Result<Option<PathBuf>, TreeError> {
        let Some(path) = entry_path(path)? else {
            return Ok(None);
        };
        if path.as_os_str().is_empty() {
            return Err(TreeError::Unsafe("an entry in place of the root"));
        }
        self.count()?;
        if let Some(above) = path.parent() {
            self.folders_to(above)?;
        }
        let place = self.root.join(&path);
        match fs::remove_file(&place) {
            Ok(()) => {
                self.links.remove(&path);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => return Err(TreeError::Malformed("a name stands for a folder and a file")),
        }
        Ok(Some(place))
    }

    fn count(&mut self) -> Result<(), TreeError> {
        self.stats.files += 1;
        match self.stats.files > self.limits.files {
            true => Err(TreeError::TooLarge(Excess::Files(self.limits.files))),
            false => Ok(()),
        }
    }

    /// Makes `path` and what is above it real folders; a link on the way is refused, not followed.
    fn folders_to(&mut self, path: &Path) -> Result<(), TreeError> {
        if self.folders.contains(path) {
            return Ok(());
        }
        let mut here = PathBuf::new();
        for component in path.components() {
            here.push(component);
            if self.folders.contains(&here) {
                continue;
            }
            match fs::DirBuilder::new().mode(0o755).create(self.root.join(&here)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(TreeError::Unsafe("an entry beneath a link or file"));
                }
                made => made?,
            }
            self.folders.insert(here.clone());
        }
        Ok(())
    }
}

impl Drop for TreeWriter {
    fn drop(&mut self) {
        if !self.finished
            && let Err(error) = fs::remove_dir_all(&self.root)
        {
            tracing::warn!(kind = %error.kind(), "a partial tree could not be removed");
        }
    }
}

/// Whether a file may be executed; no other bit of a mode is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileMode {
    /// `0644`.
    Plain,
    /// `0755`.
    Executable,
}

impl FileMode {
    /// From the bits of somebody's mode.
    pub fn of(bits: u32) -> Self {
        if bits & 0o111 == 0 {
            Self::Plain
        } else {
            Self::Executable
        }
    }

    /// The bits it stands for.
    pub fn bits(self) -> u32 {
        match self {
            Self::Plain => 0o644,
            Self::Executable => 0o755,
        }
    }
}

/// Judges an entry's name: relative, without `..`, of sane length. None for what is left out of every tree (`.git`); empty
/// for the root itself.
pub(super) fn entry_path(bytes: &[u8]) -> Result<Option<PathBuf>, TreeError> {
    if bytes.len() > MAX_PATH {
        return Err(TreeError::Malformed("a name is too long"));
    }
    if bytes.contains(&0) {
        return Err(TreeError::Malformed("a name holds a zero byte"));
    }
    let mut path = PathBuf::new();
    let mut depth = 0;
    for component in Path::new(OsStr::from_bytes(bytes)).components() {
        match component {
            Component::Normal(name) if name.len() > 255 => return Err(TreeError::Malformed("a name is too long")),
            Component::Normal(name) if name == ".git" => return Ok(None),
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::ParentDir => return Err(TreeError::Unsafe("a name with `..`")),
            Component::RootDir | Component::Prefix(_) => return Err(TreeError::Unsafe("an absolute name")),
        }
        depth += 1;
        if depth > MAX_DEPTH {
            return Err(TreeError::Malformed("folders are nested too deep"));
        }
    }
    Ok(Some(path))
}
