//! `pond run logs`.

use clap::Args;
use futures::TryStreamExt;
use serde_json::json;

use super::super::console::Console;
use super::super::exit::{Exit, Fault};
use super::follow::{Ended, Shown, Wanted, follow};
use super::submit::exit_of;
use crate::Client;
use crate::api::LogLine;

/// What stands behind `pond run logs`.
#[derive(Debug, Args)]
pub(super) struct LogsArgs {
    /// The run
    id: String,
    /// Go on until the run has ended; exit 1 if it failed, 7 if it was cancelled
    #[arg(long, short)]
    follow: bool,
    /// Only lines after this one
    #[arg(long, value_name = "ID")]
    since: Option<u64>,
    /// Only lines of this stage
    #[arg(long, value_name = "KEY")]
    stage: Option<String>,
    /// Show lines exactly as they are, even to a terminal
    #[arg(long)]
    raw: bool,
}

/// Carries out `pond run logs`.
pub(super) async fn run(args: LogsArgs, client: &Client, console: &mut Console) -> Result<Exit, Fault> {
    let shown = match (console.json(), args.raw) {
        (true, _) => Shown::Json,
        (false, true) => Shown::Raw,
        (false, false) => Shown::Escaped,
    };
    if args.follow {
        let wanted = Wanted {
            after: args.since,
            stage: args.stage,
        };
        return match follow(client, &args.id, &wanted, shown, console).await? {
            Ended::Run => Ok(exit_of(&client.runs().wait(&args.id).await?)),
            Ended::Left => Ok(Exit::Ok),
        };
    }
    let mut query = client.runs().logs(&args.id);
    if let Some(id) = args.since {
        query = query.since(id);
    }
    if let Some(stage) = &args.stage {
        query = query.stage(stage);
    }
    let mut lines = query.stream();
    if shown == Shown::Json {
        let lines: Vec<LogLine> = lines.try_collect().await?;
        console.result(&json!({ "logs": lines }))?;
        return Ok(Exit::Ok);
    }
    while let Some(line) = lines.try_next().await? {
        print(&line, shown, console)?;
    }
    Ok(Exit::Ok)
}

/// Prints one line, told apart by its stage, or by who wrote it where that is not the agent.
pub(super) fn print(line: &LogLine, shown: Shown, console: &mut Console) -> Result<(), Fault> {
    let place = match (&line.stage, &line.substage) {
        (Some(stage), Some(substage)) => format!("{stage}/{substage}"),
        (Some(stage), None) => stage.clone(),
        (None, _) => line.source.to_string(),
    };
    let text = format!("{place} | {}", line.line);
    match shown {
        Shown::Nothing => {}
        Shown::Escaped => console.line(&text)?,
        Shown::Raw => console.raw_line(&text)?,
        Shown::Json => console.result(line)?,
    }
    Ok(())
}
