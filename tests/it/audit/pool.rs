//! What the pool leaves in the audit log: who came in by a code, what was sealed to whom, and what somebody tried.

use pond_tests::orchestrator::{Keys, PlayedOrchestrator, RemoteWorker, fresh_id};
use pond_tests::world::{body, shell, stage};
use pond_tests::{Server, World, on_every_store};
use serde_json::{Value, json};

const SECRET: &str = "sk-canary-7c2f9a11";
const CONSUME: &str = "/v1/orch/enrollment/consume";

/// All rows, oldest first.
async fn rows(server: &Server) -> Vec<Value> {
    let (status, log) = server.get("/v1/admin/audit?limit=500").await;
    assert_eq!(status, 200);
    let mut rows = log["entries"].as_array().expect("a list").clone();
    rows.reverse();
    rows
}

async fn last(server: &Server) -> Value {
    rows(server).await.pop().expect("a row")
}

async fn count(server: &Server) -> usize {
    rows(server).await.len()
}

/// Actor, action and target.
fn told(row: &Value) -> [&str; 3] {
    ["actor", "action", "target"].map(|field| row[field].as_str().expect("a text"))
}

/// A job with a credential and sources, at its worker.
async fn job(world: &World, server: &Server, orchestrator: &PlayedOrchestrator, worker: &RemoteWorker) -> Value {
    let credential = json!({"name": "c", "provider": "anthropic", "secrets": {"ANTHROPIC_API_KEY": SECRET}});
    for (path, entry) in [
        ("/v1/admin/credentials", credential),
        (
            "/v1/admin/models",
            json!({"key": "m", "provider": "anthropic", "model_id": "m-1", "credential_name": "c"}),
        ),
        ("/v1/admin/harnesses/from-preset", json!({"preset": "mini"})),
    ] {
        let (status, answer) = server.post(path, &entry).await;
        assert_eq!(status, 201, "{path} {answer}");
    }
    let source = world.folder.path().join("sources").join("app");
    std::fs::create_dir_all(&source).expect("a folder can be made");
    std::fs::write(source.join("a.txt"), "the source").expect("a file can be written");
    let mut swarm = shell("true");
    (swarm["harness"], swarm["model"]) = (json!("mini"), json!("m"));
    let mut run = body(&[stage("fix", &swarm)]);
    run["sources"] = json!([{"label": "app", "kind": "folder", "config": {"path": "app"}}]);
    world.submit(&run).await;
    orchestrator.job(worker).await
}

