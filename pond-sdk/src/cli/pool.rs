//! `pond pool`.

use clap::{Args, Subcommand};
use futures::TryStreamExt;
use serde::Serialize;
use serde_json::json;

use super::Connection;
use super::console::Console;
use super::credential::deleted;
use super::exit::{Exit, Fault};
use super::table::Table;
use crate::Client;
use crate::api::{CreateEnrollmentCode, CreatePairingCode, Orchestrator, PoolCode, Worker};

/// What stands behind `pond pool`.
#[derive(Debug, Args)]
pub struct PoolArgs {
    #[command(subcommand)]
    verb: PoolVerb,
}

#[derive(Debug, Subcommand)]
enum PoolVerb {
    /// Make a code that pairs one orchestrator within 15 minutes; it is shown once
    PairingCode {
        /// Name of the orchestrator, unless it brings one
        #[arg(long)]
        name: Option<String>,
    },
    /// Make a code that lets one worker in within an hour; it is shown once
    EnrollCode(EnrollCode),
    /// List orchestrators
    Orchestrators,
    /// List workers
    Workers,
    /// Give a worker no new jobs; those that it has go on
    Drain {
        /// Its id
        worker: String,
        /// Let it have new jobs again
        #[arg(long)]
        off: bool,
    },
    /// Take a worker out at once, or an orchestrator with all of its workers: their jobs go to others
    Revoke(Revoke),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Revoke {
    /// The worker's id
    worker: Option<String>,
    /// The orchestrator's id
    #[arg(long, value_name = "ID")]
    orchestrator: Option<String>,
}

#[derive(Debug, Args)]
struct EnrollCode {
    /// Id of the orchestrator that the worker will dial; left out: the only one that is paired
    #[arg(long, value_name = "ID")]
    orchestrator: Option<String>,
    /// Name of the worker, unless it brings one
    #[arg(long)]
    name: Option<String>,
    /// The most tags that it may have, with commas
    #[arg(long, value_delimiter = ',', value_name = "TAG")]
    tags: Vec<String>,
    /// The most that it may do, with commas, such as harness.codex,sandbox.bubblewrap
    #[arg(long, value_delimiter = ',', value_name = "CAPABILITY")]
    capabilities: Vec<String>,
    /// The only keys that are let in, as the worker prints them: SHA256:…
    #[arg(long, value_name = "FINGERPRINT")]
    expected_fingerprint: Option<String>,
}

/// Carries out `pond pool …`.
pub(super) async fn run(args: PoolArgs, connection: &Connection, console: &mut Console) -> Result<Exit, Fault> {
    let client = connection.client(console)?;
    match args.verb {
        PoolVerb::PairingCode { name } => {
            let code = client.pool().pairing_code(&CreatePairingCode { name }).await?;
            made("pairing code", &code, console)
        }
        PoolVerb::EnrollCode(args) => {
            let code = client.pool().enrollment_code(&asked(args, &client).await?).await?;
            made("enrolment code", &code, console)
        }
        PoolVerb::Orchestrators => {
            let all: Vec<Orchestrator> = client.pool().orchestrators().try_collect().await?;
            shown("orchestrators", &all, orchestrators, console)
        }
        PoolVerb::Workers => {
            let all: Vec<Worker> = client.pool().workers().try_collect().await?;
            shown("workers", &all, workers, console)
        }
        PoolVerb::Drain { worker, off } => {
            let worker = client.pool().drain(Member::Worker.id(&worker)?, !off).await?;
            if console.json() {
                console.result(&worker)?;
                return Ok(Exit::Ok);
            }
            console.table(&workers(&[worker]))?;
            Ok(Exit::Ok)
        }
        PoolVerb::Revoke(Revoke { worker, orchestrator }) => match (worker, orchestrator) {
            (Some(worker), _) => {
                client.pool().remove_worker(Member::Worker.id(&worker)?).await?;
                deleted("worker", &worker, console)
            }
            (None, Some(orchestrator)) => {
                let id = Member::Orchestrator.id(&orchestrator)?;
                client.pool().remove_orchestrator(id).await?;
                deleted("orchestrator", &orchestrator, console)
            }
            (None, None) => Err(Fault::usage("give a worker's id, or --orchestrator and its id")),
        },
    }
}

/// What has an id of its own.
#[derive(Debug, Clone, Copy)]
enum Member {
    Worker,
    Orchestrator,
}

impl Member {
    /// Checks an id: a name in its place would be told as not found, which it may not be.
    fn id(self, text: &str) -> Result<&str, Fault> {
        let (noun, list) = match self {
            Self::Worker => ("a worker", "workers"),
            Self::Orchestrator => ("an orchestrator", "orchestrators"),
        };
        match uuid::Uuid::try_parse(text) {
            Ok(_) => Ok(text),
            Err(_) => Err(Fault::usage(format!(
                "'{text}' is no id of {noun}: `pond pool {list}` lists them"
            ))),
        }
    }
}

async fn asked(args: EnrollCode, client: &Client) -> Result<CreateEnrollmentCode, Fault> {
    let orch_id = match &args.orchestrator {
        Some(orchestrator) => Member::Orchestrator.id(orchestrator)?.to_owned(),
        None => only_orchestrator(client).await?,
    };
    let some = |flags: Vec<String>| Some(flags).filter(|flags| !flags.is_empty());
    Ok(CreateEnrollmentCode {
        orch_id,
        suggested_name: args.name,
        tags: some(args.tags),
        capabilities: some(args.capabilities),
        expected_fingerprint: args.expected_fingerprint,
    })
}

/// The one orchestrator that is paired.
async fn only_orchestrator(client: &Client) -> Result<String, Fault> {
    let all: Vec<Orchestrator> = client.pool().orchestrators().try_collect().await?;
    let mut paired = all.into_iter().filter(|orchestrator| !orchestrator.embedded);
    match (paired.next(), paired.next()) {
        (Some(only), None) => Ok(only.orch_id),
        (None, _) => Err(Fault::NotFound(
            "no orchestrator is paired: make a code by `pond pool pairing-code`, then `pond orchestrator pair`".into(),
        )),
        (Some(_), Some(_)) => Err(Fault::usage(
            "there are several orchestrators: say which by --orchestrator, see `pond pool orchestrators`",
        )),
    }
}

/// The code alone on standard output, so that it can be taken from there; what it is on standard error.
fn made(what: &str, code: &PoolCode, console: &mut Console) -> Result<Exit, Fault> {
    if console.json() {
        console.result(code)?;
        return Ok(Exit::Ok);
    }
    console.note(&format!(
        "{what}, good once until {}; it is not shown again:",
        code.expires_at
    ))?;
    console.line(code.code.expose())?;
    Ok(Exit::Ok)
}

fn shown<T: Serialize>(
    name: &str,
    all: &[T],
    table: impl Fn(&[T]) -> Table,
    console: &mut Console,
) -> Result<Exit, Fault> {
    if console.json() {
        console.result(&json!({ name: all }))?;
    } else {
        console.table(&table(all))?;
    }
    Ok(Exit::Ok)
}

fn orchestrators(all: &[Orchestrator]) -> Table {
    let mut table = Table::new(&["ID", "NAME", "STATUS", "PAIRED", "LAST SEEN"]);
    for one in all {
        let paired = match (&one.paired_at, one.embedded) {
            (Some(at), _) => at.clone(),
            (None, true) => "embedded".to_owned(),
            (None, false) => String::new(),
        };
        table.row([
            one.orch_id.clone(),
            one.name.clone(),
            one.status.to_string(),
            paired,
            one.last_seen_at.clone().unwrap_or_default(),
        ]);
    }
    table
}

/// Why something is withheld stands in the JSON, where there is room for it.
fn workers(all: &[Worker]) -> Table {
    let headings = [
        "ID",
        "NAME",
        "STATUS",
        "JOBS",
        "TAGS",
        "CAPABILITIES",
        "WITHHELD",
        "VERSION",
        "LAST SEEN",
    ];
    let mut table = Table::new(&headings);
    for one in all {
        let withheld: Vec<&str> = one.capability_problems.keys().map(String::as_str).collect();
        table.row([
            one.worker_id.clone(),
            one.name.clone(),
            one.status.to_string(),
            format!("{}/{}", one.running, one.concurrency),
            one.tags.join(","),
            one.capabilities.join(","),
            withheld.join(","),
            one.version.clone(),
            one.last_seen_at.clone().unwrap_or_default(),
        ]);
    }
    table
}
