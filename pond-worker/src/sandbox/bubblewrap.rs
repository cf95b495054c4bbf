//! Confinement by `bwrap`: namespaces of the job's own, without a daemon and without privileges.
//!
//! The worker, when root, first takes on the job's uid, so that what the job writes belongs to that uid on the host too;
//! the folders it is shown are put on a stage that this uid can reach, in a mount namespace that ends with the sandbox.
//! Arguments reach `bwrap` by a descriptor, so that a process list shows none of them.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use pond_core::sandbox::{Access, BackendKind, Limits, Mount, Profile, Running, Sandbox, SandboxError, Spec};

use super::host::{Host, Identity};
use super::live::{self, Confinement, Plan, View};
use super::uid::UidLease;
use super::{ownership, probe, seccomp};

/// The uid and gid inside.
const UID: &str = "1000";
const USER: &str = "pond";
const HOME: &str = "/home/pond";
const TMP: &str = "/tmp";
const INIT: &str = "/run/pond/init";
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";
/// Shared memory.
const SHM: u64 = 64 << 20;
/// What of the host's `/etc` is shown, where it is there: how to find libraries, and whom to trust.
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
/// The rest is made up.
const MADE: [(&str, &str); 5] = [
    (
        "passwd",
        "root:x:0:0:root:/nonexistent:/usr/sbin/nologin\npond:x:1000:1000:pond:/home/pond:/bin/sh\n",
    ),
    ("group", "root:x:0:\npond:x:1000:\n"),
    ("hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"),
    ("hostname", "pond\n"),
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
        live::start(Arc::clone(&self.host), spec, move |host, spec, folder| {
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
    let uid = lease(host)?;
    if let Some(lease) = &uid {
        spec.mounts.iter().try_for_each(|mount| hand_over(mount, lease.uid()))?;
    }
    let etc = folder.join("etc");
    make_etc(&etc).map_err(|error| SandboxError::io("the files of /etc cannot be made", error))?;
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
        files: vec![joined, seccomp::filter()],
        argv,
    };
    Ok(Plan {
        confinement: Some(confinement),
        home: HOME.into(),
        tmp: TMP.into(),
        path: PATH.into(),
        user: USER.into(),
        view: View::Inside,
    })
}

fn lease(host: &Host) -> Result<Option<UidLease>, SandboxError> {
    match host.identity() {
        Identity::Own => Ok(None),
        Identity::NoPool => Err(SandboxError::Unsupported {
            reason: "this worker runs as root and has no uids to give to confined jobs".into(),
            fix: "start it with --uid-range, or as another user".into(),
        }),
        Identity::Pool(pool) => pool.lease().map(Some).ok_or_else(|| SandboxError::Unsupported {
            reason: format!(
                "all uids from {} to {} are in use",
                pool.range().start(),
                pool.range().end()
            ),
            fix: "start the worker with a larger --uid-range".into(),
        }),
    }
}

/// Makes a folder usable by the job's uid.
fn hand_over(mount: &Mount, uid: u32) -> Result<(), SandboxError> {
    let at = |error| SandboxError::io(format!("{} cannot be given to the job", mount.inside.display()), error);
    match mount.access {
        Access::Write => ownership::give(&mount.host, uid).map_err(at),
        Access::Read => match fs::metadata(&mount.host).map_err(at)? {
            about if about.permissions().mode() & 0o005 == 0o005 => Ok(()),
            about if about.is_file() && about.permissions().mode() & 0o004 != 0 => Ok(()),
            _ => Err(SandboxError::Unsupported {
                reason: format!(
                    "what is shown at {} is not readable by the job's uid",
                    mount.inside.display()
                ),
                fix: "make it readable by everyone (its parents need not be)".into(),
            }),
        },
    }
}

fn make_etc(folder: &Path) -> io::Result<()> {
    fs::create_dir(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    for (name, text) in MADE {
        let file = folder.join(name);
        fs::write(&file, text)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
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
    for (name, _) in MADE {
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
        &UID,
        &"--gid",
        &UID,
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
