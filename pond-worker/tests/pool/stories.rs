//! Jobs through orchestrator and worker, while one or the other comes and goes.

use std::time::{Duration, Instant};

use futures::TryStreamExt;
use pond_core::entropy::SystemEntropy;
use pond_core::sources::BundleKey;
use serde_json::json;

use super::engine::{LEASE, Played, Work};
use super::tap::Tap;
use super::world::World;

fn lines(count: u32, pause: &str) -> Work {
    Work::script(format!(
        "for n in $(seq 1 {count}); do echo line $n; sleep {pause}; done; echo kept > $POND_OUTPUT_DIR/r.txt"
    ))
}

fn numbered(count: u32) -> Vec<String> {
    (1..=count).map(|n| format!("line {n}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_through_orchestrator_and_worker_and_all_of_it_comes_back() {
    let world = World::start().await;
    let worker = world.worker("w1", world.at).await;
    let job = world.engine.submit(lines(3, "0.1"));
    world.engine.is_done(job).await;
    world.engine.told(job, |told| {
        assert_eq!((told.attempts, told.began), (1, 1));
        assert_eq!(told.lines, numbered(3));
        assert_eq!(told.artifacts["r.txt"], b"kept\n");
    });
    assert_eq!(worker.stop(), Some(0));
    // It comes back without a new code: the one it gets is not even sent.
    let worker = world.worker("w1", world.at).await;
    let job = world.engine.submit(lines(1, "0"));
    world.engine.is_done(job).await;
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_57_an_orchestrator_that_is_killed_mid_job_and_comes_back_loses_and_doubles_nothing() {
    let mut world = World::start().await;
    let _worker = world.worker("w1", world.at).await;
    let job = world.engine.submit(lines(40, "0.1"));
    world
        .engine
        .until("a line", |engine| engine.jobs[&job].lines.len() > 3)
        .await;
    world.orchestrator.take().unwrap().kill();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    world.serve().await;
    world.engine.is_done(job).await;
    world.engine.told(job, |told| {
        assert_eq!(told.lines, numbered(40));
        assert_eq!((told.attempts, told.ends.len()), (1, 1));
        assert_eq!(told.artifacts["r.txt"], b"kept\n");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_106_a_worker_that_is_killed_and_started_again_gives_its_lease_back_at_once() {
    let world = World::start().await;
    let worker = world.worker("w1", world.at).await;
    let marker = world.folder.path().join("once");
    let script = format!(
        "if mkdir {} 2>/dev/null; then echo first; sleep 300; fi; echo second",
        marker.display()
    );
    let work = Work {
        secrets: Some(json!({"OPENAI_API_KEY": "sk-not-asked-for"})),
        ..Work::script(script)
    };
    let job = world.engine.submit(work);
    world
        .engine
        .until("the first", |engine| engine.jobs[&job].lines.contains(&"first".into()))
        .await;
    worker.kill();
    let _again = world.worker("w1", world.at).await;
    let back = Instant::now();
    world.engine.is_done(job).await;
    assert!(
        back.elapsed() < Duration::from_secs(5) && back.elapsed() < LEASE,
        "{:?}",
        back.elapsed()
    );
    world.engine.told(job, |told| {
        assert_eq!(told.attempts, 2);
        assert_eq!(told.lines, ["first", "second"]);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_105_a_cancel_is_carried_out_once_over_a_restart_and_an_unknown_command_is_acknowledged() {
    let mut world = World::start().await;
    let _worker = world.worker("w1", world.at).await;
    let job = world.engine.submit(Work::script("echo up; sleep 300"));
    world
        .engine
        .until("a line", |engine| !engine.jobs[&job].lines.is_empty())
        .await;
    let unknown = world.engine.command(job, 1, "dance");
    world.engine.lock().extra.push(unknown);
    world.engine.wake.notify_waiters();
    world
        .engine
        .until("its acknowledgement", |engine| engine.jobs[&job].acknowledged == 1)
        .await;
    world.engine.lock().extra.clear();
    world.orchestrator.take().unwrap().kill();
    let cancel = world.engine.command(job, 2, "cancel");
    world.engine.cancel(job);
    world.engine.lock().extra = vec![cancel.clone(), cancel];
    world.serve().await;
    assert_eq!(world.engine.ended(job).await["state"], "cancelled");
    world
        .engine
        .told(job, |told| assert_eq!((told.attempts, told.ends.len()), (1, 1)));
}

/// A bundle of some size, sealed, and its key.
async fn bundle() -> (Vec<u8>, Vec<u8>) {
    let source = tempfile::tempdir().unwrap();
    std::fs::write(source.path().join("big.bin"), vec![b'x'; 400_000]).unwrap();
    std::fs::write(source.path().join("told.txt"), "CLEAR-SOURCE-TEXT").unwrap();
    let mut tar = Vec::new();
    let limits = pond_core::sources::Limits {
        bytes: 1 << 20,
        files: 10,
    };
    pond_core::sources::write_bundle(source.path(), &mut tar, limits).unwrap();
    let key = BundleKey::draw(&SystemEntropy);
    let clear = futures::stream::iter([Ok(bytes::Bytes::from(tar))]);
    let pieces: Vec<bytes::Bytes> = key.seal(Box::pin(clear), &SystemEntropy).try_collect().await.unwrap();
    (pieces.concat(), key.expose().to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_58_a_recording_orchestrator_hears_no_secret_and_no_bundle_key() {
    let engine = Played::start().await;
    let up = Tap::before(engine.addr).await;
    let world = World::with(engine, up.addr).await;
    let down = Tap::before(world.at).await;
    let _worker = world.worker("w1", down.addr).await;
    let (sealed, key) = bundle().await;
    let work = Work {
        secrets: Some(json!({"SOME_KEY": "sk-canary-5f2b9d"})),
        bundle: Some((sealed, key.clone())),
        ..Work::script(
            "wc -c < big.bin; printenv SOME_KEY | wc -c; printenv SOME_KEY; cp told.txt $POND_OUTPUT_DIR/t.txt",
        )
    };
    let job = world.engine.submit(work);
    world.engine.is_done(job).await;
    // The engine breaks the bundle off five times: it was read in ranges.
    world.engine.told(job, |told| {
        assert_eq!(told.lines, ["400000", "17", "[redacted:SOME_KEY]"]);
        assert_eq!(told.artifacts["t.txt"], b"CLEAR-SOURCE-TEXT");
    });
    use base64::Engine as _;
    let in_base64 = base64::engine::general_purpose::STANDARD.encode(&key);
    for tap in [&up, &down] {
        assert!(tap.heard(b"line") || tap.heard(b"told.txt"), "it is a recording");
        for secret in [
            b"sk-canary-5f2b9d".as_slice(),
            &key,
            in_base64.as_bytes(),
            hex::encode(&key).as_bytes(),
        ] {
            assert!(!tap.heard(secret));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_100_the_pool_secret_is_not_in_the_process_list_and_guards_the_status_page() {
    let world = World::start().await;
    let pid = world.orchestrator.as_ref().unwrap().pid();
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    let arguments = String::from_utf8_lossy(&arguments).into_owned();
    assert!(
        arguments.contains("--bind") && !arguments.contains("S3CR3T") && !arguments.contains("--token"),
        "{arguments}"
    );
    assert!(!world.orchestrator.as_ref().unwrap().log().contains("S3CR3T"));
    let url = format!("http://{}/status", world.at);
    let ask = |token: &'static str| {
        let url = url.clone();
        async move {
            let asked = std::process::Command::new("curl")
                .args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "-H"])
                .arg(format!("authorization: Bearer {token}"))
                .arg(url)
                .output()
                .unwrap();
            String::from_utf8(asked.stdout).unwrap()
        }
    };
    assert_eq!(ask("S3CR3T-OF-THE-POOL").await, "200");
    assert_eq!(ask("other").await, "403");
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_59_a_revoked_worker_is_refused_and_leaves() {
    let world = World::start().await;
    let worker = world.worker("w1", world.at).await;
    world.engine.until("the worker", |engine| engine.seen.len() == 1).await;
    {
        let mut engine = world.engine.lock();
        let id = engine.seen.keys().next().unwrap().parse().unwrap();
        engine.revoked.insert(id);
    }
    assert_eq!(worker.ends().await, Some(3));
}
