//! Two projects on one server: neither can tell what the other has from what is not there.

use pond_tests::on_every_store;
use pond_tests::server::answer;
use pond_tests::world::{body, noop, stage};
use reqwest::Method;
use serde_json::{Value, json};

const RANDOM: &str = "018f0000-0000-7000-8000-00000000beef";

/// What a caller is told, but for the request's id.
async fn told(server: &pond_tests::Server, token: &str, method: &str, path: &str) -> (u16, Value) {
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    let request = server
        .http
        .request(method, format!("{}{path}", server.url))
        .header("x-api-key", token);
    let (status, mut told) = answer(request).await;
    if let Some(told) = told.as_object_mut() {
        told.remove("request_id");
    }
    (status, told)
}

/// A project with a key of every scope and a run; the key, its id and the run's.
async fn tenant(server: &pond_tests::Server, slug: &str) -> [String; 3] {
    server
        .post("/v1/admin/projects", &json!({"slug": slug, "name": slug}))
        .await;
    let scopes = [
        "runs:write",
        "agents:write",
        "pods:write",
        "repos:write",
        "external:write",
        "runners:read",
    ];
    let (status, key) = server
        .post("/v1/keys", &json!({"org": slug, "name": "k", "scopes": scopes}))
        .await;
    assert_eq!(status, 201, "{key}");
    let run = body(&[stage("a", &noop(1, 0.0))]);
    let mut run = run.clone();
    run["projectId"] = key["project_id"].clone();
    let (status, run) = server.post("/v1/runs", &run).await;
    assert_eq!(status, 201, "{run}");
    [&key["key"], &key["id"], &run["id"]].map(|text| text.as_str().expect("text").to_owned())
}

on_every_store! {
    async fn c17_115_a_foreign_id_and_a_random_one_are_answered_alike(world: World) {
        let server = world.serve().await;
        let [own, _, run] = tenant(&server, "one").await;
        let [_, foreign_key, foreign_run] = tenant(&server, "two").await;
        let (_, document) = server.get("/openapi.json").await;
        let mut walked = 0;
        for (path, item) in document["paths"].as_object().expect("paths") {
            if !path.contains("{id}") {
                continue;
            }
            let foreign = if path.starts_with("/v1/keys") { &foreign_key } else { &foreign_run };
            for method in item.as_object().expect("an item").keys().map(|method| method.to_uppercase()) {
                let place = |id: &str| path.replace("{id}", id).replace("{name}", "results.jsonl");
                let of_foreign = told(&server, &own, &method, &place(foreign)).await;
                let of_none = told(&server, &own, &method, &place(RANDOM)).await;
                assert_eq!(of_foreign, of_none, "{method} {path}");
                if path.starts_with("/v1/runs/") {
                    assert_eq!(of_none.0, 404, "{method} {path}");
                }
                walked += 1;
            }
        }
        assert!(walked >= 10, "{walked}");
        assert_eq!(told(&server, &own, "GET", &format!("/v1/runs/{run}")).await.0, 200);
        // Nothing was done to what is the other's.
        let (status, found) = server.get(&format!("/v1/runs/{foreign_run}")).await;
        assert_eq!((status, &found["run"]["cancelRequestedAt"]), (200, &Value::Null));
        let (_, keys) = server.get("/v1/keys").await;
        assert_eq!(keys["keys"].as_array().map(Vec::len), Some(2));
    }
}
