//! Removes a tree that may have been made to harm whoever removes it: without recursion, with few open files, and through
//! no link.
//!
//! A path of its own depth may be longer than any the system takes, and a step per level would end the stack or the
//! descriptors. So nothing is descended into: what a folder holds in folders is moved up to the root, until the root holds
//! nothing. Only the root and one folder in it are ever open.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, chmod, openat, renameat, unlinkat};
use rustix::io::Errno;

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// How often a folder that is not empty after all is read again.
const PASSES: usize = 8;
/// Names that are tried for a folder that moves up, should some be taken.
const NAMES: usize = 100_000;

/// Removes what is at `path` with all it holds, whatever a job has made of it; nothing there is fine too. Blocks.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let root = match open(&CWD, path) {
        Ok(root) => root,
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => return Ok(unlinkat(CWD, path, AtFlags::empty())?),
        Err(error) => return Err(error.into()),
    };
    let mut raised = Raised { root, count: 0 };
    // Each pass removes every folder that it finds, so it costs no more than what is gone after it.
    while raised.pass()? {}
    match unlinkat(CWD, path, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The root, and how many folders were moved up to it.
struct Raised {
    root: OwnedFd,
    count: usize,
}

impl Raised {
    /// Removes what the root holds, and says whether something was there.
    fn pass(&mut self) -> io::Result<bool> {
        let mut any = false;
        for name in names(&self.root)? {
            let name = name?;
            any = true;
            if !gone(&self.root, &name)? {
                self.empty(&name)?;
            }
        }
        Ok(any)
    }

    /// Removes a folder of the root; the folders in it that hold something move up.
    fn empty(&mut self, name: &CStr) -> io::Result<()> {
        let folder = open(&self.root, name)?;
        for _ in 0..PASSES {
            for inner in names(&folder)? {
                let inner = inner?;
                if !gone(&folder, &inner)? {
                    self.raise(&folder, &inner)?;
                }
            }
            match unlinkat(&self.root, name, AtFlags::REMOVEDIR) {
                // A listing may miss entries while others go.
                Err(Errno::NOTEMPTY | Errno::EXIST) => {}
                done => return Ok(done?),
            }
        }
        Err(io::ErrorKind::DirectoryNotEmpty.into())
    }

    fn raise(&mut self, from: &OwnedFd, name: &CStr) -> io::Result<()> {
        // A folder that changes its place has to be open to writing itself.
        drop(open(from, name)?);
        for _ in 0..NAMES {
            self.count += 1;
            let place = format!(".pond-{}", self.count);
            match renameat(from, name, &self.root, place.as_str()) {
                // An earlier removal that was cut short has left that name.
                Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
                done => return Ok(done?),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

/// The names in a folder but its own two.
fn names(folder: &OwnedFd) -> io::Result<impl Iterator<Item = io::Result<CString>> + use<>> {
    let names = Dir::read_from(folder)?.map(|entry| Ok(entry?.file_name().to_owned()));
    Ok(names.filter(|name: &io::Result<CString>| {
        name.as_ref()
            .map_or(true, |name| !matches!(name.to_bytes(), b"." | b".."))
    }))
}

/// Removes a name, unless it is that of a folder that holds something.
fn gone(folder: &OwnedFd, name: &CStr) -> io::Result<bool> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    match unlinkat(folder, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Opens a folder and makes it ours to change, though a job has closed it to everyone.
fn open<P: rustix::path::Arg + Copy>(at: &impl std::os::fd::AsFd, name: P) -> Result<OwnedFd, Errno> {
    // A mere handle needs no permission, and what is changed through it is what was opened, not what its name leads to.
    let handle = openat(
        at,
        name,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let itself = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let mode = rustix::fs::fstat(&handle)?.st_mode;
    if mode & 0o700 != 0o700 {
        chmod(itself.as_str(), Mode::RWXU)?;
    }
    openat(&handle, c".", FOLDER, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use rustix::fs::mkdirat;

    use super::*;

    /// Folders within folders, made the way a program makes them deeper than any path.
    fn chain(root: &Path, depth: usize) {
        let mut at = openat(CWD, root, FOLDER, Mode::empty()).expect("open");
        for _ in 0..depth {
            mkdirat(&at, c"d", Mode::RWXU).expect("made");
            at = openat(&at, c"d", FOLDER, Mode::empty()).expect("open");
        }
    }

    #[test]
    fn a_chain_of_20000_folders_is_removed_with_a_small_stack_and_few_files() {
        // In memory where that can be had: a disk takes a minute for as many folders, whoever removes them.
        let memory = Path::new("/dev/shm");
        let at = if memory.is_dir() {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        };
        let temp = tempfile::tempdir_in(at).expect("a folder");
        let job = temp.path().join("job");
        fs::create_dir_all(job.join("output/also")).expect("folders");
        fs::write(job.join("output/also/file"), "x").expect("a file");
        chain(&job.join("output"), 20_000);
        let theirs = job.clone();
        let small = std::thread::Builder::new().stack_size(256 << 10);
        let removed = small.spawn(move || remove(&theirs)).expect("a thread");
        removed.join().expect("no panic").expect("removed");
        assert!(!job.exists());
    }

    #[test]
    fn folders_that_a_job_has_closed_are_removed_too() {
        let temp = tempfile::tempdir().expect("a folder");
        let job = temp.path().join("job");
        let inner = job.join("a/b/c");
        fs::create_dir_all(&inner).expect("folders");
        fs::write(inner.join("file"), "x").expect("a file");
        for closed in ["a/b/c", "a/b", "a", ""] {
            fs::set_permissions(job.join(closed), fs::Permissions::from_mode(0o000)).expect("closed");
        }
        remove(&job).expect("removed");
        assert!(!job.exists());
        remove(&job).expect("what is not there needs no removing");
    }

    #[test]
    fn no_link_is_followed_and_taken_names_stand_in_no_way() {
        let temp = tempfile::tempdir().expect("a folder");
        let (job, outside) = (temp.path().join("job"), temp.path().join("outside"));
        fs::create_dir_all(job.join("a/b/c/d")).expect("folders");
        fs::create_dir_all(job.join(".pond-1/x/y")).expect("folders");
        fs::write(job.join(".pond-2"), "x").expect("a file");
        fs::create_dir(&outside).expect("a folder");
        fs::write(outside.join("kept"), "x").expect("a file");
        symlink(&outside, job.join("a/b/link")).expect("a link");
        symlink(&outside, job.join("link")).expect("a link");
        remove(&job).expect("removed");
        assert!(!job.exists() && outside.join("kept").exists());
        symlink(&outside, &job).expect("a link");
        remove(&job).expect("removed");
        assert!(job.symlink_metadata().is_err() && outside.join("kept").exists());
    }
}
