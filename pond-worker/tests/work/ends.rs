//! How jobs end: by themselves, by time, by a cancel, by a limit, or before they start.

use std::time::{Duration, Instant};

use pond_core::EngineSettings;
use pond_core::scope::Scope;
use pond_worker::sandbox::DockerSettings;
use serde_json::json;

use super::world::{World, napping, quick};

#[tokio::test(flavor = "multi_thread")]
async fn c17_14_a_timeout_leaves_no_process() {
    let world = World::start().await;
    let script = "trap '' TERM; setsid sleep @401 & sleep @402 & while :; do sleep @403; done";
    let run = world.submit_with(script, json!({}), json!({"timeout_sec": 1})).await;
    let ended = world.ended(run).await;
    assert_eq!(ended.failure(), ("timeout", "ran longer than its 1 s"));
    assert_eq!(napping("40"), Vec::<u32>::new());
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_15_a_cooperative_job_is_cancelled_within_a_second_also_without_a_free_slot() {
    let world = World::with(EngineSettings::default(), |settings| settings.concurrency = 1).await;
    let run = world
        .submit(
            "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done",
            json!({}),
        )
        .await;
    world.said(run, "ready").await;
    let asked = Instant::now();
    world.pond.runs().cancel(Scope::Org, run).await.expect("cancelled");
    let ended = world.ended(run).await;
    let took = asked.elapsed();
    ended.is_cancelled();
    assert!(ended.said("bye"), "it heard of it: {:?}", ended.lines);
    assert!(took < Duration::from_secs(1), "{took:?}");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_15_a_job_that_ignores_it_and_forks_twice_is_gone_within_twelve_seconds() {
    let world = World::with(EngineSettings::default(), |_| {}).await;
    let script = "trap '' TERM; (setsid sh -c 'trap \"\" TERM; (setsid sleep @501 &) ; sleep @502' &) ; echo ready; \
                  while :; do sleep @503; done";
    let run = world.submit(script, json!({})).await;
    world.said(run, "ready").await;
    let asked = Instant::now();
    world.pond.runs().cancel(Scope::Org, run).await.expect("cancelled");
    let ended = world.ended(run).await;
    let took = asked.elapsed();
    ended.is_cancelled();
    assert_eq!(napping("50"), Vec::<u32>::new());
    assert!(
        (Duration::from_secs(9)..Duration::from_secs(12)).contains(&took),
        "{took:?}"
    );
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_was_run_into_is_named() {
    let world = World::start().await;
    let eater = "head -c 300m /dev/zero | tail > /dev/null; exit 1";
    let sandbox = json!({"sandbox": {"profile": "untrusted-code-write", "overrides": {"memory": "64m"}}});
    let ended = world.run(eater, sandbox).await;
    let (code, message) = ended.failure();
    assert_eq!(code, "sandbox_limit");
    assert!(message.contains("64 MiB"), "{message}");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_was_run_into_is_named_by_docker() {
    let world = World::with(quick(), |settings| settings.backends.docker = docker()).await;
    let eater = "x=$(head -c 300m /dev/zero | tr '\\000' x); exit 1";
    let sandbox = json!({"sandbox": {
        "profile": "untrusted-code-write", "backend": "docker", "overrides": {"memory": "64m", "image": "pond-test"}
    }});
    let ended = world.run(eater, sandbox).await;
    let (code, message) = ended.failure();
    assert_eq!(code, "sandbox_limit", "{message}");
    assert!(message.contains("64 MiB"), "{message}");
    world.close().await;
}

#[expect(clippy::disallowed_methods, reason = "how the test command tells of the engine")]
fn docker() -> DockerSettings {
    let host = std::env::var("POND_TEST_DOCKER_HOST");
    DockerSettings {
        host: host.expect("no Docker Engine for tests: eval \"$(tests/docker start)\" sets POND_TEST_DOCKER_HOST"),
        image: Some("pond-test".into()),
        pull: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_there_is_named() {
    let world = World::start().await;
    let harness = json!({"key": "ghost", "command_template": ["no-such-agent"], "capability": "harness.shell"});
    world.harness(harness).await;
    let ended = world.run("x", json!({"harness": "ghost"})).await;
    let (code, message) = ended.failure();
    assert_eq!(code, "agent_failed");
    assert!(message.contains("no-such-agent"), "{message}");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_91_without_uids_a_root_worker_withholds_its_sandbox_and_says_why() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test is about a worker that runs as root"
    );
    let world = World::with(quick(), |settings| settings.uid_range = None).await;
    let info = world.pool.as_ref().expect("a worker").info().clone();
    assert!(!info.capabilities.contains("sandbox.bubblewrap"));
    assert!(
        info.problems["sandbox.bubblewrap"].contains("--uid-range"),
        "{:?}",
        info.problems
    );
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worker_tells_what_it_can_do() {
    let world = World::start().await;
    let info = world.pool.as_ref().expect("a worker").info().clone();
    for capability in ["sandbox.bubblewrap", "harness.shell", "harness.mini"] {
        assert!(
            info.capabilities.contains(capability),
            "{capability}: {:?}",
            info.problems
        );
    }
    assert!(!info.capabilities.contains("sandbox.none"), "nobody allowed it");
    for preset in ["harness.claude", "harness.codex"] {
        let (can, cannot) = (info.capabilities.contains(preset), info.problems.contains_key(preset));
        assert!(can != cannot, "{preset} is either there or missing: {info:?}");
    }
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unconfined_job_runs_where_it_is_allowed() {
    let world = World::with(quick(), |settings| settings.allow_unconfined = true).await;
    let script = "cat a.txt; echo out > $POND_OUTPUT_DIR/r.txt; id -u";
    let ended = world.run(script, json!({"sandbox": {"profile": "none"}})).await;
    ended.is_done();
    assert!(ended.said("one"));
    assert_eq!(ended.text("r.txt"), "out\n");
    world.close().await;
}
