//! What every sandbox backend must do, and what a confining one must withstand.
//!
//! A backend's crate calls [`sandbox_conformance!`](crate::sandbox_conformance) with a factory of [`Bench`]es. The probe is
//! a static program of the worker crate that tries things by plain system calls; see its head for what it can be told.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::future::Future;
use std::ops::RangeInclusive;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::sandbox::{
    Access, Bridge, Exec, Exit, HomeFile, LimitKind, Limits, Mount, Output, Process, Profile, Running, Sandbox, Signal,
    Spec, Stream,
};
use crate::secret::Secret;

/// How long anything that must come may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long what must not come is waited for.
const QUIET: Duration = Duration::from_millis(300);

/// A backend to be tried, and the host it is on.
pub struct Bench {
    /// The backend.
    pub sandbox: Arc<dyn Sandbox>,
    /// The profile to start with.
    pub profile: Profile,
    /// The probe program.
    pub probe: PathBuf,
    /// Where working folders may be made; not itself shown inside.
    pub folder: PathBuf,
    /// The host uids that jobs get, where they get uids of their own.
    pub uids: Option<RangeInclusive<u32>>,
    /// The image to start, where the backend takes one.
    pub image: Option<String>,
    /// Whatever has to live as long.
    pub keep: Box<dyn Any + Send + Sync>,
}

/// A started sandbox with one writable folder that holds the probe.
struct Room {
    running: Box<dyn Running>,
    work: PathBuf,
}

/// How a program ended, and what it wrote.
#[derive(Debug)]
struct Ended {
    out: String,
    err: String,
    exit: Exit,
}

impl Bench {
    fn spec(&self) -> Spec {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let name = format!("case-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let work = self.folder.join(&name);
        fs::create_dir(&work).expect("the bench's folder is writable");
        lay_program(&self.probe, &work.join("probe"));
        let mounts = vec![Mount {
            host: work,
            inside: "/work".into(),
            access: Access::Write,
        }];
        let limits = Limits {
            memory: 1 << 30,
            millicpus: 2000,
            pids: 256,
            tmpfs: 64 << 20,
        };
        let (home, bridges, image) = (Vec::new(), Vec::new(), self.image.clone());
        Spec {
            name,
            profile: self.profile,
            mounts,
            home,
            bridges,
            limits,
            image,
        }
    }

    async fn start_as(&self, change: impl FnOnce(&mut Spec)) -> Room {
        let mut spec = self.spec();
        change(&mut spec);
        let work = spec.mounts[0].host.clone();
        Room {
            running: self.sandbox.start(spec).await.expect("the sandbox starts"),
            work,
        }
    }

    async fn start(&self) -> Room {
        self.start_as(|_| {}).await
    }

    /// The host goes on after whatever was tried.
    async fn serves_the_next(&self) {
        let room = self.start().await;
        assert_eq!(room.sh("echo next").await.out, "next\n");
        room.end().await;
    }
}

/// Copies a program, in another process: one that this process had written itself could not be executed while any other
/// thread's child holds it open.
pub fn lay_program(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp")
        .arg("--")
        .arg(from)
        .arg(to)
        .status()
        .expect("cp is there");
    assert!(copied.success(), "{} cannot be copied", from.display());
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).expect("own file");
}

impl Room {
    async fn exec(&self, argv: &[&str]) -> Process {
        self.running.exec(exec(argv)).await.expect("the program starts")
    }

    async fn run(&self, argv: &[&str]) -> Ended {
        collect(self.exec(argv).await).await
    }

    async fn sh(&self, script: &str) -> Ended {
        self.run(&["sh", "-c", script]).await
    }

    async fn probe(&self, args: &[&str]) -> Ended {
        let argv: Vec<&str> = ["./probe"].iter().chain(args).copied().collect();
        self.run(&argv).await
    }

    async fn end(self) {
        self.running.kill().await.expect("the sandbox ends");
    }
}

