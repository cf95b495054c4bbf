//! `shell` stages on this host.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pond_core::artifacts::ByteStream;
use pond_core::clock::SystemClock;
use pond_core::logs::LogStream;
use pond_core::runs::executors::{Findings, StageSink};
use pond_core::runs::{HostTools, ShellRun, StageOutcome};
use pond_worker::host::{HostToolsSettings, LocalTools, ShellSandbox};
use pond_worker::sandbox::BubblewrapSettings;

struct World {
    tools: Arc<LocalTools>,
    folder: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(adjust: impl FnOnce(&mut HostToolsSettings)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut settings = HostToolsSettings::new(folder.path().join("host"));
        adjust(&mut settings);
        let tools = LocalTools::open(settings, &SystemClock).await.expect("the tools open");
        let tools = Arc::new(tools);
        Self { tools, folder }
    }

    fn run(&self, argv: &[&str], sink: &StageSink) -> ShellRun {
        ShellRun {
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
            env: BTreeMap::from([("GIVEN".to_owned(), "a b".to_owned())]),
            bundle: Some(bundle()),
            timeout: Duration::from_secs(60),
            grace: Duration::from_millis(500),
            sink: sink.clone(),
            clock: Arc::new(SystemClock),
            artifact_cap: 1 << 20,
        }
    }

    async fn sh(&self, script: &str) -> Ended {
        self.ended(|_| {}, &["sh", "-c", script]).await
    }

    async fn ended(&self, adjust: impl FnOnce(&mut ShellRun), argv: &[&str]) -> Ended {
        let sink = StageSink::default();
        let mut run = self.run(argv, &sink);
        adjust(&mut run);
        let outcome = self.tools.shell(run).await;
        assert_eq!(self.left(), Vec::<PathBuf>::new());
        Ended {
            outcome,
            found: sink.take(),
        }
    }

    /// The folders of stages that are still there.
    fn left(&self) -> Vec<PathBuf> {
        let jobs = std::fs::read_dir(self.folder.path().join("host/jobs"));
        jobs.into_iter()
            .flatten()
            .map(|entry| entry.expect("an entry").path())
            .collect()
    }

    async fn close(self) {
        let tools = Arc::into_inner(self.tools).expect("nobody else has them");
        tools.close().await.expect("nothing is left");
    }
}

#[derive(Debug)]
struct Ended {
    outcome: StageOutcome,
    found: Findings,
}

impl Ended {
    fn lines(&self, stream: LogStream) -> Vec<&str> {
        let lines = self.found.lines.iter().filter(|line| line.stream == stream);
        lines.map(|line| line.line.as_str()).collect()
    }

    fn out(&self) -> Vec<&str> {
        self.lines(LogStream::Stdout)
    }

    #[track_caller]
    fn is_done(&self) -> &Self {
        assert_eq!(self.outcome, StageOutcome::Done, "{:?}", self.found);
        self
    }

    #[track_caller]
    fn failure(&self) -> (&'static str, &str) {
        match &self.outcome {
            StageOutcome::Failed(failure) => (failure.code.as_str(), &failure.message),
            other => panic!("{other:?} {:?}", self.found),
        }
    }

    fn artifacts(&self) -> BTreeMap<&str, &[u8]> {
        let artifacts = self.found.artifacts.iter();
        artifacts
            .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
            .collect()
    }
}