on_every_store! {
    async fn c17_49_pairing_and_enrolment_have_rows_and_refused_codes_have_none(world: World) {
        let server = world.serve().await;
        let orchestrator = PlayedOrchestrator::pair(&server).await;
        let own = format!("orchestrator:{}", orchestrator.id);
        let row = last(&server).await;
        assert_eq!(told(&row), [own.as_str(), "orchestrator.pair", orchestrator.id.as_str()]);
        assert_eq!(row["changed"], json!(["code"]));
        assert!(row["request_id"].is_string());

        let worker = orchestrator.enroll(&server, 1).await;
        let row = last(&server).await;
        assert_eq!(told(&row), [own.as_str(), "worker.enroll", worker.id.as_str()]);
        assert_eq!(row["changed"], json!(["code", "name", "proof", "public_keys"]));

        // Keys that are not those of the code: nothing is pinned, and that is written down.
        let expects = json!({"expected_fingerprint": Keys::new(2).fingerprint()});
        let code = orchestrator.code(&server, expects).await;
        let (status, answer) = orchestrator.post(CONSUME, &Keys::new(3).enrolment(&code)).await;
        assert_eq!((status, &answer["code"]), (409, &json!("fingerprint_mismatch")));
        let row = last(&server).await;
        assert_eq!(told(&row), [own.as_str(), "worker.fingerprint_mismatch", orchestrator.id.as_str()]);
        let (_, workers) = server.get("/v1/admin/pool/workers").await;
        assert_eq!(workers.as_array().map(Vec::len), Some(1));

        // Whoever has no code makes no row: nobody could fill the log from outside.
        let before = count(&server).await;
        let guess = json!({"code": "pond_pc_guess"});
        let request = server.http.post(format!("{}/v1/orch/pair", server.url)).json(&guess);
        assert_eq!(pond_tests::server::answer(request).await.0, 403);
        assert_eq!(orchestrator.post(CONSUME, &Keys::new(3).enrolment("pond_ec_guess.00")).await.0, 403);
        let mut beyond = Keys::new(2).enrolment(&code);
        beyond["tags"] = json!(["more"]);
        assert_eq!(orchestrator.post(CONSUME, &beyond).await.0, 422);
        assert_eq!(count(&server).await, before);

        let log = Value::from(rows(&server).await).to_string();
        let secret = code.split('.').next().unwrap();
        for value in [secret, orchestrator.token.as_str(), "pond_pc_", "pond_ec_", "pond_ok_"] {
            assert!(!log.contains(value), "{value} is in the log");
        }
        let (_, found) = server.get("/v1/admin/audit/verify").await;
        assert_eq!((&found["ok"], &found["rows"]), (&json!(true), &json!(before)));
    }

    async fn c17_49_each_seal_and_redemption_has_a_row_and_a_refused_one_has_none(world: World) {
        let server = world.serve().await;
        let orchestrator = PlayedOrchestrator::pair(&server).await;
        let worker = orchestrator.enroll(&server, 1).await;
        let job = job(&world, &server, &orchestrator, &worker).await;
        let (id, project) = (job["job_id"].as_str().unwrap(), world.project().to_string());
        let before = count(&server).await;

        let of_job = json!({"job_id": id});
        assert_eq!(orchestrator.post("/v1/orch/seal", &of_job).await.0, 403, "without its claim");
        assert_eq!(count(&server).await, before);
        assert_eq!(orchestrator.of_job(&job, "/v1/orch/seal", &of_job).await.0, 200);
        let row = last(&server).await;
        let (actor, target) = (format!("worker:{}", worker.id), format!("credential c for job {id}"));
        assert_eq!(told(&row), [actor.as_str(), "credential.seal", target.as_str()]);
        assert_eq!((&row["changed"], &row["project_id"]), (&json!(["ANTHROPIC_API_KEY"]), &json!(project)));

        let redeem = |worker: &str| json!({"token": job["source_bundle"]["token"], "worker_id": worker});
        let path = "/v1/orch/bundle/redeem";
        assert_eq!(orchestrator.of_job(&job, path, &redeem(&fresh_id())).await.0, 403);
        for _ in 0..2 {
            assert_eq!(orchestrator.of_job(&job, path, &redeem(&worker.id)).await.0, 200);
            let row = last(&server).await;
            let target = format!("sources of job {id}");
            assert_eq!(told(&row), [actor.as_str(), "bundle.redeem", target.as_str()]);
            assert_eq!((&row["changed"], &row["project_id"]), (&json!([]), &json!(project)));
        }
        assert_eq!(count(&server).await, before + 3, "each one, and nothing that was refused");
        let log = Value::from(rows(&server).await).to_string();
        for value in [SECRET, job["claim_token"].as_str().unwrap(), job["source_bundle"]["token"].as_str().unwrap()] {
            assert!(!log.contains(value), "{value} is in the log");
        }
    }

    async fn c17_58_a_job_that_its_worker_refuses_is_written_down_once(world: World) {
        let world = world.with_shell().await;
        let server = world.serve().await;
        let orchestrator = PlayedOrchestrator::pair(&server).await;
        let worker = orchestrator.enroll(&server, 1).await;
        let run = world.submit(&body(&[stage("fix", &shell("true"))])).await.head.id;
        let job = orchestrator.job(&worker).await;
        let before = count(&server).await;
        let state = "/v1/orch/jobs/{id}/state";
        assert_eq!(orchestrator.of_job(&job, state, &json!({"state": "running"})).await.0, 200);
        assert_eq!(count(&server).await, before);
        let refused = json!({"state": "failed", "error": {"code": "job_invalid", "message": "the signature is wrong"}});
        for _ in 0..2 {
            assert_eq!(orchestrator.of_job(&job, state, &refused).await.0, 200);
        }
        assert_eq!(count(&server).await, before + 1);
        let row = last(&server).await;
        let own = format!("orchestrator:{}", orchestrator.id);
        assert_eq!(told(&row), [own.as_str(), "job.invalid", job["job_id"].as_str().unwrap()]);
        assert_eq!(row["project_id"], json!(world.project().to_string()));
        let failure = world.ended(run).await.head.state.stages[0].phase.failure().unwrap().clone();
        assert_eq!(failure.code.as_str(), "job_invalid");
        // Any other failure is none of the log's business.
        world.submit(&body(&[stage("fix", &shell("true"))])).await;
        let job = orchestrator.job(&worker).await;
        let failed = json!({"state": "failed", "error": {"code": "exit_nonzero", "message": "1"}});
        assert_eq!(orchestrator.of_job(&job, state, &failed).await.0, 200);
        assert_eq!(count(&server).await, before + 1);
    }
}
