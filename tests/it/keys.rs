//! API keys on every store: made, used, expired, revoked; and what a key may name and see.

use std::sync::Arc;
use std::time::Duration;

use pond_core::clock::Clock;
use pond_core::pool::JobEnd;
use pond_core::runs::{Failure, FailureCode, RunStatus};
use pond_core::scope::Scope;
use pond_core::sources::FolderScope;
use pond_core::testing::ManualClock;
use pond_core::{EngineSettings, Error, Pond};
use pond_tests::server::{Server, answer};
use pond_tests::world::{body, noop, shell, stage};
use pond_tests::{PlayedWorker, on_every_store};
use reqwest::Method;
use serde_json::{Value, json};

/// Makes a key over HTTP; its token and the whole answer.
pub(crate) async fn key(server: &Server, of: Value, scopes: &[&str]) -> (String, Value) {
    let mut body = json!({"name": "ci", "scopes": scopes});
    body.as_object_mut().unwrap().extend(of.as_object().unwrap().clone());
    let (status, made) = server.post("/v1/keys", &body).await;
    assert_eq!(status, 201, "{made}");
    (made["key"].as_str().unwrap().to_owned(), made)
}

async fn get(server: &Server, token: &str, path: &str) -> (u16, Value) {
    answer(server.request_as(token, Method::GET, path)).await
}

async fn post(server: &Server, token: &str, path: &str, body: &Value) -> (u16, Value) {
    answer(server.request_as(token, Method::POST, path).json(body)).await
}

/// A problem without the one field that differs from request to request.
pub(crate) fn same(mut problem: Value) -> Value {
    problem.as_object_mut().expect("a problem").remove("request_id");
    problem
}

async fn project(server: &Server, slug: &str) -> String {
    let (status, made) = server
        .post("/v1/admin/projects", &json!({"slug": slug, "name": slug}))
        .await;
    assert_eq!(status, 201, "{made}");
    made["id"].as_str().unwrap().to_owned()
}

fn in_project(id: &str) -> Value {
    let mut submission = body(&[stage("a", &noop(1, 0.0))]);
    submission["projectId"] = id.into();
    submission
}

fn folder(path: &std::path::Path) -> Value {
    let mut submission = body(&[stage("a", &noop(1, 0.0))]);
    submission["sources"] = json!([{"label": "app", "kind": "folder", "config": {"path": path}}]);
    submission
}

