//! The API over real HTTP, on every store.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use pond_core::artifacts::ArtifactName;
use pond_core::dispatch::{Upload, WorkerLink};
use pond_core::pool::JobEnd;
use pond_core::scope::Scope;
use pond_sdk::api::EventBody;
use pond_tests::server::{TOKEN, answer};
use pond_tests::worker::claim;
use pond_tests::world::{body, noop, shell, stage};
use pond_tests::{PlayedWorker, World, on_every_store};
use reqwest::Method;
use serde_json::{Value, json};

async fn ended(server: &pond_tests::Server, id: &str) -> Value {
    for _ in 0..600 {
        let (_, run) = server.get(&format!("/v1/runs/{id}")).await;
        if !["queued", "running"].contains(&run["run"]["status"].as_str().unwrap()) {
            return run;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("run {id} does not end")
}

on_every_store! {
    async fn c17_02_the_guides_poll_loop_sees_done(world: World) {
        let server = world.serve().await;
        let project = "0197a000-0000-7000-8000-00000000abcd";
        let text = format!(
            r#"{{"projectId":"{project}","definition":{{"stages":[{{"key":"x","name":"x","executor":{{"kind":"noop"}}}}]}}}}"#
        );
        // As `curl -d` without a content type sends it.
        let request = server.request(Method::POST, "/v1/runs");
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(text);
        let (status, run) = answer(request).await;
        assert_eq!(status, 201, "{run}");
        let id = run["id"].as_str().unwrap();
        let run = ended(&server, id).await;
        assert_eq!(run["run"]["status"], "done");
        assert_eq!(run["stages"][0]["status"], "done");
        assert_eq!(run["stages"][0]["progress"], json!({"done": 1, "total": 1}));
        assert_eq!(run["run"]["projectId"], project);
        let (_, logs) = server.get(&format!("/v1/runs/{id}/logs?since=&limit=")).await;
        assert_eq!(logs["logs"].as_array().unwrap().len(), 1);
        let (_, list) = server.get(&format!("/v1/runs?projectId={project}&status=&limit=")).await;
        assert_eq!(list["runs"].as_array().unwrap().len(), 1);
        let (_, usage) = server.get(&format!("/v1/runs/{id}/usage")).await;
        assert_eq!(usage["totals"]["calls"], 0);
    }

    async fn c17_18_sse_with_a_hundred_forced_reconnects_equals_polling(world: World) {
        let server = world.serve().await;
        let run = world.submit(&body(&[stage("a", &noop(220, 0.01))])).await;
        let id = run.head.id.to_string();
        let (mut ids, mut lines, mut connects) = (Vec::new(), Vec::new(), 0);
        'reconnect: loop {
            connects += 1;
            let request = server.request(Method::GET, &format!("/v1/runs/{id}/events"));
            let last = ids.last().map(i64::to_string).unwrap_or_default();
            let request = if last.is_empty() { request } else { request.header("last-event-id", last) };
            let response = request.send().await.unwrap();
            assert_eq!(response.headers()["content-type"], "text/event-stream");
            let (mut stream, mut text, mut taken) = (response.bytes_stream(), Vec::new(), 0);
            loop {
                // Whole events that have come are taken; after two the connection is cut.
                while let Some(end) = text.windows(2).position(|pair| pair == b"\n\n") {
                    let event: Vec<u8> = text.drain(..end + 2).collect();
                    let event = String::from_utf8(event).unwrap();
                    let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name).map(str::trim));
                    let Some(number) = field("id:") else { continue };
                    ids.push(number.parse::<i64>().unwrap());
                    if field("event:") == Some("log") {
                        lines.push(serde_json::from_str::<Value>(field("data:").unwrap()).unwrap());
                    }
                    taken += 1;
                    if taken == 2 {
                        continue 'reconnect;
                    }
                }
                match stream.next().await {
                    Some(piece) => text.extend_from_slice(&piece.unwrap()),
                    None => break 'reconnect,
                }
            }
        }
        assert!(connects >= 100, "{connects}");
        assert_eq!(ids, (1..=ids.len() as i64).collect::<Vec<_>>(), "no gap, no repeat, in order");
        let (mut polled, mut since) = (Vec::new(), 0);
        loop {
            let (_, page) = server.get(&format!("/v1/runs/{id}/logs?since={since}&limit=50")).await;
            let page_lines = page["logs"].as_array().unwrap().clone();
            if page_lines.is_empty() {
                break;
            }
            since = page["nextCursor"].as_i64().unwrap();
            polled.extend(page_lines);
        }
        assert_eq!(polled, lines);
        assert_eq!(polled.len(), 220);
        // The typed client sees the same.
        let events: Vec<_> = server.sdk().runs().events(id, None).collect().await;
        let logged = events.iter().filter(|event| matches!(event.as_ref().unwrap().body, EventBody::Log(_))).count();
        assert_eq!((events.len(), logged), (ids.len(), 220));
    }

    async fn c17_19_bad_log_queries_are_told_and_past_the_end_is_empty(world: World) {
        let server = world.serve().await;
        let id = world.ended(world.submit(&body(&[stage("a", &noop(1, 0.0))])).await.head.id).await.head.id;
        for (query, pointer) in [("since=-1", "since"), ("since=x", "since"), ("limit=0", "limit"), ("limit=501", "limit"), ("sinse=1", "sinse")] {
            let (status, problem) = server.get(&format!("/v1/runs/{id}/logs?{query}")).await;
            assert_eq!((status, problem["errors"][0]["pointer"].as_str()), (422, Some(pointer)), "{query}: {problem}");
        }
        let (status, page) = server.get(&format!("/v1/runs/{id}/logs?since=9999")).await;
        assert_eq!((status, page["logs"].as_array().unwrap().len()), (200, 0));
    }

    async fn c17_115_a_foreign_and_an_unknown_run_are_one_answer(world: World) {
        let server = world.serve().await;
        let run = world.ended(world.submit(&body(&[stage("a", &noop(1, 0.0))])).await.head.id).await;
        let foreign = Scope::Project("0197a000-0000-7000-8000-000000000002".parse().unwrap());
        let unknown = "0197a000-0000-7000-8000-000000000001".parse().unwrap();
        let runs = world.pond.runs();
        let name = ArtifactName::new("x").unwrap();
        for (scope, id) in [(foreign, run.head.id), (Scope::Org, unknown)] {
            let told = BTreeSet::from([
                runs.get(scope, id).await.map(drop).unwrap_err().to_string(),
                runs.cancel(scope, id).await.map(drop).unwrap_err().to_string(),
                runs.retry(scope, id).await.map(drop).unwrap_err().to_string(),
                runs.wait(scope, id).await.map(drop).unwrap_err().to_string(),
                runs.events(scope, id, 0, 10).await.map(drop).unwrap_err().to_string(),
                runs.logs(scope, id, 0, 10, None).await.map(drop).unwrap_err().to_string(),
                runs.follow(scope, id, 0).await.map(drop).unwrap_err().to_string(),
                runs.usage(scope, id).await.map(drop).unwrap_err().to_string(),
                runs.artifacts(scope, id, None, None).await.map(drop).unwrap_err().to_string(),
                runs.artifact(scope, id, None, None, &name).await.map(drop).unwrap_err().to_string(),
            ]);
            assert_eq!(told, BTreeSet::from(["no such run".to_owned()]));
        }
        // Over HTTP: unknown, malformed and mistyped ids differ in nothing but the request's id.
        let mut bodies = BTreeSet::new();
        for id in ["0197a000-0000-7000-8000-000000000001", "nonsense", "0197A000"] {
            for (method, tail) in [(Method::GET, ""), (Method::GET, "/logs"), (Method::GET, "/events"), (Method::GET, "/usage"),
                (Method::GET, "/artifacts"), (Method::GET, "/artifacts/x"), (Method::POST, "/cancel"), (Method::POST, "/retry")] {
                let (status, mut problem) = answer(server.request(method, &format!("/v1/runs/{id}{tail}"))).await;
                assert_eq!(status, 404, "{id}{tail}: {problem}");
                problem.as_object_mut().unwrap().remove("request_id");
                bodies.insert(problem.to_string());
            }
        }
        assert_eq!(bodies.len(), 1, "{bodies:?}");
    }

    async fn c17_22_and_95_artifacts_are_served_by_name_and_as_bytes(world: World) {
        let world = world.with_shell().await;
        let server = world.serve().await;
        let worker = PlayedWorker::attach(&world.pond);
        let id = world.submit(&body(&[stage("fix", &shell("true"))])).await.head.id;
        let job = worker.job().await;
        for name in ["x.html", "x.svg", "x.what", "x.json"] {
            let upload = Upload { name: ArtifactName::new(name).unwrap(), redacted: false, sha256: None };
            let bytes = futures::stream::once(async { Ok(bytes::Bytes::from_static(b"<script>1</script>")) }).boxed();
            worker.link.artifact(&claim(&job), upload, bytes).await.unwrap();
        }
        worker.finish(&job, JobEnd::Done).await.unwrap();
        world.ended(id).await;
        for (name, kind) in [("x.html", "application/octet-stream"), ("x.svg", "application/octet-stream"),
            ("x.what", "application/octet-stream"), ("x.json", "application/json")] {
            let path = format!("/v1/runs/{id}/artifacts/{name}");
            let response = server.request(Method::GET, &path).send().await.unwrap();
            let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
            assert_eq!(header("content-type"), kind, "{name}");
            assert!(header("content-disposition").starts_with("attachment"));
            assert_eq!(header("x-content-type-options"), "nosniff");
            assert_eq!(header("content-security-policy"), "sandbox; default-src 'none'");
            assert_eq!(header("cross-origin-resource-policy"), "same-origin");
            let part = server.request(Method::GET, &path).header("range", "bytes=1-6").send().await.unwrap();
            assert_eq!((part.status().as_u16(), part.text().await.unwrap().as_str()), (206, "script"));
        }
        let long = "a".repeat(129);
        for name in ["..%2fx.html", "%2e%2e/x.html", "%2fx.html", "x.html%00", "a%00b", ".x", &long] {
            let (status, problem) = server.get(&format!("/v1/runs/{id}/artifacts/{name}")).await;
            assert_eq!(status, 404, "{name}: {problem}");
        }
    }

    async fn c17_44_a_posted_secret_is_in_no_answer_log_or_file(world: World) {
        let captured = pond_tests::capture::logs();
        let server = world.serve().await;
        let secret = "sk-canary-4f1d8b0a6e2c9375";
        let good = json!({"name": "good", "provider": "anthropic", "secrets": {"ANTHROPIC_API_KEY": secret}});
        let mut answers = vec![server.post("/v1/admin/credentials", &good).await.1];
        for bad in [
            json!({"name": "-bad", "provider": "anthropic", "secrets": {"ANTHROPIC_API_KEY": secret}}),
            json!({"name": "bad", "provider": "A", "secrets": {"LD_PRELOAD": secret, "X": [secret]}}),
            json!({"name": "bad", "provider": "git", "secrets": secret}),
            json!({"name": "bad", "provider": "x", "secret": {"A": secret}}),
            json!({"name": "long", "provider": "x", "secrets": {"A": secret.repeat(400)}}),
            json!([secret]),
        ] {
            let (status, problem) = server.post("/v1/admin/credentials", &bad).await;
            assert_eq!(status, 422, "{problem}");
            answers.push(problem);
        }
        let broken = format!(r#"{{"name": "x", "secrets": {{"A": "{secret}" "#);
        let request = server.request(Method::POST, "/v1/admin/credentials").header("content-type", "application/json");
        answers.push(answer(request.body(broken)).await.1);
        for path in ["", "/good", "?scope=all"] {
            answers.push(server.get(&format!("/v1/admin/credentials{path}")).await.1);
        }
        let (status, missing) = server.get(&format!("/v1/admin/credentials/{secret}")).await;
        assert_eq!(status, 404, "{missing}");
        answers.push(missing);
        for text in &answers {
            assert!(!text.to_string().contains("canary"), "{text}");
        }
        let logs = captured.text();
        assert!(logs.contains("/v1/admin/credentials/{name}"), "requests are logged by their route");
        assert!(!logs.contains("canary"), "{logs}");
        for (what, bytes) in world.stored_bytes().await {
            assert!(!bytes.windows(6).any(|part| part == b"canary"), "{what}");
        }
    }
}

