//! `pond`: every role in one file.

use std::process::exit;

use clap::{CommandFactory, Parser, Subcommand};
use pond_sdk::cli::{self, ClientVerb, Io};
use pond_server::program::{self, doctor};
use pond_server::settings::{Environment, Role};
use pond_worker::cli::{self as pool, OrchestratorVerb, SwarmVerb, WorkerArgs};
use tokio::sync::mpsc;

/// Runs coding agents on your code, safely
#[derive(Debug, Parser)]
#[command(name = "pond", version)]
struct Pond {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Everything in one process: server and pool, in the state folder; settings are POND_* variables
    Up(Serving),
    /// The server alone; settings are POND_* variables
    Server(Serving),
    /// Show an agent fixing a bug in a sandbox, from nothing
    #[cfg(feature = "demo")]
    Demo {
        /// Leave the server up
        #[arg(long)]
        keep: bool,
    },
    /// Tell what this host can do, and what is missing
    Doctor {
        /// Answer in JSON
        #[arg(long)]
        json: bool,
    },
    /// Relay between a server and workers
    #[command(subcommand)]
    Orchestrator(OrchestratorVerb),
    /// Run jobs on this host
    Worker(Box<WorkerArgs>),
    /// Orchestrator and worker under one name
    #[command(subcommand)]
    Swarm(SwarmVerb),
    #[command(flatten)]
    Client(Box<ClientVerb>),
}

impl Verb {
    /// Orchestrator and worker can be asked for by two names each.
    fn of_one_name(self) -> Self {
        match self {
            Self::Orchestrator(verb) => Self::Swarm(verb.into()),
            Self::Worker(args) => Self::Swarm(SwarmVerb::Worker(args)),
            other => other,
        }
    }
}

#[derive(Debug, clap::Args)]
struct Serving {
    /// Let the embedded pool run jobs without a sandbox, where POND_REQUIRE_SANDBOX is off too
    #[arg(long)]
    allow_unconfined: bool,
}

fn main() {
    let verb = Pond::parse().verb.of_one_name();
    if let Verb::Swarm(verb) = &verb
        && let Err(refused) = pool::hide_secrets(verb)
    {
        exit(i32::from(refused.code()));
    }
    let environment = program::environment();
    if !matches!(verb, Verb::Client(_)) {
        pond_worker::refuse_core_dumps();
    }
    let quiet = !matches!(verb, Verb::Up(_) | Verb::Server(_) | Verb::Swarm(_));
    program::install(&environment, if quiet { "error" } else { "info" });
    let runtime = tokio::runtime::Runtime::new().expect("a runtime: without threads there is nothing to do");
    let code = runtime.block_on(run(verb, environment));
    // A read of standard input that nobody waits for any more must not hold the process.
    exit(i32::from(code));
}

async fn run(verb: Verb, environment: Environment) -> u8 {
    match verb {
        Verb::Up(with) => program::serve(&environment, Role::Up, with.allow_unconfined).await,
        Verb::Server(with) => program::serve(&environment, Role::Server, with.allow_unconfined).await,
        #[cfg(feature = "demo")]
        Verb::Demo { keep } => pond_server::demo::run(&environment, keep).await,
        Verb::Doctor { json } => examine(&environment, json).await,
        Verb::Orchestrator(verb) => swarm(verb.into(), &environment).await,
        Verb::Worker(args) => swarm(SwarmVerb::Worker(args), &environment).await,
        Verb::Swarm(verb) => swarm(verb, &environment).await,
        Verb::Client(verb) => client(*verb, environment).await,
    }
}

async fn swarm(verb: SwarmVerb, environment: &Environment) -> u8 {
    pool::run(verb, environment, program::told_to_stop()).await.code()
}

async fn examine(environment: &Environment, json: bool) -> u8 {
    let state_dir = environment.get("POND_STATE_DIR").map_or(".pond-state", String::as_str);
    let findings = doctor::examine(state_dir.as_ref()).await;
    let well = doctor::is_well(&findings);
    if json {
        println!("{}", serde_json::json!({"ok": well, "findings": findings}));
    } else {
        print!("{}", doctor::report(&findings));
    }
    if well { program::OK } else { program::FAILED }
}

async fn client(verb: ClientVerb, environment: Environment) -> u8 {
    let (sender, interrupts) = mpsc::channel(4);
    tokio::spawn(async move { while tokio::signal::ctrl_c().await.is_ok() && sender.send(()).await.is_ok() {} });
    let about = cli::Program {
        command: Pond::command(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    match Io::process(move |name| environment.get(name).cloned(), interrupts) {
        Ok(io) => cli::run(verb, about, io).await.code(),
        Err(error) => {
            eprintln!("error: {error}");
            program::USAGE
        }
    }
}
