//! Confinement by `bwrap`: namespaces of the job's own, without a daemon and without privileges.
//!
//! The worker, when root, first takes on the job's uid, so that what the job writes belongs to that uid on the host too;
//! the folders it is shown are put on a stage that this uid can reach, in a mount namespace that ends with the sandbox.
//! Arguments reach `bwrap` by a descriptor, so that a process list shows none of them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use pond_core::sandbox::{Access, BackendKind, Limits, Profile, Running, Sandbox, SandboxError, Spec};

use super::guest::{self, HOME, INIT, PATH, SHM, TMP, USER};
use super::host::Host;
use super::launched::{self, Confinement, Plan};
use super::live::{Inside, View};
use super::{probe, seccomp};

/// The uid and gid inside.
const UID: u32 = 1000;
/// What of the host's `/etc` is shown, where it is there: how to find libraries, and whom to trust. The rest is
/// made up.
const ETC: [&str; 9] = [
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls/certs",
    "/etc/ca-certificates",
    "/etc/localtime",
];
/// Folders of the host's system that are shown, or the links that stand for them.
const SYSTEM: [&str; 6] = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
/// Where the launcher shows its sources by number; see `init/main.rs`.
const STAGE: &str = "/tmp";
/// The first descriptor of what the launcher hands over.
const ARGS: &str = "10";
const SECCOMP: &str = "11";

/// How `bwrap` is used.
#[derive(Debug, Clone)]
pub struct BubblewrapSettings {
    /// The program.
    pub bwrap: PathBuf,
    /// More of the host's folders with tools, shown read-only where they are.
    pub tools: Vec<PathBuf>,
}

impl Default for BubblewrapSettings {
    fn default() -> Self {
        Self {
            bwrap: "/usr/bin/bwrap".into(),
            tools: Vec::new(),
        }
    }
}

/// The backend that confines by `bwrap`.
pub struct Bubblewrap {
    host: Arc<Host>,
    settings: Arc<BubblewrapSettings>,
}

impl Bubblewrap {
    /// On this host.
    pub fn new(host: Arc<Host>, settings: BubblewrapSettings) -> Self {
        Self {
            host,
            settings: Arc::new(settings),
        }
    }
}

#[async_trait]
impl Sandbox for Bubblewrap {
    fn kind(&self) -> BackendKind {
        BackendKind::Bubblewrap
    }

    async fn probe(&self) -> Result<(), SandboxError> {
        probe::run(self, Profile::UntrustedCodeRead).await
    }

    async fn start(&self, spec: Spec) -> Result<Box<dyn Running>, SandboxError> {
        if !spec.profile.is_confined() {
            return Err(SandboxError::Unsupported {
                reason: "bubblewrap confines, which profile none does not ask for".into(),
                fix: "use backend none".into(),
            });
        }
        if !self.settings.bwrap.is_file() {
            return Err(SandboxError::Unsupported {
                reason: format!("{} is not there", self.settings.bwrap.display()),
                fix: "install bubblewrap".into(),
            });
        }
        let settings = Arc::clone(&self.settings);
        launched::start(Arc::clone(&self.host), spec, move |host, spec, folder| {
            let plan = plan(host, &settings, spec, folder);
            host.park_spare();
            plan
        })
        .await
    }

    async fn recover(&self) -> Result<usize, SandboxError> {
        let host = Arc::clone(&self.host);
        let recovered = tokio::task::spawn_blocking(move || host.recover()).await;
        recovered.map_err(|_| SandboxError::failed("recovery panicked"))?
    }
}

fn plan(host: &Host, settings: &BubblewrapSettings, spec: &Spec, folder: &Path) -> Result<Plan, SandboxError> {
    let uid = guest::lease(host)?;
    if let Some(lease) = &uid {
        guest::hand_over(&spec.mounts, lease.uid())?;
    }
    let etc = guest::make_etc(folder, UID)?;
    let mut sources = Sources {
        staged: uid.is_some(),
        paths: Vec::new(),
    };
    let args = arguments(&mut sources, settings, spec, host.init(), &etc);
    let mut joined = Vec::new();
    for arg in &args {
        joined.extend_from_slice(arg);
        joined.push(0);
    }
    let argv = [&settings.bwrap.to_string_lossy(), "--args", ARGS, "--", INIT]
        .map(str::to_owned)
        .to_vec();
    let confinement = Confinement {
        uid,
        sources: sources.paths,
        files: vec![joined, seccomp::filter(host.means().enforcement().into())],
        argv,
    };
    Ok(Plan {
        confinement: Some(confinement),
        inside: Inside {
            home: HOME.into(),
            tmp: TMP.into(),
            path: PATH.into(),
            user: USER.into(),
            view: View::Inside,
            own_pids: 2,
        },
    })
}

