//! The sandbox backends of this crate, by the suite that every backend has to pass.

#[path = "sandbox/docker.rs"]
mod docker;
#[path = "sandbox/recovery.rs"]
mod recovery;

use std::ops::RangeInclusive;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pond_core::sandbox::{Access, BackendKind, Exec, Limits, Mount, Output, Profile, Sandbox, SandboxError, Spec};
use pond_core::testing::conformance::sandbox::{Bench, CONFINED_SANDBOX_CASES, SANDBOX_CASES, lay_program};
use pond_worker::sandbox::{
    BackendSettings, Bubblewrap, BubblewrapSettings, DockerSettings, Host, HostSettings, Means, open,
};

const UIDS: RangeInclusive<u32> = 200_000..=265_535;

fn bench(kind: BackendKind, profile: Profile, means: Option<Means>) -> Bench {
    bench_with(kind, profile, means, &settings())
}

fn bench_with(kind: BackendKind, profile: Profile, means: Option<Means>, settings: &BackendSettings) -> Bench {
    // Closed to everybody else, as a worker's state folder is.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = nix::unistd::geteuid().is_root();
    let state = folder.path().join("state");
    let host = Host::open(HostSettings {
        state,
        uid_range: root.then_some(UIDS),
        means,
    })
    .expect("the host opens");
    let work = folder.path().join("work");
    std::fs::create_dir(&work).expect("own folder");
    Bench {
        sandbox: open(kind, &host, settings),
        profile,
        probe: told(PROBE).map_or_else(|| PathBuf::from(env!("POND_PROBE")), PathBuf::from),
        folder: work,
        uids: (root && profile.is_confined()).then_some(UIDS),
        image: None,
        keep: Box::new(Closing { host, _folder: folder }),
    }
}

/// The environment variable by which a test of this binary tells its child where the probe is.
const PROBE: &str = "POND_TEST_PROBE";

