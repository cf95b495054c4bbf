//! What this host can do, found out by doing it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pond_core::config::presets::{MINI, PRESETS};
use pond_core::sandbox::{BackendKind, Exec, Exit, Output, Profile, Running, Sandbox, SandboxError, Spec};

use crate::sandbox::{self, BackendSettings, Host, KINDS};

/// The backends that work, in order of preference.
pub(super) type Backends = Vec<(BackendKind, Arc<dyn Sandbox>)>;

/// What was found.
#[derive(Default)]
pub(super) struct Found {
    pub(super) backends: Backends,
    pub(super) capabilities: BTreeSet<String>,
    pub(super) problems: BTreeMap<String, String>,
}

/// Ends what an earlier life left, and tries everything out.
pub(super) async fn probe(
    host: &Arc<Host>,
    settings: &BackendSettings,
    allow_unconfined: bool,
) -> Result<Found, SandboxError> {
    let mut found = Found::default();
    for kind in KINDS {
        let backend = sandbox::open(kind, host, settings);
        let ended = backend.recover().await?;
        if ended > 0 {
            tracing::info!(backend = kind.as_str(), ended, "ended what an earlier life left");
        }
        if kind == BackendKind::None && !allow_unconfined {
            continue;
        }
        match backend.probe().await {
            Ok(()) => {
                found.capabilities.insert(kind.capability().to_owned());
                found.backends.push((kind, backend));
            }
            Err(error) => {
                // Where another one confines, that is no trouble.
                match found.backends.is_empty() {
                    true => tracing::warn!(backend = kind.as_str(), %error, "a sandbox backend does not work here"),
                    false => tracing::info!(backend = kind.as_str(), %error, "a sandbox backend does not work here"),
                }
                found.problems.insert(kind.capability().to_owned(), error.to_string());
            }
        }
    }
    find_harnesses(&mut found).await;
    Ok(found)
}

/// Pond's own harnesses are always there; others are when their program is found where jobs would find it.
async fn find_harnesses(found: &mut Found) {
    let backend = found.backends.first().cloned();
    let programs: Vec<(String, &str)> = PRESETS
        .iter()
        .filter_map(|preset| Some((format!("harness.{}", preset.key), *preset.command.first()?)))
        .collect();
    let there = match &backend {
        Some((kind, backend)) => programs_there(*kind, &**backend, &programs).await,
        None => Err(SandboxError::failed("no sandbox backend works here")),
    };
    for (capability, program) in programs {
        let outcome = match &there {
            _ if program == MINI => Ok(()),
            Ok(there) if there.contains(program) => Ok(()),
            Ok(_) => Err(format!(
                "`{program}` is not in the PATH of sandboxes; install it below /usr"
            )),
            Err(error) => Err(error.to_string()),
        };
        match outcome {
            Ok(()) => drop(found.capabilities.insert(capability)),
            Err(problem) => drop(found.problems.insert(capability, problem)),
        }
    }
}

/// Which of the programs a sandbox finds.
async fn programs_there(
    kind: BackendKind,
    backend: &dyn Sandbox,
    programs: &[(String, &str)],
) -> Result<BTreeSet<String>, SandboxError> {
    let profile = match kind {
        BackendKind::None => Profile::None,
        BackendKind::Bubblewrap | BackendKind::Docker => Profile::UntrustedCodeRead,
    };
    let running = backend.start(looking(profile)).await?;
    let looked = look(&*running, programs).await;
    running.kill().await?;
    looked
}

fn looking(profile: Profile) -> Spec {
    Spec {
        name: "probe-harnesses".into(),
        profile,
        mounts: Vec::new(),
        home: Vec::new(),
        bridges: Vec::new(),
        limits: Default::default(),
        image: None,
    }
}

async fn look(running: &dyn Running, programs: &[(String, &str)]) -> Result<BTreeSet<String>, SandboxError> {
    let script = r#"for program; do command -v "$program" >/dev/null && echo "$program"; done; exit 0"#;
    let mut argv = ["/bin/sh", "-c", script, "sh"].map(str::to_owned).to_vec();
    argv.extend(programs.iter().map(|(_, program)| (*program).to_owned()));
    let mut program = running
        .exec(Exec {
            argv,
            ..Exec::default()
        })
        .await?;
    let mut said = Vec::new();
    while let Some(output) = program.output.recv().await {
        match output {
            Output::Bytes(_, bytes) => said.extend_from_slice(&bytes),
            Output::Exited(Exit::Code(0)) => {
                return Ok(String::from_utf8_lossy(&said).lines().map(str::to_owned).collect());
            }
            Output::Exited(exit) => {
                return Err(SandboxError::failed(format!(
                    "looking for programs ends with {}",
                    exit.rc()
                )));
            }
        }
    }
    Err(SandboxError::failed("the sandbox has gone"))
}