fn exec(argv: &[&str]) -> Exec {
    Exec {
        argv: argv.iter().map(|&arg| arg.to_owned()).collect(),
        ..Exec::default()
    }
}

async fn collect(mut process: Process) -> Ended {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = tokio::time::timeout(PATIENCE * 3, async {
        while let Some(output) = process.output.recv().await {
            match output {
                Output::Bytes(Stream::Stdout, bytes) => out.extend_from_slice(&bytes),
                Output::Bytes(Stream::Stderr, bytes) => err.extend_from_slice(&bytes),
                Output::Exited(exit) => return exit,
            }
        }
        panic!("the output ended without an end of the program");
    });
    let exit = exit.await.expect("the program ends in time");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Ended {
        out: text(out),
        err: text(err),
        exit,
    }
}

/// Waits until something is so.
async fn until<F: Future<Output = bool>>(what: &str, mut so: impl FnMut() -> F) {
    let end = Instant::now() + PATIENCE;
    while !so().await {
        assert!(Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn beat(mark: &Path) -> Option<u64> {
    fs::read_to_string(mark).ok()?.parse().ok()
}

/// Starts a process that hides from its parents and beats, and waits until it does.
async fn hide(room: &Room) -> PathBuf {
    assert_eq!(room.probe(&["hide", "mark"]).await.exit, Exit::Code(0));
    let mark = room.work.join("mark");
    until("the hidden process beats", || async {
        beat(&mark).is_some_and(|count| count > 2)
    })
    .await;
    mark
}

/// Whether the mark stays as it is for a while.
async fn still(mark: &Path) -> bool {
    let before = fs::read(mark).expect("the mark was made");
    tokio::time::sleep(QUIET).await;
    fs::read(mark).expect("the mark was made") == before
}

/// A backend says of itself what can be advertised.
pub async fn probe_finds_the_backend_whole(bench: Bench) {
    bench.sandbox.probe().await.expect("the backend works on this host");
}

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

/// Home files are there with their content and mode, and the home folder goes with the sandbox.
pub async fn c17_63_the_home_folder_is_fresh_and_goes(bench: Bench) {
    let file = HomeFile {
        path: ".config/agent/key.json".into(),
        content: Secret::new("{\"a\": 1}"),
    };
    let room = bench.start_as(|spec| spec.home.push(file)).await;
    let ended = room
        .sh("cd && find . -type f && cat .config/agent/key.json && stat -c %a .config/agent/key.json . && pwd")
        .await;
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!(
        lines[..3],
        ["./.config/agent/key.json", "{\"a\": 1}600", "700"],
        "{ended:?}"
    );
    let home = PathBuf::from(lines[3]);
    room.end().await;
    assert!(!home.exists(), "{} is still there", home.display());
}

/// A home file that would lie elsewhere is no start, and leaves nothing behind.
pub async fn home_files_stay_in_the_home_folder(bench: Bench) {
    for path in ["../escaped", "/tmp/escaped", "a/../../escaped", ""] {
        let mut spec = bench.spec();
        spec.home.push(HomeFile {
            path: path.into(),
            content: Secret::new("x"),
        });
        assert!(bench.sandbox.start(spec).await.is_err(), "{path:?}");
    }
    assert_eq!(
        bench.sandbox.recover().await.expect("recovers"),
        0,
        "nothing was left behind"
    );
}

/// A port inside leads to the worker's socket, many times at once, each half closed by itself.
pub async fn a_bridge_leads_to_its_socket(bench: Bench) {
    let socket = bench.folder.join("bridge");
    let listener = tokio::net::UnixListener::bind(&socket).expect("own folder");
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut text = String::new();
                stream.read_to_string(&mut text).await.expect("text");
                stream
                    .write_all(format!("heard {text}").as_bytes())
                    .await
                    .expect("written");
            });
        }
    });
    let port = free_port();
    let room = bench.start_as(|spec| spec.bridges.push(Bridge { port, socket })).await;
    let address = format!("127.0.0.1:{port}");
    assert_eq!(room.probe(&["talk", &address, "one"]).await.out, "heard one\n");
    let texts: Vec<String> = (0..20).map(|number| format!("text {number}")).collect();
    let told = futures::future::join_all(
        texts
            .iter()
            .map(|text| async { room.probe(&["talk", &address, text]).await }),
    );
    for (text, ended) in texts.iter().zip(told.await) {
        assert_eq!(ended.out, format!("heard {text}\n"));
    }
    serving.abort();
    room.end().await;
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    listener.local_addr().expect("it listens").port()
}

