//! The audit log: every admin write has a row, and no edit goes unseen.

mod pool;

use pond_core::EngineSettings;
use pond_core::audit::Entry;
use pond_tests::orchestrator::PlayedOrchestrator;
use pond_tests::{Backend, World, on_every_store};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Connection;

const RANDOM: &str = "018f0000-0000-7000-8000-00000000beef";
const SECRET: &str = "sk-canary-5d1e7c20";

/// What a request for one record names.
struct Ids {
    key: String,
    orchestrator: String,
    worker: String,
}

/// A good request for an admin write: its path, its body, the action that its row names. None: the route was forgotten here.
fn example(route: &str, ids: &Ids) -> Option<(String, Value, &'static str)> {
    let credential = json!({"name": "c", "provider": "anthropic", "secrets": {"ANTHROPIC_API_KEY": SECRET}});
    let model = json!({"key": "m", "provider": "anthropic", "model_id": "x", "credential_name": "c"});
    let mut id = RANDOM;
    let (path, body, action) = match route {
        "POST /v1/admin/credentials" => ("/v1/admin/credentials", credential, "credential.put"),
        "DELETE /v1/admin/credentials/{name}" => ("/v1/admin/credentials/c", json!({}), "credential.delete"),
        "POST /v1/admin/egress" => ("/v1/admin/egress", json!({"host": "one.example.com"}), "egress.put"),
        "DELETE /v1/admin/egress/{name}" => ("/v1/admin/egress/one.example.com", json!({}), "egress.delete"),
        "POST /v1/admin/harnesses" => (
            "/v1/admin/harnesses",
            json!({"key": "h", "command_template": ["x"]}),
            "harness.put",
        ),
        "POST /v1/admin/harnesses/from-preset" => (
            "/v1/admin/harnesses/from-preset",
            json!({"preset": "shell"}),
            "harness.put",
        ),
        "DELETE /v1/admin/harnesses/{name}" => ("/v1/admin/harnesses/h", json!({}), "harness.delete"),
        "POST /v1/admin/models" => ("/v1/admin/models", model, "model.put"),
        "DELETE /v1/admin/models/{name}" => ("/v1/admin/models/m", json!({}), "model.delete"),
        "POST /v1/admin/variables" => (
            "/v1/admin/variables",
            json!({"name": "V", "value": SECRET}),
            "variable.put",
        ),
        "DELETE /v1/admin/variables/{name}" => ("/v1/admin/variables/V", json!({}), "variable.delete"),
        "POST /v1/admin/projects" => (
            "/v1/admin/projects",
            json!({"slug": "s", "name": "S", "id": RANDOM}),
            "project.create",
        ),
        "DELETE /v1/admin/projects/{id}" => ("/v1/admin/projects/{id}", json!({}), "project.delete"),
        "POST /v1/keys" => ("/v1/keys", json!({"name": "k", "scopes": ["runs:read"]}), "key.create"),
        "DELETE /v1/keys/{id}" => {
            id = &ids.key;
            ("/v1/keys/{id}", json!({}), "key.revoke")
        }
        "POST /v1/admin/pool/pairing-codes" => ("/v1/admin/pool/pairing-codes", json!({}), "pairing_code.create"),
        "POST /v1/admin/pool/enrollment-codes" => (
            "/v1/admin/pool/enrollment-codes",
            json!({"orch_id": ids.orchestrator}),
            "enrollment_code.create",
        ),
        "POST /v1/admin/pool/workers/{id}/drain" => {
            id = &ids.worker;
            (
                "/v1/admin/pool/workers/{id}/drain",
                json!({"drain": true}),
                "worker.drain",
            )
        }
        "DELETE /v1/admin/pool/workers/{id}" => {
            id = &ids.worker;
            ("/v1/admin/pool/workers/{id}", json!({}), "worker.remove")
        }
        "DELETE /v1/admin/pool/orchestrators/{id}" => {
            id = &ids.orchestrator;
            ("/v1/admin/pool/orchestrators/{id}", json!({}), "orchestrator.remove")
        }
        _ => return None,
    };
    Some((path.replace("{id}", id), body, action))
}

fn entry(target: &str) -> Entry {
    Entry {
        actor: "service".into(),
        action: "test.write".into(),
        target: target.into(),
        project: None,
        changed: vec!["name".into()],
        request_id: None,
    }
}

/// Changes the database behind the store's back.
async fn meddle(world: &World, statement: &'static str) {
    match world.backend {
        Backend::Memory => panic!("nothing is behind it"),
        Backend::Sqlite => {
            let path = world.folder.path().join("pond.db");
            let mut db = sqlx::SqliteConnection::connect(path.to_str().unwrap()).await.unwrap();
            sqlx::query(statement).execute(&mut db).await.unwrap();
            db.close().await.unwrap();
        }
        Backend::Postgres => {
            let mut db = sqlx::PgConnection::connect(world.database_url().unwrap())
                .await
                .unwrap();
            sqlx::query(statement).execute(&mut db).await.unwrap();
            db.close().await.unwrap();
        }
    }
}

