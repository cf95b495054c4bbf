//! The patch of a job: what it holds, that `git apply` takes it, and that nothing in the edited tree shapes or runs anything.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use pond_worker::collect::{ChangedFile, Changes, CollectError, Status, changes};
use proptest::prelude::*;

/// A base and an edited copy of it.
struct Trees {
    folder: tempfile::TempDir,
}

impl Trees {
    fn new() -> Self {
        let trees = Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
        };
        for name in ["base", "edited", "scratch"] {
            fs::create_dir(trees.folder.path().join(name)).expect("own folder");
        }
        trees
    }

    fn base(&self) -> PathBuf {
        self.folder.path().join("base")
    }

    fn edited(&self) -> PathBuf {
        self.folder.path().join("edited")
    }

    /// The same file on both sides.
    fn both(&self, path: &str, content: impl AsRef<[u8]>) {
        put(&self.base(), path, content.as_ref());
        put(&self.edited(), path, content.as_ref());
    }

    async fn changes(&self) -> Changes {
        changes(&self.base(), &self.edited(), &self.folder.path().join("scratch"))
            .await
            .expect("collected")
    }

    /// Applies the patch to a copy of the base, as a user would, and says what is there then.
    fn applied(&self, patch: &Path) -> BTreeMap<String, String> {
        let copy = self.folder.path().join("copy");
        run(Command::new("cp").arg("-a").arg(self.base()).arg(&copy));
        run(Command::new("rm").arg("-rf").arg(copy.join(".git")));
        run(Command::new("git").args(["init", "-q"]).current_dir(&copy));
        if fs::metadata(patch).expect("a patch").len() > 0 {
            run(Command::new("git")
                .args(["apply", "--whitespace=nowarn"])
                .arg(patch)
                .current_dir(&copy));
        }
        fs::remove_dir_all(copy.join(".git")).expect("own folder");
        listing(&copy)
    }
}

fn run(command: &mut Command) {
    let done = command
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .expect("starts");
    assert!(
        done.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

fn put(root: &Path, path: &str, content: &[u8]) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("below the root")).expect("own folder");
    fs::write(path, content).expect("own folder");
}

/// Every file and link of a tree, with kind and content.
fn listing(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder)
            .expect("readable")
            .map(|entry| entry.expect("readable").path())
        {
            let name = entry
                .strip_prefix(root)
                .expect("below")
                .as_os_str()
                .as_encoded_bytes()
                .escape_ascii()
                .to_string();
            let kind = fs::symlink_metadata(&entry).expect("there");
            if kind.is_dir() {
                waiting.push(entry);
            } else if kind.is_symlink() {
                found.insert(name, format!("-> {}", fs::read_link(&entry).expect("a link").display()));
            } else {
                let executable = kind.permissions().mode() & 0o100 != 0;
                found.insert(
                    name,
                    format!("{executable} {}", fs::read(&entry).expect("a file").escape_ascii()),
                );
            }
        }
    }
    found
}

fn file<'a>(changes: &'a Changes, path: &str) -> &'a ChangedFile {
    let found = changes.files.iter().find(|file| file.path == path);
    found.unwrap_or_else(|| panic!("{path} is not among {:?}", changes.files))
}

#[tokio::test]
async fn no_edits_give_zero_bytes() {
    let trees = Trees::new();
    trees.both("a", "text\n");
    let changes = trees.changes().await;
    assert_eq!(fs::read(&changes.patch).expect("a patch"), b"");
    assert_eq!(changes.files, []);
}

#[tokio::test]
async fn c17_30_every_kind_of_change_is_told_and_applies() {
    let trees = Trees::new();
    for name in ["changed", "gone", "mode", "kind"] {
        trees.both(name, format!("{name}\nline\nline\n"));
    }
    trees.both("old name", "a file\nthat moves\nand keeps\nwhat it says\n");
    trees.both("bytes", [0u8, 1, 2, 255]);
    symlink("here", trees.base().join("link")).expect("own folder");
    symlink("there", trees.edited().join("link")).expect("own folder");
    let edited = trees.edited();
    put(&edited, "changed", b"changed\nother\nline\n");
    put(&edited, "new/deep/file", b"new\n");
    put(&edited, "new/empty", b"");
    put(&edited, "bytes", &[0, 9, 2, 255]);
    fs::remove_file(edited.join("gone")).expect("own folder");
    fs::rename(edited.join("old name"), edited.join("new/name")).expect("own folder");
    fs::set_permissions(edited.join("mode"), fs::Permissions::from_mode(0o755)).expect("own folder");
    fs::remove_file(edited.join("kind")).expect("own folder");
    symlink("/etc/passwd", edited.join("kind")).expect("own folder");
    let changes = trees.changes().await;
    assert_eq!(trees.applied(&changes.patch), listing(&edited));
    let changed = file(&changes, "changed");
    assert_eq!(
        (changed.status, changed.additions, changed.deletions),
        (Status::Modified, 1, 1)
    );
    assert_eq!(file(&changes, "gone").status, Status::Deleted);
    assert_eq!(file(&changes, "new/deep/file").status, Status::Added);
    let renamed = file(&changes, "new/name");
    assert_eq!(
        (renamed.status, renamed.old_path.as_deref()),
        (Status::Renamed, Some("old name"))
    );
    assert!(file(&changes, "bytes").binary && !changed.binary);
    let patch = fs::read_to_string(&changes.patch).expect("text");
    assert!(!patch.contains("root:x"), "a link out of the tree was followed");
}

