//! What jobs leave: patch, artifacts, lines.

use serde_json::json;

use super::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_job_leaves_a_patch_that_applies() {
    let world = World::start().await;
    let script = "echo three > c.txt; echo more >> a.txt; rm b.txt; echo to-err >&2; echo $POND_OUTPUT_DIR";
    let ended = world.run(script, json!({})).await;
    ended.is_done();
    let copy = ended.patched(&world);
    assert_eq!(std::fs::read_to_string(copy.path().join("c.txt")).expect("new"), "three\n");
    assert_eq!(std::fs::read_to_string(copy.path().join("a.txt")).expect("there"), "one\nmore\n");
    assert!(!copy.path().join("b.txt").exists());
    let list: serde_json::Value = serde_json::from_str(&ended.text("changed-files.json")).expect("JSON");
    let paths: Vec<&str> = list["files"].as_array().expect("files").iter().filter_map(|f| f["path"].as_str()).collect();
    assert_eq!(paths, ["a.txt", "b.txt", "c.txt"]);
    assert_eq!(list["base"].as_str().map(str::len), Some(64), "a folder's digest: {list}");
    assert!(ended.said("to-err") && ended.said("/output"));
    world.close().await;
}
