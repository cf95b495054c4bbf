//! Runs with sources on every store.

use std::sync::{Arc, Mutex};

use base64::Engine;
use futures::TryStreamExt;
use pond_core::artifacts::ArtifactName;
use pond_core::config::{Credential, Owner};
use pond_core::outbound::AllowPrivate;
use pond_core::preflight::Severity;
use pond_core::runs::{FailureCode, Reach, RunOutcome, RunPhase, RunStatus};
use pond_core::scope::Scope;
use pond_core::{EngineSettings, Error};
use pond_tests::world::{body, noop, stage};
use pond_tests::{World, on_every_store};
use pond_worker::net::testing::{CountingListener, GitBehaviour, GitRepo, GitServer};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn with_folder(mut body: Value, path: &str) -> Value {
    body["sources"] = json!([{"label": "app", "kind": "folder", "config": {"path": path}}]);
    body
}

fn outbound(list: &str) -> EngineSettings {
    EngineSettings {
        outbound: AllowPrivate::parse(list).unwrap(),
        ..EngineSettings::default()
    }
}

fn with_git(url: &str, credential: &str) -> Value {
    let mut body = body(&[stage("a", &noop(1, 0.0))]);
    body["sources"] = json!([{"label": "app", "kind": "git_https", "config": {"url": url, "credential": credential}}]);
    body
}

/// A tar.gz with one file of this name.
fn tarball(name: &str) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o644);
    let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    builder.append_data(&mut header, name, &b"x"[..]).unwrap();
    builder.into_inner().unwrap().finish().unwrap()
}

