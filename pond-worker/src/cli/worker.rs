//! `worker`: comes in where it has not yet, and works until it is told to stop.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pond_core::clock::{Clock, SystemClock};
use pond_core::dispatch::WorkerInfo;
use pond_core::entropy::SystemEntropy;
use pond_core::secret::Secret;
use tokio_util::sync::CancellationToken;

use super::args::WorkerArgs;
use super::exit::Exit;
use super::settings::{Bad, Environment, Settings, secret_of};
use crate::link::peer::{Peer, PeerUrl};
use crate::link::{EnrollError, EnrollRequest, HttpLink, Identity, Standing, enroll};
use crate::net::DialerSettings;
use crate::work::{StateFolder, Worker, WorkerError, WorkerSettings};

const STATE_DIR: &str = ".pond-state";
/// The first wait for an orchestrator that does not answer, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What a worker starts with.
struct Start {
    url: PeerUrl,
    network: DialerSettings,
    code: Option<Secret>,
    /// Empty: the one that its code suggests.
    name: String,
    tags: Option<Vec<String>>,
    capabilities: Option<Vec<String>>,
    settings: WorkerSettings,
    repo_root: Option<std::path::PathBuf>,
}

/// Works until it is told to stop.
pub(super) async fn work(args: WorkerArgs, environment: &Environment, stop: impl Future<Output = ()> + Send) -> Exit {
    let start = match read(args, environment) {
        Ok(start) => start,
        Err(bad) => return bad.exit(),
    };
    let stopped = CancellationToken::new();
    let asked = stopped.clone();
    let watch = async move {
        stop.await;
        asked.cancel();
        std::future::pending::<Exit>().await
    };
    tokio::select! {
        biased;
        exit = watch => exit,
        exit = run(start, &stopped) => exit,
    }
}

fn read(args: WorkerArgs, environment: &Environment) -> Result<Start, Bad> {
    let settings = Settings(environment);
    let tls = settings.tls(args.insecure_no_tls)?;
    let url = PeerUrl::parse(&args.orchestrator, tls).map_err(|bad| Bad::of("--orchestrator", bad))?;
    let code = secret_of(args.enroll_code, "--enroll-code", args.enroll_code_file.as_deref())?;
    let network = settings.network()?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let worker = WorkerSettings {
        name: args.name.clone().unwrap_or_else(host_name),
        concurrency: args.concurrency.unwrap_or_else(|| u32::try_from(cores).unwrap_or(1)),
        uid_range: Some(args.uid_range),
        backends: settings.backends(args.pull),
        allow_unconfined: args.allow_unconfined,
        model_allow_private: settings.model_allow_private()?,
        egress_allow_private: settings.egress_allow_private()?,
        egress_defaults: settings.egress_defaults()?,
        resolver: network.resolver,
        extra_ca: network.extra_ca.clone(),
        bundle: settings.bundle()?,
        ..WorkerSettings::new(settings.state_dir(args.state_dir, STATE_DIR))
    };
    Ok(Start {
        url,
        network,
        code,
        name: args.name.unwrap_or_default(),
        tags: args.tags,
        capabilities: args.capabilities,
        settings: worker,
        repo_root: args.repo_root,
    })
}

fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "worker".into() } else { name }
}

