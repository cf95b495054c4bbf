//! Keys: what each may do, and what it sees.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use super::world::{Answer, TOKEN, World, endless, noop};

const SCOPES: [&str; 11] = [
    "runs:read",
    "runs:write",
    "agents:read",
    "agents:write",
    "pods:read",
    "pods:write",
    "repos:read",
    "repos:write",
    "external:read",
    "external:write",
    "runners:read",
];
const RANDOM: &str = "018f0000-0000-7000-8000-00000000beef";

/// Who may call each route, by method and path: the scopes of which one is enough, or `admin`, `any`, `open`, `orchestrator`.
fn may_call(route: &str) -> Option<&'static [&'static str]> {
    const READS: &[&str] = &["runs:read", "runs:write"];
    const RUN: &[&str] = &[
        "runs:read",
        "runs:write",
        "agents:read",
        "agents:write",
        "pods:read",
        "pods:write",
        "external:read",
        "external:write",
    ];
    Some(match route {
        "GET /v1/runs" => READS,
        "POST /v1/runs" | "POST /v1/runs/preflight" | "POST /v1/runs/{id}/retry" => &["runs:write"],
        "POST /v1/runs/{id}/cancel" => &["runs:write", "agents:write", "pods:write", "external:write"],
        "GET /v1/runs/{id}"
        | "GET /v1/runs/{id}/logs"
        | "GET /v1/runs/{id}/events"
        | "GET /v1/runs/{id}/usage"
        | "GET /v1/runs/{id}/artifacts"
        | "GET /v1/runs/{id}/artifacts/{name}" => RUN,
        "GET /v1/admin/credentials" | "POST /v1/admin/credentials" => &["admin"],
        "GET /v1/admin/credentials/{name}" | "DELETE /v1/admin/credentials/{name}" => &["admin"],
        "GET /v1/admin/egress" | "POST /v1/admin/egress" => &["admin"],
        "GET /v1/admin/egress/{name}" | "DELETE /v1/admin/egress/{name}" => &["admin"],
        "GET /v1/admin/harnesses" | "POST /v1/admin/harnesses" => &["admin"],
        "GET /v1/admin/harnesses/{name}" | "DELETE /v1/admin/harnesses/{name}" => &["admin"],
        "GET /v1/admin/models" | "POST /v1/admin/models" => &["admin"],
        "GET /v1/admin/models/{name}" | "DELETE /v1/admin/models/{name}" => &["admin"],
        "GET /v1/admin/variables" | "POST /v1/admin/variables" => &["admin"],
        "GET /v1/admin/variables/{name}" | "DELETE /v1/admin/variables/{name}" => &["admin"],
        "GET /v1/admin/harness-presets" | "POST /v1/admin/harnesses/from-preset" => &["admin"],
        "GET /v1/admin/projects" | "POST /v1/admin/projects" | "DELETE /v1/admin/projects/{id}" => &["admin"],
        "GET /v1/keys" | "POST /v1/keys" | "DELETE /v1/keys/{id}" => &["admin"],
        "GET /v1/admin/audit" | "GET /v1/admin/audit/verify" => &["admin"],
        "POST /v1/admin/pool/pairing-codes" | "POST /v1/admin/pool/enrollment-codes" => &["admin"],
        "GET /v1/admin/pool/orchestrators" | "DELETE /v1/admin/pool/orchestrators/{id}" => &["admin"],
        "GET /v1/admin/pool/workers" | "DELETE /v1/admin/pool/workers/{id}" => &["admin"],
        "POST /v1/admin/pool/workers/{id}/drain" => &["admin"],
        "POST /v1/orch/pair" => &["open"],
        "GET /v1/orch/whoami"
        | "POST /v1/orch/poll"
        | "POST /v1/orch/heartbeats"
        | "POST /v1/orch/workers/snapshot"
        | "POST /v1/orch/enrollment/consume"
        | "POST /v1/orch/jobs/{id}/state"
        | "POST /v1/orch/jobs/{id}/chunk"
        | "POST /v1/orch/jobs/{id}/budget"
        | "POST /v1/orch/jobs/{id}/telemetry"
        | "POST /v1/orch/jobs/{id}/artifacts"
        | "POST /v1/orch/seal"
        | "POST /v1/orch/bundle/token"
        | "POST /v1/orch/bundle/redeem"
        | "GET /v1/orch/bundles/{id}" => &["orchestrator"],
        "GET /v1/whoami" => &["any"],
        // On a loopback bind.
        "GET /metrics" => &["open"],
        "GET /health" | "GET /health/live" | "GET /health/ready" | "GET /openapi.json" | "GET /docs" => &["open"],
        _ => return None,
    })
}

