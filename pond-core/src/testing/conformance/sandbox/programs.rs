//! Programs: their streams, environment, signals and ends.

use super::*;

/// Both streams arrive whole and in order, then the code.
pub async fn output_comes_in_order_with_the_code(bench: Bench) {
    let room = bench.start().await;
    let ended = room
        .sh("i=0; while [ $i -lt 500 ]; do echo o$i; echo e$i >&2; i=$((i+1)); done; exit 7")
        .await;
    let lines = |letter: &str| (0..500).map(|number| format!("{letter}{number}\n")).collect::<String>();
    assert_eq!(
        (ended.out, ended.err, ended.exit),
        (lines("o"), lines("e"), Exit::Code(7))
    );
    room.end().await;
}

/// A program that dies of a signal is told from one that ends with a code.
pub async fn death_by_signal_is_told(bench: Bench) {
    let room = bench.start().await;
    assert_eq!(room.sh("kill -9 $$").await.exit, Exit::Signal(9));
    assert_eq!(room.sh("exit 137").await.exit, Exit::Code(137));
    room.end().await;
}

/// Standard streams can be opened again by name, as many scripts do.
pub async fn streams_can_be_opened_by_name(bench: Bench) {
    let room = bench.start().await;
    let ended = room.sh("echo a > /dev/stdout; echo b > /dev/stderr").await;
    assert_eq!(
        (ended.out.as_str(), ended.err.as_str(), ended.exit),
        ("a\n", "b\n", Exit::Code(0))
    );
    room.end().await;
}

/// More input than any pipe holds reaches a program that answers while it reads.
pub async fn input_reaches_the_program(bench: Bench) {
    let room = bench.start().await;
    let text = "0123456789abcde\n".repeat(1 << 16);
    let cat = Exec {
        stdin: Bytes::from(text.clone()),
        ..exec(&["cat"])
    };
    let ended = collect(room.running.exec(cat).await.expect("starts")).await;
    assert!(ended.out == text, "{} bytes of {}", ended.out.len(), text.len());
    assert_eq!(room.run(&["cat"]).await.out, "", "no input is an empty one");
    room.end().await;
}

/// What cannot be executed is an error; a program's own 127 is not.
pub async fn a_missing_program_is_an_error(bench: Bench) {
    let room = bench.start().await;
    assert!(room.running.exec(exec(&["no-such-program"])).await.is_err());
    assert!(room.running.exec(exec(&["/etc/passwd"])).await.is_err());
    assert!(room.running.exec(exec(&[])).await.is_err());
    let nowhere = Exec {
        cwd: Some("/no/such/folder".into()),
        ..exec(&["true"])
    };
    assert!(room.running.exec(nowhere).await.is_err());
    assert_eq!(room.sh("exit 127").await.exit, Exit::Code(127));
    room.end().await;
}

/// Programs begin in the first folder, or where they are told to.
pub async fn programs_begin_in_the_working_folder(bench: Bench) {
    let room = bench.start().await;
    fs::create_dir(room.work.join("below")).expect("own folder");
    assert_eq!(room.sh("ls").await.out, "below\nprobe\n");
    let below = Exec {
        cwd: Some("/work/below".into()),
        ..exec(&["sh", "-c", "ls ..; basename \"$PWD\""])
    };
    let ended = collect(room.running.exec(below).await.expect("starts")).await;
    assert_eq!(ended.out, "below\nprobe\nbelow\n");
    room.end().await;
}

/// The environment is the fixed one and what was given, nothing of the worker's.
pub async fn the_environment_is_what_was_given(bench: Bench) {
    let room = bench.start().await;
    let mut env = exec(&["env"]);
    env.env.insert("GIVEN".into(), Secret::new("a b=c"));
    env.env.insert("LANG".into(), Secret::new("C"));
    let ended = collect(room.running.exec(env).await.expect("starts")).await;
    let found: BTreeMap<&str, &str> = ended.out.lines().filter_map(|line| line.split_once('=')).collect();
    let names: BTreeSet<&str> = found.keys().copied().collect();
    assert_eq!(
        names,
        BTreeSet::from(["GIVEN", "HOME", "LANG", "LOGNAME", "PATH", "TMPDIR", "USER"])
    );
    assert_eq!((found["GIVEN"], found["LANG"]), ("a b=c", "C"));
    room.end().await;
}