async fn run(start: Start, stop: &CancellationToken) -> Exit {
    let Start {
        url,
        network,
        code,
        name,
        tags,
        capabilities,
        mut settings,
        repo_root,
    } = start;
    if url.is_plain_afar() {
        tracing::warn!("the orchestrator is reached without TLS: this worker's token travels in clear");
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let folder = match StateFolder::open(&settings.state_dir, &*clock).await {
        Ok(folder) => folder,
        Err(error) => return refused(&error),
    };
    let mut identity = match Identity::open(&settings.state_dir, &SystemEntropy) {
        Ok(identity) => identity,
        Err(error) => return Exit::Usage.told(error),
    };
    tracing::info!(
        fingerprint = identity.keys().public().fingerprint(),
        "this worker's keys"
    );
    let peer = match Peer::new(&url, &network) {
        Ok(peer) => peer,
        Err(error) => return Exit::Failed.told(error),
    };
    if identity.standing().is_none() {
        let Some(code) = code else {
            return Exit::Usage.told("--enroll-code: is needed the first time; `pond pool enroll-code` makes one");
        };
        let request = EnrollRequest {
            code,
            name,
            tags,
            capabilities,
        };
        if let Err(exit) = come_in(&peer, &mut identity, request, &*clock, stop).await {
            return exit;
        }
    } else if code.is_some() || tags.is_some() || capabilities.is_some() {
        tracing::warn!("this worker came in before: code, tags and capabilities have no effect");
    }
    let Some(standing) = identity.standing().cloned() else {
        return Exit::Ok;
    };
    if let Some(root) = repo_root {
        // Of this worker alone, since what is left in it from before is removed.
        settings.work_dir = root.join(format!("pond-worker-{}", standing.worker));
    }
    settings.tags = standing.tags.iter().cloned().collect();
    let scratch = settings.state_dir.clone();
    let started = Worker::start_as(
        standing.worker,
        folder,
        settings,
        Arc::clone(&clock),
        Arc::new(SystemEntropy),
    );
    let worker = match started.await {
        Ok(worker) => worker,
        Err(error) => return refused(&error),
    };
    let info = withheld(worker.info(), &standing);
    attend(worker, &identity, &peer, info, clock, &scratch, stop).await
}

/// Comes in; an orchestrator that does not answer yet is waited for.
async fn come_in(
    peer: &Peer,
    identity: &mut Identity,
    request: EnrollRequest,
    clock: &dyn Clock,
    stop: &CancellationToken,
) -> Result<(), Exit> {
    let mut pause = FIRST_PAUSE;
    loop {
        match enroll(peer, identity, request.clone()).await {
            Ok(()) => return Ok(()),
            Err(EnrollError::Peer(error)) if Exit::of(&error) == Exit::Unreachable => {
                tracing::warn!(error = %error.told(), "the orchestrator does not answer yet");
            }
            Err(EnrollError::Peer(error)) => return Err(Exit::of(&error).told(error.told())),
            Err(error @ EnrollError::BadCode) => return Err(Exit::Usage.told(error)),
            Err(error @ EnrollError::OtherEngine) => return Err(Exit::Auth.told(error)),
            Err(error @ EnrollError::Identity(_)) => return Err(Exit::Failed.told(error)),
        }
        if stop.run_until_cancelled(clock.sleep(pause)).await.is_none() {
            return Err(Exit::Ok);
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// What the worker may do but cannot: withheld, and why.
fn withheld(info: &WorkerInfo, standing: &Standing) -> WorkerInfo {
    let mut problems = BTreeMap::new();
    for capability in &standing.capabilities {
        if let Some(why) = info.problems.get(capability) {
            problems.insert(capability.clone(), why.clone());
        } else if capability.starts_with("sandbox.") && !info.capabilities.contains(capability) {
            let why = match capability.as_str() {
                "sandbox.none" => "the worker was started without --allow-unconfined",
                _ => "there is no such backend",
            };
            problems.insert(capability.clone(), why.to_owned());
        }
    }
    for (capability, why) in &problems {
        tracing::warn!(capability, why, "a capability is withheld");
    }
    WorkerInfo {
        problems,
        ..info.clone()
    }
}

async fn attend(
    worker: Worker,
    identity: &Identity,
    peer: &Peer,
    info: WorkerInfo,
    clock: Arc<dyn Clock>,
    scratch: &Path,
    stop: &CancellationToken,
) -> Exit {
    let id = info.id;
    let Some(link) = HttpLink::new(peer, identity, info, Arc::clone(&clock), scratch.to_owned()) else {
        return Exit::Failed.told("the worker has not come in");
    };
    let mut pause = FIRST_PAUSE;
    while let Err(error) = link.greet().await {
        if error.is_shut_out() {
            return shut_out();
        }
        tracing::warn!(error = %error.told(), "the orchestrator does not answer yet");
        if stop.run_until_cancelled(clock.sleep(pause)).await.is_none() {
            return Exit::Ok;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    println!("worker {id} is ready");
    let leave = stop.child_token();
    let running = worker.run(Arc::new(link.clone()), leave.clone());
    tokio::pin!(running);
    tokio::select! {
        biased;
        () = &mut running => Exit::Ok,
        () = link.shut_out() => {
            // Its leases are ended, and its jobs are others'.
            leave.cancel();
            running.await;
            shut_out()
        }
    }
}

fn shut_out() -> Exit {
    Exit::Auth
        .told("the orchestrator refuses this worker's token: it was revoked; empty its state folder and use a new code")
}

fn refused(error: &WorkerError) -> Exit {
    let exit = match error {
        WorkerError::InUse | WorkerError::State { .. } => Exit::Usage,
        WorkerError::Host(_) | WorkerError::Setup(_) => Exit::Failed,
    };
    let cause = std::error::Error::source(error).map(|source| format!(": {source}"));
    exit.told(format!("{error}{}", cause.unwrap_or_default()))
}