#[tokio::test]
async fn ignored_files_are_listed_and_not_in_the_patch() {
    let trees = Trees::new();
    trees.both(".gitignore", "*.log\nbuild/\n");
    trees.both("sub/.gitignore", "!kept.log\n");
    trees.both("tracked.log", "tracked\n");
    let edited = trees.edited();
    put(&edited, "noise.log", b"noise\n");
    put(&edited, "build/out", b"out\n");
    put(&edited, "sub/kept.log", b"kept\n");
    put(&edited, "tracked.log", b"changed\n");
    // What the job itself says to ignore is no reason to hide anything.
    put(&edited, ".gitignore", b"*\n");
    put(&edited, "plain", b"plain\n");
    let changes = trees.changes().await;
    let ignored: Vec<&str> = changes
        .files
        .iter()
        .filter(|file| file.ignored)
        .map(|file| file.path.as_str())
        .collect();
    assert_eq!(ignored, ["build/out", "noise.log"]);
    let applied = trees.applied(&changes.patch);
    let mut expected = listing(&edited);
    expected.retain(|path, _| !ignored.contains(&path.as_str()));
    assert_eq!(applied, expected);
}

#[tokio::test]
async fn c17_122_nothing_in_the_edited_tree_is_obeyed() {
    let trees = Trees::new();
    trees.both("text", "a\r\nb $Id$\n");
    trees.both("hidden", "one\n");
    let edited = trees.edited();
    let ran = trees.folder.path().join("ran");
    let attributes =
        "* binary -diff filter=evil diff=evil ident text eol=crlf working-tree-encoding=UTF-16\nhidden export-ignore\n";
    put(&edited, ".gitattributes", attributes.as_bytes());
    let evil = format!("touch {}", ran.display());
    let config = format!(
        "[core]\n\tfsmonitor = {evil}\n\tpager = {evil}\n\thooksPath = hooks\n[filter \"evil\"]\n\tclean = {evil}\n\tsmudge = {evil}\n[diff \"evil\"]\n\tcommand = {evil}\n\ttextconv = {evil}\n[diff]\n\texternal = {evil}\n"
    );
    put(&edited, ".git/config", config.as_bytes());
    put(&edited, ".git/HEAD", b"ref: refs/heads/main\n");
    put(&edited, ".git/objects/x", b"");
    put(&edited, ".git/refs/x", b"");
    put(&edited, ".git/info/attributes", b"* -diff\n");
    put(
        &edited,
        ".git/hooks/pre-applypatch",
        format!("#!/bin/sh\n{evil}\n").as_bytes(),
    );
    fs::set_permissions(
        edited.join(".git/hooks/pre-applypatch"),
        fs::Permissions::from_mode(0o755),
    )
    .expect("own file");
    put(&edited, "inner/.git/config", config.as_bytes());
    put(&edited, "inner/file", b"inner\n");
    put(&edited, "text", b"a\r\nchanged $Id$\n");
    put(&edited, "hidden", b"two\n");
    let changes = trees.changes().await;
    assert!(!ran.exists(), "something of the edited tree was run");
    let mut expected = listing(&edited);
    expected.retain(|path, _| !path.contains(".git/"));
    assert_eq!(trees.applied(&changes.patch), expected);
    assert!(!file(&changes, "text").binary, "an attribute made text binary");
    assert_eq!(changes.notes.len(), 2, "{:?}", changes.notes);
    assert!(
        changes.notes.iter().any(|note| note.starts_with("inner/.git ")),
        "{:?}",
        changes.notes
    );
}

