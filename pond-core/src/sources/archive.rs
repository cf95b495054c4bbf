//! Reading a tar archive that somebody else made. The long-name and pax entries are read here, with bounds, since a library
//! reads them into memory whole.

use std::io::{self, Read};
use std::path::Path;

use tar::{Archive, Entry, EntryType};

use super::tree::{Excess, FileMode, Limits, Stats, TreeError, TreeWriter, entry_path};

/// The most that a long-name or pax entry may hold.
const MAX_EXTENSION: u64 = 64 << 10;

/// A regular file of a bundle.
pub struct BundleFile<'a> {
    /// Its path in the tree, bytes that are not UTF-8 replaced.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its content, of that size.
    pub content: &'a mut dyn Read,
}

/// Unpacks a tar archive into `into`, which must not exist or be empty. Absolute names, `..`, devices, hard links, links
/// that lead outside and anything over the limits refuse the whole archive; then nothing is left.
pub fn extract(reader: impl Read, into: &Path, limits: Limits) -> Result<Stats, TreeError> {
    let mut tree = TreeWriter::new(into, limits)?;
    read(reader, limits, &mut |path, what| match what {
        Item::Folder => tree.folder(path),
        Item::Link(target) => tree.link(path, target),
        Item::File { mode, size, content } => tree.file(path, mode, size, content),
    })?;
    tree.finish()
}

/// Shows each regular file of a bundle, in its order, without unpacking; `.git` is left out.
pub fn for_each_file(
    reader: impl Read,
    limits: Limits,
    visit: &mut dyn FnMut(BundleFile<'_>) -> io::Result<()>,
) -> Result<(), TreeError> {
    let mut left = limits.bytes;
    read(reader, limits, &mut |path, what| {
        let Some(path) = entry_path(path)? else {
            return Ok(());
        };
        if let Item::File { size, content, .. } = what {
            left = left
                .checked_sub(size)
                .ok_or(TreeError::TooLarge(Excess::Bytes(limits.bytes)))?;
            visit(BundleFile {
                path: path.to_string_lossy().into_owned(),
                size,
                content,
            })?;
        }
        Ok(())
    })
}

enum Item<'a> {
    Folder,
    Link(&'a [u8]),
    File {
        mode: FileMode,
        size: u64,
        content: &'a mut dyn Read,
    },
}

/// Takes an entry's name, as it is written, and what it is.
type Visit<'v> = dyn FnMut(&[u8], Item<'_>) -> Result<(), TreeError> + 'v;

/// What the entries before an entry say about it.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
}

fn read(reader: impl Read, limits: Limits, on: &mut Visit<'_>) -> Result<(), TreeError> {
    let mut archive = Archive::new(reader);
    let mut ahead = Extensions::default();
    // Every entry counts, also one that only describes the next.
    let most = limits.files.saturating_mul(4).saturating_add(16);
    for (index, entry) in archive.entries()?.raw(true).enumerate() {
        if index as u64 >= most {
            return Err(TreeError::TooLarge(Excess::Files(limits.files)));
        }
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        match kind {
            EntryType::GNULongName => ahead.path = Some(long_name(&mut entry)?),
            EntryType::GNULongLink => ahead.target = Some(long_name(&mut entry)?),
            EntryType::XHeader => pax(&mut entry, &mut ahead)?,
            // What `git archive` notes about the whole: its commit.
            EntryType::XGlobalHeader => drop(extension(&mut entry)?),
            _ => one(&mut entry, kind, std::mem::take(&mut ahead), on)?,
        }
    }
    Ok(())
}

fn one(
    entry: &mut Entry<'_, impl Read>,
    kind: EntryType,
    ahead: Extensions,
    on: &mut Visit<'_>,
) -> Result<(), TreeError> {
    let size = entry.size();
    // Two readings of one size would be two archives in one.
    if ahead.size.is_some_and(|told| told != size) {
        return Err(TreeError::Malformed("a size is told twice"));
    }
    let path = ahead.path.unwrap_or_else(|| entry.header().path_bytes().into_owned());
    match kind {
        EntryType::Directory => on(&path, Item::Folder),
        // Old archives mark a folder by its last slash alone.
        EntryType::Regular if path.ends_with(b"/") => on(&path, Item::Folder),
        EntryType::Regular | EntryType::Continuous => {
            let mode = FileMode::of(entry.header().mode()?);
            on(
                &path,
                Item::File {
                    mode,
                    size,
                    content: entry,
                },
            )
        }
        EntryType::Symlink => {
            let target = ahead
                .target
                .or_else(|| entry.header().link_name_bytes().map(std::borrow::Cow::into_owned));
            on(&path, Item::Link(&target.unwrap_or_default()))
        }
        EntryType::Link => Err(TreeError::Unsafe("a hard link")),
        EntryType::Char | EntryType::Block | EntryType::Fifo => Err(TreeError::Unsafe("a device")),
        _ => Err(TreeError::Unsafe("an entry of unknown kind")),
    }
}

fn extension(entry: &mut Entry<'_, impl Read>) -> Result<Vec<u8>, TreeError> {
    if entry.size() > MAX_EXTENSION {
        return Err(TreeError::Malformed("a name is too long"));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn long_name(entry: &mut Entry<'_, impl Read>) -> Result<Vec<u8>, TreeError> {
    let mut name = extension(entry)?;
    if name.last() == Some(&0) {
        name.pop();
    }
    Ok(name)
}

fn pax(entry: &mut Entry<'_, impl Read>, ahead: &mut Extensions) -> Result<(), TreeError> {
    const BAD: TreeError = TreeError::Malformed("an extended header is not valid");
    let bytes = extension(entry)?;
    for field in tar::PaxExtensions::new(&bytes) {
        let field = field.map_err(|_| BAD)?;
        match field.key_bytes() {
            b"path" => ahead.path = Some(field.value_bytes().to_owned()),
            b"linkpath" => ahead.target = Some(field.value_bytes().to_owned()),
            b"size" => ahead.size = Some(field.value().ok().and_then(|text| text.parse().ok()).ok_or(BAD)?),
            key if key.starts_with(b"GNU.sparse") => return Err(TreeError::Unsafe("a sparse file")),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
