//! Workers that come and go, and what becomes of their jobs.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use serde_json::json;

use super::world::{PATIENCE, World, napping};

#[tokio::test(flavor = "multi_thread")]
async fn c17_106_a_worker_that_comes_back_gives_its_leases_back_at_once() {
    let mut world = World::start().await;
    // The source is the same in both attempts; the time tells them apart.
    let script = "echo attempt; if [ $(date +%s) -lt $UNTIL ]; then sleep @601; fi; echo done > $POND_OUTPUT_DIR/r.txt";
    let now = std::process::Command::new("date")
        .arg("+%s")
        .output()
        .expect("date runs");
    let now: u64 = String::from_utf8_lossy(&now.stdout).trim().parse().expect("a number");
    let script = format!("UNTIL={}; {script}", now + 4);
    let run = world.submit(&script, json!({})).await;
    world.said(run, "attempt").await;
    drop(world.pool.take());
    tokio::time::sleep(Duration::from_secs(4)).await;
    let back = Instant::now();
    world.embed_again().await;
    let ended = world.ended(run).await;
    assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
    ended.is_done();
    assert_eq!(ended.attempt(), 2);
    assert!(ended.said("was lost with its worker"));
    assert_eq!(ended.text("r.txt"), "done\n");
    assert_eq!(napping("601"), Vec::<u32>::new());
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_leaves_gives_its_jobs_back() {
    let mut world = World::start().await;
    let run = world
        .submit("echo attempt; [ -e /proc/self ] && sleep @611", json!({}))
        .await;
    world.said(run, "attempt").await;
    let left = Instant::now();
    world.pool.take().expect("a worker").shutdown().await;
    assert!(left.elapsed() < Duration::from_secs(5), "{:?}", left.elapsed());
    assert_eq!(napping("611"), Vec::<u32>::new());
    assert_eq!(world.job_folders(), Vec::<std::path::PathBuf>::new());
    world.embed_again().await;
    let twice = async {
        while world
            .lines(run)
            .await
            .iter()
            .filter(|line| line.line == "attempt")
            .count()
            < 2
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, twice).await.expect("it runs again");
    world
        .pond
        .runs()
        .cancel(pond_core::scope::Scope::Org, run)
        .await
        .expect("cancelled");
    world.ended(run).await.is_cancelled();
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_91_two_jobs_have_two_uids_of_the_range() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test is about a worker that runs as root"
    );
    let world = World::start().await;
    let script = "echo mine > own.txt; echo ready; sleep @621";
    let runs = [
        world.submit(script, json!({})).await,
        world.submit(script, json!({})).await,
    ];
    for run in runs {
        world.said(run, "ready").await;
    }
    let uids: BTreeSet<u32> = world
        .job_folders()
        .iter()
        .map(|folder| {
            std::fs::metadata(folder.join("checkout/own.txt"))
                .expect("written")
                .uid()
        })
        .collect();
    assert_eq!(uids.len(), 2);
    assert!(uids.iter().all(|uid| (200_000..=265_535).contains(uid)), "{uids:?}");
    for run in runs {
        world
            .pond
            .runs()
            .cancel(pond_core::scope::Scope::Org, run)
            .await
            .expect("cancelled");
        world.ended(run).await.is_cancelled();
    }
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_jobs_as_it_has_room_for_run_at_once() {
    let world = World::start().await;
    let mut runs = Vec::new();
    for _ in 0..6 {
        runs.push(world.submit("echo ready; sleep 0.3", json!({})).await);
    }
    for run in runs {
        world.ended(run).await.is_done();
    }
    world.close().await;
}
