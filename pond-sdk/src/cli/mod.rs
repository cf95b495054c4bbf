//! The client verbs of the command line, as a library: a program flattens [`ClientVerb`] into its own verbs.
//!
//! Nothing here touches the process: input, output, environment and Ctrl-C come in as [`Io`], the answer is an [`Exit`].
//! One file per noun; a new verb is a variant and one function.
//!
//! Results go to standard output, everything else to standard error. With `--json` a result is one JSON document (a
//! followed log: one per line), and an error is one JSON line on standard error.

mod args;
mod audit;
mod completions;
mod connect;
mod console;
mod credential;
mod egress;
mod exit;
mod harness;
mod io;
mod keys;
mod model;
mod pool;
mod project;
mod prompt;
mod run;
mod table;
pub mod terminal;
mod variable;
mod whoami;

pub use args::{ClientVerb, Connected, Connection};
pub use exit::Exit;
pub use io::{Environment, Io, SecretPrompt, Terminals};
pub use prompt::TtyPrompt;

use console::Console;
use exit::Fault;

/// The program that the verbs are part of.
#[derive(Debug, Clone)]
pub struct Program {
    /// All its verbs, for completions.
    pub command: clap::Command,
    /// Its version.
    pub version: String,
}

/// Carries out one client verb.
pub async fn run(verb: ClientVerb, program: Program, io: Io) -> Exit {
    let mut console = Console::new(io, verb.connection().json);
    let done = dispatch(verb, program, &mut console).await;
    done.unwrap_or_else(|fault| fault.report(&mut console))
}

async fn dispatch(verb: ClientVerb, program: Program, console: &mut Console) -> Result<Exit, Fault> {
    match verb {
        ClientVerb::Run(Connected { connection, args }) => run::run(args, &connection, console).await,
        ClientVerb::Credential(Connected { connection, args }) => credential::run(args, &connection, console).await,
        ClientVerb::Egress(Connected { connection, args }) => egress::run(args, &connection, console).await,
        ClientVerb::Harness(Connected { connection, args }) => harness::run(args, &connection, console).await,
        ClientVerb::Model(Connected { connection, args }) => model::run(args, &connection, console).await,
        ClientVerb::Variable(Connected { connection, args }) => variable::run(args, &connection, console).await,
        ClientVerb::Project(Connected { connection, args }) => project::run(args, &connection, console).await,
        ClientVerb::Keys(Connected { connection, args }) => keys::run(args, &connection, console).await,
        ClientVerb::Pool(Connected { connection, args }) => pool::run(args, &connection, console).await,
        ClientVerb::Audit(Connected { connection, args }) => audit::run(args, &connection, console).await,
        ClientVerb::Whoami(connection) => whoami::whoami(&connection, console).await,
        ClientVerb::Completions(verb) => completions::run(&verb.args, program, console),
        ClientVerb::Version(_) => whoami::version(&program, console),
    }
}
