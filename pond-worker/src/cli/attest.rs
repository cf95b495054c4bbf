//! `worker attest`: the attack battery on this host.

use pond_core::clock::{Clock, SystemClock};
use pond_core::entropy::SystemEntropy;
use pond_core::sandbox::BackendKind;

use super::args::AttestArgs;
use super::exit::Exit;
use super::settings::{Environment, Settings};
use crate::attest::{self, Order, Report, Unable, cases};
use crate::link::Identity;
use crate::sandbox::{BackendSettings, Host, HostSettings, KINDS, open};

const STATE_DIR: &str = ".pond-state";

/// Runs the battery and tells of it.
pub(super) async fn attest(args: AttestArgs, environment: &Environment) -> Exit {
    if let Some(folder) = &args.within {
        return match attest::within(folder).await {
            Ok(()) => Exit::Ok,
            Err(error) => Exit::Usage.told(error),
        };
    }
    let state = Settings(environment).state_dir(args.state_dir.clone(), STATE_DIR);
    let identity = match Identity::find(&state, &SystemEntropy) {
        Ok(identity) => identity,
        Err(error) => return Exit::Usage.told(error),
    };
    match run(&args).await {
        Ok(report) => {
            if args.json {
                let at = SystemClock.now().millis();
                println!("{}", report.document(at, identity.as_ref().map(Identity::keys)));
            } else {
                print!("{}", report.text());
            }
            if report.all_held() { Exit::Ok } else { Exit::Failed }
        }
        Err(why) => Exit::Usage.told(why),
    }
}

async fn run(args: &AttestArgs) -> Result<Report, String> {
    for group in &args.groups {
        if !cases::GROUPS.iter().any(|own| own.name == group) {
            let names: Vec<&str> = cases::GROUPS.iter().map(|own| own.name).collect();
            return Err(format!("--groups: there is no {group}; there are {}", names.join(", ")));
        }
    }
    let backends = match args.backend {
        Some(BackendKind::Docker) => {
            return Err(
                "--backend docker: containers live in a network of their engine's, which cannot be closed from here"
                    .into(),
            );
        }
        Some(kind) => vec![kind],
        None => confining().await?,
    };
    let program = std::env::current_exe().map_err(|error| format!("this program is not found: {error}"))?;
    let order = Order {
        program,
        backends,
        shown: Vec::new(),
        groups: args.groups.clone(),
    };
    attest::attest(&order).await.map_err(|error: Unable| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        format!("{error}{}", cause.unwrap_or_default())
    })
}

/// The backends that confine and work on this host; what does not work is not advertised by its worker either.
async fn confining() -> Result<Vec<BackendKind>, String> {
    let folder = tempfile::tempdir().map_err(|error| format!("no folder: {error}"))?;
    let host = Host::open(HostSettings::new(folder.path().join("state"))).map_err(|error| error.to_string())?;
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    // Containers live in a network of their engine's, not in the closed one: what got out of one would get out for real.
    for kind in KINDS.into_iter().filter(|kind| *kind == BackendKind::Bubblewrap) {
        let probed = open(kind, &host, &BackendSettings::default()).probe().await;
        match probed {
            Ok(()) => found.push(kind),
            Err(error) => problems.push(format!("{}: {error}", kind.as_str())),
        }
    }
    let _ = tokio::task::spawn_blocking(move || host.close()).await;
    match found.is_empty() {
        true => Err(format!("no backend that confines works here: {}", problems.join("; "))),
        false => Ok(found),
    }
}
