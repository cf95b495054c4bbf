//! An orchestrator that changes what it relays.

use super::engine::{Played, Work};
use super::tap::Tap;
use super::world::World;

/// Replaces text by text of the same length.
fn swap(piece: &[u8], from: &str, to: &str) -> Option<Vec<u8>> {
    assert_eq!(from.len(), to.len());
    let at = piece.windows(from.len()).position(|window| window == from.as_bytes())?;
    let mut changed = piece.to_vec();
    changed[at..at + to.len()].copy_from_slice(to.as_bytes());
    Some(changed)
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_58_a_job_with_one_byte_changed_is_refused_and_nothing_starts() {
    let engine = Played::start().await;
    let up = Tap::changing(engine.addr, |piece| swap(piece, "echo good", "echo evil")).await;
    let world = World::with(engine, up.addr).await;
    let worker = world.worker("w1", world.at).await;
    let job = world.engine.submit(Work::script("echo good"));
    let end = world.engine.ended(job).await;
    assert_eq!(
        (&end["state"], &end["error"]["code"]),
        (&"failed".into(), &"job_invalid".into())
    );
    world.engine.told(job, |told| {
        assert_eq!((told.began, told.lines.len()), (0, 0));
    });
    assert!(worker.log().contains("is refused"));
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_58_a_command_with_one_byte_changed_is_not_obeyed() {
    let engine = Played::start().await;
    let up = Tap::changing(engine.addr, |piece| swap(piece, "\"dancer\"", "\"cancel\"")).await;
    let world = World::with(engine, up.addr).await;
    let worker = world.worker("w1", world.at).await;
    let job = world.engine.submit(Work::script("echo up; sleep 1.5; echo well"));
    world
        .engine
        .until("a line", |engine| !engine.jobs[&job].lines.is_empty())
        .await;
    let forged = world.engine.command(job, 1, "dancer");
    world.engine.lock().extra.push(forged);
    world.engine.wake.notify_waiters();
    assert_eq!(world.engine.ended(job).await["state"], "done");
    world.engine.told(job, |told| {
        assert_eq!(told.lines, ["up", "well"]);
        assert_eq!(told.acknowledged, 0);
    });
    assert!(worker.log().contains("is not obeyed"));
}
