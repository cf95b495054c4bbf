//! What stands on the command line of every client verb.

use clap::{Args, Subcommand};

use super::{completions, credential, harness, model, project, run, variable};
use crate::Secret;

/// A client verb and how to reach the server.
#[derive(Debug, Args)]
pub struct ClientArgs {
    /// How to reach the server.
    #[command(flatten)]
    pub connection: Connection,
    /// What to do.
    #[command(subcommand)]
    pub verb: ClientVerb,
}

/// How to reach the server, and how to answer.
#[derive(Debug, Clone, Default, Args)]
pub struct Connection {
    /// Address of the server [env: POND_URL] [default: http://127.0.0.1:8001]
    #[arg(long, global = true, value_name = "URL")]
    pub url: Option<String>,
    /// Token to call with; other users of this host can see it here
    /// [env: POND_TOKEN, POND_SERVICE_TOKEN, POND_TOKEN_FILE, POND_SERVICE_TOKEN_FILE]
    #[arg(long, global = true, value_name = "TOKEN", value_parser = secret)]
    pub token: Option<Secret>,
    /// Project, by id or slug
    #[arg(long, global = true, value_name = "ID|SLUG")]
    pub project: Option<String>,
    /// Answer in JSON
    #[arg(long, global = true)]
    pub json: bool,
}

/// Wrapped at once, so that no `Debug` of the arguments shows it.
fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}

/// The verbs that need nothing but a server somewhere.
#[derive(Debug, Subcommand)]
#[non_exhaustive]
pub enum ClientVerb {
    /// Submit runs, follow them, fetch what they left
    Run(run::RunArgs),
    /// Keys of model providers, git hosts and object stores
    Credential(credential::CredentialArgs),
    /// How agents are started
    Harness(harness::HarnessArgs),
    /// Models, their credentials and prices
    Model(model::ModelArgs),
    /// Plain environment for every stage
    Variable(variable::VariableArgs),
    /// Projects
    Project(project::ProjectArgs),
    /// Show who the token belongs to, and which server answers
    Whoami,
    /// Write a completion script for a shell
    Completions(completions::CompletionsArgs),
    /// Show the version of this program
    Version,
}
