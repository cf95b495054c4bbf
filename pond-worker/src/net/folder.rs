//! Folder sources: whose folder it is, and copying it without ever being led elsewhere.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::libc::{O_CLOEXEC, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK};
use pond_core::id::ProjectId;
use pond_core::sources::{FileMode, FolderScope, Limits, Stats, TreeError, TreeWriter};

/// The one refusal: the same for a folder that is missing, outside, or another's, so that nobody learns what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a folder beneath POND_LOCAL_SOURCE_ROOT that this key may read")]
pub struct FolderRefused;

/// The operator's root of folder sources; without one they are off.
#[derive(Debug, Clone, Default)]
pub struct FolderRoot(Option<PathBuf>);

impl FolderRoot {
    /// A root, or none.
    pub fn new(root: Option<PathBuf>) -> Self {
        Self(root)
    }

    /// The real path of a folder that a caller of this scope may name. A relative path starts at the root.
    pub fn admit(&self, path: &str, scope: &FolderScope) -> Result<PathBuf, FolderRefused> {
        let root = self
            .0
            .as_ref()
            .and_then(|root| root.canonicalize().ok())
            .ok_or(FolderRefused)?;
        let real = root.join(path).canonicalize().map_err(|_| FolderRefused)?;
        let admitted = match scope {
            FolderScope::Root => real.starts_with(&root),
            FolderScope::Project { id, slug } => {
                own(&root, *id, slug.as_deref()).iter().any(|own| real.starts_with(own))
            }
        };
        match admitted && real.is_dir() {
            true => Ok(real),
            false => Err(FolderRefused),
        }
    }
}

/// A project's own folders. Since real paths are compared, one that is a link is nobody's.
fn own(root: &Path, id: ProjectId, slug: Option<&str>) -> Vec<PathBuf> {
    let mut own = vec![root.join(id.to_string())];
    // A slug that reads as an id could name another project's folder.
    let plain = |slug: &&str| {
        let one = !slug.is_empty() && *slug != "." && *slug != ".." && !slug.contains(['/', '\0']);
        one && slug.parse::<ProjectId>().is_err()
    };
    own.extend(slug.filter(plain).map(|slug| root.join(slug)));
    own
}

/// Copies the tree at `real`, which was admitted, into `into`. Special files, `.git` and links that lead outside are left
/// out. The copy holds every folder open and follows no link, so a tree that changes meanwhile leads nowhere.
pub fn copy_folder(real: &Path, into: &Path, limits: Limits) -> Result<Stats, TreeError> {
    let mut tree = TreeWriter::new(into, limits)?;
    let root = open(real, O_DIRECTORY)?;
    copy_level(&root, &mut Vec::new(), &mut tree)?;
    tree.finish_without_escaping_links()
}

fn copy_level(folder: &File, path: &mut Vec<u8>, tree: &mut TreeWriter) -> Result<(), TreeError> {
    // Through the open folder itself: a path could be another folder's by now.
    let here = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
    let mut names = fs::read_dir(&here)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort();
    for name in names.iter().filter(|name| *name != ".git") {
        let place = here.join(name);
        let length = path.len();
        if length > 0 {
            path.push(b'/');
        }
        path.extend(name.as_bytes());
        let kind = place.symlink_metadata()?.file_type();
        if kind.is_dir() {
            // Counts, and refuses what is nested too deep, before it is opened.
            tree.folder(path)?;
            copy_level(&open(&place, O_DIRECTORY)?, path, tree)?;
        } else if kind.is_symlink() {
            tree.link(path, place.read_link()?.as_os_str().as_bytes())?;
        } else if kind.is_file() {
            copy_file(&place, path, tree)?;
        }
        path.truncate(length);
    }
    Ok(())
}

fn copy_file(place: &Path, path: &[u8], tree: &mut TreeWriter) -> Result<(), TreeError> {
    let mut file = open(place, 0)?;
    let meta = file.metadata()?;
    match meta.is_file() {
        true => tree.file(path, FileMode::of(meta.permissions().mode()), meta.len(), &mut file),
        false => Ok(()),
    }
}