async fn routes(world: &World) -> Vec<(String, String)> {
    let document = world.get("/openapi.json").await.json();
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for method in item.as_object().expect("an item").keys() {
            routes.push((method.to_uppercase(), path.clone()));
        }
    }
    assert!(routes.len() > 40, "{routes:?}");
    routes
}

async fn ask(world: &World, token: Option<&str>, method: &str, path: &str, body: &str) -> Answer {
    let request = Request::builder().method(method).uri(path);
    let request = token
        .into_iter()
        .fold(request, |request, token| request.header("x-api-key", token));
    world
        .send(request.body(Body::from(body.to_owned())).expect("a request"))
        .await
}

async fn key(world: &World, org: &str, scopes: &[&str]) -> (String, String) {
    let made = world
        .post("/v1/keys", &json!({"org": org, "name": "k", "scopes": scopes}))
        .await;
    assert_eq!(made.status, 201, "{}", made.text());
    let text = |name: &str| made.json()[name].as_str().expect("text").to_owned();
    (text("key"), text("id"))
}

async fn project(world: &World, slug: &str) -> String {
    let made = world
        .post("/v1/admin/projects", &json!({"slug": slug, "name": slug}))
        .await;
    made.json()["id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn c17_114_every_route_and_every_caller() {
    let world = World::start().await;
    let mut keys = Vec::new();
    for scope in SCOPES {
        keys.push((scope, key(&world, "default", &[scope]).await.0));
    }
    for (method, path) in routes(&world).await {
        let route = format!("{method} {path}");
        let enough = may_call(&route).unwrap_or_else(|| panic!("{route} has no line in the table"));
        let place = path.replace("{id}", RANDOM).replace("{name}", "x");
        // A body that is refused, but later than its sender.
        let status = async |token: Option<&str>| {
            let answer = ask(&world, token, &method, &place, "[").await;
            let code = if answer.status == 403 {
                answer.json()["code"].clone()
            } else {
                Value::Null
            };
            (answer.status, code.as_str().unwrap_or_default().to_owned())
        };
        let passes = |status: &(u16, String)| !matches!(status.0, 401) && (status.0 != 403);
        let (nobody, stranger) = (status(None).await, status(Some("pond_pk_unknown")).await);
        let service = status(Some(TOKEN)).await;
        if enough == ["open"] {
            assert!(passes(&nobody) && passes(&stranger) && passes(&service), "{route}");
            continue;
        }
        assert_eq!(nobody.0, 401, "{route}");
        assert_eq!(stranger, (403, "forbidden".into()), "{route}");
        assert_eq!(passes(&service), enough != ["orchestrator"], "{route}: {service:?}");
        for (scope, key) in &keys {
            let told = status(Some(key)).await;
            match enough {
                ["any"] => assert_eq!(told.0, 200, "{route} {scope}"),
                ["orchestrator"] => assert_eq!(told, (403, "forbidden".into()), "{route} {scope}"),
                _ if enough.contains(scope) => assert!(passes(&told), "{route} {scope}: {told:?}"),
                _ => assert_eq!(told, (403, "missing_scope".into()), "{route} {scope}"),
            }
        }
    }
}

#[tokio::test]
async fn c17_42_a_key_is_shown_once_and_a_project_key_is_no_admin() {
    let world = World::start().await;
    let acme = project(&world, "acme").await;
    let body = json!({"org": "acme", "name": "ci", "scopes": ["runs:write", "runners:read"], "expires_at": "2999-01-01T00:00:00Z"});
    let made = world.post("/v1/keys", &body).await;
    assert_eq!((made.status, made.header("cache-control")), (201, "no-store"));
    let mut shown = made.json();
    let token = shown["key"].as_str().expect("a key").to_owned();
    assert!(token.starts_with("pond_pk_") && token.len() >= 8 + 43, "{token}");
    assert_eq!(shown["project_id"], acme.as_str());
    shown.as_object_mut().expect("an object").remove("key");
    let list = world.get(&format!("/v1/keys?project_id={acme}")).await;
    assert_eq!(list.json(), json!({"keys": [shown], "next_cursor": null}));
    assert!(!list.text().contains(&token));
    let refused = ask(&world, Some(&token), "GET", "/v1/keys", "").await;
    refused.is(403, "missing_scope");
    assert_eq!(refused.json()["required_scopes"], json!(["admin"]));
    let whoami = ask(&world, Some(&token), "GET", "/v1/whoami", "").await.json();
    let id = shown["id"].as_str().expect("an id");
    assert_eq!(
        whoami["principal"],
        json!({"kind": "key", "project_id": acme, "scopes": ["runs:write", "runners:read"], "key_id": id, "name": "ci"})
    );
    assert!(world.get("/v1/keys").await.json()["keys"][0]["last_used_at"].is_string());
    assert_eq!(world.delete(&format!("/v1/keys/{id}")).await.status, 204);
    ask(&world, Some(&token), "GET", "/v1/runs", "")
        .await
        .is(403, "forbidden");
    world.delete(&format!("/v1/keys/{id}")).await.is(404, "not_found");
}

#[tokio::test]
async fn bodies_of_keys_are_checked_whole() {
    let world = World::start().await;
    for (body, pointers) in [
        (json!({}), &["/name", "/scopes"][..]),
        (json!({"name": "", "scopes": [], "x": 1}), &["/name", "/scopes", "/x"]),
        (json!({"name": "k", "scopes": ["runs:read", "admin"]}), &["/scopes/1"]),
        (json!({"name": "k", "scopes": "runs:read"}), &["/scopes"]),
        (
            json!({"name": "k", "scopes": ["runs:read"], "expires_at": "2001-01-01T00:00:00Z"}),
            &["/expires_at"],
        ),
        (
            json!({"name": "k", "scopes": ["runs:read"], "org": "default", "project_id": RANDOM}),
            &["/org"],
        ),
        (
            json!({"name": "k", "scopes": ["runs:read"], "project_id": "mine"}),
            &["/project_id"],
        ),
    ] {
        let refused = world.post("/v1/keys", &body).await;
        assert_eq!(
            (refused.status, refused.pointers()),
            (422, pointers.iter().map(ToString::to_string).collect()),
            "{body}"
        );
    }
    for org in ["nowhere", "No-Slug"] {
        let body = json!({"name": "k", "scopes": ["runs:read"], "org": org});
        world.post("/v1/keys", &body).await.is(404, "not_found");
    }
    assert_eq!(world.get("/v1/keys").await.json()["keys"], json!([]));
}

#[tokio::test]
async fn c17_05_a_key_submits_to_its_own_project_and_to_no_other() {
    let world = World::start().await;
    let (acme, other) = (project(&world, "acme").await, project(&world, "other").await);
    let (token, _) = key(&world, "acme", &["runs:write"]).await;
    let submit = async |project: Option<&str>| {
        let mut body = noop();
        if let Some(project) = project {
            body["projectId"] = project.into();
        }
        ask(&world, Some(&token), "POST", "/v1/runs", &body.to_string()).await
    };
    for named in [None, Some(acme.as_str())] {
        let run = submit(named).await;
        assert_eq!(
            (run.status, &run.json()["projectId"]),
            (201, &json!(acme)),
            "{}",
            run.text()
        );
    }
    let mut bodies = BTreeSet::new();
    for foreign in [&other, RANDOM] {
        for path in ["/v1/runs", "/v1/runs/preflight"] {
            let mut body = noop();
            body["projectId"] = foreign.into();
            let refused = ask(&world, Some(&token), "POST", path, &body.to_string()).await;
            let mut body = refused.is(404, "not_found").json();
            body["request_id"] = Value::Null;
            bodies.insert(body.to_string());
        }
        let listed = ask(
            &world,
            Some(&token),
            "GET",
            &format!("/v1/runs?projectId={foreign}"),
            "",
        )
        .await;
        listed.is(404, "not_found");
    }
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert_eq!(
        world.get("/v1/admin/projects").await.json()["projects"]
            .as_array()
            .map(Vec::len),
        Some(3)
    );
    let runs = ask(&world, Some(&token), "GET", "/v1/runs", "").await.json();
    assert_eq!(runs["runs"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn c17_103_a_key_of_another_family_sees_no_plain_run() {
    let world = World::start().await;
    project(&world, "acme").await;
    let (owner, _) = key(&world, "acme", &["runs:write"]).await;
    let (pods, _) = key(&world, "acme", &["pods:write"]).await;
    let (foreign, _) = key(&world, "default", &["pods:write"]).await;
    let run = ask(&world, Some(&owner), "POST", "/v1/runs", &endless().to_string()).await;
    let id = run.json()["id"].as_str().expect("an id").to_owned();
    for (method, tail) in [
        ("GET", ""),
        ("GET", "/logs"),
        ("GET", "/usage"),
        ("GET", "/artifacts"),
        ("POST", "/cancel"),
    ] {
        let path = format!("/v1/runs/{id}{tail}");
        let own = ask(&world, Some(&pods), method, &path, "").await;
        own.is(403, "missing_scope");
        let needed = if method == "GET" { "runs:read" } else { "runs:write" };
        assert_eq!(own.json()["required_scopes"], json!([needed]));
        ask(&world, Some(&foreign), method, &path, "")
            .await
            .is(404, "not_found");
        let unknown = path.replace(&id, RANDOM);
        ask(&world, Some(&pods), method, &unknown, "")
            .await
            .is(404, "not_found");
    }
    let cancelled = ask(&world, Some(&owner), "POST", &format!("/v1/runs/{id}/cancel"), "").await;
    assert_eq!(cancelled.status, 202);
}

#[tokio::test]
async fn c17_101_a_key_sees_that_something_was_redacted_and_not_what() {
    let world = World::start().await;
    let (token, _) = key(&world, "default", &["runs:read"]).await;
    let run = world.ended(&noop()).await;
    world.log(&run, "before [redacted:OPENAI_API_KEY] after").await;
    for path in [format!("/v1/runs/{run}/logs"), format!("/v1/runs/{run}/events")] {
        let seen = ask(&world, Some(&token), "GET", &path, "").await.text();
        assert!(
            seen.contains("before [redacted] after") && !seen.contains("OPENAI"),
            "{seen}"
        );
        let whole = world.get(&path).await.text();
        assert!(whole.contains("before [redacted:OPENAI_API_KEY] after"), "{whole}");
    }
    let request = Request::get(format!("/v1/runs/{run}/logs"))
        .header("x-api-key", &token)
        .header("accept", "application/x-ndjson");
    let all = world.send(request.body(Body::empty()).expect("a request")).await.text();
    assert!(
        all.contains("before [redacted] after") && !all.contains("OPENAI"),
        "{all}"
    );
}
