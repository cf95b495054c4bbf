//! A worker that was killed, and the next life that ends what it left.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pond_core::sandbox::{BackendKind, Exec, Profile};
use pond_worker::sandbox::open;

use super::{By, engine, host_by, settings, spec, told, uid_range};

/// The environment variable by which a test of this binary tells its child what to do.
const OWNER: &str = "POND_TEST_OWNER";

/// The life that is killed: starts a sandbox with a hidden process, freezes it so that nothing in it can end by itself, says
/// so, and waits for its end. As a test of its own it has nothing to do; those below call it.
#[tokio::test]
async fn owner_of_a_sandbox() {
    let Some(told) = told(OWNER) else { return };
    let [kind, means, folder] = told.splitn(3, ' ').collect::<Vec<_>>()[..] else {
        panic!("{told}")
    };
    let by = if means == "rlimits" { By::Rlimits } else { By::Best };
    let (kind, profile) = match kind {
        "none" => (BackendKind::None, Profile::None),
        "docker" => (BackendKind::Docker, Profile::UntrustedCodeWrite),
        _ => (BackendKind::Bubblewrap, Profile::UntrustedCodeWrite),
    };
    let host = host_by(&Path::new(folder).join("state"), uid_range(), by.means());
    let sandbox = open(kind, &host, &settings());
    let work = Path::new(folder).join("work");
    let running = sandbox.start(spec(profile, &work)).await.expect("starts");
    let argv = ["./probe", "hide", "mark"].map(str::to_owned).to_vec();
    running
        .exec(Exec {
            argv,
            ..Exec::default()
        })
        .await
        .expect("runs");
    while !work.join("mark").exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    running.freeze().await.expect("freezes");
    std::fs::write(Path::new(folder).join("ready"), "").expect("own folder");
    std::future::pending::<()>().await;
}

async fn killed_and_recovered(kind: BackendKind, by: By) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let exe = std::env::current_exe().expect("this binary");
    let means = if by == By::Rlimits { "rlimits" } else { "best" };
    let told = format!("{} {means} {}", kind.as_str(), folder.path().display());
    let mut owner = std::process::Command::new(exe)
        .args(["--exact", "recovery::owner_of_a_sandbox", "--nocapture"])
        .env(OWNER, told)
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("starts");
    let end = Instant::now() + Duration::from_secs(20);
    while !folder.path().join("ready").exists() {
        assert!(
            Instant::now() < end && owner.try_wait().expect("a child").is_none(),
            "the owner gets nowhere"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    owner.kill().expect("SIGKILL");
    owner.wait().expect("collected");
    let probe = folder.path().join("work/probe");
    let host = host_by(&folder.path().join("state"), uid_range(), by.means());
    let ended = open(kind, &host, &settings()).recover().await.expect("recovers");
    assert!(ended >= 1, "the sandbox was not found");
    assert_eq!(
        processes_of(&probe),
        Vec::<PathBuf>::new(),
        "a process outlives recovery"
    );
    assert_eq!(
        mounted_from(folder.path()),
        Vec::<PathBuf>::new(),
        "a mount outlives recovery"
    );
    let left: Vec<_> = std::fs::read_dir(folder.path().join("state/sandboxes"))
        .expect("there")
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(open(kind, &host, &settings()).recover().await.expect("recovers"), 0);
    host.close().expect("nothing is left");
}

/// Processes that execute this file, by whatever path they know it.
fn processes_of(program: &Path) -> Vec<PathBuf> {
    let wanted = std::fs::metadata(program).expect("there").ino();
    let entries = std::fs::read_dir("/proc")
        .expect("there")
        .flatten()
        .map(|entry| entry.path());
    entries
        .filter(|path| std::fs::metadata(path.join("exe")).is_ok_and(|found| found.ino() == wanted))
        .collect()
}

/// Processes of the host that see anything of this folder mounted.
fn mounted_from(folder: &Path) -> Vec<PathBuf> {
    let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
    let entries = std::fs::read_dir("/proc").expect("there").flatten();
    let tables = entries.map(|entry| entry.path().join("mountinfo"));
    tables
        .filter(|table| std::fs::read_to_string(table).is_ok_and(|mounts| mounts.contains(&name)))
        .collect()
}

#[tokio::test]
async fn recovery_ends_what_a_killed_worker_left_by_docker() {
    let before = containers().await;
    killed_and_recovered(BackendKind::Docker, By::Best).await;
    let left: Vec<String> = containers()
        .await
        .into_iter()
        .filter(|name| !before.contains(name))
        .collect();
    // Other tests have containers of their own, which end with them.
    let own: Vec<&String> = left.iter().filter(|name| is_of_dead(name)).collect();
    assert_eq!(own, Vec::<&String>::new(), "a container outlives recovery");
}

/// Whether the worker that a container's name tells of, by pid and start, is no more.
fn is_of_dead(container: &str) -> bool {
    let pid = container.split('-').nth(2).expect("pond-MARK-PID-START-NUMBER");
    !Path::new("/proc").join(pid).exists()
}

/// The names of all containers of workers.
async fn containers() -> Vec<String> {
    let ours = std::collections::HashMap::from([("label", vec!["pond.state"])]);
    let all = bollard::query_parameters::ListContainersOptionsBuilder::new()
        .all(true)
        .filters(&ours)
        .build();
    let found = engine().await.list_containers(Some(all)).await.expect("listed");
    found
        .into_iter()
        .filter_map(|found| found.names?.into_iter().next())
        .collect()
}

#[tokio::test]
async fn recovery_ends_what_a_killed_worker_left_by_bubblewrap() {
    killed_and_recovered(BackendKind::Bubblewrap, By::Best).await;
}

#[tokio::test]
async fn recovery_ends_what_a_killed_worker_left_by_bubblewrap_with_rlimits() {
    killed_and_recovered(BackendKind::Bubblewrap, By::Rlimits).await;
}

#[tokio::test]
async fn recovery_ends_what_a_killed_worker_left_by_none() {
    killed_and_recovered(BackendKind::None, By::Best).await;
}

#[tokio::test]
async fn recovery_ends_what_a_killed_worker_left_by_none_with_rlimits() {
    killed_and_recovered(BackendKind::None, By::Rlimits).await;
}