/// No process list of the host shows a program's environment, and none but the program's own process holds it.
pub async fn c17_91_the_environment_is_in_no_process_list(bench: Bench) {
    let room = bench.start().await;
    let mut sleep = exec(&["sh", "-c", "echo up; read line"]);
    let canary = format!("canary-{}-{}", std::process::id(), room.work.display());
    sleep.env.insert("SECRET".into(), Secret::new(canary.clone()));
    sleep.argv[2] = "echo up; exec sleep 60".into();
    let mut process = room.running.exec(sleep).await.expect("starts");
    assert!(matches!(
        process.output.recv().await,
        Some(Output::Bytes(Stream::Stdout, _))
    ));
    let mut holders = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc is there").flatten() {
        let holds = |file: &str| {
            let bytes = fs::read(entry.path().join(file)).unwrap_or_default();
            bytes.windows(canary.len()).any(|window| window == canary.as_bytes())
        };
        assert!(!holds("cmdline"), "{}", entry.path().display());
        if holds("environ") {
            let uid = entry.metadata().expect("still there").uid();
            holders.push((fs::read_to_string(entry.path().join("comm")).unwrap_or_default(), uid));
        }
    }
    for (name, uid) in holders {
        assert!(
            ["sleep\n", "sh\n"].contains(&name.as_str()),
            "{name} holds the environment of a job"
        );
        assert!(
            bench.uids.as_ref().is_none_or(|range| range.contains(&uid)),
            "uid {uid}"
        );
    }
    room.end().await;
}

/// Programs run one after the other and side by side.
pub async fn programs_run_side_by_side(bench: Bench) {
    let room = bench.start().await;
    for round in 0..2 {
        let scripts: Vec<String> = (0..8)
            .map(|number| format!("sleep 0.05; echo {round}-{number}"))
            .collect();
        let outs = futures::future::join_all(scripts.iter().map(|script| room.sh(script))).await;
        for (number, ended) in outs.iter().enumerate() {
            assert_eq!(ended.out, format!("{round}-{number}\n"));
        }
    }
    room.end().await;
}

/// A request to end reaches a program and those it has started in its session.
pub async fn signals_reach_the_whole_session(bench: Bench) {
    let room = bench.start().await;
    let script =
        "trap 'echo asked; exit 3' TERM; (trap 'echo child asked; exit' TERM; echo up; while :; do sleep 0.05; done) &
        while :; do sleep 0.05; done";
    let mut process = room.exec(&["sh", "-c", script]).await;
    assert!(
        matches!(process.output.recv().await, Some(Output::Bytes(Stream::Stdout, _))),
        "it is up"
    );
    process.signals.send(Signal::Term).await.expect("it lives");
    let ended = collect(process).await;
    assert_eq!(ended.exit, Exit::Code(3), "{ended:?}");
    assert!(ended.out.contains("asked"), "{ended:?}");
    let mut stubborn = room
        .exec(&["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done"])
        .await;
    assert!(
        matches!(stubborn.output.recv().await, Some(Output::Bytes(Stream::Stdout, _))),
        "it is up"
    );
    stubborn.signals.send(Signal::Kill).await.expect("it lives");
    assert_eq!(collect(stubborn).await.exit, Exit::Signal(9));
    room.end().await;
}

/// Output that nobody reads holds its own program up, and no other; read, it comes whole.
pub async fn unread_output_holds_up_its_program_alone(bench: Bench) {
    let room = bench.start().await;
    let mut flood = room.exec(&["./probe", "flood", "64"]).await;
    let Some(Output::Bytes(_, first)) = flood.output.recv().await else {
        panic!("no output")
    };
    for _ in 0..3 {
        assert_eq!(room.sh("echo on").await.out, "on\n");
    }
    let mut read = first.len();
    let exit = loop {
        match flood.output.recv().await.expect("an end comes first") {
            Output::Bytes(_, bytes) => read += bytes.len(),
            Output::Exited(exit) => break exit,
        }
    };
    assert_eq!((read, exit), (64 << 20, Exit::Code(0)));
    room.end().await;
}

/// A process in the background that has kept the stream neither holds up the end of its program nor dies of it.
pub async fn background_processes_outlive_their_program(bench: Bench) {
    let room = bench.start().await;
    let ended = room
        .sh("(sleep 0.3; echo late; echo late >&2; echo there > late) & echo early")
        .await;
    assert_eq!((ended.out.as_str(), ended.exit), ("early\n", Exit::Code(0)));
    let late = room.work.join("late");
    until("the background process goes on", || async { late.exists() }).await;
    room.end().await;
}
