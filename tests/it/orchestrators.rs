//! Orchestrators and the workers behind them, over HTTP and on every store, played by hand from the wire description.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::TryStreamExt;
use pond_core::EngineSettings;
use pond_core::artifacts::BlobStore;
use pond_core::event::EventBody;
use pond_core::logs::LogSource;
use pond_core::runs::RunStatus;
use pond_core::scope::Scope;
use pond_tests::orchestrator::{Keys, PlayedOrchestrator, RemoteWorker, admin, fresh_id, open_bundle};
use pond_tests::server::TOKEN;
use pond_tests::world::{body, shell, stage};
use pond_tests::{Backend, Server, World, on_every_store};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn code(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["code"].as_str().unwrap_or_default())
}

async fn workers(server: &Server) -> Vec<Value> {
    let (_, list) = server.get("/v1/admin/pool/workers").await;
    list.as_array().expect("a bare array").clone()
}

on_every_store! {
    async fn a_job_goes_through_an_orchestrator_to_its_end(world: World) {
        let world = world.with_shell().await;
        let server = world.serve().await;
        let orchestrator = PlayedOrchestrator::pair(&server).await;
        let worker = orchestrator.enroll(&server, 1).await;
        let id = world.submit(&body(&[stage("fix", &shell("true"))])).await.head.id;
        let job = orchestrator.job(&worker).await;
        assert_eq!((&job["stage"], &job["attempt"], &job["run_id"]), (&json!("fix"), &json!(1), &json!(id.to_string())));
        assert_eq!(job["command"], json!(["/bin/sh", "-s"]));
        assert!(job["cred_request"].is_null() && job["source_bundle"].is_null());

        let running = orchestrator.of_job(&job, "/v1/orch/jobs/{id}/state", &json!({"state": "running"})).await;
        assert_eq!(running.0, 200, "{}", running.1);
        let chunk = |seq: u32, line: &str| json!({"stream": "stdout", "source": "agent", "seq": seq,
            "lines": [[1_700_000_000_000_i64, line]]});
        let path = "/v1/orch/jobs/{id}/chunk";
        assert_eq!(orchestrator.of_job(&job, path, &chunk(0, "one")).await.0, 200);
        assert_eq!(orchestrator.of_job(&job, path, &chunk(0, "one")).await.0, 200);
        let gap = orchestrator.of_job(&job, path, &chunk(2, "three")).await;
        assert_eq!((code(&gap), &gap.1["expected"]), ((409, "chunk_gap"), &json!(1)));
        assert_eq!(orchestrator.of_job(&job, path, &chunk(1, "two")).await.0, 200);
        let forged = json!({"stream": "system", "source": "engine", "seq": 0, "lines": [[0, "x"]]});
        assert_eq!(orchestrator.of_job(&job, path, &forged).await.0, 422);

        let lease = orchestrator.beat(&job, None).await;
        assert_eq!(lease["cancel"], json!(false), "{lease}");
        assert!(lease["lease_expires_at"].as_str() >= job["lease_expires_at"].as_str());

        let state = "/v1/orch/jobs/{id}/state";
        let done = json!({"state": "done", "rc": 0});
        assert_eq!(orchestrator.of_job(&job, state, &done).await.0, 200);
        assert_eq!(orchestrator.of_job(&job, state, &done).await.0, 200, "the same report again is known");
        let other = orchestrator.of_job(&job, state, &json!({"state": "cancelled"})).await;
        assert_eq!(code(&other), (409, "already_terminal"));
        let run = world.ended(id).await;
        assert_eq!(run.head.state.phase.status(), RunStatus::Done);
        assert_eq!(run.head.state.stages[0].worker().map(|id| id.to_string()), Some(worker.id));
        let lines = world.pond.runs().logs(Scope::Org, id, 0, 500, Some("fix")).await.unwrap();
        let said = lines.iter().filter_map(|found| match &found.event.body {
            EventBody::Log(line) if line.source == LogSource::Agent => Some(line.line.as_str()),
            _ => None,
        });
        let said: Vec<&str> = said.collect();
        assert_eq!(said, ["one", "two"], "a repeated chunk is stored once");
    }

    async fn c17_50_a_code_works_once_and_all_refusals_look_alike(world: World) {
        let server = world.serve().await;
        let minted = admin(&server, "pairing-codes", &json!({})).await;
        let sent = json!({"code": minted["code"]});
        let pair = |sent: Value| {
            let request = server.http.post(format!("{}/v1/orch/pair", server.url)).json(&sent);
            async move {
                let answer = request.send().await.unwrap();
                let status = answer.status().as_u16();
                let mut body: Value = answer.json().await.unwrap();
                body["request_id"] = Value::Null;
                (status, body)
            }
        };
        // c17_94: of many at once one succeeds.
        let answers = futures::future::join_all((0..20).map(|_| pair(sent.clone()))).await;
        let (let_in, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(status, _)| *status == 201);
        assert_eq!(let_in.len(), 1);
        let limited = refused.iter().filter(|(status, _)| *status == 429).count();
        let refused: Vec<_> = refused.into_iter().filter(|(status, _)| *status != 429).collect();
        assert!(refused.iter().all(|answer| code(answer) == (403, "code_invalid")), "{refused:?}");
        assert!(limited <= 10, "ten failures are let through to be refused");
        // The address has failed ten times now.
        let late = pair(json!({"code": "pond_pc_nonsense"})).await;
        assert_eq!(code(&late), (429, "busy"));

        let orchestrator = PlayedOrchestrator {
            url: server.url.clone(),
            http: server.http.clone(),
            id: let_in[0].1["orch_id"].as_str().unwrap().to_owned(),
            token: let_in[0].1["token"].as_str().unwrap().to_owned(),
        };
        let consume = "/v1/orch/enrollment/consume";
        let code_text = orchestrator.code(&server, json!({})).await;
        assert_eq!(orchestrator.post(consume, &Keys::new(1).enrolment(&code_text)).await.0, 200);
        let mut used = orchestrator.post(consume, &Keys::new(2).enrolment(&code_text)).await;
        let mut unknown = orchestrator.post(consume, &Keys::new(2).enrolment("pond_ec_nonsense.aa")).await;
        assert_eq!(code(&used), (403, "code_invalid"));
        used.1["request_id"] = Value::Null;
        unknown.1["request_id"] = Value::Null;
        assert_eq!(used, unknown);
        // A proof by other keys, or for another code.
        let fresh = orchestrator.code(&server, json!({})).await;
        let mut body = Keys::new(3).enrolment(&fresh);
        body["proof"] = Keys::new(4).enrolment(&fresh)["proof"].clone();
        assert_eq!(code(&orchestrator.post(consume, &body).await), (403, "proof_invalid"));
        assert_eq!(orchestrator.post(consume, &Keys::new(3).enrolment(&fresh)).await.0, 200);
        assert_eq!(workers(&server).await.len(), 2);
        for unknown in ["018f0000-0000-7000-8000-00000000ffff"] {
            let (status, _) = server.post("/v1/admin/pool/enrollment-codes", &json!({"orch_id": unknown})).await;
            assert_eq!(status, 404);
        }
        let (status, answer) = server.post("/v1/admin/pool/enrollment-codes",
            &json!({"orch_id": orchestrator.id, "tags": ["pool:byo"]})).await;
        assert_eq!((status, &answer["errors"][0]["pointer"]), (422, &json!("/tags")));
    }

    async fn c17_51_other_keys_and_flags_beyond_the_code_pin_nothing(world: World) {
        let server = world.serve().await;
        let orchestrator = PlayedOrchestrator::pair(&server).await;
        let consume = "/v1/orch/enrollment/consume";
        let expects = json!({"expected_fingerprint": Keys::new(1).fingerprint(), "tags": ["a", "b"], "capabilities": ["harness.shell"]});
        let minted = orchestrator.code(&server, expects).await;
        let other = orchestrator.post(consume, &Keys::new(2).enrolment(&minted)).await;
        assert_eq!(code(&other), (409, "fingerprint_mismatch"));
        for (field, value) in [("tags", json!(["a", "c"])), ("capabilities", json!(["harness.shell", "sandbox.none"]))] {
            let mut body = Keys::new(1).enrolment(&minted);
            body[field] = value;
            let beyond = orchestrator.post(consume, &body).await;
            assert_eq!((beyond.0, &beyond.1["errors"][0]["pointer"]), (422, &json!(format!("/{field}"))));
        }
        assert_eq!(workers(&server).await, Vec::<Value>::new());
        // The code is still good: nothing was used up.
        let mut body = Keys::new(1).enrolment(&minted);
        body["tags"] = json!(["a"]);
        let (status, enrolled) = orchestrator.post(consume, &body).await;
        assert_eq!((status, &enrolled["tags"], &enrolled["capabilities"]), (200, &json!(["a"]), &json!(["harness.shell"])));
        let listed = workers(&server).await;
        assert_eq!((listed.len(), &listed[0]["fingerprint"]), (1, &json!(Keys::new(1).fingerprint())));
    }

    async fn c17_52_a_snapshot_adds_no_worker_and_changes_no_flag(world: World) {
        let server = world.serve().await;
        let orchestrator = PlayedOrchestrator::pair(&server).await;
        let other = PlayedOrchestrator::pair(&server).await;
        let worker = orchestrator.enroll(&server, 1).await;
        let before = workers(&server).await;
        let entry = |id: &str| json!({"worker_id": id, "status": "online", "running": 2, "concurrency": 4, "version": "9"});
        let unknown = fresh_id();
        let snapshot = |workers: Vec<Value>| json!({"generation": 0, "workers": workers, "gone": []});
        let path = "/v1/orch/workers/snapshot";
        let (status, taken) = orchestrator.post(path, &snapshot(vec![entry(&worker.id), entry(&unknown)])).await;
        assert_eq!((status, &taken["revoked"]), (200, &json!([unknown])));
        let after = workers(&server).await;
        assert_eq!(after.len(), 1);
        for field in ["worker_id", "fingerprint", "tags", "capabilities", "orch_id", "name"] {
            assert_eq!(before[0][field], after[0][field], "{field}");
        }
        assert_eq!((&after[0]["running"], &after[0]["concurrency"], &after[0]["version"]), (&json!(2), &json!(4), &json!("9")));
        let mut raised = entry(&worker.id);
        raised["tags"] = json!(["pool:trusted", "root"]);
        assert_eq!(orchestrator.post(path, &snapshot(vec![raised])).await.0, 422);
        // c17_94: a worker of another binding is forbidden wherever it is named.
        let foreign = (403, "foreign_worker");
        assert_eq!(code(&other.post(path, &snapshot(vec![entry(&worker.id)])).await), foreign);
        assert_eq!(code(&other.post(path, &json!({"generation": 0, "gone": [worker.id]})).await), foreign);
        let poll = json!({"workers": [{"worker_id": worker.id, "boot_id": worker.boot, "free_slots": 1}]});
        assert_eq!(code(&other.post("/v1/orch/poll", &poll).await), foreign);
    }

    async fn c17_53_a_poll_is_held_and_returns_on_a_submit(world: World) {
        let world = world.with_shell().await;
        let server = world.serve().await;
        let orchestrator = PlayedOrchestrator::pair(&server).await;
        let worker = orchestrator.enroll(&server, 1).await;
        let begun = Instant::now();
        let (polled, _) = tokio::join!(orchestrator.poll(&worker, 1, 30_000), async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            world.submit(&body(&[stage("fix", &shell("true"))])).await
        });
        assert_eq!(polled["jobs"].as_array().map(Vec::len), Some(1));
        assert!(begun.elapsed() < Duration::from_secs(15));
        let nothing = orchestrator.poll(&worker, 1, 50).await;
        assert_eq!((&nothing["jobs"], &nothing["commands"]), (&json!([]), &json!([])));
        for (field, value) in [("wait_ms", 31_000), ("max", 65), ("max", 0)] {
            let (status, answer) = orchestrator.post("/v1/orch/poll", &json!({field: value})).await;
            assert_eq!((status, &answer["errors"][0]["pointer"]), (422, &json!(format!("/{field}"))));
        }
        // A newer poll ends an older one at once.
        let older = orchestrator.poll(&worker, 0, 30_000);
        let begun = Instant::now();
        let (older, _) = tokio::join!(older, async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            orchestrator.poll(&worker, 0, 10).await
        });
        assert_eq!(older["jobs"], json!([]));
        assert!(begun.elapsed() < Duration::from_secs(15));
    }

    async fn c17_15_a_cancel_reaches_a_worker_behind_an_orchestrator_without_a_free_slot(world: World) {
        let world = world.with_shell().await;
        let server = world.serve().await;
        let orchestrator = PlayedOrchestrator::pair(&server).await;
        let worker = orchestrator.enroll(&server, 1).await;
        let id = world.submit(&body(&[stage("fix", &shell("true"))])).await.head.id;
        let job = orchestrator.job(&worker).await;
        let (polled, _) = tokio::join!(orchestrator.poll(&worker, 0, 30_000), async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            world.pond.runs().cancel(Scope::Org, id).await.unwrap()
        });
        let command = &polled["commands"][0];
        assert_eq!((&command["kind"], &command["n"], &command["job_id"]), (&json!("cancel"), &json!(1), &job["job_id"]));
        assert!(worker.obeys(command, &job["attempt"]));
        assert!(!worker.obeys(command, &json!(2)), "it is for one attempt");
        // It is told again until it is acknowledged.
        assert_eq!(orchestrator.beat(&job, None).await["cancel"], json!(true));
        assert_eq!(orchestrator.beat(&job, Some(1)).await["cancel"], json!(true));
        let told = orchestrator.poll(&worker, 0, 20).await;
        assert_eq!(told["commands"], json!([]));
        let cancelled = orchestrator.of_job(&job, "/v1/orch/jobs/{id}/state", &json!({"state": "cancelled"})).await;
        assert_eq!(cancelled.0, 200, "{}", cancelled.1);
        assert_eq!(world.ended(id).await.head.state.phase.status(), RunStatus::Cancelled);
    }

    async fn c17_58_secrets_and_bundles_open_at_their_worker_alone(world: World) {
        let world = world.with_shell().await;
        let server = world.serve().await;
        let secret = "sk-ant-remote-secret-0123456789";
        for (path, entry) in [
            ("/v1/admin/credentials", json!({"name": "c", "provider": "anthropic", "env": {"ANTHROPIC_BASE_URL": "https://api.anthropic.com"},
                "secrets": {"ANTHROPIC_API_KEY": secret}})),
            ("/v1/admin/models", json!({"key": "m", "provider": "anthropic", "model_id": "m-1", "credential_name": "c"})),
            ("/v1/admin/harnesses/from-preset", json!({"preset": "mini"})),
        ] {
            assert_eq!(server.post(path, &entry).await.0, 201, "{path}");
        }
        let orchestrator = PlayedOrchestrator::pair(&server).await;
        let other = PlayedOrchestrator::pair(&server).await;
        let worker = orchestrator.enroll(&server, 1).await;
        let stranger = orchestrator.enroll(&server, 2).await;
        let source = world.folder.path().join("sources").join("app");
        std::fs::create_dir_all(&source).unwrap();
        std::fs::write(source.join("secret-plan.txt"), "the clear source").unwrap();
        let mut swarm = shell("true");
        swarm["harness"] = json!("mini");
        swarm["model"] = json!("m");
        let mut run = body(&[stage("fix", &swarm)]);
        run["sources"] = json!([{"label": "app", "kind": "folder", "config": {"path": "app"}}]);
        let id = world.submit(&run).await.head.id;
        let job = orchestrator.job(&worker).await;
        assert_eq!(job["cred_request"], json!({"name": "c", "project_id": null}));
        assert!(!job.to_string().contains(secret));

        let of_job = json!({"job_id": job["job_id"]});
        let missing = orchestrator.post("/v1/orch/seal", &of_job).await;
        assert_eq!(code(&missing), (403, "claim_required"));
        let foreign = other.of_job(&job, "/v1/orch/seal", &of_job).await;
        assert_eq!(code(&foreign), (404, "not_found"));
        let (status, sealed) = orchestrator.of_job(&job, "/v1/orch/seal", &of_job).await;
        assert_eq!((status, &sealed["alg"]), (200, &json!("hpke-x25519-sha256-aes256gcm")));
        assert!(!sealed.to_string().contains(secret));
        assert!(worker.is_from_the_engine(&job, &sealed, "credential"));
        assert!(!worker.is_from_the_engine(&job, &sealed, "bundle"));
        let clear: Value = serde_json::from_slice(&worker.open(&job, &sealed, "credential").unwrap()).unwrap();
        assert_eq!(clear["env"]["ANTHROPIC_API_KEY"], json!(secret));
        assert_eq!(worker.open(&job, &sealed, "bundle"), None);
        assert_eq!(stranger.open(&job, &sealed, "credential"), None);
        let mut next = job.clone();
        next["attempt"] = json!(2);
        assert_eq!(worker.open(&next, &sealed, "credential"), None);

        let token = &job["source_bundle"]["token"];
        let redeem = json!({"token": token, "worker_id": worker.id});
        let (status, redeemed) = orchestrator.of_job(&job, "/v1/orch/bundle/redeem", &redeem).await;
        assert_eq!(status, 200, "{redeemed}");
        let again = orchestrator.of_job(&job, "/v1/orch/bundle/redeem", &redeem).await;
        assert_eq!(again.0, 200, "c17_108: repeatable under the same claim");
        let not_its = json!({"token": token, "worker_id": stranger.id});
        assert_eq!(orchestrator.of_job(&job, "/v1/orch/bundle/redeem", &not_its).await.0, 403);
        let key = worker.open(&job, &redeemed, "bundle").unwrap();
        let url = redeemed["url"].as_str().unwrap();
        let (status, file) = orchestrator.bundle(&job, url, 0).await;
        assert_eq!((status, file.len() as u64), (206, job["source_bundle"]["size"].as_u64().unwrap()));
        assert_eq!(job["source_bundle"]["sha256"], json!(hex::encode(Sha256::digest(&file))));
        let (_, tail) = orchestrator.bundle(&job, url, 100).await;
        assert_eq!(tail, file[100..], "c17_108: read in ranges");
        let tar = open_bundle(&key, &file).expect("c17_38: it opens with its key");
        assert!(tar.windows(16).any(|part| part == b"the clear source"));
        for key in world.blobs.keys() {
            let stored: Vec<_> = world.blobs.get(&key, None).await.unwrap().try_collect().await.unwrap();
            assert!(!stored.concat().windows(16).any(|part| part == b"the clear source"), "c17_38: {key} holds clear source");
        }
        assert!(!STANDARD.encode(&file).contains("secret-plan"));
        assert_eq!(other.bundle(&job, url, 0).await.0, 404);
        let done = orchestrator.of_job(&job, "/v1/orch/jobs/{id}/state", &json!({"state": "done"})).await;
        assert_eq!(done.0, 200);
        world.ended(id).await;
        assert_ne!(orchestrator.bundle(&job, url, 0).await.0, 206);
    }

    async fn c17_59_drain_lets_jobs_end_and_revoke_takes_them_back_at_once(world: World) {
        let world = world.with_shell().await;
        let server = world.serve().await;
        let orchestrator = PlayedOrchestrator::pair(&server).await;
        let (one, two) = (orchestrator.enroll(&server, 1).await, orchestrator.enroll(&server, 2).await);
        let first = world.submit(&body(&[stage("fix", &shell("true"))])).await.head.id;
        let job = orchestrator.job(&one).await;
        let drained = admin(&server, &format!("workers/{}/drain", one.id), &json!({})).await;
        assert_eq!(drained["status"], json!("draining"), "{drained}");
        let second = world.submit(&body(&[stage("fix", &shell("true"))])).await.head.id;
        assert_eq!(orchestrator.poll(&one, 1, 300).await["jobs"], json!([]), "a draining worker gets nothing");
        let taken = orchestrator.job(&two).await;
        assert_eq!(taken["run_id"], json!(second.to_string()));
        let done = json!({"state": "done"});
        assert_eq!(orchestrator.of_job(&job, "/v1/orch/jobs/{id}/state", &done).await.0, 200);
        assert_eq!(world.ended(first).await.head.state.phase.status(), RunStatus::Done);
        // Revoked while it runs: its claim is stale, and the job waits again at once.
        let (status, _) = server.delete(&format!("/v1/admin/pool/workers/{}", two.id)).await;
        assert_eq!(status, 204);
        assert_eq!(code(&orchestrator.of_job(&taken, "/v1/orch/jobs/{id}/state", &done).await), (409, "stale_claim"));
        assert_eq!(orchestrator.beat(&taken, None).await["code"], json!("stale_claim"));
        let three = orchestrator.enroll(&server, 3).await;
        let again = orchestrator.job(&three).await;
        assert_eq!((&again["job_id"], &again["attempt"]), (&taken["job_id"], &json!(2)));
        assert_eq!(code(&orchestrator.of_job(&taken, "/v1/orch/bundle/token", &json!({"job_id": taken["job_id"]})).await),
            (409, "stale_claim"));
        // With its orchestrator everything of it is refused.
        let (status, _) = server.delete(&format!("/v1/admin/pool/orchestrators/{}", orchestrator.id)).await;
        assert_eq!(status, 204);
        assert_eq!(orchestrator.post("/v1/orch/poll", &json!({})).await.0, 403);
        assert_eq!(workers(&server).await, Vec::<Value>::new());
        let run = world.pond.runs().get(Scope::Org, second).await.unwrap();
        assert!(!matches!(run.head.state.phase.status(), RunStatus::Done | RunStatus::Cancelled));
    }

    async fn c17_106_a_new_life_gives_back_what_the_former_one_held(world: World) {
        let world = world.with_shell().await;
        let server = world.serve().await;
        let orchestrator = PlayedOrchestrator::pair(&server).await;
        let mut worker = orchestrator.enroll(&server, 1).await;
        world.submit(&body(&[stage("fix", &shell("true"))])).await;
        let lost = orchestrator.job(&worker).await;
        worker.boot = fresh_id();
        let begun = Instant::now();
        let again = orchestrator.job(&worker).await;
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!((&again["job_id"], &again["attempt"]), (&lost["job_id"], &json!(2)));
        // c17_55: the former life changes nothing any more.
        let done = json!({"state": "done"});
        for (path, body) in [
            ("/v1/orch/jobs/{id}/state", &done),
            ("/v1/orch/jobs/{id}/chunk", &json!({"stream": "stdout", "source": "agent", "seq": 0, "lines": []})),
            ("/v1/orch/seal", &json!({"job_id": lost["job_id"]})),
        ] {
            assert_eq!(code(&orchestrator.of_job(&lost, path, body).await), (409, "stale_claim"), "{path}");
        }
        assert_eq!(orchestrator.of_job(&again, "/v1/orch/jobs/{id}/state", &done).await.0, 200);
    }

    async fn c17_104_2500_workers_arrive_in_parts_and_one_change_is_one_entry(world: World) {
        let server = world.serve().await;
        let orchestrator = PlayedOrchestrator::pair(&server).await;
        let worker = orchestrator.enroll(&server, 1).await;
        let path = "/v1/orch/workers/snapshot";
        let entry = |id: &str, running: u32| json!({"worker_id": id, "status": "online", "running": running, "concurrency": 4, "version": "1"});
        let mut generation = json!(0);
        let mut ids: Vec<String> = (0..2499).map(|_| fresh_id()).collect();
        ids.insert(1700, worker.id.clone());
        for part in ids.chunks(1000) {
            let entries: Vec<Value> = part.iter().map(|id| entry(id, 1)).collect();
            let (status, taken) = orchestrator.post(path, &json!({"generation": generation, "workers": entries})).await;
            assert_eq!(status, 200, "{taken}");
            generation = taken["generation"].clone();
        }
        let one = json!({"generation": generation, "workers": [entry(&worker.id, 3)]});
        assert_eq!(orchestrator.post(path, &one).await.0, 200);
        assert_eq!(workers(&server).await[0]["running"], json!(3));
        let unknown = json!({"generation": 5, "workers": [entry(&worker.id, 3)]});
        assert_eq!(code(&orchestrator.post(path, &unknown).await), (409, "resync"));
        assert_eq!(code(&orchestrator.post("/v1/orch/poll", &json!({"generation": 5})).await), (409, "resync"));
        let many: Vec<Value> = ids.iter().take(1001).map(|id| entry(id, 1)).collect();
        assert_eq!(orchestrator.post(path, &json!({"generation": 0, "workers": many})).await.0, 422);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orchestrators_token_opens_nothing_else_and_no_other_token_is_one() {
    let world = World::on(Backend::Memory).await;
    let server = world.serve().await;
    let orchestrator = PlayedOrchestrator::pair(&server).await;
    let get = |path: &'static str, token: String| {
        let request = server.http.get(format!("{}{path}", server.url)).bearer_auth(token);
        async move { request.send().await.unwrap().status().as_u16() }
    };
    assert_eq!(get("/v1/orch/whoami", orchestrator.token.clone()).await, 200);
    for path in ["/v1/runs", "/v1/whoami", "/v1/admin/pool/workers"] {
        assert_eq!(get(path, orchestrator.token.clone()).await, 403, "{path}");
    }
    assert_eq!(get("/v1/orch/whoami", TOKEN.to_owned()).await, 403);
    assert_eq!(get("/v1/orch/whoami", "pond_ok_nonsense".to_owned()).await, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c17_54_a_worker_that_is_silent_loses_its_job_and_after_two_the_stage_fails() {
    let settings = EngineSettings {
        lease: Duration::from_secs(6),
        ..EngineSettings::default()
    };
    let world = World::with(Backend::Memory, settings).await.with_shell().await;
    let server = world.serve().await;
    let orchestrator = PlayedOrchestrator::pair(&server).await;
    let worker: RemoteWorker = orchestrator.enroll(&server, 1).await;
    let id = world.submit(&body(&[stage("fix", &shell("true"))])).await.head.id;
    let first = orchestrator.job(&worker).await;
    let second = orchestrator.job(&worker).await;
    assert_eq!((&second["job_id"], &second["attempt"]), (&first["job_id"], &json!(2)));
    assert_eq!(orchestrator.beat(&first, None).await["code"], json!("stale_claim"));
    let run = world.ended(id).await;
    let failure = run.head.state.stages[0].phase.failure().expect("it failed");
    assert_eq!(failure.code.as_str(), "worker_lost");
}
