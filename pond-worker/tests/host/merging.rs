//! Merging what the areas of a stage changed.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use pond_core::artifacts::ByteStream;
use pond_core::clock::SystemClock;
use pond_core::runs::{AreaPatch, HostTools, MergedPatch};
use pond_worker::collect::changes;
use pond_worker::host::{HostToolsSettings, LocalTools};
use serde_json::{Value, json};

/// A tree, and areas that edit copies of it.
struct World {
    folder: tempfile::TempDir,
    areas: Vec<AreaPatch>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let base = folder.path().join("base");
        fs::create_dir_all(base.join("sub")).expect("own folder");
        let lines: String = (1..=20).map(|n| format!("line {n}\n")).collect();
        for path in ["text", "sub/other", "gone"] {
            fs::write(base.join(path), format!("{path}\n{lines}end of {path}\n")).expect("own folder");
        }
        fs::write(base.join("bytes"), [0, 1, 2, 255]).expect("own folder");
        fs::write(base.join(".gitignore"), "*.log\n").expect("own folder");
        symlink("text", base.join("link")).expect("own folder");
        let areas = Vec::new();
        Self { folder, areas }
    }

    fn base(&self) -> PathBuf {
        self.folder.path().join("base")
    }

    /// What an area leaves that edits the tree so.
    async fn area(&mut self, edit: impl FnOnce(&Path)) -> &mut AreaPatch {
        let number = self.areas.len() + 1;
        let own = self.folder.path().join(format!("area-{number}"));
        let scratch = self.folder.path().join(format!("scratch-{number}"));
        fs::create_dir(&scratch).expect("own folder");
        let copied = Command::new("cp").arg("-a").arg(self.base()).arg(&own).status();
        assert!(copied.expect("cp is there").success());
        edit(&own);
        let changes = changes(&self.base(), &own, &scratch).await.expect("collected");
        self.areas.push(AreaPatch {
            substage: format!("area-{number:03}"),
            patch: fs::read(&changes.patch).expect("a patch"),
            changed: json!({"base": "abc", "files": changes.files, "conflicts": []})
                .to_string()
                .into(),
        });
        self.areas.last_mut().expect("pushed above")
    }

    fn bundle(&self) -> ByteStream {
        let mut tar = tar::Builder::new(Vec::new());
        tar.follow_symlinks(false);
        tar.append_dir_all("", self.base()).expect("in memory");
        let bytes = Bytes::from(tar.into_inner().expect("in memory"));
        Box::pin(futures::stream::iter([Ok(bytes)]))
    }

    async fn merge(&self) -> MergedPatch {
        let settings = HostToolsSettings::new(self.folder.path().join("host"));
        let tools = LocalTools::open(settings, &SystemClock).await.expect("the tools open");
        let merged = tools.merge(self.bundle(), self.areas.clone()).await.expect("merged");
        let left = fs::read_dir(self.folder.path().join("host/jobs"))
            .expect("there")
            .count();
        assert_eq!(left, 0, "nothing is left of it");
        tools.close().await.expect("closed");
        merged
    }

    /// Applies a patch to a copy of the tree, as a user would.
    fn applied(&self, patch: &[u8]) -> PathBuf {
        let copy = tempfile::tempdir_in(self.folder.path()).expect("a folder").keep();
        let tree = copy.join("tree");
        let copied = Command::new("cp").arg("-a").arg(self.base()).arg(&tree).status();
        assert!(copied.expect("cp is there").success());
        let file = copy.join("patch");
        fs::write(&file, patch).expect("own folder");
        if !patch.is_empty() {
            let git = Command::new("git").arg("apply").arg(&file).current_dir(&tree).output();
            let git = git.expect("git runs");
            assert!(git.status.success(), "{}", String::from_utf8_lossy(&git.stderr));
        }
        tree
    }
}

fn replace(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).expect("text");
    assert!(text.contains(from));
    fs::write(file, text.replace(from, to)).expect("own folder");
}

fn changed(merged: &MergedPatch) -> Value {
    serde_json::from_slice(&merged.changed).expect("JSON")
}

#[tokio::test]
async fn c17_32_of_two_areas_that_edit_one_line_the_first_is_in_the_patch_and_the_other_is_named() {
    let mut world = World::new();
    world
        .area(|tree| replace(&tree.join("text"), "line 3\n", "first\n"))
        .await;
    world
        .area(|tree| {
            replace(&tree.join("text"), "line 3\n", "second\n");
            fs::write(tree.join("also"), "left out whole\n").expect("own folder");
        })
        .await;
    world
        .area(|tree| replace(&tree.join("text"), "line 18\n", "third\n"))
        .await;
    let merged = world.merge().await;
    assert_eq!(merged.conflicts, ["area-002"]);
    let tree = world.applied(&merged.patch);
    let text = fs::read_to_string(tree.join("text")).expect("text");
    assert!(
        text.contains("first\n") && text.contains("third\n") && !text.contains("second"),
        "{text}"
    );
    assert!(!tree.join("also").exists());
    let expected = json!({
        "base": "abc",
        "files": [{
            "path": "text", "status": "modified", "old_path": null, "additions": 2, "deletions": 2, "binary": false,
            "ignored": false,
        }],
        "conflicts": ["area-002"],
    });
    assert_eq!(changed(&merged), expected);
    for area in &world.areas {
        world.applied(&area.patch);
    }
}