/// Folders and files of the host, and the path by which `bwrap` will find them.
struct Sources {
    staged: bool,
    paths: Vec<PathBuf>,
}

impl Sources {
    fn name(&mut self, path: &Path) -> PathBuf {
        if !self.staged {
            return path.to_owned();
        }
        self.paths.push(path.to_owned());
        Path::new(STAGE).join((self.paths.len() - 1).to_string())
    }
}

/// The arguments under construction.
struct Args(Vec<Vec<u8>>);

impl Args {
    fn add<const N: usize>(&mut self, args: [&dyn AsRef<OsStr>; N]) {
        self.0
            .extend(args.iter().map(|arg| (*arg).as_ref().as_bytes().to_vec()));
    }

    fn tmpfs(&mut self, mode: &str, size: u64, place: &str) {
        self.add([&"--perms", &mode, &"--size", &size.to_string(), &"--tmpfs", &place]);
    }
}

fn arguments(
    sources: &mut Sources,
    settings: &BubblewrapSettings,
    spec: &Spec,
    init: &Path,
    etc: &Path,
) -> Vec<Vec<u8>> {
    let mut args = Args(Vec::new());
    namespaces(&mut args);
    system(&mut args);
    let made = sources.name(etc);
    for name in guest::ETC {
        args.add([&"--ro-bind", &made.join(name), &Path::new("/etc").join(name)]);
    }
    room(&mut args, &spec.limits);
    for tools in settings.tools.iter().filter(|tools| tools.exists()) {
        args.add([&"--ro-bind", &sources.name(tools), tools]);
    }
    args.add([&"--ro-bind", &sources.name(init), &INIT]);
    for mount in &spec.mounts {
        let bind = match mount.access {
            Access::Read => "--ro-bind",
            Access::Write => "--bind",
        };
        args.add([&bind, &sources.name(&mount.host), &mount.inside]);
    }
    args.add([&"--remount-ro", &"/", &"--chdir", &"/"]);
    args.0
}

fn namespaces(args: &mut Args) {
    let uid = UID.to_string();
    // Each by name, none of them "if possible": what cannot be had is no start.
    for space in ["user", "ipc", "pid", "net", "uts", "cgroup"] {
        args.add([&format!("--unshare-{space}")]);
    }
    args.add([
        &"--disable-userns",
        &"--die-with-parent",
        &"--new-session",
        &"--as-pid-1",
        &"--clearenv",
    ]);
    args.add([
        &"--cap-drop",
        &"ALL",
        &"--uid",
        &uid,
        &"--gid",
        &uid,
        &"--hostname",
        &"pond",
    ]);
    args.add([&"--seccomp", &SECCOMP]);
}

fn system(args: &mut Args) {
    args.add([&"--ro-bind", &"/usr", &"/usr"]);
    for folder in SYSTEM {
        match fs::read_link(folder) {
            Ok(target) => args.add([&"--symlink", &target, &folder]),
            Err(_) => args.add([&"--ro-bind-try", &folder, &folder]),
        }
    }
    for shown in ETC {
        args.add([&"--ro-bind-try", &shown, &shown]);
    }
}

/// Where a job may write beside its folders, each of a limited size.
fn room(args: &mut Args, limits: &Limits) {
    args.add([&"--proc", &"/proc", &"--dev", &"/dev"]);
    args.tmpfs("1777", SHM.min(limits.tmpfs), "/dev/shm");
    args.add([&"--remount-ro", &"/dev"]);
    args.tmpfs("1777", limits.tmpfs, TMP);
    args.tmpfs("0700", limits.tmpfs, HOME);
}
