//! Runs: create, show, list, cancel, retry, preflight.

use std::collections::BTreeSet;

use pond_sdk::api;
use serde_json::{Value, json};

use super::world::{World, definition, endless, noop};

const UNKNOWN: &str = "018f0000-0000-7000-8000-000000000001";

#[tokio::test]
async fn c17_02_create_has_an_id_at_top_level_and_the_poll_ends_done() {
    let world = World::start().await;
    let created = world.post("/v1/runs", &noop()).await;
    assert_eq!(created.status, 201);
    let run = created.json();
    let id = run["id"].as_str().expect("an id");
    assert_eq!(created.header("location"), format!("/v1/runs/{id}"));
    world.wait(id).await;
    let shown = world.get(&format!("/v1/runs/{id}")).await.json();
    assert_eq!(shown["run"]["status"], "done");
    assert_eq!(shown["run"]["trigger"], "api");
    assert_eq!(shown["run"]["definition"], noop()["definition"]);
    let stage = &shown["stages"][0];
    assert_eq!(
        (&stage["key"], &stage["kind"], &stage["status"]),
        (&json!("s0"), &json!("noop"), &json!("done"))
    );
    assert_eq!(
        (&stage["attempt"], &stage["progress"]),
        (&json!(1), &json!({"done": 1, "total": 1}))
    );
    assert_eq!(stage["substages"], json!([]));
}

/// The server shows runs by a type of its own; a client reads them by the SDK's. Neither has a field that the other lacks.
#[tokio::test]
async fn shown_runs_are_those_of_the_sdk() {
    let world = World::start().await;
    let id = world.ended(&noop()).await;
    let shown = world.get(&format!("/v1/runs/{id}")).await.json();
    let read: api::RunDetail = serde_json::from_value(shown.clone()).expect("a run of the SDK");
    assert_eq!(serde_json::to_value(&read).expect("JSON"), shown);
    let listed = world.get("/v1/runs").await.json();
    let read: api::RunList = serde_json::from_value(listed.clone()).expect("a list of the SDK");
    assert_eq!(serde_json::to_value(&read).expect("JSON"), listed);
}

