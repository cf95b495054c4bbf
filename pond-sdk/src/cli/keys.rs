//! `pond keys`.

use clap::{Args, Subcommand};
use futures::TryStreamExt;
use serde_json::json;

use super::Connection;
use super::console::Console;
use super::exit::{Exit, Fault};
use super::table::Table;
use crate::api::{ApiKey, CreateKey};

/// What stands behind `pond keys`.
#[derive(Debug, Args)]
pub struct KeysArgs {
    #[command(subcommand)]
    verb: KeysVerb,
}

#[derive(Debug, Subcommand)]
enum KeysVerb {
    /// Create a key of the project; it is shown this once
    Create {
        /// Its name
        name: String,
        /// What it may do: {runs,agents,pods,repos,external}:{read,write} or runners:read; give it several times
        #[arg(long = "scope", value_name = "SCOPE", required = true)]
        scopes: Vec<String>,
        /// When it ceases to work, RFC 3339
        #[arg(long, value_name = "TIME")]
        expires_at: Option<String>,
    },
    /// List keys: those of the project, or all
    List,
    /// Revoke a key, at once and on every server
    Revoke {
        /// Its id
        id: String,
    },
}

/// Carries out `pond keys …`.
pub(super) async fn run(args: KeysArgs, connection: &Connection, console: &mut Console) -> Result<Exit, Fault> {
    let client = connection.client(console)?;
    let project_id = connection.project_id(&client).await?;
    match args.verb {
        KeysVerb::Create {
            name,
            scopes,
            expires_at,
        } => {
            let wanted = CreateKey {
                project_id,
                org: None,
                name,
                scopes,
                expires_at,
            };
            let issued = client.keys().create(&wanted).await?;
            if console.json() {
                console.result(&issued)?;
                return Ok(Exit::Ok);
            }
            console.line(issued.key.expose())?;
            console.note(&format!(
                "key {} of project {}: keep it now, it is not shown again",
                issued.id, issued.project_id
            ))?;
            Ok(Exit::Ok)
        }
        KeysVerb::List => {
            let keys: Vec<ApiKey> = client.keys().list(project_id.as_deref()).try_collect().await?;
            if console.json() {
                console.result(&json!({ "keys": keys }))?;
                return Ok(Exit::Ok);
            }
            show(&keys, console)
        }
        KeysVerb::Revoke { id } => {
            client.keys().revoke(&id).await?;
            if console.json() {
                console.result(&json!({ "revoked": id }))?;
            } else {
                console.line(&format!("revoked {id}"))?;
            }
            Ok(Exit::Ok)
        }
    }
}

fn show(keys: &[ApiKey], console: &mut Console) -> Result<Exit, Fault> {
    let mut table = Table::new(&["ID", "BEGINS", "PROJECT", "EXPIRES", "LAST USED", "SCOPES", "NAME"]);
    for key in keys {
        let time = |at: &Option<String>| at.clone().unwrap_or_default();
        table.row([
            key.id.clone(),
            key.prefix.clone(),
            key.project_id.clone(),
            time(&key.expires_at),
            time(&key.last_used_at),
            key.scopes.join(","),
            key.name.clone(),
        ]);
    }
    console.table(&table)?;
    Ok(Exit::Ok)
}
