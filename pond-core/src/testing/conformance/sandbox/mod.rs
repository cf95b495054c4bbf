//! What every sandbox backend must do, and what a confining one must withstand.
//!
//! A backend's crate calls [`sandbox_conformance!`](crate::sandbox_conformance) with a factory of [`Bench`]es. The probe is
//! a static program of the worker crate that tries things by plain system calls; see its head for what it can be told.

mod confined;
mod ends;
mod limits;
mod programs;
mod room;

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

pub use confined::*;
pub use ends::*;
pub use limits::*;
pub use programs::*;
pub use room::*;

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
