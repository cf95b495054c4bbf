//! `pond audit`.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use futures::{StreamExt, TryStreamExt};
use serde_json::json;

use super::Connection;
use super::console::Console;
use super::exit::{Exit, Fault};
use super::table::Table;
use crate::AuditQuery;
use crate::api::AuditEntry;

/// The longest file of heads that is read.
const MAX_HEADS: u64 = 64 << 20;

/// What stands behind `pond audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    #[command(subcommand)]
    verb: AuditVerb,
}

#[derive(Debug, Subcommand)]
enum AuditVerb {
    /// Show who changed what, newest first
    List {
        /// Since this time, RFC 3339
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// By this actor, such as service
        #[arg(long)]
        actor: Option<String>,
        /// Of this action, such as key.create
        #[arg(long)]
        action: Option<String>,
        /// How many
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Check that no row was changed, taken out or made up
    Verify {
        /// The file of POND_AUDIT_HEAD_FILE: its last head must be in the chain
        #[arg(long, value_name = "FILE")]
        head: Option<PathBuf>,
    },
}

/// Carries out `pond audit …`.
pub(super) async fn run(args: AuditArgs, connection: &Connection, console: &mut Console) -> Result<Exit, Fault> {
    let client = connection.client(console)?;
    match args.verb {
        AuditVerb::List {
            since,
            actor,
            action,
            limit,
        } => {
            let query = AuditQuery { since, actor, action };
            let entries: Vec<AuditEntry> = client.audit().list(&query).take(limit).try_collect().await?;
            if console.json() {
                console.result(&json!({ "entries": entries }))?;
                return Ok(Exit::Ok);
            }
            show(&entries, console)
        }
        AuditVerb::Verify { head } => {
            let head = head.map(|path| last_head(&console.io.cwd.join(path))).transpose()?;
            let found = client.audit().verify(head.as_deref()).await?;
            if console.json() {
                console.result(&found)?;
            } else if let Some(flaw) = &found.flaw {
                console.line(&format!(
                    "row {}: {}; the {} rows before it are good",
                    flaw.id, flaw.kind, found.rows
                ))?;
            } else {
                console.line(&format!("{} rows, all good", found.rows))?;
                console.line(&found.head)?;
            }
            Ok(if found.ok { Exit::Ok } else { Exit::Failed })
        }
    }
}

/// The last head of a file of heads.
fn last_head(path: &Path) -> Result<String, Fault> {
    let shown = path.display();
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_HEADS + 1).read_to_string(&mut text));
    read.map_err(|error| Fault::Usage(format!("cannot read {shown}: {error}")))?;
    if text.len() as u64 > MAX_HEADS {
        return Err(Fault::Usage(format!("{shown} is longer than {MAX_HEADS} bytes")));
    }
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    last.map(ToOwned::to_owned)
        .ok_or_else(|| Fault::Usage(format!("{shown} holds no head")))
}

fn show(entries: &[AuditEntry], console: &mut Console) -> Result<Exit, Fault> {
    let mut table = Table::new(&["ROW", "TIME", "ACTOR", "ACTION", "TARGET", "PROJECT", "FIELDS"]);
    for entry in entries {
        table.row([
            entry.id.to_string(),
            entry.ts.clone(),
            entry.actor.clone(),
            entry.action.clone(),
            entry.target.clone(),
            entry.project_id.clone().unwrap_or_default(),
            entry.changed.join(","),
        ]);
    }
    console.table(&table)?;
    Ok(Exit::Ok)
}
