//! `pond run`: submit runs, look at them, follow them, fetch what they left, stop them.

mod artifacts;
mod body;
mod egress;
mod follow;
mod logs;
mod show;
mod submit;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use futures::{StreamExt, TryStreamExt};
use serde_json::json;

use super::Connection;
use super::console::Console;
use super::exit::{Exit, Fault, problems};
use crate::api::{Run, RunStatus};
use crate::{Client, RunFilter};

/// The most runs per page.
const MAX_PAGE: u32 = 500;

/// What stands behind `pond run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(subcommand)]
    verb: RunVerb,
}

#[derive(Debug, Subcommand)]
enum RunVerb {
    /// Submit a run
    Submit(submit::SubmitArgs),
    /// Tell what would keep a run from running well; exit 1 if it would be refused
    Preflight {
        /// A create body in JSON, or - for standard input
        file: PathBuf,
    },
    /// List runs, newest first
    List(ListArgs),
    /// Show a run and its stages
    Get {
        /// The run
        id: String,
    },
    /// Show a run's log
    Logs(logs::LogsArgs),
    /// Show what a run used
    Usage {
        /// The run
        id: String,
    },
    /// List what a run left, or fetch it
    Artifacts(artifacts::ArtifactsArgs),
    /// List what a run asked to reach, and how to allow what was denied
    Egress {
        /// The run
        id: String,
    },
    /// Show what a run can reach, and which secret goes where
    Reach {
        /// The run
        id: String,
    },
    /// Ask for a run to be cancelled
    Cancel {
        /// The run
        id: String,
    },
    /// Run it again as a new run
    Retry {
        /// The run
        id: String,
    },
}

#[derive(Debug, Args)]
struct ListArgs {
    /// In one of these states
    #[arg(long, value_delimiter = ',')]
    status: Vec<String>,
    /// Set off by this
    #[arg(long)]
    trigger: Option<String>,
    /// Created at or after this time (RFC 3339)
    #[arg(long)]
    since: Option<String>,
    /// The most runs to list
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

/// Carries out `pond run …`.
pub(super) async fn run(args: RunArgs, connection: &Connection, console: &mut Console) -> Result<Exit, Fault> {
    let client = connection.client(console)?;
    match args.verb {
        RunVerb::Submit(args) => submit::run(args, connection, &client, console).await,
        RunVerb::Preflight { file } => preflight(&file, connection, &client, console).await,
        RunVerb::List(args) => list(args, connection, &client, console).await,
        RunVerb::Get { id } => {
            let detail = client.runs().get(&id).await?;
            show::detail(&detail, console)?;
            Ok(Exit::Ok)
        }
        RunVerb::Logs(args) => logs::run(args, &client, console).await,
        RunVerb::Usage { id } => {
            let usage = client.runs().usage(&id).await?;
            show::usage(&usage, console)?;
            Ok(Exit::Ok)
        }
        RunVerb::Artifacts(args) => artifacts::run(args, &client, console).await,
        RunVerb::Egress { id } => egress::egress(&id, &client, console).await,
        RunVerb::Reach { id } => egress::reach(&id, &client, console).await,
        RunVerb::Cancel { id } => {
            let run = client.runs().cancel(&id).await?;
            one(&run, console)
        }
        RunVerb::Retry { id } => {
            let run = client.runs().retry(&id).await?;
            one(&run, console)
        }
    }
}

async fn preflight(
    file: &std::path::Path,
    connection: &Connection,
    client: &Client,
    console: &mut Console,
) -> Result<Exit, Fault> {
    let mut body = body::read(file, console).await?;
    body::put_project(&mut body, connection.project_id(client).await?)?;
    let preflight = client.runs().preflight_raw(&body).await?;
    if console.json() {
        console.result(&preflight)?;
    } else {
        problems(&preflight.problems, console)?;
        console.line(if preflight.ok {
            "ok"
        } else {
            "not ok: a run of this would be refused"
        })?;
    }
    Ok(if preflight.ok { Exit::Ok } else { Exit::Failed })
}

async fn list(args: ListArgs, connection: &Connection, client: &Client, console: &mut Console) -> Result<Exit, Fault> {
    let filter = RunFilter {
        project_id: connection.project_id(client).await?,
        statuses: args.status.iter().map(|word| RunStatus::from(word.as_str())).collect(),
        trigger: args.trigger,
        since: args.since,
        page_size: Some(args.limit.min(MAX_PAGE)),
    };
    let runs: Vec<Run> = client
        .runs()
        .list(filter)
        .take(args.limit as usize)
        .try_collect()
        .await?;
    if console.json() {
        console.result(&json!({ "runs": runs }))?;
    } else {
        show::runs(&runs, console)?;
    }
    Ok(Exit::Ok)
}

fn one(run: &Run, console: &mut Console) -> Result<Exit, Fault> {
    if console.json() {
        console.result(run)?;
    } else {
        show::runs(std::slice::from_ref(run), console)?;
    }
    Ok(Exit::Ok)
}