/// Opens without following a link in the last place, and without waiting for a pipe's other end.
fn open(path: &Path, flags: i32) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | flags)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pond_core::sources::{Excess, digest};
    use std::os::unix::fs::symlink;

    const LIMITS: Limits = Limits {
        bytes: 1 << 20,
        files: 50,
    };

    fn project(number: u128) -> ProjectId {
        ProjectId::from(uuid::Uuid::from_u128(number))
    }

    #[test]
    fn a_caller_reads_its_own_folders_alone() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("root");
        let (own, other) = (project(1), project(2));
        for folder in [
            format!("{own}/app"),
            format!("{other}/app"),
            "acme/app".into(),
            "shared".into(),
        ] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::create_dir_all(temp.path().join("outside")).unwrap();
        fs::write(root.join(format!("{own}/file")), "").unwrap();
        symlink(temp.path().join("outside"), root.join(format!("{own}/out"))).unwrap();
        symlink(root.join(other.to_string()), root.join(format!("{own}/other"))).unwrap();
        symlink(root.join("shared"), root.join("linked")).unwrap();
        let folders = FolderRoot::new(Some(root.clone()));
        let scope = |slug: &str| FolderScope::Project {
            id: own,
            slug: Some(slug.into()),
        };
        let absolute = |path: &str| root.join(path).to_str().unwrap().to_owned();

        for path in [
            format!("{own}/app"),
            absolute(&format!("{own}/app")),
            format!("./{own}/app/../app"),
            own.to_string(),
        ] {
            assert!(folders.admit(&path, &scope("acme")).is_ok(), "{path}");
        }
        assert!(folders.admit("acme/app", &scope("acme")).is_ok());
        for path in ["", ".", "shared", "linked", &format!("{other}/app")] {
            assert!(folders.admit(path, &FolderScope::Root).is_ok(), "{path}");
        }

        let refused = [
            format!("{other}/app"),
            format!("{other}/missing"),
            absolute(&format!("{other}/app")),
            "shared".into(),
            "missing".into(),
            "".into(),
            "..".into(),
            "../outside".into(),
            "/etc".into(),
            format!("{own}/out"),
            format!("{own}/other"),
            format!("{own}/../{other}/app"),
            format!("{own}/missing"),
            format!("{own}/file"),
            format!("{own}x"),
        ];
        for path in &refused {
            assert_eq!(folders.admit(path, &scope("acme")), Err(FolderRefused), "{path}");
        }
        for slug in ["linked", "", ".", "..", "../root", &other.to_string()] {
            assert!(folders.admit("shared", &scope(slug)).is_err(), "{slug}");
            assert!(folders.admit(&format!("{other}/app"), &scope(slug)).is_err(), "{slug}");
        }
        for path in ["..", "../outside", "/", &format!("{own}/out"), "missing"] {
            assert!(folders.admit(path, &FolderScope::Root).is_err(), "{path}");
            assert!(FolderRoot::default().admit(path, &FolderScope::Root).is_err(), "{path}");
        }
        assert!(
            FolderRoot::default()
                .admit(&absolute("shared"), &FolderScope::Root)
                .is_err(),
            "no root, no folders"
        );
    }

    #[test]
    fn a_copy_holds_files_and_inner_links_alone() {
        let temp = tempfile::tempdir().unwrap();
        let from = temp.path().join("from");
        fs::create_dir_all(from.join("sub/.git")).unwrap();
        fs::create_dir_all(from.join(".git")).unwrap();
        fs::write(from.join("sub/a"), "a").unwrap();
        fs::write(temp.path().join("secret"), "secret").unwrap();
        symlink("sub/a", from.join("in")).unwrap();
        symlink("../secret", from.join("out")).unwrap();
        symlink("/etc", from.join("etc")).unwrap();
        nix::unistd::mkfifo(&from.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();
        let into = temp.path().join("into");

        let stats = copy_folder(&from, &into, LIMITS).unwrap();

        assert_eq!((stats.bytes, stats.left_out), (1, 2));
        let mut names: Vec<_> = fs::read_dir(&into)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["in", "sub"]);
        assert!(!into.join("sub/.git").exists());
        assert_eq!(digest(&from, LIMITS).unwrap(), digest(&into, LIMITS).unwrap());
    }

    #[test]
    fn a_copy_over_its_caps_leaves_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let from = temp.path().join("from");
        fs::create_dir(&from).unwrap();
        fs::write(from.join("large"), vec![0; 2 << 20]).unwrap();
        let into = temp.path().join("into");
        assert!(matches!(
            copy_folder(&from, &into, LIMITS),
            Err(TreeError::TooLarge(Excess::Bytes(_)))
        ));
        assert!(!into.exists());

        fs::remove_file(from.join("large")).unwrap();
        for n in 0..60 {
            fs::write(from.join(n.to_string()), "").unwrap();
        }
        assert!(matches!(
            copy_folder(&from, &into, LIMITS),
            Err(TreeError::TooLarge(Excess::Files(50)))
        ));
        assert!(!into.exists());
    }
}