on_every_store! {
    async fn c17_49_every_admin_write_has_a_row(world: World) {
        let server = world.serve().await;
        let (_, document) = server.get("/openapi.json").await;
        let mut writes: Vec<String> = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            if path.starts_with("/v1/admin/") || path.starts_with("/v1/keys") {
                let methods = item.as_object().unwrap().keys().map(|method| method.to_uppercase());
                writes.extend(methods.filter(|method| method != "GET").map(|method| format!("{method} {path}")));
            }
        }
        let after = |route: &str| route.contains("credentials") || route.contains("orchestrators");
        // What is deleted must have been made; a credential goes after its model, an orchestrator after its worker.
        writes.sort_by_key(|route| (route.starts_with("DELETE"), after(route)));
        let orchestrator = PlayedOrchestrator::pair(&server).await;
        let worker = orchestrator.enroll(&server, 1).await.id;
        let mut ids = Ids { key: String::new(), orchestrator: orchestrator.id, worker };
        // Two codes, and their use.
        let mut rows = 4;
        for route in writes {
            let (path, body, action) = example(&route, &ids).unwrap_or_else(|| panic!("{route} has no example"));
            let method: Method = route.split(' ').next().unwrap().parse().unwrap();
            let request = server.request(method, &path).header("x-request-id", "the-request");
            let request = if body == json!({}) { request } else { request.json(&body) };
            let (status, told) = pond_tests::server::answer(request).await;
            assert!((200..300).contains(&status), "{route}: {status} {told}");
            if action == "key.create" {
                ids.key = told["id"].as_str().unwrap().to_owned();
            }
            let (_, log) = server.get("/v1/admin/audit?limit=1").await;
            let row = &log["entries"][0];
            rows += 1;
            assert_eq!((&row["id"], &row["action"]), (&json!(rows), &json!(action)), "{route}");
            assert_eq!((&row["actor"], &row["request_id"]), (&json!("service"), &json!("the-request")));
            let fields: Vec<&String> = body.as_object().unwrap().keys().collect();
            assert_eq!(row["changed"], json!(fields), "{route}");
        }
        assert!(rows > 20);
        let (_, log) = server.get("/v1/admin/audit?limit=500").await;
        assert!(!log.to_string().contains(SECRET));
        let (_, one) = server.get("/v1/admin/audit?action=key.create&actor=service").await;
        assert_eq!(one["entries"].as_array().map(Vec::len), Some(1));
        // What is refused is no change.
        server.post("/v1/admin/variables", &json!({"name": "1"})).await;
        let (_, found) = server.get("/v1/admin/audit/verify").await;
        assert_eq!((&found["ok"], &found["rows"]), (&json!(true), &json!(rows)));
        if world.backend != Backend::Memory {
            meddle(&world, "UPDATE audit SET target = 'other' WHERE id = 3").await;
            let (_, found) = server.get("/v1/admin/audit/verify").await;
            assert_eq!(found["flaw"], json!({"id": 3, "kind": "edited"}));
        }
    }

    async fn rows_of_two_engines_make_one_chain(world: World) {
        let other = world.another_engine(EngineSettings::default()).await;
        let writes = (0..60).map(|number| {
            let audit = if number % 2 == 0 { world.pond.audit() } else { other.audit() }.clone();
            tokio::spawn(async move { audit.record(entry(&number.to_string())).await })
        });
        for written in futures::future::join_all(writes).await {
            written.unwrap().unwrap();
        }
        let found = other.audit().verify(None).await.unwrap();
        assert_eq!((found.head.head.id, found.flaw), (60, None));
        other.shutdown().await;
    }

    async fn c17_93_a_cut_tail_is_found_by_a_signed_head(world: World) {
        let server = world.serve().await;
        for number in 0..5 {
            world.pond.audit().record(entry(&number.to_string())).await.unwrap();
        }
        let (_, found) = server.get("/v1/admin/audit/verify").await;
        let head = found["head"].as_str().unwrap();
        world.pond.audit().record(entry("later")).await.unwrap();
        let check = format!("/v1/admin/audit/verify?head={head}");
        assert_eq!(server.get(&check).await.1["ok"], json!(true));
        let forged = head.replacen("5.", "4.", 1);
        let (_, found) = server.get(&format!("/v1/admin/audit/verify?head={forged}")).await;
        assert_eq!(found["flaw"]["kind"], "head_forged");
        let (status, _) = server.get("/v1/admin/audit/verify?head=5.x").await;
        assert_eq!(status, 422);
        if world.backend != Backend::Memory {
            meddle(&world, "DELETE FROM audit WHERE id > 3").await;
            assert_eq!(server.get("/v1/admin/audit/verify").await.1["ok"], json!(true), "a good chain, but a shorter one");
            assert_eq!(server.get(&check).await.1["flaw"], json!({"id": 5, "kind": "cut"}));
        }
    }
}
