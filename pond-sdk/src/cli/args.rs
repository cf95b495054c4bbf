//! What stands on the command line of every client verb.

use clap::{Args, Subcommand};

use super::{audit, completions, credential, egress, harness, keys, model, pool, project, run, variable};
use crate::Secret;

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

/// What stands behind a verb, and how to reach the server. Each verb has its own, so that a program may use the same flags
/// otherwise in verbs of its own.
#[derive(Debug, Args)]
pub struct Connected<A: Args> {
    /// How to reach the server.
    #[command(flatten)]
    pub connection: Connection,
    /// What is the verb's own.
    #[command(flatten)]
    pub args: A,
}

/// The verbs that need nothing but a server somewhere.
#[derive(Debug, Subcommand)]
#[non_exhaustive]
pub enum ClientVerb {
    /// Submit runs, follow them, fetch what they left
    Run(Connected<run::RunArgs>),
    /// Keys of model providers, git hosts and object stores
    Credential(Connected<credential::CredentialArgs>),
    /// Where sandboxes may connect to
    Egress(Connected<egress::EgressArgs>),
    /// How agents are started
    Harness(Connected<harness::HarnessArgs>),
    /// Models, their credentials and prices
    Model(Connected<model::ModelArgs>),
    /// Plain environment for every stage
    Variable(Connected<variable::VariableArgs>),
    /// Projects
    Project(Connected<project::ProjectArgs>),
    /// Orchestrators and workers: let them in, look, drain, revoke
    Pool(Connected<pool::PoolArgs>),
    /// API keys of projects
    Keys(Connected<keys::KeysArgs>),
    /// Who changed what, and whether the log of it is whole
    Audit(Connected<audit::AuditArgs>),
    /// Show who the token belongs to, and which server answers
    Whoami(Connection),
    /// Write a completion script for a shell
    Completions(Connected<completions::CompletionsArgs>),
    /// Show the version of this program
    Version(Connection),
}

impl ClientVerb {
    /// How to reach the server.
    pub fn connection(&self) -> &Connection {
        match self {
            Self::Run(verb) => &verb.connection,
            Self::Credential(verb) => &verb.connection,
            Self::Egress(verb) => &verb.connection,
            Self::Harness(verb) => &verb.connection,
            Self::Model(verb) => &verb.connection,
            Self::Variable(verb) => &verb.connection,
            Self::Project(verb) => &verb.connection,
            Self::Keys(verb) => &verb.connection,
            Self::Pool(verb) => &verb.connection,
            Self::Audit(verb) => &verb.connection,
            Self::Completions(verb) => &verb.connection,
            Self::Whoami(connection) | Self::Version(connection) => connection,
        }
    }
}
