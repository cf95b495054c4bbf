//! A tree as one stream: the same tree always gives the same bytes.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::links::Links;
use super::tree::{Excess, FileMode, Limits, Stats, TreeError, entry_path};

/// Writes the tree at `root` as a tar archive: sorted, without times and owners, links that lead outside, special files and
/// `.git` left out.
pub fn write_bundle(root: &Path, out: impl Write, limits: Limits) -> Result<Stats, TreeError> {
    let mut bundle = Bundle {
        root,
        limits,
        stats: Stats::default(),
        links: Links::new(),
        tar: Builder::new(out),
    };
    // Folders still to list, the next one last.
    let mut waiting = vec![PathBuf::new()];
    while let Some(folder) = waiting.pop() {
        if !folder.as_os_str().is_empty() {
            bundle.add_folder(&folder)?;
        }
        let mut below = Vec::new();
        for path in sorted(root, &folder)? {
            let kind = root.join(&path).symlink_metadata()?.file_type();
            if entry_path(path.as_os_str().as_bytes())?.is_none() {
                continue;
            }
            if kind.is_dir() {
                below.push(path);
            } else if kind.is_symlink() {
                bundle.add_link(&path)?;
            } else if kind.is_file() {
                bundle.add_file(&path)?;
            }
        }
        waiting.extend(below.into_iter().rev());
    }
    bundle.tar.into_inner()?.flush()?;
    Ok(bundle.stats)
}

/// SHA-256 over the tree's bundle, in lower-case hex.
pub fn digest(root: &Path, limits: Limits) -> Result<String, TreeError> {
    let mut hash = Hashing(Sha256::new());
    write_bundle(root, &mut hash, limits)?;
    Ok(hex::encode(hash.0.finalize()))
}

struct Hashing(Sha256);

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a folder holds, by name, as paths from the root.
fn sorted(root: &Path, folder: &Path) -> io::Result<Vec<PathBuf>> {
    let names = fs::read_dir(root.join(folder))?.map(|entry| entry.map(|entry| folder.join(entry.file_name())));
    let mut paths = names.collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

struct Bundle<'a, W: Write> {
    root: &'a Path,
    limits: Limits,
    stats: Stats,
    links: Links,
    tar: Builder<W>,
}

impl<W: Write> Bundle<'_, W> {
    fn count(&mut self, bytes: u64) -> Result<(), TreeError> {
        self.stats.files += 1;
        self.stats.bytes = self.stats.bytes.saturating_add(bytes);
        if self.stats.files > self.limits.files {
            return Err(TreeError::TooLarge(Excess::Files(self.limits.files)));
        }
        if self.stats.bytes > self.limits.bytes {
            return Err(TreeError::TooLarge(Excess::Bytes(self.limits.bytes)));
        }
        Ok(())
    }

    fn add_folder(&mut self, path: &Path) -> Result<(), TreeError> {
        self.count(0)?;
        let mut header = header(EntryType::Directory, 0o755, 0);
        Ok(self.tar.append_data(&mut header, path, io::empty())?)
    }

    fn add_link(&mut self, path: &Path) -> Result<(), TreeError> {
        if self.links.escapes(self.root, path)? {
            self.stats.left_out += 1;
            return Ok(());
        }
        self.count(0)?;
        let target = self.root.join(path).read_link()?;
        let mut header = header(EntryType::Symlink, 0o777, 0);
        Ok(self.tar.append_link(&mut header, path, target)?)
    }

    fn add_file(&mut self, path: &Path) -> Result<(), TreeError> {
        let file = File::open(self.root.join(path))?;
        let meta = file.metadata()?;
        self.count(meta.len())?;
        let mode = FileMode::of(meta.permissions().mode());
        let mut header = header(EntryType::Regular, mode.bits(), meta.len());
        // A file that shrinks meanwhile must not shift all that follows.
        let mut content = Exactly {
            inner: file.take(meta.len()),
            left: meta.len(),
        };
        Ok(self.tar.append_data(&mut header, path, &mut content)?)
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// Fails instead of ending early.
struct Exactly<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        self.left -= read as u64;
        if read == 0 && !buf.is_empty() && self.left > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(read)
    }
}