/// A bridge whose socket is not there refuses its connections and nothing else.
pub async fn a_bridge_to_nowhere_is_closed(bench: Bench) {
    let port = free_port();
    let socket = bench.folder.join("not-there");
    let room = bench.start_as(|spec| spec.bridges.push(Bridge { port, socket })).await;
    let ended = room.probe(&["talk", &format!("127.0.0.1:{port}"), "x"]).await;
    assert!(ended.out == "\n" || ended.out.starts_with("refused"), "{ended:?}");
    assert_eq!(room.sh("echo on").await.out, "on\n");
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

/// Names that could lead out of the backend's own folders are no start.
pub async fn odd_specs_are_refused(bench: Bench) {
    let changes: [fn(&mut Spec); 5] = [
        |spec| spec.name = "../x".into(),
        |spec| spec.name = String::new(),
        |spec| spec.mounts[0].inside = "work".into(),
        |spec| spec.mounts[0].inside = "/work/../usr".into(),
        |spec| spec.limits.memory = 0,
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut spec = bench.spec();
        change(&mut spec);
        assert!(bench.sandbox.start(spec).await.is_err(), "change {number}");
    }
}

/// The one interface is loopback.
pub async fn c17_63_only_loopback_is_there(bench: Bench) {
    let room = bench.start().await;
    assert_eq!(room.probe(&["links"]).await.out, "lo\n");
    room.end().await;
}

/// Nothing that listens on the host is reached, by whatever kind of socket.
pub async fn c17_63_host_sockets_are_out_of_reach(bench: Bench) {
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = tcp.local_addr().expect("listens").to_string();
    std::net::TcpStream::connect(&address).expect("the control without a sandbox succeeds");
    let name = format!("pond-conformance-{address}");
    let at = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("a name");
    let unix = std::os::unix::net::UnixListener::bind_addr(&at).expect("a socket");
    std::os::unix::net::UnixStream::connect_addr(&at).expect("the control without a sandbox succeeds");
    let room = bench.start().await;
    for args in [
        ["tcp", &address],
        ["abstract", &name],
        ["udp", "192.0.2.1:53"],
        ["udp", "[2001:db8::1]:53"],
    ] {
        let ended = room.probe(&args).await;
        assert!(ended.out.starts_with("refused"), "{args:?}: {ended:?}");
    }
    let ended = room.probe(&["sockets"]).await;
    assert_eq!(ended.out.lines().count(), 5, "{ended:?}");
    assert!(!ended.out.contains("done"), "{ended:?}");
    drop((tcp, unix));
    room.end().await;
}

/// No file of the host but those shown, and no process of the host.
pub async fn c17_63_the_host_is_out_of_sight(bench: Bench) {
    let room = bench.start().await;
    let secret = bench.folder.join("host-secret");
    fs::write(&secret, "x").expect("own folder");
    for path in [
        secret.as_path(),
        &bench.folder,
        Path::new("/root/."),
        Path::new("/sys/kernel"),
        Path::new("/var/lib"),
    ] {
        let ended = room.run(&["ls", &path.to_string_lossy()]).await;
        assert_ne!(ended.exit, Exit::Code(0), "{}: {}", path.display(), ended.out);
    }
    let passwd = room.sh("cat /etc/passwd; cat /etc/shadow").await;
    assert!(
        !passwd.out.contains("daemon") && passwd.exit != Exit::Code(0),
        "{passwd:?}"
    );
    let seen = room.sh("cd /proc; for p in [0-9]*; do cat $p/comm; done").await;
    for name in seen.out.lines() {
        assert!(["init", "sh", "cat", "pond-init"].contains(&name), "{name} is seen");
    }
    let host = fs::read_to_string("/proc/sys/kernel/hostname").expect("readable");
    assert_ne!(room.run(&["cat", "/proc/sys/kernel/hostname"]).await.out, host);
    room.end().await;
}

/// What is shown read-only cannot be written, nor can anything around it.
pub async fn read_only_places_hold(bench: Bench) {
    let shown = bench.folder.join("shown");
    fs::create_dir(&shown).expect("own folder");
    fs::set_permissions(&shown, fs::Permissions::from_mode(0o755)).expect("own folder");
    fs::write(shown.join("file"), "as it was").expect("own folder");
    let mount = Mount {
        host: shown.clone(),
        inside: "/shown".into(),
        access: Access::Read,
    };
    let room = bench.start_as(|spec| spec.mounts.push(mount)).await;
    assert_eq!(room.sh("cat /shown/file").await.out, "as it was");
    for place in [
        "/shown/file",
        "/shown/new",
        "/usr/new",
        "/etc/new",
        "/new",
        "/dev/new",
        "/run/new",
        "/proc/sys/kernel/hostname",
    ] {
        let ended = room.sh(&format!("echo x > {place}")).await;
        assert_ne!(ended.exit, Exit::Code(0), "{place}");
    }
    assert_eq!(
        fs::read_to_string(shown.join("file")).expect("still there"),
        "as it was"
    );
    room.end().await;
}

/// What a job writes belongs, on the host, to a uid that no other job has.
pub async fn files_belong_to_the_jobs_own_uid(bench: Bench) {
    let (one, two) = (bench.start().await, bench.start().await);
    let mut owners = BTreeSet::new();
    for room in [&one, &two] {
        assert_eq!(
            room.sh("echo x > new && echo y >> probe && mkdir folder && id -u")
                .await
                .exit,
            Exit::Code(0)
        );
        let found = fs::metadata(room.work.join("new")).expect("written through");
        match &bench.uids {
            Some(range) => {
                assert!(
                    range.contains(&found.uid()) && range.contains(&found.gid()),
                    "{}",
                    found.uid()
                );
                assert!(owners.insert(found.uid()), "two jobs have one uid");
            }
            None => assert_eq!(found.uid(), fs::metadata("/proc/self").expect("there").uid()),
        }
        assert_ne!(room.sh("id -u").await.out, "0\n");
    }
    one.end().await;
    two.end().await;
}

/// No capability, no way to a new one, and the filter in force.
pub async fn c17_63_no_privileges_are_left(bench: Bench) {
    let room = bench.start().await;
    let status = room.run(&["cat", "/proc/self/status"]).await.out;
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name}")).trim().to_owned()
    };
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(value(set), "0000000000000000", "{set}");
    }
    assert_eq!((value("NoNewPrivs:").as_str(), value("Seccomp:").as_str()), ("1", "2"));
    assert!(!value("Uid:").split_whitespace().any(|uid| uid == "0"));
    room.end().await;
}