on_every_store! {
    async fn c17_42_a_key_is_shown_once_and_revoked_at_once(world: World) {
        let server = world.serve().await;
        let (token, made) = key(&server, json!({}), &["runs:read", "runs:write"]).await;
        assert!(token.starts_with("pond_pk_") && token.len() == 72, "{made}");
        assert_eq!(made["prefix"], token[..16]);
        assert_eq!(made["project_id"], world.project().to_string());
        assert_eq!(made["scopes"], json!(["runs:read", "runs:write"]));
        assert_eq!((&made["expires_at"], &made["last_used_at"]), (&Value::Null, &Value::Null));
        let (status, whoami) = get(&server, &token, "/v1/whoami").await;
        assert_eq!((status, &whoami["principal"]["kind"]), (200, &json!("key")));
        assert_eq!(whoami["principal"]["key_id"], made["id"]);
        let (_, listed) = server.get("/v1/keys").await;
        assert_eq!(listed["keys"].as_array().unwrap().len(), 1);
        assert_eq!(listed["keys"][0]["id"], made["id"]);
        assert!(listed["keys"][0]["last_used_at"].is_string(), "{listed}");
        assert!(!listed.to_string().contains(&token[16..]), "{listed}");
        for (what, bytes) in world.stored_bytes().await {
            assert!(!bytes.windows(56).any(|part| part == &token.as_bytes()[16..]), "{what}");
        }
        for path in ["/v1/keys", "/v1/admin/projects", "/v1/admin/credentials"] {
            let (status, problem) = get(&server, &token, path).await;
            assert_eq!((status, problem["code"].as_str()), (403, Some("missing_scope")), "{problem}");
            assert_eq!(problem["required_scopes"], json!(["admin"]));
        }
        let revoke = || answer(server.request(Method::DELETE, &format!("/v1/keys/{}", made["id"].as_str().unwrap())));
        assert_eq!(revoke().await.0, 204);
        let (status, problem) = get(&server, &token, "/v1/whoami").await;
        assert_eq!((status, problem["code"].as_str()), (403, Some("forbidden")));
        let unknown = get(&server, &format!("pond_pk_{}", "0".repeat(64)), "/v1/whoami").await;
        assert_eq!((403, same(problem)), (unknown.0, same(unknown.1)), "one answer for all that opens nothing");
        assert_eq!(revoke().await.0, 404);
    }

    async fn c17_42_a_key_opens_nothing_from_its_expiry_on(world: World) {
        let clock = ManualClock::new();
        let builder = Pond::builder(world.store.clone(), Arc::new(world.blobs.clone())).root_key(world.root_key.clone());
        let pond = builder.clock(clock.clone()).start().await.unwrap();
        let expires_at = clock.now().plus(Duration::from_secs(90));
        let body = json!({"name": "short", "scopes": ["pods:read"], "expires_at": expires_at.to_string()});
        let minted = pond.keys().create(&body).await.unwrap();
        let good = async || pond.keys().principal(&minted.token).await.unwrap().is_some();
        let used = async || world.store.key_by_hash(minted.key.hash).await.unwrap().unwrap().key.last_used_at;
        assert!(good().await);
        let first = used().await;
        assert_eq!(first, Some(clock.now()));
        clock.advance(Duration::from_secs(59));
        assert!(good().await);
        assert_eq!(used().await, first, "noted at most once a minute");
        clock.advance(Duration::from_secs(1));
        assert!(good().await);
        assert_eq!(used().await, Some(clock.now()));
        clock.advance(Duration::from_secs(30));
        assert!(!good().await, "from its very second on");
        let past = json!({"name": "past", "scopes": ["pods:read"], "expires_at": clock.now().to_string()});
        let Error::Invalid(faults) = pond.keys().create(&past).await.unwrap_err() else { panic!("a past expiry") };
        assert_eq!(faults[0].pointer, "/expires_at");
        pond.shutdown().await;
    }

    async fn c17_109_a_key_revoked_on_one_server_is_refused_by_all(world: World) {
        let second = world.another_engine(EngineSettings::default()).await;
        let (here, there) = (world.serve().await, Server::over(second).await);
        let (token, made) = key(&here, json!({}), &["runs:read"]).await;
        for server in [&here, &there] {
            assert_eq!(get(server, &token, "/v1/runs").await.0, 200);
        }
        let path = format!("/v1/keys/{}", made["id"].as_str().unwrap());
        assert_eq!(answer(there.request(Method::DELETE, &path)).await.0, 204);
        for server in [&here, &there] {
            assert_eq!(get(server, &token, "/v1/runs").await.0, 403);
        }
    }

    async fn bad_bodies_are_told_with_all_their_faults(world: World) {
        let server = world.serve().await;
        let id = "0197a000-0000-7000-8000-00000000abcd";
        for (body, status, pointers) in [
            (json!({}), 422, &["/name", "/scopes"][..]),
            (json!({"name": "x", "scopes": []}), 422, &["/scopes"]),
            (json!({"name": "x", "scopes": ["runs:read", "admin", 1]}), 422, &["/scopes/1", "/scopes/2"]),
            (json!({"name": "x", "scopes": "runs:read"}), 422, &["/scopes"]),
            (json!({"name": "", "scopes": ["runs:read"], "role": "admin"}), 422, &["/name", "/role"]),
            (json!({"name": "x", "scopes": ["runs:read"], "project_id": id, "org": "default"}), 422, &["/org"]),
            (json!({"name": "x", "scopes": ["runs:read"], "project_id": "x"}), 422, &["/project_id"]),
            (json!({"name": "x", "scopes": ["runs:read"], "expires_at": "2001-01-01T00:00:00Z"}), 422, &["/expires_at"]),
            (json!({"name": "x", "scopes": ["runs:read"], "expires_at": "soon"}), 422, &["/expires_at"]),
            (json!({"name": "x", "scopes": ["runs:read"], "org": "nobody"}), 404, &[]),
            (json!([]), 422, &[""]),
        ] {
            let (told, problem) = server.post("/v1/keys", &body).await;
            assert_eq!(told, status, "{body}: {problem}");
            let errors = problem["errors"].as_array().cloned().unwrap_or_default();
            let found: Vec<&str> = errors.iter().map(|error| error["pointer"].as_str().unwrap()).collect();
            assert_eq!(found, pointers, "{body}: {problem}");
        }
        assert_eq!(server.get("/v1/keys").await.1["keys"], json!([]));
        let (_, projects) = server.get("/v1/admin/projects").await;
        assert_eq!(projects["projects"].as_array().unwrap().len(), 1, "what was refused made no project: {projects}");
        // By slug, by an id never seen before, and page by page.
        let web = project(&server, "web").await;
        assert_eq!(key(&server, json!({"org": "web"}), &["pods:write"]).await.1["project_id"], web);
        assert_eq!(key(&server, json!({"project_id": id}), &["pods:write"]).await.1["project_id"], id);
        let (_, page) = server.get("/v1/keys?limit=1").await;
        assert_eq!(page["keys"][0]["project_id"], id);
        let rest = format!("/v1/keys?limit=1&cursor={}", page["next_cursor"].as_str().unwrap());
        let (_, page) = server.get(&rest).await;
        assert_eq!((&page["keys"][0]["project_id"], &page["next_cursor"]), (&json!(web), &Value::Null));
        let (_, of_web) = server.get(&format!("/v1/keys?project_id={web}")).await;
        assert_eq!(of_web["keys"].as_array().unwrap().len(), 1);
    }

    async fn c17_05_a_key_names_no_project_but_its_own(world: World) {
        let server = world.serve().await;
        let (own, other) = (project(&server, "own").await, project(&server, "other").await);
        let (token, _) = key(&server, json!({"org": "own"}), &["runs:write"]).await;
        for submission in [body(&[stage("a", &noop(1, 0.0))]), in_project(&own)] {
            let (status, run) = post(&server, &token, "/v1/runs", &submission).await;
            assert_eq!((status, &run["projectId"]), (201, &json!(own)), "{run}");
        }
        let missing = "0197a000-0000-7000-8000-00000000beef";
        for path in ["/v1/runs", "/v1/runs/preflight"] {
            let there = post(&server, &token, path, &in_project(&other)).await;
            let nowhere = post(&server, &token, path, &in_project(missing)).await;
            assert_eq!((there.0, nowhere.0), (404, 404));
            assert_eq!(same(there.1), same(nowhere.1));
        }
        let there = get(&server, &token, &format!("/v1/runs?projectId={other}")).await;
        let nowhere = get(&server, &token, &format!("/v1/runs?projectId={missing}")).await;
        assert_eq!((there.0, same(there.1)), (404, same(nowhere.1)));
        for path in ["/v1/runs".to_owned(), format!("/v1/runs?projectId={own}")] {
            let (_, list) = get(&server, &token, &path).await;
            assert_eq!(list["runs"].as_array().unwrap().len(), 2);
        }
        let (_, projects) = server.get("/v1/admin/projects").await;
        assert_eq!(projects["projects"].as_array().unwrap().len(), 3, "no key makes a project: {projects}");
    }

    async fn c17_102_the_service_token_finds_what_is_in_any_project_and_reads_make_none(world: World) {
        let server = world.serve().await;
        let own = "0197a000-0000-7000-8000-00000000abcd";
        let (status, run) = server.post("/v1/runs", &in_project(own)).await;
        assert_eq!(status, 201, "{run}");
        let id = run["id"].as_str().unwrap();
        world.submit(&body(&[stage("a", &noop(1, 0.0))])).await;
        assert_eq!(server.get(&format!("/v1/runs/{id}")).await.1["run"]["projectId"], own);
        assert_eq!(server.get("/v1/runs").await.1["runs"].as_array().unwrap().len(), 2);
        let unknown = "0197a000-0000-7000-8000-00000000beef";
        for path in ["/v1/runs?projectId=", "/v1/keys?project_id=", "/v1/admin/variables?project_id="] {
            assert_eq!(server.get(&format!("{path}{unknown}")).await.0, 200);
        }
        let (_, projects) = server.get("/v1/admin/projects").await;
        let slugs: Vec<&str> = projects["projects"].as_array().unwrap().iter().map(|p| p["slug"].as_str().unwrap()).collect();
        assert_eq!(slugs, ["default", "p-0197a000"]);
    }

    async fn c17_103_runs_are_read_by_keys_of_their_own_family(world: World) {
        let server = world.serve().await;
        project(&server, "other").await;
        let run = world.submit(&body(&[stage("a", &noop(1, 0.0))])).await.head.id;
        let (pods, _) = key(&server, json!({}), &["pods:write"]).await;
        let (foreign, _) = key(&server, json!({"org": "other"}), &["pods:write"]).await;
        let (runs, _) = key(&server, json!({}), &["runs:read"]).await;
        for tail in ["", "/logs", "/usage", "/artifacts", "/events"] {
            let path = format!("/v1/runs/{run}{tail}");
            let (status, problem) = get(&server, &pods, &path).await;
            assert_eq!((status, problem["code"].as_str()), (403, Some("missing_scope")), "{path}");
            assert_eq!(problem["required_scopes"], json!(["runs:read"]));
            assert_eq!(get(&server, &foreign, &path).await.0, 404, "{path}");
            assert_eq!(get(&server, &runs, &path).await.0, 200, "{path}");
        }
        let path = format!("/v1/runs/{run}/cancel");
        assert_eq!(post(&server, &pods, &path, &json!({})).await.1["required_scopes"], json!(["runs:write"]));
        assert_eq!(post(&server, &foreign, &path, &json!({})).await.0, 404);
    }

    async fn c17_88_a_key_reads_folders_of_its_own_project_alone(world: World) {
        let server = world.serve().await;
        let (own, other) = (project(&server, "own").await, project(&server, "other").await);
        let root = world.folder.path().join("sources");
        for place in [format!("{own}/app"), "own/app".into(), format!("{other}/app"), "other/app".into()] {
            std::fs::create_dir_all(root.join(&place)).unwrap();
            std::fs::write(root.join(place).join("file"), "x").unwrap();
        }
        let (token, _) = key(&server, json!({"org": "own"}), &["runs:write"]).await;
        let mut told = Vec::new();
        for place in [format!("{other}/app"), "other/app".into(), "other/gone".into(), String::new(), "own/../other".into()] {
            for path in ["/v1/runs", "/v1/runs/preflight"] {
                let (status, problem) = post(&server, &token, path, &folder(&root.join(&place))).await;
                assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("/sources/0/config/path")), "{problem}");
                told.push(same(problem));
            }
        }
        assert!(told.windows(2).all(|pair| pair[0] == pair[1]), "{told:?}");
        let (status, read) = server.post("/v1/runs", &folder(&root.join("other/app"))).await;
        assert_eq!(status, 201, "the service token reads it: {read}");
        for place in [format!("{own}/app"), "own/app".into()] {
            let (status, run) = post(&server, &token, "/v1/runs", &folder(&root.join(&place))).await;
            assert_eq!(status, 201, "{run}");
            let run = world.ended(run["id"].as_str().unwrap().parse().unwrap()).await;
            assert_eq!(run.head.state.phase.status(), RunStatus::Done, "{:?}", run.head.state.phase);
            let stored = world.store.run(Scope::Org, run.head.id).await.unwrap().unwrap();
            assert!(matches!(stored.head.inputs.folders, Some(FolderScope::Project { .. })), "kept with the run");
            // Even when the service token repeats it, it reads no more than the one who submitted it might.
            std::fs::remove_dir_all(root.join(&place)).unwrap();
            std::os::unix::fs::symlink(root.join("other/app"), root.join(&place)).unwrap();
            let (status, again) = server.post(&format!("/v1/runs/{}/retry", run.head.id), &json!({})).await;
            assert_eq!(status, 201, "{again}");
            let again = world.ended(again["id"].as_str().unwrap().parse().unwrap()).await;
            assert_eq!(again.head.state.phase.status(), RunStatus::Failed);
        }
    }

    async fn c17_101_a_key_reads_no_names_of_secrets(world: World) {
        let world = world.with_shell().await;
        let server = world.serve().await;
        let worker = PlayedWorker::attach(&world.pond);
        let (token, _) = key(&server, json!({}), &["runs:read"]).await;
        let id = world.submit(&body(&[stage("fix", &shell("true"))])).await.head.id;
        let job = worker.job().await;
        worker.lines(&job, 0, &["push with [redacted:GIT_TOKEN] and [redacted:OTHER]."]).await.unwrap();
        let failure = Failure::new(FailureCode::AgentFailed, "said [redacted:GIT_TOKEN]");
        worker.finish(&job, JobEnd::Failed(failure)).await.unwrap();
        world.ended(id).await;
        let texts = async |token: &str| {
            let mut texts = Vec::new();
            for (tail, accept) in [("", "*/*"), ("/logs", "*/*"), ("/logs", "application/x-ndjson"), ("/events", "text/event-stream")] {
                let request = server.request_as(token, Method::GET, &format!("/v1/runs/{id}{tail}"));
                texts.push(request.header("accept", accept).send().await.unwrap().text().await.unwrap());
            }
            let list = server.request_as(token, Method::GET, "/v1/runs").send().await.unwrap();
            texts.push(list.text().await.unwrap());
            texts
        };
        for text in texts(&token).await {
            assert!(text.contains("[redacted]") && !text.contains("[redacted:") && !text.contains("GIT_TOKEN"), "{text}");
        }
        for text in texts(pond_tests::server::TOKEN).await {
            assert!(text.contains("[redacted:GIT_TOKEN]"), "{text}");
        }
    }
}