/// One file, at any path of a server on loopback.
struct ServedFile {
    address: std::net::SocketAddr,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl ServedFile {
    async fn start(bytes: Vec<u8>) -> Self {
        let bytes = Arc::new(Mutex::new(bytes));
        let now = bytes.clone();
        let router = axum::Router::new().fallback(async move || now.lock().unwrap().clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, bytes }
    }

    fn serve(&self, bytes: Vec<u8>) {
        *self.bytes.lock().unwrap() = bytes;
    }
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

    async fn c17_85_a_source_whose_place_its_credential_does_not_cover_is_not_dialled(world: World) {
        let listener = CountingListener::on("127.0.0.1").await;
        let world = World::with(world.backend, outbound(&format!("git={}", listener.address()))).await;
        let (config, runs) = (world.pond.config(), world.pond.runs());
        let url = format!("http://{}/acme/app", listener.address());
        let submission = with_git(&url, "c").to_string();
        let here = listener.address().to_string();
        let (sibling, elsewhere) = (format!("{here}/acme-x"), "127.0.0.1:1".to_owned());
        for hosts in [elsewhere, sibling, "git.test".to_owned()] {
            let credential = json!({"name": "c", "provider": "git", "hosts": [hosts], "secrets": {"GIT_TOKEN": "t0ken-123"}});
            config.put::<Credential>(Owner::Org, &credential).await.unwrap();
            let told = runs.preflight(world.project(), &submission, Reach::Dial).await.unwrap();
            let codes: Vec<_> = told.iter().map(|problem| (problem.code, problem.severity)).collect();
            assert_eq!(codes, [("credential_host_mismatch", Severity::Error)], "{hosts}: {told:?}");
            assert_eq!(told[0].pointer.as_deref(), Some("/sources/0/config/credential"));
            let refused = runs.submit(world.project(), &submission).await.unwrap_err();
            assert!(matches!(refused, Error::Preflight { problems, .. } if problems == told));
        }
        assert_eq!(listener.count().await, 0);
    }

    async fn c17_85_a_private_repository_is_fetched_with_its_credential_and_the_token_is_nowhere(world: World) {
        const TOKEN: &str = "t0ken-CANARY-1";
        let served = tempfile::tempdir().unwrap();
        GitRepo::init(served.path(), "app").commit(&[("a.rs", "// TODO: x\n")]);
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("x-access-token:{TOKEN}"));
        let behaviour = GitBehaviour { authorization: Some(format!("Basic {pair}")), ..GitBehaviour::default() };
        let server = GitServer::start(served.path(), behaviour).await;
        let world = World::with(world.backend, outbound(&format!("git={}", server.address()))).await;
        let credential = |host: &str| json!({"name": "c", "provider": "git", "hosts": [host], "secrets": {"GIT_TOKEN": TOKEN}});
        let here = server.address().to_string();
        world.pond.config().put::<Credential>(Owner::Org, &credential(&here)).await.unwrap();
        let run = world.submit(&with_git(&server.url("app"), "c")).await;
        let run = world.ended(run.head.id).await;
        assert_eq!(run.head.state.phase.status(), RunStatus::Done, "{:?}", run.head.state);
        for (name, bytes) in world.stored_bytes().await {
            for secret in [TOKEN, &pair] {
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "{name} holds the token");
            }
        }
        // What was good at first may be bad when it is run again.
        world.pond.config().put::<Credential>(Owner::Org, &credential("127.0.0.1:1")).await.unwrap();
        let refused = world.pond.runs().retry(Scope::Org, run.head.id).await.unwrap_err();
        assert!(matches!(refused, Error::Preflight { problems, .. } if problems[0].code == "credential_host_mismatch"));
    }

    async fn c17_89_an_entry_for_git_opens_its_place_to_git_alone(world: World) {
        let served = tempfile::tempdir().unwrap();
        GitRepo::init(served.path(), "app").commit(&[("a", "")]);
        let server = GitServer::start(served.path(), GitBehaviour::default()).await;
        let world = World::with(world.backend, outbound(&format!("git={}", server.address()))).await;
        let (url, asked) = (server.url("app"), server.requests());
        for (kind, config, field) in [
            ("tarball", json!({"url": url}), "url"),
            ("s3", json!({"bucket": "bucket", "prefix": "", "endpoint_url": url}), "endpoint_url"),
        ] {
            let mut submission = body(&[stage("a", &noop(1, 0.0))]);
            submission["sources"] = json!([{"label": "app", "kind": kind, "config": config}]);
            let refused = world.pond.runs().submit(world.project(), &submission.to_string()).await.unwrap_err();
            let Error::Invalid(faults) = refused else { panic!("{refused}") };
            assert_eq!(faults[0].pointer, format!("/sources/0/config/{field}"));
        }
        assert_eq!(server.requests(), asked, "nothing was sent there");
        let mut submission = with_git(&url, "c");
        submission["sources"][0]["config"]["credential"] = Value::Null;
        let run = world.submit(&submission).await;
        assert_eq!(world.ended(run.head.id).await.head.state.phase.status(), RunStatus::Done);
    }

    async fn c17_17_a_retry_runs_on_the_original_commit_though_the_branch_has_moved(world: World) {
        let served = tempfile::tempdir().unwrap();
        let repository = GitRepo::init(served.path(), "app");
        let original = repository.commit(&[("one", "")]);
        let server = GitServer::start(served.path(), GitBehaviour::default()).await;
        let world = World::with(world.backend, outbound(&format!("git={}", server.address()))).await;
        let mut submission = body(&[stage("files", &json!({"kind": "builtin", "name": "file_inventory"}))]);
        submission["sources"] = json!([{"label": "app", "kind": "git_https", "config": {"url": server.url("app")}}]);
        let first = world.submit(&submission).await.head.id;
        assert_eq!(world.ended(first).await.head.state.phase.status(), RunStatus::Done);
        let moved = repository.commit(&[("two", "")]);
        assert_ne!(original, moved);
        let ended = |id| {
            let world = &world;
            async move {
                let state = world.ended(id).await.head.state;
                assert_eq!(state.phase.status(), RunStatus::Done, "{state:?}");
                let resolved = state.bundle.unwrap().resolved[0].as_str().to_owned();
                (resolved, artifact(world, id, "files").await.contains("\"path\":\"two\""))
            }
        };
        let again = world.pond.runs().retry(Scope::Org, first).await.unwrap().head.id;
        assert_eq!(ended(again).await, (original.clone(), false));
        let once_more = world.pond.runs().retry(Scope::Org, again).await.unwrap().head.id;
        assert_eq!(ended(once_more).await, (original, false), "a retry of a retry too");
        let fresh = world.submit(&submission).await.head.id;
        assert_eq!(ended(fresh).await, (moved, true), "a new run sees the branch as it is");
    }

    async fn a_tarball_is_a_source_and_is_held_to_what_it_was_when_it_is_run_again(world: World) {
        let served = ServedFile::start(tarball("one")).await;
        let world = World::with(world.backend, outbound(&format!("tarball={}", served.address))).await;
        let mut submission = body(&[stage("files", &json!({"kind": "builtin", "name": "file_inventory"}))]);
        let url = format!("http://{}/app.tar.gz", served.address);
        submission["sources"] = json!([{"label": "app", "kind": "tarball", "config": {"url": url}}]);
        let run = world.submit(&submission).await;
        let run = world.ended(run.head.id).await;
        assert_eq!(run.head.state.phase.status(), RunStatus::Done, "{:?}", run.head.state);
        assert!(artifact(&world, run.head.id, "files").await.contains("\"path\":\"one\""));
        let resolved = run.head.state.bundle.unwrap().resolved;
        assert_eq!(resolved[0].as_str(), hex::encode(Sha256::digest(tarball("one"))));
        let again = world.pond.runs().retry(Scope::Org, run.head.id).await.unwrap();
        assert_eq!(world.ended(again.head.id).await.head.state.phase.status(), RunStatus::Done);
        served.serve(tarball("two"));
        let moved = world.pond.runs().retry(Scope::Org, run.head.id).await.unwrap();
        let moved = world.ended(moved.head.id).await;
        let RunPhase::Ended { outcome: RunOutcome::Failed(failure), .. } = &moved.head.state.phase else {
            panic!("{:?}", moved.head.state)
        };
        assert_eq!(failure.code, FailureCode::SourceFailed);
        assert!(failure.message.contains("fetched before"), "{failure:?}");
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