#[expect(
    clippy::disallowed_methods,
    reason = "how a test speaks to itself in another process"
)]
fn told(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The engines that tests use: one that needs it and is not told of it fails.
const ENGINE: &str = "POND_TEST_DOCKER_HOST";
const ENGINE_WITH_USER_NAMESPACES: &str = "POND_TEST_DOCKER_USERNS_HOST";

/// Where an engine is.
fn engine_at(variable: &str) -> String {
    let start = if variable == ENGINE { "start" } else { "start userns" };
    told(variable)
        .unwrap_or_else(|| panic!("no Docker Engine for tests: eval \"$(tests/docker {start})\" sets {variable}"))
}

/// A client of the engine.
async fn engine() -> bollard::Docker {
    let socket = engine_at(ENGINE);
    let client = bollard::Docker::connect_with_unix(&socket, 30, bollard::API_DEFAULT_VERSION).expect("a socket");
    client.negotiate_version().await.expect("an engine")
}

/// How backends are used, with the engine of a variable if it is there.
fn settings_with(variable: &str) -> BackendSettings {
    let docker = DockerSettings {
        host: told(variable).unwrap_or_default(),
        image: Some("pond-test".into()),
        pull: false,
    };
    BackendSettings {
        docker,
        ..BackendSettings::default()
    }
}

fn settings() -> BackendSettings {
    settings_with(ENGINE)
}

/// Ends all of a bench before its folders go.
struct Closing {
    host: Arc<Host>,
    _folder: tempfile::TempDir,
}

impl Drop for Closing {
    fn drop(&mut self) {
        let closed = self.host.close();
        assert!(closed.is_ok() || std::thread::panicking(), "{closed:?}");
    }
}

fn none() -> Bench {
    bench(BackendKind::None, Profile::None, None)
}

fn none_by_rlimits() -> Bench {
    bench(BackendKind::None, Profile::None, Some(Means::Rlimits))
}

fn bubblewrap() -> Bench {
    bench(BackendKind::Bubblewrap, Profile::UntrustedCodeWrite, None)
}

fn bubblewrap_by_rlimits() -> Bench {
    bench(
        BackendKind::Bubblewrap,
        Profile::UntrustedCodeWrite,
        Some(Means::Rlimits),
    )
}

fn by_docker() -> Bench {
    by_engine(ENGINE)
}

fn by_docker_with_user_namespaces() -> Bench {
    by_engine(ENGINE_WITH_USER_NAMESPACES)
}

fn by_engine(variable: &str) -> Bench {
    engine_at(variable);
    let settings = settings_with(variable);
    bench_with(BackendKind::Docker, Profile::UntrustedCodeWrite, None, &settings)
}

pond_core::sandbox_conformance!(on_none, none);
pond_core::sandbox_conformance!(on_none_by_rlimits, none_by_rlimits);
pond_core::sandbox_conformance!(on_bubblewrap, bubblewrap, confined);
pond_core::sandbox_conformance!(on_bubblewrap_by_rlimits, bubblewrap_by_rlimits, confined);
pond_core::sandbox_conformance!(on_docker, by_docker, confined);
pond_core::sandbox_conformance!(on_docker_with_user_namespaces, by_docker_with_user_namespaces, confined);

fn host(state: &Path, uid_range: Option<RangeInclusive<u32>>) -> Arc<Host> {
    host_by(state, uid_range, None)
}

fn host_by(state: &Path, uid_range: Option<RangeInclusive<u32>>, means: Option<Means>) -> Arc<Host> {
    Host::open(HostSettings {
        state: state.to_owned(),
        uid_range,
        means,
    })
    .expect("the host opens")
}

/// By the best means of this host, or by limits of each process.
#[derive(Clone, Copy, PartialEq)]
enum By {
    Best,
    Rlimits,
}

impl By {
    fn means(self) -> Option<Means> {
        (self == Self::Rlimits).then_some(Means::Rlimits)
    }
}

fn spec(profile: Profile, work: &Path) -> Spec {
    std::fs::create_dir_all(work).expect("own folder");
    lay_program(Path::new(env!("POND_PROBE")), &work.join("probe"));
    Spec {
        name: "case".into(),
        profile,
        mounts: vec![Mount {
            host: work.to_owned(),
            inside: "/work".into(),
            access: Access::Write,
        }],
        home: Vec::new(),
        bridges: Vec::new(),
        limits: Limits {
            memory: 256 << 20,
            millicpus: 1000,
            pids: 32,
            tmpfs: 8 << 20,
        },
        image: None,
    }
}

fn uid_range() -> Option<RangeInclusive<u32>> {
    nix::unistd::geteuid().is_root().then_some(UIDS)
}

#[tokio::test]
async fn each_profile_is_refused_by_the_backend_that_is_not_for_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let host = host(&folder.path().join("state"), uid_range());
    for (kind, profile) in [
        (BackendKind::None, Profile::UntrustedCodeRead),
        (BackendKind::None, Profile::UntrustedCodeWrite),
        (BackendKind::Bubblewrap, Profile::None),
        (BackendKind::Docker, Profile::None),
    ] {
        let sandbox = open(kind, &host, &settings());
        let refused = sandbox.start(spec(profile, &folder.path().join("work"))).await.err();
        assert!(
            matches!(refused, Some(SandboxError::Unsupported { .. })),
            "{kind:?} {profile:?}: {refused:?}"
        );
    }
    host.close().expect("nothing is left");
}

#[tokio::test]
async fn root_without_a_uid_range_confines_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let host = host(&folder.path().join("state"), None);
    let sandbox = open(BackendKind::Bubblewrap, &host, &settings());
    let outcome = sandbox
        .start(spec(Profile::UntrustedCodeWrite, &folder.path().join("work")))
        .await;
    if nix::unistd::geteuid().is_root() {
        assert!(
            matches!(outcome, Err(SandboxError::Unsupported { .. })),
            "{:?}",
            outcome.err()
        );
    } else {
        outcome
            .expect("another user needs no range")
            .kill()
            .await
            .expect("ends");
    }
    host.close().expect("nothing is left");
}

#[tokio::test]
async fn without_bwrap_there_is_no_start() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let host = host(&folder.path().join("state"), uid_range());
    let start = async |bwrap: &str| {
        let settings = BubblewrapSettings {
            bwrap: bwrap.into(),
            ..BubblewrapSettings::default()
        };
        let sandbox = Bubblewrap::new(Arc::clone(&host), settings);
        sandbox
            .start(spec(Profile::UntrustedCodeWrite, &folder.path().join("work")))
            .await
            .err()
    };
    let absent = start("/no/such/bwrap").await;
    assert!(matches!(absent, Some(SandboxError::Unsupported { .. })), "{absent:?}");
    let broken = start("/bin/false").await;
    assert!(matches!(broken, Some(SandboxError::Failed { .. })), "{broken:?}");
    host.close().expect("nothing is left");
}