#[tokio::test]
async fn odd_names_and_kinds_are_carried_or_named() {
    let trees = Trees::new();
    let edited = trees.edited();
    for name in [
        "new\nline",
        "tab\t",
        "quo\"te",
        "back\\slash",
        " blank ",
        "-dash",
        ":(magic)x",
        "ünï",
        "a b/c d",
        "*",
    ] {
        put(&edited, name, format!("{name}\n").as_bytes());
    }
    let raw = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"raw\xff");
    fs::write(edited.join(raw), "raw\n").expect("own folder");
    nix::unistd::mkfifo(&edited.join("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("own folder");
    let _socket = std::os::unix::net::UnixListener::bind(edited.join("socket")).expect("own folder");
    let changes = trees.changes().await;
    assert_eq!(changes.notes.len(), 2, "{:?}", changes.notes);
    drop(_socket);
    fs::remove_file(edited.join("pipe")).expect("own folder");
    fs::remove_file(edited.join("socket")).expect("own folder");
    assert_eq!(trees.applied(&changes.patch), listing(&edited));
}

/// What may be at a path.
#[derive(Debug, Clone)]
enum Thing {
    File(Vec<u8>, bool),
    Link(String),
}

fn thing() -> impl Strategy<Value = Thing> {
    let lines = prop::collection::vec("[ab]{0,3}", 0..6).prop_map(|lines| lines.join("\n").into_bytes());
    let bytes = prop::collection::vec(any::<u8>(), 0..20);
    prop_oneof![
        4 => (prop_oneof![3 => lines, 1 => bytes], any::<bool>()).prop_map(|(content, mode)| Thing::File(content, mode)),
        // Never a link in a circle: `git apply` itself cannot put a folder in the place of one.
        1 => "[d-f]{1,3}".prop_map(Thing::Link),
    ]
}

fn tree() -> impl Strategy<Value = BTreeMap<String, Thing>> {
    prop::collection::btree_map("[a-c](/[a-c]){0,2}", thing(), 0..8)
}

/// Lays a tree out; of paths that exclude each other the first stays.
fn lay(root: &Path, tree: &BTreeMap<String, Thing>) {
    for (path, thing) in tree {
        let place = root.join(path);
        let free = place
            .ancestors()
            .skip(1)
            .take_while(|above| *above != root)
            .all(|above| fs::symlink_metadata(above).map_or(true, |found| found.is_dir()));
        if !free || fs::symlink_metadata(&place).is_ok() {
            continue;
        }
        fs::create_dir_all(place.parent().expect("below the root")).expect("own folder");
        match thing {
            Thing::Link(target) => symlink(target, &place).expect("own folder"),
            Thing::File(content, executable) => {
                fs::write(&place, content).expect("own folder");
                let mode = if *executable { 0o755 } else { 0o644 };
                fs::set_permissions(&place, fs::Permissions::from_mode(mode)).expect("own folder");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_patch_turns_any_base_into_any_edited_tree(base in tree(), edited in tree()) {
        let trees = Trees::new();
        lay(&trees.base(), &base);
        lay(&trees.edited(), &edited);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let changes = runtime.block_on(trees.changes());
        prop_assert_eq!(trees.applied(&changes.patch), listing(&trees.edited()));
    }
}

/// Makes folders one in another by steps, as deep as no path reaches, and opens the last one.
fn deep(root: &Path, name: &str, count: usize) -> std::os::fd::OwnedFd {
    use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = openat(CWD, root, flags, Mode::empty()).expect("own folder");
    for _ in 0..count {
        mkdirat(&at, name, Mode::RWXU).expect("made");
        at = openat(&at, name, flags, Mode::empty()).expect("open");
    }
    at
}

fn touch(folder: &std::os::fd::OwnedFd, name: &str) {
    use rustix::fs::{Mode, OFlags, openat};
    drop(openat(folder, name, OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).expect("made"));
}

#[tokio::test]
async fn a_path_longer_than_any_program_takes_is_left_out_and_told_shortly() {
    let trees = Trees::new();
    put(&trees.edited(), "kept", b"x");
    touch(&deep(&trees.edited(), &"n".repeat(250), 20), "far");
    let changes = trees.changes().await;
    assert_eq!(changes.files.len(), 1, "{:?}", changes.files);
    let told = changes
        .notes
        .iter()
        .any(|note| note.contains("too long a path") && note.len() < 1000);
    assert!(told, "{:?}", changes.notes);
}

#[tokio::test]
async fn names_that_together_take_too_much_memory_are_too_large() {
    let trees = Trees::new();
    let folder = deep(&trees.edited(), &"n".repeat(250), 14);
    for number in 0..18_000 {
        touch(&folder, &format!("{number:0>250}"));
    }
    let scratch = trees.folder.path().join("scratch");
    let refused = changes(&trees.base(), &trees.edited(), &scratch).await;
    assert!(matches!(refused, Err(CollectError::TooLarge(_))), "{refused:?}");
}

#[tokio::test]
async fn more_changed_files_than_any_patch_holds_are_too_large() {
    let trees = Trees::new();
    let folder = deep(&trees.edited(), "many", 1);
    for number in 0..=200_000 {
        touch(&folder, &number.to_string());
    }
    let scratch = trees.folder.path().join("scratch");
    let refused = changes(&trees.base(), &trees.edited(), &scratch).await;
    assert!(matches!(refused, Err(CollectError::TooLarge(_))), "{refused:?}");
}
