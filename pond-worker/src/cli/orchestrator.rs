//! `orchestrator pair` and `orchestrator serve`.

use std::future::Future;

use super::args::{PairArgs, ServeArgs};
use super::exit::Exit;
use super::settings::{Bad, Environment, Settings, secret_of};
use crate::link::peer::{PeerUrl, Tls};
use crate::orchestrator::{Orchestrator, OrchestratorSettings, PairError, ServeError};

const STATE_DIR: &str = ".pond-orchestrator";

/// Pairs, and keeps the handle.
pub(super) async fn pair(args: PairArgs, environment: &Environment) -> Exit {
    match paired(args, environment).await {
        Ok(exit) => exit,
        Err(bad) => bad.exit(),
    }
}

async fn paired(args: PairArgs, environment: &Environment) -> Result<Exit, Bad> {
    let settings = Settings(environment);
    let tls = settings.tls(args.insecure_no_tls)?;
    let engine = PeerUrl::parse(&args.pond, tls).map_err(|bad| Bad::of("--pond", bad))?;
    let code = secret_of(args.code, "--code", args.code_file.as_deref())?;
    let code = code.ok_or_else(|| Bad::of("--code", "is needed: `pond pool pairing-code` makes one"))?;
    let (network, state) = (settings.network()?, settings.state_dir(args.state_dir, STATE_DIR));
    if engine.is_plain_afar() {
        tracing::warn!("the server is reached without TLS: code and token travel in clear");
    }
    let made = crate::orchestrator::pair(&state, engine, &code, args.name, &network).await;
    Ok(match made {
        Ok(handle) => {
            println!("paired as orchestrator {}", handle.id);
            Exit::Ok
        }
        Err(error @ (PairError::State(_) | PairError::Paired(_))) => Exit::Usage.told(error),
        Err(PairError::Peer(error)) => Exit::of(&error).told(error.told()),
        Err(error @ PairError::Protocol { .. }) => Exit::Refused.told(error),
        Err(error @ (PairError::Setup(_) | PairError::Handle(_))) => Exit::Failed.told(error),
    })
}

/// Serves until it is told to stop.
pub(super) async fn serve(args: ServeArgs, environment: &Environment, stop: impl Future<Output = ()> + Send) -> Exit {
    let settings = match read(args, environment) {
        Ok(settings) => settings,
        Err(bad) => return bad.exit(),
    };
    let mut stop = std::pin::pin!(stop);
    let started = tokio::select! {
        biased;
        () = &mut stop => return Exit::Ok,
        started = Orchestrator::start(settings) => started,
    };
    let orchestrator = match started {
        Ok(orchestrator) => orchestrator,
        Err(error) => return ended(&error),
    };
    println!("orchestrator is ready at http://{}", orchestrator.addr);
    match orchestrator.run(stop).await {
        Ok(()) => Exit::Ok,
        Err(error) => ended(&error),
    }
}

fn read(args: ServeArgs, environment: &Environment) -> Result<OrchestratorSettings, Bad> {
    let settings = Settings(environment);
    let tls = settings.tls(args.insecure_no_tls)?;
    if !args.bind.ip().is_loopback() {
        match tls {
            Tls::Required => {
                let why = "off loopback workers' tokens would travel in clear: put a TLS proxy before a loopback address, \
                           or waive it by --insecure-no-tls";
                return Err(Bad::of("--bind", why));
            }
            Tls::Waived => {
                tracing::warn!(bind = %args.bind, "workers are answered without TLS: their tokens travel in clear");
            }
        }
    }
    let secret = secret_of(args.token, "--token", args.token_file.as_deref())?;
    Ok(OrchestratorSettings {
        state_dir: settings.state_dir(args.state_dir, STATE_DIR),
        bind: args.bind,
        secret: match secret {
            Some(secret) => Some(secret),
            None => settings.pool_secret()?,
        },
        proxies: settings.proxies()?,
        tls,
        network: settings.network()?,
    })
}

fn ended(error: &ServeError) -> Exit {
    let exit = match error {
        ServeError::State(_) | ServeError::Handle(_) | ServeError::Listen(..) => Exit::Usage,
        ServeError::ShutOut => Exit::Auth,
        ServeError::File(..) | ServeError::Setup(_) => Exit::Failed,
    };
    exit.told(error)
}