#[tokio::test]
async fn a_folder_only_its_owner_can_read_is_not_shown_to_another_uid() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let host = host(&folder.path().join("state"), uid_range());
    let sandbox = open(BackendKind::Bubblewrap, &host, &settings());
    let mut spec = spec(Profile::UntrustedCodeRead, &folder.path().join("work"));
    let closed = folder.path().join("closed");
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&closed)
        .expect("own folder");
    spec.mounts.push(Mount {
        host: closed,
        inside: "/closed".into(),
        access: Access::Read,
    });
    let outcome = sandbox.start(spec).await;
    if nix::unistd::geteuid().is_root() {
        assert!(
            matches!(outcome, Err(SandboxError::Unsupported { .. })),
            "{:?}",
            outcome.err()
        );
    } else {
        outcome.expect("it is the worker's own").kill().await.expect("ends");
    }
    host.close().expect("nothing is left");
}

/// The user without privileges that tests take on; may use the engine of the tests.
const OTHER_USER: u32 = 64_000;

/// Runs tests of this binary as a user without privileges; says what they said.
fn as_another_user(tests: &[&str]) -> std::process::Output {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let exe = folder.path().join("suite");
    lay_program(&std::env::current_exe().expect("this binary"), &exe);
    // The folder of the build may be closed to that user.
    let probe = folder.path().join("probe");
    lay_program(Path::new(env!("POND_PROBE")), &probe);
    let own = folder.path().join("own");
    std::fs::create_dir(&own).expect("own folder");
    for path in [folder.path(), &own] {
        std::os::unix::fs::chown(path, Some(OTHER_USER), Some(OTHER_USER)).expect("root may");
    }
    std::process::Command::new(&exe)
        .args(tests)
        .args(["--test-threads", "2"])
        .env("TMPDIR", &own)
        .env(PROBE, &probe)
        .uid(OTHER_USER)
        .gid(OTHER_USER)
        .current_dir("/")
        .output()
        .expect("starts")
}

/// Runs the suite for bubblewrap once more as a user without privileges, whose limits hold by other means.
#[test]
fn a_worker_without_privileges_confines_as_well() {
    if !nix::unistd::geteuid().is_root() {
        // Then all of the suite runs without privileges already.
        return;
    }
    let suite = as_another_user(&["on_bubblewrap::"]);
    let said = String::from_utf8_lossy(&suite.stdout);
    let cases = SANDBOX_CASES.len() + CONFINED_SANDBOX_CASES.len();
    assert!(
        suite.status.success() && said.contains(&format!("{cases} passed; 0 failed")),
        "{said}"
    );
}

#[tokio::test]
async fn a_start_that_nobody_waits_for_leaves_nothing() {
    left_alone(BackendKind::Bubblewrap, &[0, 1, 2, 4, 8, 16]).await;
}

async fn left_alone(kind: BackendKind, after_millis: &[u64]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let host = host(&folder.path().join("state"), uid_range());
    let sandbox = open(kind, &host, &settings());
    for &millis in after_millis {
        let start = sandbox.start(spec(
            Profile::UntrustedCodeWrite,
            &folder.path().join(format!("work-{millis}")),
        ));
        let _ = tokio::time::timeout(Duration::from_millis(millis), start).await;
    }
    host.close().expect("nothing is left");
    let probe = sandbox.probe().await;
    probe.expect("the host goes on");
    host.close().expect("nothing is left");
}

#[tokio::test]
async fn tools_of_the_host_are_shown_where_they_are() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tools = folder.path().join("tools");
    std::fs::DirBuilder::new()
        .mode(0o755)
        .create(&tools)
        .expect("own folder");
    std::fs::write(tools.join("file"), "a tool\n").expect("own folder");
    let host = host(&folder.path().join("state"), uid_range());
    let settings = BubblewrapSettings {
        tools: vec![tools.clone()],
        ..BubblewrapSettings::default()
    };
    let sandbox = Bubblewrap::new(Arc::clone(&host), settings);
    let running = sandbox
        .start(spec(Profile::UntrustedCodeWrite, &folder.path().join("work")))
        .await
        .expect("starts");
    let argv = vec!["cat".to_owned(), tools.join("file").display().to_string()];
    let mut process = running
        .exec(Exec {
            argv,
            ..Exec::default()
        })
        .await
        .expect("runs");
    let first = process.output.recv().await;
    assert!(
        matches!(&first, Some(Output::Bytes(_, bytes)) if &bytes[..] == b"a tool\n"),
        "{first:?}"
    );
    running.kill().await.expect("ends");
    host.close().expect("nothing is left");
}