#[tokio::test]
async fn c17_113_a_foreign_host_is_421_and_tokens_have_one_place() {
    let world = World::on(pond_tests::Backend::Memory).await;
    let server = world.serve().await;
    let whoami = || server.http.get(format!("{}/v1/whoami", server.url));
    let status = async |request: reqwest::RequestBuilder| answer(request).await.0;
    assert_eq!(status(whoami().bearer_auth(TOKEN)).await, 200);
    assert_eq!(status(whoami().header("x-api-key", TOKEN)).await, 200);
    assert_eq!(
        status(whoami().bearer_auth(TOKEN).header("x-api-key", TOKEN)).await,
        200
    );
    assert_eq!(
        status(whoami().bearer_auth(TOKEN).header("x-api-key", "other")).await,
        401
    );
    assert_eq!(status(whoami()).await, 401);
    assert_eq!(status(whoami().header("authorization", "Basic eDp5")).await, 401);
    assert_eq!(status(whoami().bearer_auth("wrong")).await, 403);
    assert_eq!(status(whoami().header("cookie", format!("session={TOKEN}"))).await, 401);
    let (code, problem) = answer(whoami().bearer_auth(TOKEN).header("host", "evil.test")).await;
    assert_eq!((code, problem["code"].as_str()), (421, Some("misdirected")));
    for name in ["token", "access_token"] {
        let request = server.http.get(format!("{}/v1/whoami?{name}={TOKEN}", server.url));
        assert_eq!(status(request).await, 401);
    }
}
