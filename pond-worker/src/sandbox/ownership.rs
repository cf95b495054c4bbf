//! Gives a folder that a job may write to that job's uid, with all it holds.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::Path;

/// Entries of one writable folder.
const MAX_ENTRIES: usize = 4_000_000;

/// Hands `root` and all below it to `uid`, links themselves and not what they lead to. Done before the job starts, while
/// nobody else writes there. A file with a second name is refused: the other name may be anywhere on the host.
pub(crate) fn give(root: &Path, uid: u32) -> io::Result<()> {
    let mut waiting = vec![root.to_owned()];
    let mut seen = 0usize;
    while let Some(path) = waiting.pop() {
        let found = fs::symlink_metadata(&path)?;
        seen += 1;
        if seen > MAX_ENTRIES {
            return Err(io::Error::other("the folder holds too many files"));
        }
        if found.is_dir() {
            for entry in fs::read_dir(&path)? {
                waiting.push(entry?.path());
            }
        } else if found.nlink() > 1 {
            return Err(io::Error::other(format!("{} has a second hard link", path.display())));
        }
        lchown(&path, Some(uid), Some(uid))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_hard_link_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("a"), "x").expect("a file");
        fs::hard_link(folder.path().join("a"), folder.path().join("b")).expect("a link");
        let uid = nix::unistd::getuid().as_raw();
        let error = give(folder.path(), uid).expect_err("refused");
        assert!(error.to_string().contains("second hard link"), "{error}");
    }
}
