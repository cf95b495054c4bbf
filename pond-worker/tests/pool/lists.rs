//! Codes that are raced for, and many workers at once.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pond_core::entropy::SystemEntropy;
use pond_core::pool::WorkerSecretKeys;
use pond_sdk::api;
use pond_worker::link::peer::{Ask, Peer, PeerError, PeerUrl, Tls};
use pond_worker::net::DialerSettings;
use serde_json::{Value, json};

use super::world::{World, program};

fn peer(world: &World) -> Peer {
    let url = PeerUrl::parse(&format!("http://{}", world.at), Tls::Required).unwrap();
    Peer::new(&url, &DialerSettings::default()).unwrap()
}

fn ask(path: &str) -> Ask<'_> {
    Ask {
        path,
        claim: None,
        within: Duration::from_secs(40),
    }
}

async fn enroll(peer: &Peer, code: &str) -> Result<api::Enrolled, PeerError> {
    let keys = WorkerSecretKeys::make(&SystemEntropy);
    let body = json!({
        "code": code, "name": "w", "proof": STANDARD.encode(keys.prove(code)),
        "public_keys": {"x25519": STANDARD.encode(keys.public().x25519), "ed25519": STANDARD.encode(keys.public().ed25519)},
    });
    peer.post(ask("/v1/worker/enroll"), &body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_94_of_twenty_who_use_one_code_at_once_one_comes_in_and_no_log_holds_it() {
    let world = World::start().await;
    let (peer, code) = (peer(&world), world.engine.code());
    let tries = futures::future::join_all((0..20).map(|_| enroll(&peer, &code))).await;
    assert_eq!(tries.iter().filter(|tried| tried.is_ok()).count(), 1);
    for tried in tries.into_iter().filter_map(Result::err) {
        assert!(matches!(tried.code(), Some("code_invalid" | "busy")), "{tried:?}");
    }
    for _ in 0..2 {
        enroll(&peer, &code).await.unwrap_err();
    }
    let late = enroll(&peer, &world.engine.code()).await.unwrap_err();
    let PeerError::Refused(refusal) = late else {
        panic!("{late:?}")
    };
    assert_eq!(refusal.status, 429);
    assert!(
        refusal
            .retry_after
            .is_some_and(|after| after <= Duration::from_secs(60))
    );
    let log = world.orchestrator.as_ref().unwrap().log();
    assert!(log.contains("/v1/worker/enroll") && !log.contains("pond_ec_"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_104_many_workers_are_told_in_parts_and_again_to_a_server_that_does_not_know() {
    let world = World::start().await;
    let peer = peer(&world);
    let mut polls = tokio::task::JoinSet::new();
    for _ in 0..60 {
        let enrolled = enroll(&peer, &world.engine.code()).await.unwrap();
        let own = peer.with_token(&pond_core::secret::Secret::new(enrolled.token.unwrap().expose()));
        let body = json!({"boot_id": enrolled.worker_id, "free_slots": 0, "concurrency": 1, "wait_ms": 30000});
        polls.spawn(async move { own.post::<_, Value>(ask("/v1/worker/poll"), &body).await });
    }
    world
        .engine
        .until("all workers", |engine| engine.seen.len() == 60)
        .await;
    // Nothing changes, so nothing is told, and nothing is asked anew.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let told = world.engine.lock().lists.len();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.engine.lock().lists.len(), told);
    {
        let mut engine = world.engine.lock();
        engine.generation += 7;
        engine.seen.clear();
        engine.lists.clear();
    }
    polls.abort_all();
    world
        .engine
        .until("a list from the start", |engine| {
            engine.lists.first().is_some_and(|(on, _)| *on == 0)
        })
        .await;
}

#[test]
fn c17_100_plain_http_off_loopback_is_refused_and_goes_on_when_it_is_waived() {
    let folder = tempfile::tempdir().unwrap();
    let worker = [
        "worker",
        "--orchestrator",
        "http://192.0.2.1:8080",
        "--state-dir",
        folder.path().to_str().unwrap(),
    ];
    let serve = [
        "orchestrator",
        "serve",
        "--bind",
        "0.0.0.0:0",
        "--state-dir",
        folder.path().to_str().unwrap(),
    ];
    for line in [&worker[..], &serve[..]] {
        let refused = program(line).output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains("--insecure-no-tls"), "{said}");
        let waived = program(line).env("POND_INSECURE_NO_TLS", "1").output().unwrap();
        let said = String::from_utf8_lossy(&waived.stderr).into_owned();
        // It goes on to the next thing that is missing: the pairing, the code.
        assert!(
            said.contains("WARN") && said.contains("clear") && !said.contains("--insecure-no-tls"),
            "{said}"
        );
    }
}
