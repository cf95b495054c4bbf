//! Runs with sources on every store.

use futures::TryStreamExt;
use pond_core::Error;
use pond_core::artifacts::ArtifactName;
use pond_core::runs::RunStatus;
use pond_core::scope::Scope;
use pond_tests::world::{body, noop, stage};
use pond_tests::{World, on_every_store};
use serde_json::{Value, json};

fn with_folder(mut body: Value, path: &str) -> Value {
    body["sources"] = json!([{"label": "app", "kind": "folder", "config": {"path": path}}]);
    body
}

async fn artifact(world: &World, run: pond_core::id::RunId, stage: &str) -> String {
    let name = ArtifactName::new("results.jsonl").unwrap();
    let runs = world.pond.runs();
    let artifact = runs.artifact(Scope::Org, run, Some(stage), None, &name).await.unwrap();
    let bytes: Vec<bytes::Bytes> = runs
        .artifact_bytes(&artifact, None)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    String::from_utf8(bytes.concat()).unwrap()
}

on_every_store! {
    async fn c17_25_builtins_give_exactly_the_expected_files(world: World) {
        let root = world.folder.path().join("sources/app");
        std::fs::create_dir_all(root.join("src/.git")).unwrap();
        std::fs::write(root.join("src/.git/config"), "TODO").unwrap();
        std::fs::write(root.join("src/main.rs"), "// TODO: x\nfn main() {}\n").unwrap();
        std::fs::write(root.join("a"), "").unwrap();
        let builtin = |name: &str| json!({"kind": "builtin", "name": name});
        let stages = [stage("files", &builtin("file_inventory")), stage("todos", &builtin("todo_scan"))];
        let run = world.submit(&with_folder(body(&stages), root.to_str().unwrap())).await;
        let run = world.ended(run.head.id).await;
        assert_eq!(run.head.state.phase.status(), RunStatus::Done, "{:?}", run.head.state);
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let files = artifact(&world, run.head.id, "files").await;
        let lines: Vec<Value> = files.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0], json!({"path": "a", "size": 0, "sha256": empty}));
        assert_eq!((&lines[1]["path"], &lines[1]["size"]), (&json!("src/main.rs"), &json!(24)));
        assert_eq!(lines.len(), 2);
        assert_eq!(
            artifact(&world, run.head.id, "todos").await,
            "{\"line\":1,\"path\":\"src/main.rs\",\"tag\":\"TODO\",\"text\":\"// TODO: x\"}\n"
        );
        assert!(run.head.state.bundle.is_some());
        // It is deleted behind the run's end.
        let left = || world.blobs.keys().iter().any(|key| key.starts_with("bundles/"));
        for _ in 0..500 {
            if left() {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
        assert!(!left(), "the bundle is deleted");
    }

    async fn c17_36_a_folder_outside_the_root_is_refused_alike_whether_it_is_there_or_not(world: World) {
        let root = world.folder.path().join("sources");
        std::fs::create_dir_all(root.join("in")).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("out")).unwrap();
        let mut told = Vec::new();
        for path in ["/etc", "/nowhere", "../scratch", "in/../../scratch", "out", "out/ssl"] {
            let path = if path.starts_with('/') { path.into() } else { format!("{}/{path}", root.display()) };
            let submission = with_folder(body(&[stage("a", &noop(1, 0.0))]), &path);
            let refused = world.pond.runs().submit(world.project(), &submission.to_string()).await.unwrap_err();
            let Error::Invalid(faults) = refused else { panic!("{refused}") };
            assert_eq!(faults[0].pointer, "/sources/0/config/path");
            told.push(faults[0].message.clone());
        }
        assert!(told.windows(2).all(|pair| pair[0] == pair[1]), "{told:?}");
    }
}
