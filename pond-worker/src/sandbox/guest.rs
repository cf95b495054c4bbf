//! Who a confined job is, and what it finds that was made for it: the same in every backend that confines.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use pond_core::sandbox::{Access, Mount, SandboxError};

use super::host::{Host, Identity};
use super::ownership;
use super::uid::UidLease;

pub(super) const USER: &str = "pond";
pub(super) const HOME: &str = "/home/pond";
pub(super) const TMP: &str = "/tmp";
/// Where the init is shown.
pub(super) const INIT: &str = "/run/pond/init";
pub(super) const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";
/// Shared memory.
pub(super) const SHM: u64 = 64 << 20;
/// The files that [`make_etc`] makes.
pub(super) const ETC: [&str; 6] = ["passwd", "group", "hosts", "nsswitch.conf", "hostname", "resolv.conf"];

/// A uid of the host for a confined job; nothing where it runs as the worker's own user.
pub(super) fn lease(host: &Host) -> Result<Option<UidLease>, SandboxError> {
    match host.identity() {
        Identity::Own => Ok(None),
        Identity::NoPool => Err(no_pool()),
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

pub(super) fn no_pool() -> SandboxError {
    SandboxError::Unsupported {
        reason: "this worker runs as root and has no uids to give to confined jobs".into(),
        fix: "start it with --uid-range, or as another user".into(),
    }
}

/// Makes folders usable by the job's uid.
pub(super) fn hand_over(mounts: &[Mount], uid: u32) -> Result<(), SandboxError> {
    mounts.iter().try_for_each(|mount| {
        let at = |error| SandboxError::io(format!("{} cannot be given to the job", mount.inside.display()), error);
        match mount.access {
            Access::Write => ownership::give(&mount.host, uid).map_err(at),
            Access::Read => readable(mount),
        }
    })
}

/// Refuses a folder, or file, that the job's uid could not read.
pub(super) fn readable(mount: &Mount) -> Result<(), SandboxError> {
    let at = |error| SandboxError::io(format!("{} cannot be given to the job", mount.inside.display()), error);
    let about = fs::metadata(&mount.host).map_err(at)?;
    let needed = if about.is_file() { 0o004 } else { 0o005 };
    match about.permissions().mode() & needed == needed {
        true => Ok(()),
        false => Err(SandboxError::Unsupported {
            reason: format!(
                "what is shown at {} is not readable by the job's uid",
                mount.inside.display()
            ),
            fix: "make it readable by everyone (its parents need not be)".into(),
        }),
    }
}

/// Makes the files of `/etc` that tell a job who it is and that there is no network, in a folder of their own below `folder`.
pub(super) fn make_etc(folder: &Path, uid: u32) -> Result<PathBuf, SandboxError> {
    let etc = folder.join("etc");
    let made = try_make_etc(&etc, uid);
    made.map_err(|error| SandboxError::io("the files of /etc cannot be made", error))?;
    Ok(etc)
}

fn try_make_etc(folder: &Path, uid: u32) -> io::Result<()> {
    fs::create_dir(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    for name in ETC {
        let file = folder.join(name);
        fs::write(&file, text(name, uid))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}

fn text(name: &str, uid: u32) -> String {
    match name {
        "passwd" => {
            format!("root:x:0:0:root:/nonexistent:/usr/sbin/nologin\n{USER}:x:{uid}:{uid}:{USER}:{HOME}:/bin/sh\n")
        }
        "group" => format!("root:x:0:\n{USER}:x:{uid}:\n"),
        "hosts" => "127.0.0.1 localhost\n::1 localhost\n".into(),
        "nsswitch.conf" => "passwd: files\ngroup: files\nhosts: files\n".into(),
        "hostname" => format!("{USER}\n"),
        // Nobody is asked for names.
        _ => String::new(),
    }
}
