//! A worker that hangs: its agents are gone before its leases end, and awake again it changes nothing.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pond_core::clock::{Clock, SystemClock, Timestamp};
use pond_core::dispatch::Grant;
use pond_core::sandbox::Profile;

use super::played::{self, Played};
use super::world::{PATIENCE, processes_with};

/// The environment variable by which a test of this binary tells its child what to do.
const WORKER: &str = "POND_TEST_STOPPED_WORKER";
/// The shortest lease there may be.
const LEASE: Duration = Duration::from_secs(6);

#[expect(
    clippy::disallowed_methods,
    reason = "how a test speaks to itself in another process"
)]
fn told() -> Option<String> {
    std::env::var(WORKER).ok()
}

/// The process that is stopped: a worker with one job that sleeps. As a test of its own it has nothing to do;
/// `stopped_and_continued` calls it.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_to_be_stopped() {
    let Some(told) = told() else { return };
    let [profile, nap, folder] = told.splitn(3, ' ').collect::<Vec<_>>()[..] else {
        panic!("{told}")
    };
    let profile = Profile::ALL
        .iter()
        .find(|(name, _)| *name == profile)
        .expect("a profile")
        .1;
    let folder = Path::new(folder);
    // One that hides from its parents too.
    let script = format!("trap '' TERM; echo up; setsid sleep {nap}1 & sleep {nap}; echo survived");
    let job = played::job(&script, profile, LEASE);
    let link = Played::new(job, Grant::default(), LEASE, Some(folder.join("diary")));
    let (_stop, running) = played::start(&link, &folder.join("state")).await;
    running.await.expect("it is killed before");
}

/// A worker in a process of its own.
struct Hung {
    child: Child,
    folder: tempfile::TempDir,
    nap: String,
}

impl Hung {
    fn start(profile: Profile) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        // Only this test program can have started it.
        let nap = format!("{}{}", std::process::id(), 70 + profile as u8);
        let told = format!("{} {nap} {}", profile.as_str(), folder.path().display());
        let child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "stopped::a_worker_to_be_stopped", "--nocapture"])
            .env(WORKER, told)
            .stdout(Stdio::null())
            .spawn()
            .expect("starts");
        Self { child, folder, nap }
    }

    fn naps(&self) -> Vec<u32> {
        processes_with(&format!("sleep\0{}", self.nap))
    }

    fn diary(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join("diary")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn leases(&self) -> Vec<Timestamp> {
        let lines = self.diary();
        let leases = lines.iter().filter_map(|line| line.strip_prefix("lease "));
        leases
            .map(|time| Timestamp::from_millis(time.parse().expect("a time")))
            .collect()
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("own child");
    }

    fn jobs(&self) -> Vec<PathBuf> {
        let jobs = std::fs::read_dir(self.folder.path().join("state/jobs"));
        jobs.into_iter()
            .flatten()
            .map(|entry| entry.expect("an entry").path())
            .collect()
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn stopped_and_continued(profile: Profile) {
    let hung = Hung::start(profile);
    until("the agent runs, and its lease was renewed", || {
        hung.naps().len() == 2 && hung.leases().len() >= 3
    })
    .await;
    until("its lines are told", || {
        hung.diary().iter().any(|line| line == "taken chunk")
    })
    .await;
    hung.signal(Signal::SIGSTOP);
    let lease = *hung.leases().last().expect("renewed");
    let before = hung.diary();
    assert_eq!(hung.naps().len(), 2, "they live on for now");
    until("the agent is gone", || hung.naps().is_empty()).await;
    assert!(SystemClock.now() < lease, "before its lease ended");
    let state = std::fs::read_to_string(format!("/proc/{}/stat", hung.child.id())).expect("it is there");
    assert!(state.contains(") T "), "and not by the worker: {state}");
    assert_eq!(hung.diary(), before);
    tokio::time::sleep(lease.since(SystemClock.now()) + Duration::from_millis(50)).await;
    hung.signal(Signal::SIGCONT);
    until("the worker has put the job away", || hung.jobs().is_empty()).await;
    until("the worker knows that its claim is stale", || {
        hung.diary().iter().any(|line| line.starts_with("stale"))
    })
    .await;
    let after = hung.diary().split_off(before.len());
    assert!(
        after.iter().all(|line| line.starts_with("stale")),
        "it changes nothing: {after:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_55_a_stopped_workers_agent_is_gone_before_its_lease_ends() {
    stopped_and_continued(Profile::UntrustedCodeWrite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_55_also_one_that_is_not_confined() {
    stopped_and_continued(Profile::None).await;
}