#[tokio::test]
async fn changes_of_every_kind_are_merged() {
    let mut world = World::new();
    world
        .area(|tree| {
            fs::write(tree.join("new ü"), "new\n").expect("own folder");
            fs::write(tree.join("bytes"), [9, 0, 9, 254]).expect("own folder");
            fs::write(tree.join("a.log"), "ignored\n").expect("own folder");
        })
        .await;
    world.area(|_| {}).await;
    world
        .area(|tree| {
            fs::rename(tree.join("sub/other"), tree.join("moved")).expect("own folder");
            replace(&tree.join("moved"), "line 7\n", "seven\n");
            fs::remove_file(tree.join("link")).expect("own folder");
            symlink("sub", tree.join("link")).expect("own folder");
        })
        .await;
    world
        .area(|tree| {
            fs::remove_file(tree.join("gone")).expect("own folder");
            fs::set_permissions(tree.join("text"), fs::Permissions::from_mode(0o755)).expect("own folder");
            fs::write(tree.join("a.log"), "ignored too\n").expect("own folder");
        })
        .await;
    let merged = world.merge().await;
    assert_eq!(merged.conflicts, Vec::<String>::new());
    let tree = world.applied(&merged.patch);
    assert_eq!(fs::read_to_string(tree.join("new ü")).expect("there"), "new\n");
    assert_eq!(fs::read(tree.join("bytes")).expect("there"), [9, 0, 9, 254]);
    assert!(
        fs::read_to_string(tree.join("moved"))
            .expect("there")
            .contains("seven\n")
    );
    assert_eq!(fs::read_link(tree.join("link")).expect("a link"), Path::new("sub"));
    assert!(!tree.join("gone").exists() && !tree.join("sub/other").exists());
    let mode = fs::metadata(tree.join("text")).expect("there").permissions().mode();
    assert_eq!(mode & 0o111, 0o111);
    let list = changed(&merged);
    let paths: Vec<&str> = list["files"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|file| file["path"].as_str().expect("text"))
        .collect();
    assert_eq!(paths, ["a.log", "bytes", "gone", "link", "moved", "new ü", "text"]);
    assert_eq!(list["files"][4]["old_path"], "sub/other");
    assert_eq!(list["files"][0]["ignored"], true);
}

#[tokio::test]
async fn no_edits_give_zero_bytes_and_two_areas_may_make_different_files_in_one_folder() {
    let mut world = World::new();
    world.area(|_| {}).await;
    let merged = world.merge().await;
    assert_eq!((merged.patch.len(), merged.conflicts.len()), (0, 0));
    assert_eq!(changed(&merged), json!({"base": "abc", "files": [], "conflicts": []}));
    for name in ["one", "two"] {
        world
            .area(|tree| {
                fs::create_dir(tree.join("fresh")).expect("own folder");
                fs::write(tree.join("fresh").join(name), name).expect("own folder");
            })
            .await;
    }
    // The same new file again is one that is there already.
    world
        .area(|tree| {
            fs::create_dir(tree.join("fresh")).expect("own folder");
            fs::write(tree.join("fresh/one"), "other").expect("own folder");
        })
        .await;
    let merged = world.merge().await;
    assert_eq!(merged.conflicts, ["area-004"]);
    let tree = world.applied(&merged.patch);
    assert_eq!(fs::read_to_string(tree.join("fresh/one")).expect("there"), "one");
    assert_eq!(fs::read_to_string(tree.join("fresh/two")).expect("there"), "two");
}

#[tokio::test]
async fn what_an_area_lies_about_harms_only_itself() {
    let mut world = World::new();
    // Its list leaves out what it changes.
    let area = world
        .area(|tree| replace(&tree.join("sub/other"), "line 3\n", "hidden\n"))
        .await;
    area.changed = json!({"base": null, "files": [], "conflicts": []}).to_string().into();
    // Its list is nonsense, as is the patch of the next.
    world
        .area(|tree| replace(&tree.join("text"), "line 4\n", "x\n"))
        .await
        .changed = b"{".into();
    world.area(|_| {}).await.patch = b"diff --git a/text b/text\n\xff\n".into();
    for path in ["../out", "/tmp/out", ".git/hooks/x", "link/../../out", "link/below"] {
        let area = world.area(|_| {}).await;
        area.patch = format!(
            "diff --git a/{path} b/{path}\nnew file mode 100644\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+x\n"
        )
        .into();
    }
    world
        .area(|tree| replace(&tree.join("text"), "line 15\n", "honest\n"))
        .await;
    let merged = world.merge().await;
    let lied: Vec<String> = (1..=8).map(|n| format!("area-{n:03}")).collect();
    assert_eq!(merged.conflicts, lied);
    let tree = world.applied(&merged.patch);
    let read = |path: &str| fs::read_to_string(tree.join(path)).expect("text");
    assert!(read("text").contains("honest") && !read("sub/other").contains("hidden"));
    assert_eq!(changed(&merged)["files"].as_array().expect("a list").len(), 1);
}
