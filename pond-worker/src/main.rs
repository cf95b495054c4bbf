//! `pond-worker`: orchestrator and worker, without the server and its database.

use std::future::Future;
use std::io::{self, IsTerminal};

use clap::{Parser, Subcommand};
use pond_worker::cli::{self, AttestArgs, Environment, OrchestratorVerb, SwarmVerb, WorkerArgs};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Runs Pond's jobs on this host, or relays them
#[derive(Debug, Parser)]
#[command(name = "pond-worker", version)]
struct Program {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run jobs on this host
    Worker(Box<WorkerArgs>),
    /// Try on this host whether its sandboxes hold
    Attest(AttestArgs),
    /// Relay between a server and workers
    #[command(subcommand)]
    Orchestrator(OrchestratorVerb),
}

fn main() {
    let verb = match Program::parse().verb {
        Verb::Worker(args) => SwarmVerb::Worker(args),
        Verb::Attest(args) => SwarmVerb::Attest(args),
        Verb::Orchestrator(verb) => verb.into(),
    };
    if let Err(exit) = cli::hide_secrets(&verb) {
        std::process::exit(i32::from(exit.code()));
    }
    pond_worker::refuse_core_dumps();
    let environment: Environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    install(&environment);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime: without threads there is nothing to do");
    let exit = runtime.block_on(async { cli::run(verb, &environment, told_to_stop()).await });
    std::process::exit(i32::from(exit.code()));
}

/// Where logs go (`POND_LOG` filters them): JSON when standard error is no terminal.
fn install(environment: &Environment) {
    let filter = environment
        .get("POND_LOG")
        .and_then(|text| EnvFilter::try_new(text).ok());
    let filter = filter.unwrap_or_else(|| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    if io::stderr().is_terminal() {
        logs.init();
    } else {
        logs.json().flatten_event(true).init();
    }
}

/// Completes at the first SIGTERM or SIGINT from now on.
fn told_to_stop() -> impl Future<Output = ()> + Send + 'static {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async move {
        let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}