/// Sources with one file, and the probe of the sandbox suite.
fn bundle() -> ByteStream {
    let mut tar = tar::Builder::new(Vec::new());
    let probe = std::fs::read(env!("POND_PROBE")).expect("it is built");
    for (path, bytes, mode) in [("a.txt", &b"one\n"[..], 0o644), ("probe", &probe, 0o755)] {
        let mut head = tar::Header::new_gnu();
        head.set_size(bytes.len() as u64);
        head.set_mode(mode);
        tar.append_data(&mut head, path, bytes).expect("in memory");
    }
    let bytes = Bytes::from(tar.into_inner().expect("in memory"));
    Box::pin(futures::stream::iter([Ok(bytes)]))
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_26_shell_has_no_network_and_sees_nothing_of_the_host() {
    let world = World::start().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("it listens").to_string();
    let state = world.folder.path().to_string_lossy().into_owned();
    std::fs::write(world.folder.path().join("secret"), "x").expect("own folder");
    let script = format!(
        "./probe links; ./probe tcp {address}; ls {state}; cat {state}/secret; ls /root /var/lib; id -u; ls; cat a.txt"
    );
    let ended = world.sh(&script).await;
    ended.is_done();
    let out = ended.out();
    assert_eq!(out.first(), Some(&"lo"), "{out:?}");
    assert!(out[1].starts_with("refused"), "{out:?}");
    assert_eq!(out[2..], ["1000", "a.txt", "probe", "one"], "{:?}", ended.found);
    drop(listener);
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_26_without_bubblewrap_it_is_refused_and_bare_only_by_the_operators_word() {
    let world = World::with(|settings| settings.bwrap = "/no/such/bwrap".into()).await;
    let refused = world.sh("echo ran").await;
    assert_eq!(refused.failure().0, "sandbox_invalid");
    assert!(
        refused.failure().1.contains("install bubblewrap"),
        "{:?}",
        refused.failure()
    );
    assert!(refused.found.lines.is_empty() && refused.found.artifacts.is_empty());
    world.close().await;
    let bare = World::with(|settings| {
        settings.bwrap = "/no/such/bwrap".into();
        settings.shell = ShellSandbox::None;
    })
    .await;
    let secret = bare.folder.path().join("seen");
    std::fs::write(&secret, "the host\n").expect("own folder");
    let ended = bare
        .sh(&format!(
            "cat {} a.txt; echo kept > $POND_OUTPUT_DIR/r.txt",
            secret.display()
        ))
        .await;
    ended.is_done();
    assert_eq!(ended.out(), ["the host", "one"]);
    assert_eq!(ended.artifacts()["r.txt"], b"kept\n");
    bare.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_arguments_go_to_the_program_as_they_are_and_its_environment_is_what_was_given() {
    let world = World::start().await;
    let ended = world.ended(|_| {}, &["echo", "$GIVEN; ls", "`id`"]).await;
    assert_eq!(ended.is_done().out(), ["$GIVEN; ls `id`"]);
    let ended = world.ended(|_| {}, &["env"]).await;
    let mut names: Vec<&str> = ended.out().iter().filter_map(|line| line.split('=').next()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "GIVEN",
            "HOME",
            "LANG",
            "LOGNAME",
            "PATH",
            "POND_OUTPUT_DIR",
            "TMPDIR",
            "USER"
        ]
    );
    let missing = world.ended(|_| {}, &["no-such-program"]).await;
    assert_eq!(missing.failure().0, "exit_nonzero");
    assert!(
        missing.failure().1.contains("`no-such-program`"),
        "{:?}",
        missing.failure()
    );
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_says_and_leaves_is_kept_whatever_its_end() {
    let world = World::start().await;
    let script = "echo to out; echo to err >&2; echo x > new.txt; printf rest; cd $POND_OUTPUT_DIR; echo 1 > r.txt
        mkdir sub; echo 2 > sub/f; ln -s r.txt link; echo pond_pk_0123456789abcdef0123456789 | tee t.txt; exit 7";
    let ended = world.sh(script).await;
    assert_eq!(ended.failure(), ("exit_nonzero", "exit code 7"));
    assert_eq!(ended.out(), ["to out", "rest[redacted:token]"]);
    assert_eq!(ended.lines(LogStream::Stderr), ["to err"]);
    let system = ended.lines(LogStream::System);
    assert!(matches!(&system[..], [line] if line.contains("sub/f")), "{system:?}");
    let expected: BTreeMap<&str, &[u8]> = BTreeMap::from([("r.txt", &b"1\n"[..]), ("t.txt", b"[redacted]\n")]);
    assert_eq!(ended.artifacts(), expected);
    // Each stage has a copy of its own.
    assert_eq!(world.sh("ls").await.out(), ["a.txt", "probe"]);
    let bare = world.ended(|run| run.bundle = None, &["ls", "-A"]).await;
    assert_eq!(bare.is_done().out(), Vec::<&str>::new());
    let over = world
        .ended(
            |run| run.artifact_cap = 3,
            &["sh", "-c", "cd $POND_OUTPUT_DIR; echo 1 > a; echo 22 > b"],
        )
        .await;
    assert_eq!(over.failure().0, "artifact_too_large");
    assert_eq!(over.artifacts().len(), 1, "what fits is kept");
    let killed = world.sh("kill -9 $$").await;
    assert_eq!(killed.failure(), ("exit_nonzero", "exit code 137: killed by signal 9"));
    world.close().await;
}

/// The processes of `sleep` for so long that only this program can have started them.
fn napping(n: u32) -> usize {
    let text = format!("sleep\0{}{n}", std::process::id());
    let entries = std::fs::read_dir("/proc").expect("there").flatten();
    let lines = entries.map(|entry| std::fs::read(entry.path().join("cmdline")).unwrap_or_default());
    lines
        .filter(|line| String::from_utf8_lossy(line).contains(&text))
        .count()
}

async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_14_one_that_takes_too_long_is_asked_and_then_killed() {
    let world = World::start().await;
    let nap = format!("{}31", std::process::id());
    let script = format!(
        "trap 'echo asked' TERM; echo kept > $POND_OUTPUT_DIR/r.txt; setsid sleep {nap} & sleep {nap}; sleep {nap}"
    );
    let began = Instant::now();
    let ended = world
        .ended(|run| run.timeout = Duration::from_secs(1), &["sh", "-c", &script])
        .await;
    assert_eq!(ended.failure().0, "timeout");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert!(ended.out().contains(&"asked"), "{:?}", ended.found);
    assert_eq!((napping(31), ended.artifacts()["r.txt"]), (0, &b"kept\n"[..]));
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn letting_go_of_it_kills_all_that_runs() {
    let world = World::start().await;
    let sink = StageSink::default();
    let nap = format!("{}41", std::process::id());
    let script = format!("trap '' TERM; setsid sleep {nap} & sleep {nap}");
    let shell = world.run(&["sh", "-c", &script], &sink);
    let tools = Arc::clone(&world.tools);
    let running = tokio::spawn(async move { tools.shell(shell).await });
    until("it runs", || napping(41) == 2).await;
    running.abort();
    until("it is gone", || napping(41) == 0).await;
    until("its folder is gone", || world.left().is_empty()).await;
    assert!(sink.take().artifacts.is_empty());
    let _ = running.await;
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_life_left_is_ended_and_no_two_share_a_folder() {
    let world = World::start().await;
    let settings = || HostToolsSettings::new(world.folder.path().join("host"));
    let clock = pond_core::testing::ManualClock::new();
    let mut second = Box::pin(LocalTools::open(settings(), &*clock));
    while futures::poll!(&mut second).is_pending() {
        clock.advance(Duration::from_secs(1));
    }
    drop(second);
    let folder = world.folder.path().join("host/jobs/shell-9/output");
    std::fs::create_dir_all(&folder).expect("own folder");
    let path = world.folder.path().join("host");
    Arc::into_inner(world.tools)
        .expect("nobody else")
        .close()
        .await
        .expect("closed");
    let again = LocalTools::open(HostToolsSettings::new(&path), &SystemClock)
        .await
        .expect("opens");
    assert!(!folder.exists());
    again.close().await.expect("closed");
    assert_eq!(BubblewrapSettings::default().bwrap, Path::new("/usr/bin/bwrap"));
}
