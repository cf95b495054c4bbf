//! Makes a closed world per privilege, starts this program in it, and puts together what comes back.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use pond_core::entropy::{Entropy, SystemEntropy};
use pond_core::sandbox::BackendKind;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::inside::Plan;
use super::report::{Privilege, Report};

/// The guest, as it was built with this worker.
static INTRUDER: &[u8] = include_bytes!(env!("POND_INTRUDER"));
/// How long one battery may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// Uids at the end of the usual range: workers of this host begin at its other end. The last one is the user without
/// privileges.
const UIDS: (u32, u32) = (265_472, 265_534);
const USER: u32 = 265_535;

/// Why a battery did not run.
#[derive(Debug, thiserror::Error)]
pub enum Unable {
    /// The host.
    #[error("{what}")]
    Io {
        /// What failed.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended before its end.
    #[error("the battery of a worker that is {as_whom} does not run: {said}")]
    Ended {
        /// As whom.
        as_whom: &'static str,
        /// What it said.
        said: String,
    },
}

/// What to attest.
#[derive(Debug, Clone)]
pub struct Order {
    /// A program with the verb `worker attest`: this one.
    pub program: PathBuf,
    /// The backends.
    pub backends: Vec<BackendKind>,
    /// Folders of the host that are shown to the jobs on top, which no job gets: by them the battery is shown to find a hole.
    pub shown: Vec<PathBuf>,
    /// The groups to try; all, when empty.
    pub groups: Vec<String>,
}

/// Runs the battery: as root and as a user where this process is root, else as its own user.
///
/// # Errors
/// When it could not run to its end; nothing is known then.
pub async fn attest(order: &Order) -> Result<Report, Unable> {
    let _alone = tokio::task::spawn_blocking(alone).await.ok().flatten();
    let root = nix::unistd::geteuid().is_root();
    let privileges = if root {
        &[Privilege::Root, Privilege::User][..]
    } else {
        &[Privilege::User]
    };
    let mut report = Report::default();
    for privilege in privileges {
        report.add(one(order, *privilege).await?);
    }
    Ok(report)
}

/// One battery of a host at a time: they would take each other's uids, and find each other's victims.
fn alone() -> Option<fs::File> {
    // The folder itself is what is locked: a file of a known name there could be somebody's link.
    let lock = fs::File::open("/tmp").ok()?;
    lock.lock().ok().map(|()| lock)
}

async fn one(order: &Order, privilege: Privilege) -> Result<Report, Unable> {
    let io = |what| move |source| Unable::Io { what, source };
    let folder = tempfile::Builder::new().prefix("pond-attest-").tempdir();
    let folder = folder.map_err(io("no folder for the battery"))?;
    let uid = match (privilege, nix::unistd::geteuid().as_raw()) {
        (Privilege::Root, _) => None,
        (Privilege::User, 0) => Some(USER),
        (Privilege::User, own) => Some(own),
    };
    let plan = Plan {
        world: hex::encode((&SystemEntropy as &dyn Entropy).draw::<4>()),
        privilege,
        backends: order.backends.iter().map(|kind| kind.as_str().to_owned()).collect(),
        uids: (privilege == Privilege::Root).then_some(UIDS),
        shown: order.shown.clone(),
        groups: order.groups.clone(),
    };
    let program = furnish(folder.path(), &order.program, &plan, uid).map_err(io("no folder for the battery"))?;
    let said = start(folder.path(), &program, &plan, uid)
        .await
        .map_err(io("the battery does not start"))?;
    let result = fs::read(folder.path().join("result.json")).ok();
    let result = result.and_then(|result| serde_json::from_slice(&result).ok());
    result.ok_or_else(|| Unable::Ended {
        as_whom: privilege.as_str(),
        said: said.trim().to_owned(),
    })
}

/// Lays down what the world needs; the program as its user will find it.
fn furnish(folder: &Path, program: &Path, plan: &Plan, uid: Option<u32>) -> io::Result<PathBuf> {
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    open(folder, 0o755)?;
    let guest = folder.join("intruder");
    fs::write(&guest, INTRUDER)?;
    open(&guest, 0o755)?;
    fs::write(folder.join("plan.json"), serde_json::to_vec(plan)?)?;
    let mut program = program.to_owned();
    if let Some(uid) = uid.filter(|_| nix::unistd::geteuid().is_root()) {
        // Where it was built or installed may be closed to that user.
        let copy = folder.join("program");
        fs::copy(&program, &copy)?;
        open(&copy, 0o755)?;
        program = copy;
        chown(folder, Some(uid), Some(uid))?;
    }
    Ok(program)
}

async fn start(folder: &Path, program: &Path, plan: &Plan, uid: Option<u32>) -> io::Result<String> {
    let mut child = Command::new(folder.join("intruder"))
        .arg("world")
        .arg(folder)
        .arg(uid.map_or_else(|| "root".to_owned(), |uid| uid.to_string()))
        .arg(plan.prefix())
        .arg(program)
        .args(["worker", "attest", "--within"])
        .arg(folder)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("POND_LOG", "error")
        .env("POND_ATTEST", plan.secret("environment"))
        .current_dir("/")
        // Its end tells the battery that nobody waits any more.
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut said = String::new();
    let stderr = child.stderr.take();
    let told = async {
        if let Some(stderr) = stderr {
            let _ = stderr.take(65536).read_to_string(&mut said).await;
        }
        child.wait().await
    };
    match tokio::time::timeout(PATIENCE, told).await {
        Ok(ended) => ended.map(drop)?,
        Err(_) => said += " (it did not end in time)",
    }
    Ok(said)
}
