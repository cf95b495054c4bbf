//! What jobs leave: patch, artifacts, lines.

use pond_core::EngineSettings;
use pond_core::logs::LogStream;
use pond_core::scope::Scope;
use serde_json::json;

use super::world::{World, quick};

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_job_leaves_a_patch_that_applies() {
    let world = World::start().await;
    let script = "echo three > c.txt; echo more >> a.txt; rm b.txt; echo to-err >&2; echo $POND_OUTPUT_DIR";
    let ended = world.run(script, json!({})).await;
    ended.is_done();
    let copy = ended.patched(&world);
    assert_eq!(
        std::fs::read_to_string(copy.path().join("c.txt")).expect("new"),
        "three\n"
    );
    assert_eq!(
        std::fs::read_to_string(copy.path().join("a.txt")).expect("there"),
        "one\nmore\n"
    );
    assert!(!copy.path().join("b.txt").exists());
    let list: serde_json::Value = serde_json::from_str(&ended.text("changed-files.json")).expect("JSON");
    let paths: Vec<&str> = list["files"]
        .as_array()
        .expect("files")
        .iter()
        .filter_map(|f| f["path"].as_str())
        .collect();
    assert_eq!(paths, ["a.txt", "b.txt", "c.txt"]);
    assert_eq!(
        list["base"].as_str().map(str::len),
        Some(64),
        "a folder's digest: {list}"
    );
    assert!(ended.said("to-err") && ended.said("/output"));
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_120_and_23_artifacts_are_regular_files_with_plain_names() {
    let world = World::start().await;
    let script = r#"cd $POND_OUTPUT_DIR
echo '{"n": 1}' > results.jsonl
mkdir -p sub && echo x > sub/deep.txt
echo x > 'not a name' && echo x > .hidden
ln -s /etc/passwd link && ln -s results.jsonl inner && mkfifo pipe
echo forged > changes.patch"#;
    let ended = world.run(script, json!({})).await;
    ended.is_done();
    let names: Vec<&str> = ended.artifacts.keys().map(String::as_str).collect();
    assert_eq!(names, ["changed-files.json", "changes.patch", "results.jsonl"]);
    assert_eq!(ended.text("results.jsonl"), "{\"n\": 1}\n");
    assert_eq!(ended.text("changes.patch"), "", "no edits give zero bytes");
    let told: Vec<&str> = ended
        .lines
        .iter()
        .map(|line| line.line.as_str())
        .filter(|line| line.contains("sub/deep.txt"))
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        ["not a name", ".hidden", "changes.patch"]
            .iter()
            .all(|name| told[0].contains(name)),
        "{told:?}"
    );
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_31_the_patch_is_kept_after_failure_timeout_and_cancel() {
    let world = World::start().await;
    let failed = world
        .run(
            "echo x > new.txt; echo kept > $POND_OUTPUT_DIR/note.txt; exit 7",
            json!({}),
        )
        .await;
    assert_eq!(failed.failure(), ("exit_nonzero", "exit code 7"));
    assert_eq!(failed.text("note.txt"), "kept\n");
    let slow = world
        .submit_with("echo x > new.txt; sleep 600", json!({}), json!({"timeout_sec": 1}))
        .await;
    let cancelled = world.submit("echo x > new.txt; echo ready; sleep 600", json!({})).await;
    world.said(cancelled, "ready").await;
    world
        .pond
        .runs()
        .cancel(Scope::Org, cancelled)
        .await
        .expect("cancelled");
    let cancelled = world.ended(cancelled).await;
    cancelled.is_cancelled();
    let slow = world.ended(slow).await;
    assert_eq!(slow.failure(), ("timeout", "ran longer than its 1 s"));
    for ended in [failed, slow, cancelled] {
        let copy = ended.patched(&world);
        assert_eq!(
            std::fs::read_to_string(copy.path().join("new.txt")).expect("new"),
            "x\n"
        );
    }
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_job_cannot_write_its_checkout_and_leaves_no_patch() {
    let world = World::start().await;
    let script =
        "cat a.txt; echo x > a.txt || echo refused; echo x > /x || echo refused too; echo ok > $POND_OUTPUT_DIR/r.txt";
    let ended = world
        .run(script, json!({"sandbox": {"profile": "untrusted-code-read"}}))
        .await;
    ended.is_done();
    assert!(ended.said("one") && ended.said("refused") && ended.said("refused too"));
    assert_eq!(
        ended.artifacts.keys().map(String::as_str).collect::<Vec<_>>(),
        ["r.txt"]
    );
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_20_long_lines_and_bad_utf8_are_stored_by_the_rule() {
    let world = World::start().await;
    let script = r"head -c 1048576 /dev/zero | tr '\0' x; echo; printf 'a\377b\n'; printf 'no end'";
    let ended = world.run(script, json!({})).await;
    ended.is_done();
    let out: Vec<&str> = ended
        .lines
        .iter()
        .filter(|line| line.stream == LogStream::Stdout)
        .map(|line| line.line.as_str())
        .collect();
    assert_eq!(out.len(), 18);
    assert!(
        out[..16]
            .iter()
            .all(|line| line.len() == 64 << 10 && line.bytes().all(|byte| byte == b'x'))
    );
    assert_eq!(&out[16..], ["a\u{fffd}b", "no end"]);
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_over_their_cap_fail_the_stage_and_the_smaller_ones_are_kept() {
    let settings = EngineSettings {
        artifact_cap: 100_000,
        ..quick()
    };
    let world = World::with(settings, |_| {}).await;
    let script = "cd $POND_OUTPUT_DIR; head -c 200000 /dev/zero > big; echo small > small";
    let ended = world.run(script, json!({})).await;
    assert_eq!(
        ended.failure(),
        ("artifact_too_large", "the artifacts are larger than their 100000 bytes")
    );
    assert_eq!(ended.text("small"), "small\n");
    assert!(!ended.artifacts.contains_key("big"));
    world.close().await;
}