#[tokio::test]
async fn c17_04_context_comes_back_unchanged() {
    let world = World::start().await;
    let context = r#"{"big":123456789012345678901234567890,"deep":{"ä":[1.50,null,"\u0000"]}}"#;
    let body = format!(r#"{{"context": {context}, "definition": {}}}"#, noop()["definition"]);
    let created = world.call("POST", "/v1/runs", body).await;
    assert_eq!(created.status, 201, "{}", created.text());
    let id = created.json()["id"].as_str().expect("an id").to_owned();
    assert!(world.get(&format!("/v1/runs/{id}")).await.text().contains(context));
    assert!(world.get("/v1/runs").await.text().contains(context));
}

#[tokio::test]
async fn c17_06_unknown_fields_are_422_with_a_pointer() {
    let world = World::start().await;
    let mut top = noop();
    top["colour"] = "red".into();
    let mut stage = noop();
    stage["definition"]["stages"][0]["colour"] = "red".into();
    let executor = json!({"definition": definition(&[json!({"kind": "noop", "tick": 1})])});
    for (body, pointer) in [
        (top, "/colour"),
        (stage, "/definition/stages/0/colour"),
        (executor, "/definition/stages/0/executor/tick"),
    ] {
        let refused = world.post("/v1/runs", &body).await;
        assert_eq!(
            (refused.status, refused.pointers()),
            (422, vec![pointer.to_owned()]),
            "{}",
            refused.text()
        );
    }
    for path in [
        "/v1/runs?color=1",
        "/v1/admin/models?all=1",
        "/v1/runs/preflight?check=all",
    ] {
        let method = if path.contains("preflight") { "POST" } else { "GET" };
        let refused = world.call(method, path, noop().to_string()).await;
        refused.is(422, "invalid");
        assert_eq!(refused.pointers().len(), 1, "{path}");
    }
    assert_eq!(world.get("/v1/runs").await.json()["runs"], json!([]));
}

#[tokio::test]
async fn c17_07_bad_definitions_are_422_at_the_right_place() {
    let world = World::start().await;
    let stage = |key: &str| json!({"key": key, "name": "x", "executor": {"kind": "noop"}});
    let edge = |from: &str, to: &str| json!({"from": from, "to": to});
    let many: Vec<Value> = (0..501).map(|number| stage(&format!("s{number}"))).collect();
    for (definition, pointer) in [
        (json!({"stages": []}), "/definition/stages"),
        (json!({"stages": many}), "/definition/stages"),
        (json!({"stages": [stage("a"), stage("a")]}), "/definition/stages/1/key"),
        (
            json!({"stages": [stage("a")], "edges": [edge("a", "b")]}),
            "/definition/edges/0/to",
        ),
        (
            json!({"stages": [stage("a")], "edges": [edge("a", "a")]}),
            "/definition/edges/0",
        ),
        (
            json!({"stages": [stage("a"), stage("b"), stage("c")], "edges": [edge("a", "b"), edge("b", "c"), edge("c", "a")]}),
            "/definition/edges",
        ),
    ] {
        let refused = world.post("/v1/runs", &json!({"definition": definition})).await;
        refused.is(422, "preflight_failed");
        assert!(
            refused.pointers().iter().any(|found| found.starts_with(pointer)),
            "{pointer}: {}",
            refused.text()
        );
        assert_eq!(refused.json()["problems"][0]["code"], "definition_invalid");
    }
}

#[tokio::test]
async fn c17_10_lists_filter_and_page_without_repeat_or_loss() {
    let world = World::start().await;
    let mut ids = Vec::new();
    for number in 0..7 {
        let mut body = noop();
        body["trigger"] = if number % 2 == 0 { "even".into() } else { "odd".into() };
        ids.push(world.ended(&body).await);
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = world.get(&format!("/v1/runs?limit=2&cursor={cursor}")).await.json();
        seen.extend(
            page["runs"]
                .as_array()
                .expect("runs")
                .iter()
                .map(|run| run["id"].as_str().expect("id").to_owned()),
        );
        // Runs added meanwhile are newer than every page to come.
        world.run(&noop()).await;
        match page["nextCursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    let newest_first: Vec<String> = ids.iter().rev().cloned().collect();
    assert_eq!(seen, newest_first);
    let count = async |query: &str| {
        let answer = world.get(&format!("/v1/runs?{query}")).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        answer.json()["runs"].as_array().map(Vec::len)
    };
    assert_eq!(count("trigger=odd").await, Some(3));
    assert_eq!(count("trigger=odd&status=done,failed").await, Some(3));
    assert_eq!(count("status=cancelled").await, Some(0));
    assert_eq!(count("status=&limit=&cursor=&since=&trigger=even").await, Some(4));
    assert_eq!(count("since=2999-01-01T00:00:00Z").await, Some(0));
    assert_eq!(count("since=1999-01-01T00:00:00%2B01:00&trigger=odd").await, Some(3));
    for (query, pointer) in [
        ("cursor=x", "cursor"),
        ("status=done,dancing", "status"),
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("since=yesterday", "since"),
        ("projectId=x", "projectId"),
    ] {
        let refused = world.get(&format!("/v1/runs?{query}")).await;
        refused.is(422, "invalid");
        assert_eq!(refused.pointers(), [pointer], "{query}");
    }
}

#[tokio::test]
async fn c17_102_the_service_token_and_a_project_of_its_own() {
    let world = World::start().await;
    let projects = async || {
        world.get("/v1/admin/projects").await.json()["projects"]
            .as_array()
            .map(Vec::len)
    };
    assert_eq!(
        world.get(&format!("/v1/runs?projectId={UNKNOWN}")).await.json()["runs"],
        json!([])
    );
    let mut checked = noop();
    checked["projectId"] = UNKNOWN.into();
    assert_eq!(
        world.post("/v1/runs/preflight", &checked).await.json(),
        json!({"ok": true, "problems": []})
    );
    assert_eq!(projects().await, Some(1));
    let id = world.ended(&checked).await;
    let other = world.ended(&noop()).await;
    assert_eq!(projects().await, Some(2));
    assert_eq!(
        world.get(&format!("/v1/runs/{id}")).await.json()["run"]["projectId"],
        UNKNOWN
    );
    let ids = async |query: &str| -> BTreeSet<String> {
        let runs = world.get(&format!("/v1/runs{query}")).await.json();
        let runs = runs["runs"].as_array().expect("runs").clone();
        runs.iter()
            .map(|run| run["id"].as_str().expect("id").to_owned())
            .collect()
    };
    assert_eq!(ids("").await, BTreeSet::from([id.clone(), other]));
    assert_eq!(ids(&format!("?projectId={UNKNOWN}")).await, BTreeSet::from([id]));
    let mut bad = noop();
    bad["projectId"] = "mine".into();
    assert_eq!(world.post("/v1/runs", &bad).await.pointers(), ["/projectId"]);
}

#[tokio::test]
async fn cancel_is_202_twice_and_200_afterwards() {
    let world = World::start().await;
    let id = world.run(&endless()).await;
    let path = format!("/v1/runs/{id}/cancel");
    let first = world.call("POST", &path, "").await;
    assert_eq!(first.status, 202, "{}", first.text());
    let asked = first.json()["cancelRequestedAt"].clone();
    assert!(asked.is_string());
    world.wait(&id).await;
    let ended = world.call("POST", &path, "{}").await;
    assert_eq!(ended.status, 200);
    assert_eq!(
        (&ended.json()["status"], &ended.json()["cancelRequestedAt"]),
        (&json!("cancelled"), &asked)
    );
    world.call("POST", &path, "{\"now\":true}").await.is(422, "invalid");
    assert_eq!(
        world.get(&format!("/v1/runs/{id}")).await.json()["stages"][0]["status"],
        "cancelled"
    );
}

#[tokio::test]
async fn retry_is_a_new_run_and_waits_for_the_old_one() {
    let world = World::start().await;
    let live = world.run(&endless()).await;
    world
        .call("POST", &format!("/v1/runs/{live}/retry"), "")
        .await
        .is(409, "not_terminal");
    let id = world.ended(&noop()).await;
    let again = world.call("POST", &format!("/v1/runs/{id}/retry"), "").await;
    assert_eq!(again.status, 201);
    assert_eq!(
        (&again.json()["retryOf"], &again.json()["trigger"]),
        (&json!(id), &json!("retry"))
    );
    let metrics = world.get("/metrics").await.text();
    assert!(
        metrics.contains("pond_runs_started_total{trigger=\"retry\"} 1"),
        "{metrics}"
    );
    assert!(
        metrics.contains("pond_runs_finished_total{status=\"done\"}"),
        "{metrics}"
    );
}

#[tokio::test]
async fn c17_115_unknown_and_malformed_ids_are_answered_alike() {
    let world = World::start().await;
    let mut routes = Vec::new();
    for tail in ["", "/logs", "/events", "/usage", "/artifacts", "/artifacts/x"] {
        routes.push(("GET", format!("/v1/runs/ID{tail}")));
    }
    for tail in ["/cancel", "/retry"] {
        routes.push(("POST", format!("/v1/runs/ID{tail}")));
    }
    routes.push(("DELETE", "/v1/admin/projects/ID".into()));
    for (method, route) in routes {
        let mut bodies = BTreeSet::new();
        for id in [UNKNOWN, "x", "018F0000", "%00", "..%2f"] {
            let answer = world.call(method, &route.replace("ID", id), "").await;
            let mut body = answer.is(404, "not_found").json();
            body["request_id"] = Value::Null;
            bodies.insert(body.to_string());
        }
        assert_eq!(bodies.len(), 1, "{route}: {bodies:?}");
    }
}

#[tokio::test]
async fn preflight_tells_problems_with_200_and_submit_with_422() {
    let world = World::start().await;
    let agent = json!({"kind": "swarm", "harness": "shell", "prompt": "ls"});
    let body = json!({"definition": definition(&[agent])});
    let told = world.post("/v1/runs/preflight?check=offline", &body).await;
    assert_eq!((told.status, &told.json()["ok"]), (200, &json!(false)));
    let read: api::Preflight = serde_json::from_value(told.json()).expect("the SDK's");
    assert_eq!(read.problems[0].code, "sandbox_invalid");
    assert!(read.problems[0].message.starts_with("stage 's0': "));
    let refused = world.post("/v1/runs", &body).await;
    refused.is(422, "preflight_failed");
    assert_eq!(refused.json()["problems"], told.json()["problems"]);
}
