//! `pond run submit`: creates a run and, with `--wait`, follows it to its end.

use std::path::PathBuf;

use clap::Args;
use futures::TryStreamExt;
use serde_json::{Value, json};

use super::super::Connection;
use super::super::console::Console;
use super::super::exit::{Exit, Fault};
use super::body::{self, Flags};
use super::follow::{Ended, Shown, Wanted, follow};
use super::show;
use crate::api::{Artifact, RunDetail, RunStatus};
use crate::{ArtifactPlace, Client};

/// What stands behind `pond run submit`.
#[derive(Debug, Args)]
pub(super) struct SubmitArgs {
    /// A create body in JSON, or - for standard input; left out: one agent stage made from the flags
    file: Option<PathBuf>,
    /// What to work on: URL of a git repository, or a folder of the server's host
    #[arg(long, value_name = "URL|PATH")]
    source: Vec<String>,
    /// Branch, tag or commit of the git repository
    #[arg(long = "ref", value_name = "REF")]
    reference: Option<String>,
    /// Key of the harness
    #[arg(long, value_name = "KEY")]
    harness: Option<String>,
    /// Key of the model
    #[arg(long, value_name = "KEY")]
    model: Option<String>,
    /// What the agent is asked
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// Show the log until the run has ended, then what it left and cost. Ctrl-C asks whether to cancel the run; without a
    /// terminal it cancels. A second Ctrl-C leaves the run alone and stops waiting
    #[arg(long)]
    wait: bool,
    /// Show log lines exactly as they are, even to a terminal
    #[arg(long, requires = "wait")]
    raw: bool,
}

/// Carries out `pond run submit`.
pub(super) async fn run(
    args: SubmitArgs,
    connection: &Connection,
    client: &Client,
    console: &mut Console,
) -> Result<Exit, Fault> {
    let (wait, raw) = (args.wait, args.raw);
    let mut body = make(args, console).await?;
    body::put_project(&mut body, connection.project_id(client).await?)?;
    let run = client.runs().create_raw(&body).await?;
    if !wait {
        return super::one(&run, console);
    }
    console.chat(&format!("run {} submitted", run.id))?;
    // With --json the log would stand between the reader and the one document.
    let shown = match (console.json(), raw) {
        (true, _) => Shown::Nothing,
        (false, true) => Shown::Raw,
        (false, false) => Shown::Escaped,
    };
    match follow(client, &run.id, &Wanted::default(), shown, console).await? {
        Ended::Run => end(client, &run.id, console).await,
        Ended::Left => {
            console.note(&format!(
                "run {} goes on; see `pond run logs {} --follow`",
                run.id, run.id
            ))?;
            Ok(Exit::Failed)
        }
    }
}

async fn make(args: SubmitArgs, console: &mut Console) -> Result<Value, Fault> {
    let flags = Flags {
        sources: args.source,
        reference: args.reference,
        harness: args.harness,
        model: args.model,
        prompt: args.prompt,
    };
    let mut body = match &args.file {
        Some(file) => {
            let mut body = body::read(file, console).await?;
            flags.apply(&mut body, &console.io.cwd)?;
            body
        }
        None => flags.make(&console.io.cwd)?,
    };
    if let Some(fields) = body.as_object_mut() {
        fields
            .entry("trigger")
            .or_insert_with(|| Value::String("cli".to_owned()));
    }
    Ok(body)
}

/// Shows how the run ended, what it left and what it cost.
async fn end(client: &Client, id: &str, console: &mut Console) -> Result<Exit, Fault> {
    let detail = client.runs().wait(id).await?;
    let artifacts: Vec<Artifact> = client
        .runs()
        .artifacts(id, ArtifactPlace::default())
        .try_collect()
        .await?;
    let usage = client.runs().usage(id).await?;
    let exit = exit_of(&detail);
    if console.json() {
        let RunDetail { run, stages } = detail;
        console.result(&json!({ "run": run, "stages": stages, "artifacts": artifacts, "usage": usage }))?;
        return Ok(exit);
    }
    console.line("")?;
    show::detail(&detail, console)?;
    if !artifacts.is_empty() {
        console.line("")?;
        show::artifacts(&artifacts, console)?;
        console.chat(&format!("fetch them with `pond run artifacts {id} --out DIR`"))?;
    }
    console.line("")?;
    console.line(&show::cost(&usage))?;
    Ok(exit)
}

/// The exit code that a run's end stands for.
pub(super) fn exit_of(detail: &RunDetail) -> Exit {
    match detail.run.status {
        RunStatus::Done => Exit::Ok,
        RunStatus::Cancelled => Exit::Cancelled,
        _ => Exit::Failed,
    }
}
