//! `pond doctor`: what this host can do, each with its fix.

use std::path::Path;
use std::process::{Command, Stdio};

use pond_core::sandbox::{BackendKind, Enforcement};
use pond_worker::sandbox::{BackendSettings, Host, HostSettings, Means, open};
use serde::Serialize;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub name: &'static str,
    /// Whether it is well.
    pub ok: bool,
    /// Whether Pond needs it.
    pub needed: bool,
    /// What was found.
    pub detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Finding {
    fn well(name: &'static str, needed: bool, detail: impl Into<String>) -> Self {
        Self {
            name,
            ok: true,
            needed,
            detail: detail.into(),
            fix: None,
        }
    }

    fn ill(name: &'static str, needed: bool, detail: impl Into<String>, fix: &str) -> Self {
        Self {
            name,
            ok: false,
            needed,
            detail: detail.into(),
            fix: Some(fix.to_owned()),
        }
    }
}

/// Looks at everything. Nothing is left behind.
pub async fn examine(state_dir: &Path) -> Vec<Finding> {
    let mut found = vec![
        program("git", "git", "install git, for git sources (apt install git)"),
        program("bubblewrap", "bwrap", "install bubblewrap (apt install bubblewrap)"),
        user_namespaces(),
        limits(),
        uids(),
        state(state_dir),
    ];
    found.push(backend().await);
    found
}

/// Whether nothing that is needed is missing.
pub fn is_well(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.ok || !finding.needed)
}

/// As lines for people.
pub fn report(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let mark = match (finding.ok, finding.needed) {
            (true, _) => "ok",
            (false, true) => "MISSING",
            (false, false) => "note",
        };
        text.push_str(&format!("{mark:<8}{:<17}{}\n", finding.name, finding.detail));
        if let Some(fix) = &finding.fix {
            text.push_str(&format!("{:<8}fix: {fix}\n", ""));
        }
    }
    text
}

fn program(name: &'static str, command: &str, fix: &str) -> Finding {
    let output = Command::new(command).arg("--version").stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => {
            let said = String::from_utf8_lossy(&output.stdout);
            Finding::well(name, true, said.lines().next().unwrap_or_default().trim())
        }
        Ok(_) => Finding::ill(name, true, format!("{command} does not run"), fix),
        Err(_) => Finding::ill(name, true, format!("{command} is not in PATH"), fix),
    }
}

/// Needed by bubblewrap unless it is root or setuid; the backend's own probe decides.
fn user_namespaces() -> Finding {
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let off = number("/proc/sys/user/max_user_namespaces") == Some(0)
        || number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0);
    if off {
        let fix = "allow them: sysctl -w user.max_user_namespaces=15000 kernel.unprivileged_userns_clone=1";
        Finding::ill("user namespaces", false, "switched off", fix)
    } else {
        Finding::well("user namespaces", false, "available")
    }
}

fn limits() -> Finding {
    let enforcement = Means::detect().enforcement();
    match enforcement {
        Enforcement::Rlimits => Finding::ill(
            "limits",
            false,
            "no control group can be made: memory is held by a supervisor, CPU time is not held",
            "run Pond where it may make control groups, as by systemd with Delegate=yes",
        ),
        other => Finding::well("limits", false, other.as_str()),
    }
}

fn uids() -> Finding {
    if nix::unistd::geteuid().is_root() {
        Finding::well(
            "job users",
            false,
            "root: each job has a user id of its own, from 200000",
        )
    } else {
        Finding::well(
            "job users",
            false,
            "not root: jobs run under this user, in namespaces of their own",
        )
    }
}

fn state(path: &Path) -> Finding {
    let name = "state folder";
    let nearest = path
        .ancestors()
        .find(|folder| folder.exists())
        .unwrap_or(Path::new("."));
    let nearest = if nearest.as_os_str().is_empty() {
        Path::new(".")
    } else {
        nearest
    };
    match tempfile::tempfile_in(nearest) {
        Ok(_) => Finding::well(name, true, path.display().to_string()),
        Err(error) => {
            let detail = format!("{} cannot be written: {}", nearest.display(), error.kind());
            Finding::ill(name, true, detail, "set POND_STATE_DIR to a folder of your own")
        }
    }
}

/// Starts a sandbox as a job would.
async fn backend() -> Finding {
    let name = "sandbox";
    match probe().await {
        Ok(()) => Finding::well(name, true, "bubblewrap confines a program on this host"),
        Err(why) => Finding::ill(
            name,
            true,
            why,
            "install bubblewrap and allow user namespaces, then look again",
        ),
    }
}

async fn probe() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let host = Host::open(HostSettings::new(folder.path().join("host"))).map_err(|error| error.to_string())?;
    let sandbox = open(BackendKind::Bubblewrap, &host, &BackendSettings::default());
    let probed = sandbox.probe().await.map_err(|error| error.to_string());
    host.close().map_err(|error| error.to_string())?;
    probed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_needed_makes_a_host_unfit() {
        let note = Finding::ill("limits", false, "none", "do it");
        let missing = Finding::ill("git", true, "none", "do it");
        assert!(is_well(&[note.clone(), Finding::well("x", true, "y")]));
        assert!(!is_well(std::slice::from_ref(&missing)));
        let text = report(&[note, missing]);
        assert!(
            text.contains("note    limits") && text.contains("MISSING git") && text.contains("fix: do it"),
            "{text}"
        );
    }
}
