//! The command lines of orchestrator and worker, as a library: the programs mount them, and give the environment.

mod args;
mod attest;
mod exit;
mod hide;
mod orchestrator;
mod settings;
mod worker;

use std::future::Future;

pub use args::{AttestArgs, OrchestratorVerb, PairArgs, ServeArgs, SwarmVerb, WorkerArgs, WorkerVerb};
pub use exit::Exit;
pub use settings::Environment;

/// What must happen before any thread is started: a secret among the arguments is taken out of them, by a new start of this very
/// process. Returns when there is none.
///
/// # Errors
/// [`Exit::Usage`] when it cannot be taken out.
pub fn hide_secrets(verb: &SwarmVerb) -> Result<(), Exit> {
    let SwarmVerb::Serve(ServeArgs { token: Some(token), .. }) = verb else {
        return Ok(());
    };
    let Err(error) = hide::hide_token(token);
    Err(Exit::Usage.told(error))
}

/// Does what a verb says, until it is done or `stop` completes.
pub async fn run(verb: SwarmVerb, environment: &Environment, stop: impl Future<Output = ()> + Send) -> Exit {
    match verb {
        SwarmVerb::Pair(args) => orchestrator::pair(args, environment).await,
        SwarmVerb::Serve(args) => orchestrator::serve(args, environment, stop).await,
        SwarmVerb::Attest(args) => attest::attest(args, environment).await,
        SwarmVerb::Worker(mut args) => match args.verb.take() {
            Some(WorkerVerb::Attest(args)) => attest::attest(args, environment).await,
            None => worker::work(*args, environment, stop).await,
        },
    }
}
