//! Limits, and what is told of use.

use super::*;

/// Use can be read while programs run.
pub async fn use_is_measured(bench: Bench) {
    let room = bench.start().await;
    let spin = room.exec(&["./probe", "spin"]).await;
    until("CPU time and processes are counted", || async {
        let stats = room.running.stats().await.expect("stats");
        let cpu = stats.cpu.expect("CPU time is measured");
        stats.pids.is_some_and(|count| count >= 1) && stats.memory.is_some_and(|bytes| bytes > 0) && !cpu.is_zero()
    })
    .await;
    assert!(room.running.stats().await.expect("stats").breached.is_empty());
    drop(spin);
    room.end().await;
}

/// No core files.
pub async fn c17_63_cores_are_not_written(bench: Bench) {
    let room = bench.start().await;
    assert_eq!(room.sh("ulimit -c; ulimit -Hc").await.out, "0\n0\n");
    room.end().await;
}

/// A fork bomb meets the limit and the host goes on.
pub async fn c17_64_processes_are_limited(bench: Bench) {
    let room = bench.start_as(|spec| spec.limits.pids = 24).await;
    let ended = room.probe(&["forks", "400"]).await;
    // Held at the limit, or ended for having passed it.
    let held = ended.exit == Exit::Code(0) && ended.out.trim().parse::<u32>().expect("a number") <= 24;
    if !held {
        until("the breach is told", || async {
            room.running
                .stats()
                .await
                .expect("stats")
                .breached
                .contains(&LimitKind::Pids)
        })
        .await;
    }
    room.end().await;
    bench.serves_the_next().await;
}

/// A memory hog meets the limit and the host goes on.
pub async fn c17_64_memory_is_limited(bench: Bench) {
    let room = bench.start_as(|spec| spec.limits.memory = 96 << 20).await;
    let ended = room.probe(&["memory", "600"]).await;
    assert_ne!(ended.exit, Exit::Code(0), "{ended:?}");
    assert!(!ended.out.contains("all") && !ended.out.contains("128"), "{ended:?}");
    if ended.exit == Exit::Signal(9) {
        let breached = room.running.stats().await.expect("stats").breached;
        assert_eq!(breached, [LimitKind::Memory]);
    }
    room.end().await;
    bench.serves_the_next().await;
}

/// A hog of open files meets the limit.
pub async fn c17_64_open_files_are_limited(bench: Bench) {
    let room = bench.start().await;
    let ended = room.probe(&["fds"]).await;
    assert!(ended.out.ends_with(" 24\n"), "{ended:?}");
    assert_eq!(room.sh("echo on").await.out, "on\n");
    room.end().await;
}

/// Own space is limited, and one that fills it meets an error.
pub async fn c17_64_disk_space_is_limited(bench: Bench) {
    let room = bench.start_as(|spec| spec.limits.tmpfs = 8 << 20).await;
    let home = room.sh("echo $HOME").await.out.trim().to_owned();
    for place in ["/tmp/x", "/dev/shm/x", &format!("{home}/x")] {
        let ended = room.probe(&["fill", place]).await;
        let (written, errno) = ended.out.trim().split_once(' ').unwrap_or_else(|| panic!("{ended:?}"));
        assert!(
            written.parse::<u32>().expect("a number") <= 8 && errno == "28",
            "{place}: {ended:?}"
        );
    }
    let breached = room.running.stats().await.expect("stats").breached;
    assert_eq!(breached, [LimitKind::Disk]);
    room.end().await;
    bench.serves_the_next().await;
}