/// The calls that make namespaces, mounts, or look into other processes are refused.
pub async fn c17_63_dangerous_calls_are_refused(bench: Bench) {
    let room = bench.start().await;
    let ended = room.probe(&["calls"]).await;
    assert_eq!(ended.exit, Exit::Code(0), "{ended:?}");
    assert_eq!(ended.out.lines().count(), 15, "{ended:?}");
    assert!(!ended.out.contains("done"), "{}", ended.out);
    room.end().await;
}

/// Programs cannot end, stop, or look into the init that holds them.
pub async fn the_init_is_out_of_reach(bench: Bench) {
    let room = bench.start().await;
    let ended = room
        .sh("kill -9 1; kill -STOP 1; cat /proc/1/environ; ls -l /proc/1/fd; ls /proc/1/root/; cat /proc/1/mem")
        .await;
    assert_eq!(ended.out, "", "{ended:?}");
    assert_eq!(room.sh("echo on").await.out, "on\n");
    let mark = hide(&room).await;
    room.running
        .keep(Instant::now() + Duration::from_secs(2))
        .await
        .expect("it lives");
    let ended = room
        .sh("while :; do for s in STOP TSTP ALRM CHLD USR1 IO KILL; do kill -$s 1; done 2>/dev/null; done")
        .await;
    assert_eq!(ended.exit, Exit::Signal(9), "no signal from inside puts the end off");
    until("the hidden process is gone", || still(&mark)).await;
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

/// Calls a macro with the cases for every backend.
#[doc(hidden)]
#[macro_export]
macro_rules! with_sandbox_cases {
    ($($next:ident)::+ $(, $rest:expr)?) => {
        $($next)::+! { $($rest)? ;
            probe_finds_the_backend_whole
            output_comes_in_order_with_the_code
            death_by_signal_is_told
            streams_can_be_opened_by_name
            input_reaches_the_program
            a_missing_program_is_an_error
            programs_begin_in_the_working_folder
            the_environment_is_what_was_given
            c17_91_the_environment_is_in_no_process_list
            programs_run_side_by_side
            signals_reach_the_whole_session
            nothing_hides_from_the_end
            the_end_is_told_to_readers
            letting_go_ends_everything
            what_is_not_kept_ends_by_itself
            its_end_comes_in_time_under_load
            c17_63_the_home_folder_is_fresh_and_goes
            home_files_stay_in_the_home_folder
            a_bridge_leads_to_its_socket
            a_bridge_to_nowhere_is_closed
            unread_output_holds_up_its_program_alone
            background_processes_outlive_their_program
            freezing_stops_and_thawing_goes_on
            use_is_measured
            c17_63_cores_are_not_written
            c17_64_processes_are_limited
            c17_64_memory_is_limited
            c17_64_open_files_are_limited
            odd_specs_are_refused
        }
    };
}

/// Calls a macro with the cases for backends that confine.
#[doc(hidden)]
#[macro_export]
macro_rules! with_confined_sandbox_cases {
    ($($next:ident)::+ $(, $rest:expr)?) => {
        $($next)::+! { $($rest)? ;
            c17_63_only_loopback_is_there
            c17_63_host_sockets_are_out_of_reach
            c17_63_the_host_is_out_of_sight
            read_only_places_hold
            files_belong_to_the_jobs_own_uid
            c17_63_no_privileges_are_left
            c17_63_dangerous_calls_are_refused
            the_init_is_out_of_reach
            c17_64_disk_space_is_limited
        }
    };
}

macro_rules! names {
    (; $($case:ident)*) => { &[$(stringify!($case)),*] };
}

/// The cases for every backend, by name.
pub const SANDBOX_CASES: &[&str] = with_sandbox_cases!(names);

/// The further cases for backends that confine, by name.
pub const CONFINED_SANDBOX_CASES: &[&str] = with_confined_sandbox_cases!(names);

/// One test per case.
#[doc(hidden)]
#[macro_export]
macro_rules! sandbox_case_tests {
    ($factory:expr ; $($case:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                $crate::testing::conformance::sandbox::$case(($factory)()).await;
            }
        )*
    };
}

/// Makes a module of tests, one per case, each on a bench of its own: `sandbox_conformance!(mine, bench)` with
/// `fn bench() -> Bench`; for a backend that confines, `sandbox_conformance!(mine, bench, confined)`.
#[macro_export]
macro_rules! sandbox_conformance {
    ($name:ident, $factory:expr) => {
        mod $name {
            use super::*;
            $crate::with_sandbox_cases!(pond_core::sandbox_case_tests, $factory);
        }
    };
    ($name:ident, $factory:expr, confined) => {
        mod $name {
            use super::*;
            $crate::with_sandbox_cases!(pond_core::sandbox_case_tests, $factory);
            $crate::with_confined_sandbox_cases!(pond_core::sandbox_case_tests, $factory);
        }
    };
}
