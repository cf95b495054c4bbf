//! Ends: asked for, let go of, kept no longer; and standing still meanwhile.

use super::*;

/// A process in a session of its own, without a parent, that takes no request, is gone when the sandbox has been ended.
pub async fn nothing_hides_from_the_end(bench: Bench) {
    let room = bench.start().await;
    let mark = hide(&room).await;
    room.running.kill().await.expect("the sandbox ends");
    assert!(still(&mark).await, "a process outlives its sandbox");
    room.running.kill().await.expect("a second end does nothing");
    assert!(
        room.running.exec(exec(&["true"])).await.is_err(),
        "nothing starts in an ended sandbox"
    );
    bench.serves_the_next().await;
}

/// Programs that run when the sandbox ends are told to have ended.
pub async fn the_end_is_told_to_readers(bench: Bench) {
    let room = bench.start().await;
    let process = room.exec(&["sleep", "60"]).await;
    room.running.kill().await.expect("the sandbox ends");
    assert_eq!(collect(process).await.exit, Exit::Signal(9));
}

/// Letting go of a sandbox ends it.
pub async fn letting_go_ends_everything(bench: Bench) {
    let room = bench.start().await;
    let mark = hide(&room).await;
    drop(room);
    until("the hidden process is gone", || still(&mark)).await;
}

/// A sandbox ends itself, with what hides in it, when it is kept no longer; being kept on puts that off.
pub async fn what_is_not_kept_ends_by_itself(bench: Bench) {
    let room = bench.start().await;
    let long = Duration::from_secs(3600);
    room.running.keep(Instant::now() + long).await.expect("it lives");
    let mark = hide(&room).await;
    let process = room.exec(&["sleep", "60"]).await;
    let (first, second) = (Duration::from_millis(400), Duration::from_millis(1200));
    let now = Instant::now();
    room.running.keep(now + first).await.expect("it lives");
    room.running.keep(now + second).await.expect("it lives");
    assert_eq!(collect(process).await.exit, Exit::Signal(9));
    assert!(
        now.elapsed() >= second,
        "the first time was put off: {:?}",
        now.elapsed()
    );
    until("the hidden process is gone", || still(&mark)).await;
    assert!(room.running.exec(exec(&["true"])).await.is_err(), "it has ended");
    assert!(room.running.keep(Instant::now() + long).await.is_err(), "it has ended");
    room.end().await;
    let room = bench.start().await;
    let mark = hide(&room).await;
    let passed = Instant::now().checked_sub(Duration::from_millis(1));
    room.running
        .keep(passed.expect("the host runs longer"))
        .await
        .expect("it lives");
    until("a time that has passed ends it", || still(&mark)).await;
    room.end().await;
    bench.serves_the_next().await;
}

/// Its end comes in time though its programs use up all that they may.
pub async fn its_end_comes_in_time_under_load(bench: Bench) {
    let room = bench.start_as(|spec| spec.limits.millicpus = 500).await;
    let spins: Vec<Process> = futures::future::join_all((0..40).map(|_| room.exec(&["./probe", "spin"]))).await;
    let after = Duration::from_millis(500);
    let kept = Instant::now();
    room.running.keep(kept + after).await.expect("it lives");
    for spin in spins {
        assert_eq!(collect(spin).await.exit, Exit::Signal(9));
    }
    // A sixth of the shortest lease there may be is one second.
    let late = kept.elapsed().saturating_sub(after);
    assert!(late < Duration::from_secs(1), "{late:?} too late");
    room.end().await;
}

/// Frozen processes stand still, and go on where they stood.
pub async fn freezing_stops_and_thawing_goes_on(bench: Bench) {
    let room = bench.start().await;
    let mark = hide(&room).await;
    room.running.freeze().await.expect("it freezes");
    assert!(still(&mark).await, "a frozen process goes on");
    let frozen = beat(&mark);
    room.running.thaw().await.expect("it thaws");
    until("the process goes on", || async { beat(&mark) > frozen }).await;
    room.running.freeze().await.expect("it freezes again");
    room.running.kill().await.expect("a frozen sandbox ends");
    assert!(still(&mark).await, "a frozen process outlives its sandbox");
}
