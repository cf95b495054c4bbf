//! Two projects side by side: what is another's is answered as what is not there, on every route with an id.

use std::collections::BTreeSet;

use pond_tests::on_every_store;
use pond_tests::server::{Server, TOKEN, answer};
use pond_tests::world::{body, noop, stage};
use reqwest::Method;
use serde_json::{Value, json};

use crate::keys::{key, same};

const UNKNOWN: &str = "0197a000-0000-7000-8000-00000000dead";

/// What is asked for on a route: by whom, of what that is another project's, and of what is nowhere.
struct Asked {
    token: String,
    foreign: String,
    unknown: String,
}

/// Records of a project that the caller has no part in.
struct Foreign {
    project: String,
    run: String,
    key: String,
}

async fn other_project(server: &Server) -> Foreign {
    let (_, project) = server
        .post("/v1/admin/projects", &json!({"slug": "other", "name": "Other"}))
        .await;
    let project = project["id"].as_str().expect("a project").to_owned();
    let mut submission = body(&[stage("a", &noop(1, 0.0))]);
    submission["projectId"] = project.as_str().into();
    let (_, run) = server.post("/v1/runs", &submission).await;
    for (kind, mut entry) in [
        (
            "credentials",
            json!({"provider": "anthropic", "secrets": {"ANTHROPIC_API_KEY": "0123456789abcdef"}}),
        ),
        ("harnesses", json!({"command": ["true"]})),
        ("models", json!({"provider": "anthropic", "model": "m"})),
        ("variables", json!({"value": "b"})),
        ("egress", json!({"host": "theirs.example", "action": "allow"})),
    ] {
        entry["project_id"] = project.as_str().into();
        for name in ["name", "key"] {
            // Each kind knows one of the two, but for egress rules, which are named by their host.
            let mut named = entry.clone();
            named[name] = "theirs".into();
            server.post(&format!("/v1/admin/{kind}"), &named).await;
        }
        server.post(&format!("/v1/admin/{kind}"), &entry).await;
    }
    let (_, key) = key(server, json!({"project_id": project}), &["runs:read"]).await;
    Foreign {
        run: run["id"].as_str().expect("a run").to_owned(),
        key: key["id"].as_str().expect("a key").to_owned(),
        project,
    }
}

/// How a route with an id is asked. A new one needs a line here.
fn asked(route: &str, own: &str, foreign: &Foreign) -> Asked {
    let (_, path) = route.split_once(' ').expect("method and path");
    let filled = |id: &str| path.replace("{id}", id).replace("{name}", "x");
    let entry = |name: &str, project: &str| format!("{}?project_id={project}", path.replace("{name}", name));
    let by = |token: &str, foreign: String, unknown: String| Asked {
        token: token.to_owned(),
        foreign,
        unknown,
    };
    match path.split('/').collect::<Vec<_>>().as_slice() {
        ["", "v1", "runs", "{id}", ..] => by(own, filled(&foreign.run), filled(UNKNOWN)),
        // No key comes this far: what it asks for makes no difference.
        ["", "v1", "keys", "{id}"] => by(own, filled(&foreign.key), filled(UNKNOWN)),
        ["", "v1", "admin", "projects", "{id}"] => by(own, filled(&foreign.project), filled(UNKNOWN)),
        // The service token names the project: an entry of another one is not there.
        [
            "",
            "v1",
            "admin",
            "credentials" | "harnesses" | "models" | "variables",
            "{name}",
        ] => by(TOKEN, entry("theirs", UNKNOWN), entry("nowhere", UNKNOWN)),
        ["", "v1", "admin", "egress", "{name}"] => by(
            TOKEN,
            entry("theirs.example", UNKNOWN),
            entry("nowhere.example", UNKNOWN),
        ),
        // Workers and orchestrators are no project's.
        ["", "v1", "admin", "pool", ..] | ["", "v1", "orch", ..] => by(own, filled(&foreign.run), filled(UNKNOWN)),
        _ => panic!("{route} has an id: say here how it is asked for another project's"),
    }
}

/// The routes with an id, from the document that is made of the route table.
async fn routes_with_ids(server: &Server) -> BTreeSet<String> {
    let (_, document) = server.get("/openapi.json").await;
    let paths = document["paths"].as_object().expect("paths");
    let with_ids = paths.iter().filter(|(path, _)| path.contains('{'));
    let routes = with_ids.flat_map(|(path, methods)| {
        let methods = methods.as_object().expect("methods").keys();
        methods.map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    routes.collect()
}

async fn told(server: &Server, method: &Method, token: &str, path: &str) -> (u16, Value) {
    let (status, problem) = answer(server.request_as(token, method.clone(), path)).await;
    assert!(matches!(status, 403 | 404), "{method} {path}: {status} {problem}");
    (status, same(problem))
}

on_every_store! {
    async fn c17_115_what_is_anothers_is_answered_as_what_is_nowhere(world: World) {
        let server = world.serve().await;
        let foreign = other_project(&server).await;
        let scopes = ["runs:write", "agents:write", "pods:write", "repos:write", "external:write", "runners:read"];
        let (all, _) = key(&server, json!({}), &scopes).await;
        let (pods, _) = key(&server, json!({}), &["pods:read"]).await;
        let routes = routes_with_ids(&server).await;
        assert!(routes.len() >= 16, "{routes:?}");
        for route in &routes {
            let method: Method = route.split_once(' ').unwrap().0.parse().unwrap();
            let asked = asked(route, &all, &foreign);
            let (theirs, nowhere) = (
                told(&server, &method, &asked.token, &asked.foreign).await,
                told(&server, &method, &asked.token, &asked.unknown).await,
            );
            assert_eq!(theirs, nowhere, "{route}");
            let admin_only = asked.token != TOKEN && !route.contains(" /v1/runs/");
            assert_eq!(theirs.0, if admin_only { 403 } else { 404 }, "{route}");
            // A key that must have the run looked up to know whether it may is told no more.
            let narrow = (
                told(&server, &method, &pods, &asked.foreign).await,
                told(&server, &method, &pods, &asked.unknown).await,
            );
            assert_eq!(narrow.0, narrow.1, "{route}");
        }
        // They were there all along.
        for path in [
            format!("/v1/runs/{}", foreign.run),
            format!("/v1/keys?project_id={}", foreign.project),
            format!("/v1/admin/credentials/theirs?project_id={}", foreign.project),
            format!("/v1/admin/variables/theirs?project_id={}", foreign.project),
            format!("/v1/admin/egress/theirs.example?project_id={}", foreign.project),
        ] {
            assert_eq!(server.get(&path).await.0, 200, "{path}");
        }
    }
}
