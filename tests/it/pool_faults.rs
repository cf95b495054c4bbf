//! A pool of processes of their own, and what befalls it: programs that are killed, several servers, no worker, TLS on the way.

mod midway;
mod tls;

use std::time::{Duration, Instant};

use pond_core::clock::{Clock, SystemClock, Timestamp};
use pond_tests::fleet::{Fleet, Program, text};
use pond_tests::process::{bare, eventually, program};
use pond_tests::server::{TOKEN, plain_client};
use pond_tests::world::{noop, shell, stage};
use reqwest::Method;
use serde_json::{Value, json};

use midway::Midway;
use tls::tls_before;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c17_57_the_engine_killed_in_the_middle_of_remote_jobs_loses_and_doubles_nothing() {
    let mut midway = Midway::reached().await;
    midway.fleet.server.kill();
    tokio::time::sleep(Duration::from_secs(1)).await;
    midway.fleet.server.again();
    midway.ends_well(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c17_57_the_orchestrator_killed_in_the_middle_of_remote_jobs_loses_and_doubles_nothing() {
    let mut midway = Midway::reached().await;
    midway.orchestrator.kill();
    tokio::time::sleep(Duration::from_secs(1)).await;
    midway.orchestrator.again();
    midway.ends_well(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c17_106_workers_killed_in_the_middle_of_remote_jobs_do_them_again_at_once() {
    let mut midway = Midway::reached().await;
    for worker in &mut midway.workers {
        worker.kill();
    }
    for worker in &mut midway.workers {
        worker.again();
    }
    let back = Instant::now();
    let both_again = |run: &Value| run["stages"][0]["attempt"] == 2 && run["stages"][1]["attempt"] == 2;
    midway.fleet.until(&midway.run, both_again).await;
    assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
    midway.ends_well(2).await;
}

/// The abilities of a worker that runs the shell harness.
const SHELL: [&str; 2] = ["harness.shell", "sandbox.bubblewrap"];

/// A server, an orchestrator and workers, for the shell harness.
async fn pool(settings: &[(&str, &str)], workers: &[&str]) -> (Fleet, Program, Vec<Program>) {
    let mut fleet = Fleet::start(settings).await;
    let url = fleet.url.clone();
    let orchestrator = fleet.orchestrator(&url, &[]).await;
    let mut started = Vec::new();
    for name in workers {
        started.push(fleet.worker(name, &SHELL).await.up());
    }
    fleet
        .made("/v1/admin/harnesses/from-preset", &json!({"preset": "shell"}))
        .await;
    (fleet, orchestrator, started)
}

fn script(script: &str) -> Value {
    json!({"definition": {"stages": [stage("fix", &shell(script))]}})
}

/// Waits until the agent of a run has said something.
async fn said(fleet: &Fleet, run: &str, line: &str) -> Value {
    let started = Instant::now();
    loop {
        let log = fleet.log(run).await;
        if let Some(found) = log.iter().find(|found| found["line"] == line) {
            return found.clone();
        }
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "{log:#?} {:#}",
            fleet.run(run).await
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Submits until it is answered, as a client does that has lost an answer: with the same key each time.
async fn insists(fleet: &Fleet, key: usize, body: &Value) -> String {
    let http = plain_client();
    for _ in 0..600 {
        let request = http.post(format!("{}/v1/runs", fleet.url)).bearer_auth(TOKEN);
        let request = request.header("idempotency-key", format!("submit-{key}"));
        if let Ok(answered) = request.json(body).send().await
            && let Ok(run) = answered.json::<Value>().await
            && let Some(id) = run["id"].as_str()
        {
            return id.to_owned();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("submit {key} is not answered: {}", fleet.server.said())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c17_82_the_engine_killed_again_and_again_loses_no_run_and_ends_each_once() {
    const RUNS: usize = 12;
    // A claim whose answer died with the engine is held by nobody: that job waits for the end of its lease, once for each kill.
    let settings = [("POND_LEASE_SEC", "9"), ("POND_MAX_ATTEMPTS", "5")];
    let (mut fleet, _orchestrator, _workers) = pool(&settings, &["w1", "w2"]).await;
    let agent = stage("fix", &shell("for n in 1 2 3 4 5; do echo line $n; sleep 0.05; done"));
    let body = json!({"definition": {"stages": [stage("first", &noop(1, 0.0)), agent, stage("last", &noop(1, 0.0))]}});
    let mut runs = Vec::new();
    for key in 0..RUNS {
        runs.push(insists(&fleet, key, &body).await);
        if key % 3 == 2 {
            // A little later each time: at another point of some run's way.
            tokio::time::sleep(Duration::from_millis(90 * key as u64)).await;
            fleet.server.kill();
            fleet.server.again();
        }
    }
    for id in &runs {
        let ended = fleet.ended(id).await;
        assert_eq!(ended["run"]["status"], "done", "{ended:#}");
        let lines = fleet.lines(id, "fix").await;
        let printed: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("line ")).collect();
        assert_eq!(printed, ["1", "2", "3", "4", "5"], "{lines:#?}");
        let events = fleet.events(id).await;
        for (key, ends) in [
            (Value::Null, 1),
            (json!("first"), 1),
            (json!("fix"), 1),
            (json!("last"), 1),
        ] {
            let to_done = events
                .iter()
                .filter(|event| event.2["to"] == "done" && event.2["key"] == key);
            assert_eq!(to_done.count(), ends, "{key} of {events:#?}");
        }
    }
    let (_, list) = fleet.get("/v1/runs?limit=500").await;
    assert_eq!(list["runs"].as_array().unwrap().len(), RUNS, "none was made twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c17_15_a_cancel_sent_to_another_server_reaches_the_job_within_a_second() {
    let (fleet, _orchestrator, _workers) = pool(&[], &["w1"]).await;
    let (other, _server) = fleet.another_server("other");
    // Submitted to the server that the orchestrator does not know, it is taken all the same.
    let agent = "trap 'echo told to stop; exit 1' TERM; echo up; while :; do sleep 0.05; done";
    let (status, run) = fleet.call(&other, Method::POST, "/v1/runs", Some(&script(agent))).await;
    assert_eq!(status, 201, "{run}");
    let id = text(&run["id"]);
    said(&fleet, id, "up").await;
    let before = SystemClock.now();
    let (status, cancelled) = fleet
        .call(&other, Method::POST, &format!("/v1/runs/{id}/cancel"), None)
        .await;
    assert_eq!(status, 202, "{cancelled}");
    assert_eq!(fleet.ended(id).await["run"]["status"], "cancelled");
    // The worker's time of the line; it is the same clock.
    let told = said(&fleet, id, "told to stop").await;
    let took = Timestamp::parse(text(&told["ts"])).unwrap().since(before);
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c17_59_a_worker_revoked_at_another_server_is_refused_and_its_job_requeued() {
    let (fleet, _orchestrator, mut workers) = pool(&[], &["w1", "w2"]).await;
    let (other, _server) = fleet.another_server("other");
    let run = fleet.made("/v1/runs", &script("echo up; sleep 4; echo kept")).await;
    let id = text(&run["id"]);
    said(&fleet, id, "up").await;
    let first = fleet.run(id).await["stages"][0]["workerId"].clone();
    let (_, list) = fleet.get("/v1/admin/pool/workers").await;
    let revoked = list
        .as_array()
        .unwrap()
        .iter()
        .find(|worker| worker["worker_id"] == first)
        .unwrap();
    let index = usize::from(revoked["name"] == "w2");
    let path = format!("/v1/admin/pool/workers/{}", text(&first));
    let (status, answer) = fleet.call(&other, Method::DELETE, &path, None).await;
    assert_eq!(status, 204, "{answer}");
    let again = |run: &Value| run["stages"][0]["attempt"] == 2 && run["stages"][0]["workerId"] != first;
    let since = Instant::now();
    fleet.until(id, again).await;
    assert!(
        since.elapsed() < Duration::from_secs(3),
        "requeued after {:?}",
        since.elapsed()
    );
    let refused = eventually(Duration::from_secs(5), || workers[index].exit() == Some(3));
    assert!(refused, "{}", workers[index].said());
    assert_eq!(fleet.ended(id).await["run"]["status"], "done");
    let kept = fleet.lines(id, "fix").await;
    assert_eq!(kept.iter().filter(|line| *line == "kept").count(), 1, "{kept:?}");
    // Nor does it come in again with what it has.
    workers[index].spawn();
    assert!(
        eventually(Duration::from_secs(5), || workers[index].exit() == Some(3)),
        "{}",
        workers[index].said()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c17_62_remote_jobs_fail_after_the_grace_with_preflights_words_unless_a_worker_appears_before() {
    let (fleet, _orchestrator, _nobody) = pool(&[("POND_DISPATCH_NO_WORKER_GRACE_SEC", "8")], &[]).await;
    let trusted = script("echo done");
    let mut theirs = script("echo done");
    theirs["definition"]["stages"][0]["executor"]["sandbox"]["tier"] = json!("byo");
    let told = async |body: &Value| {
        let preflight = fleet.made("/v1/runs/preflight", body).await;
        let problems = preflight["problems"].as_array().unwrap().iter();
        let mut messages = problems.filter(|problem| problem["code"] == "no_capable_worker");
        text(&messages.next().unwrap()["message"]).to_owned()
    };
    let mut runs = Vec::new();
    for body in [&theirs, &trusted] {
        assert!(told(body).await.contains("no worker is online"));
        runs.push(text(&fleet.made("/v1/runs", body).await["id"]).to_owned());
    }
    let since = Instant::now();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let _worker = fleet.worker("w1", &SHELL).await.up();
    let ended = fleet.ended(&runs[1]).await;
    assert_eq!(ended["run"]["status"], "done", "{ended:#}");
    let ended = fleet.ended(&runs[0]).await;
    assert!(
        (Duration::from_secs(7)..Duration::from_secs(15)).contains(&since.elapsed()),
        "{:?}",
        since.elapsed()
    );
    assert_eq!(ended["run"]["status"], "failed");
    assert_eq!(ended["stages"][0]["error"]["code"], "no_capable_worker");
    // As preflight says it now that somebody is online who does not fit.
    assert_eq!(text(&ended["stages"][0]["error"]["message"]), told(&theirs).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orchestrator_reaches_an_engine_behind_tls_by_the_operators_ca_alone() {
    let mut fleet = Fleet::start(&[]).await;
    let (at, pem) = tls_before(&fleet.url).await;
    let (engine, ca) = (format!("https://{at}"), fleet.path("ca.pem"));
    std::fs::write(&ca, pem).unwrap();
    // Without the CA nothing is told to whoever answers there, and the operator reads why.
    let code = fleet.made("/v1/admin/pool/pairing-codes", &json!({})).await;
    let pair = [
        "orchestrator",
        "pair",
        "--pond",
        &engine,
        "--code",
        text(&code["code"]),
        "--state-dir",
        "stranger",
    ];
    let refused = bare(&program("pond"), fleet.folder.path()).args(pair).output().unwrap();
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(6), "{why}");
    assert!(
        why.contains("TLS certificate") && why.contains("POND_EXTRA_CA_FILE"),
        "{why}"
    );
    // With it the orchestrator pairs and relays.
    let mut orchestrator = fleet.orchestrator(&engine, &[("POND_EXTRA_CA_FILE", &ca)]).await;
    fleet
        .made("/v1/admin/harnesses/from-preset", &json!({"preset": "shell"}))
        .await;
    let _worker = fleet.worker("w1", &SHELL).await.up();
    let run = fleet.made("/v1/runs", &script("echo through TLS")).await;
    let id = text(&run["id"]);
    assert_eq!(fleet.ended(id).await["run"]["status"], "done");
    assert!(fleet.lines(id, "fix").await.contains(&"through TLS".to_owned()));
    // Started again without it, it says why it does not reach the engine.
    orchestrator.kill();
    let (address, state) = (fleet.orchestrator_at.clone(), fleet.path("orchestrator"));
    let serve = [
        "pond",
        "orchestrator",
        "serve",
        "--bind",
        &address,
        "--state-dir",
        &state,
    ];
    let mut without = Program::new(fleet.folder.path(), "without", &serve);
    without.spawn();
    let told = || without.said().contains("TLS certificate") && without.said().contains("POND_EXTRA_CA_FILE");
    assert!(eventually(Duration::from_secs(10), told), "{}", without.said());
}
