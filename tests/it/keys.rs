//! API keys: what another server hears of them, and which folders they open.

use pond_core::EngineSettings;
use pond_core::keys::KEY_PREFIX;
use pond_core::page::PageRequest;
use pond_core::scope::Scope;
use pond_core::sources::FolderScope;
use pond_tests::on_every_store;
use pond_tests::server::answer;
use pond_tests::world::{noop, stage};
use reqwest::Method;
use serde_json::{Value, json};

fn with_folder(path: &str) -> Value {
    let source = json!([{"label": "code", "kind": "folder", "config": {"path": path}}]);
    json!({"definition": {"stages": [stage("a", &noop(1, 0.0))]}, "sources": source})
}

on_every_store! {
    async fn c17_109_a_key_revoked_on_one_engine_is_refused_by_the_other(world: World) {
        let other = world.another_engine(EngineSettings::default()).await;
        let body = json!({"name": "k", "scopes": ["runs:read"]});
        let issued = world.pond.keys().create(&body).await.unwrap();
        let token = issued.token.expose();
        for keys in [world.pond.keys(), other.keys()] {
            assert!(keys.principal(token).await.unwrap().is_some());
            assert!(keys.principal(&format!("{token}x")).await.unwrap().is_none());
        }
        other.keys().revoke(Scope::Org, issued.key.id).await.unwrap();
        for keys in [world.pond.keys(), other.keys()] {
            assert!(keys.principal(token).await.unwrap().is_none());
        }
        let page = PageRequest { limit: 10, after: None };
        assert!(world.pond.keys().list(Scope::Org, page).await.unwrap().items.is_empty());
        other.shutdown().await;
    }

    async fn c17_42_the_store_does_not_hold_the_key(world: World) {
        let issued = world.pond.keys().create(&json!({"name": "k", "scopes": ["runs:read"]})).await.unwrap();
        let secret = issued.token.expose().strip_prefix(KEY_PREFIX).unwrap();
        // Its first characters are shown; the rest is nowhere.
        let rest = &secret.as_bytes()[8..];
        for (place, bytes) in world.stored_bytes().await {
            assert!(!bytes.windows(rest.len()).any(|part| part == rest), "{place}");
        }
    }

    async fn c17_88_a_key_reads_folders_of_its_project_alone(world: World) {
        let server = world.serve().await;
        let root = world.folder.path().join("sources");
        for (folder, file) in [("acme", "own.txt"), ("other", "theirs.txt")] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
            std::fs::write(root.join(folder).join(file), "x").unwrap();
        }
        for slug in ["acme", "other"] {
            server.post("/v1/admin/projects", &json!({"slug": slug, "name": slug})).await;
        }
        let (_, key) = server.post("/v1/keys", &json!({"org": "acme", "name": "k", "scopes": ["runs:write"]})).await;
        let submit = async |path: &str| {
            let request = server.http.request(Method::POST, format!("{}/v1/runs", server.url));
            let request = request.header("x-api-key", key["key"].as_str().unwrap()).json(&with_folder(path));
            answer(request).await
        };
        let place = |path: &str| root.join(path).to_str().unwrap().to_owned();
        let mut refusals = Vec::new();
        for path in ["other", "nowhere", "other/../other", "."] {
            let (status, mut told) = submit(&place(path)).await;
            assert_eq!(status, 422, "{path}: {told}");
            told.as_object_mut().unwrap().remove("request_id");
            refusals.push(told);
        }
        assert!(refusals.windows(2).all(|pair| pair[0] == pair[1]), "{refusals:?}");
        let (status, run) = submit(&place("acme")).await;
        assert_eq!(status, 201, "{run}");
        let id = run["id"].as_str().unwrap().parse().unwrap();
        let ended = world.ended(id).await;
        assert_eq!(ended.head.state.phase.status().as_str(), "done", "{:?}", ended.head.state.phase);
        // What the key may read stays with the run, also when the operator repeats it.
        assert!(matches!(&ended.head.inputs.folders, FolderScope::Project { slug: Some(slug), .. } if slug == "acme"));
        let again = world.pond.runs().retry(Scope::Org, id).await.unwrap();
        assert_eq!(again.head.inputs.folders, ended.head.inputs.folders);
        let read = world.pond.runs().get(Scope::Org, again.head.id).await.unwrap();
        assert_eq!(read.head.inputs.folders, ended.head.inputs.folders, "as it is stored");
        world.ended(again.head.id).await;
        let (status, run) = server.post("/v1/runs", &with_folder(&place("other"))).await;
        assert_eq!(status, 201, "the service token: {run}");
        world.ended(run["id"].as_str().unwrap().parse().unwrap()).await;
    }
}
