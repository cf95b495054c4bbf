//! `pond keys`.

use clap::{Args, Subcommand};
use futures::TryStreamExt;
use serde_json::json;

use super::Connection;
use super::console::Console;
use super::credential::deleted;
use super::exit::{Exit, Fault};
use super::table::Table;
use crate::api::{CreateKey, CreatedKey, Key};

/// What stands behind `pond keys`.
#[derive(Debug, Args)]
pub struct KeysArgs {
    #[command(subcommand)]
    verb: KeysVerb,
}

#[derive(Debug, Subcommand)]
enum KeysVerb {
    /// Make a key of a project (--project, else `default`); it is shown once
    Create {
        /// Its name
        name: String,
        /// What it may do: runs, agents, pods, repos or external with :read or :write, and runners:read
        #[arg(long = "scope", required = true, value_delimiter = ',', value_name = "SCOPE")]
        scopes: Vec<String>,
        /// From when on it opens nothing, such as 2030-01-31T12:00:00Z
        #[arg(long, value_name = "TIME")]
        expires_at: Option<String>,
    },
    /// List keys, of --project or all
    List,
    /// Revoke a key: from then on it opens nothing
    Revoke {
        /// Its id
        id: String,
    },
}

/// Carries out `pond keys …`.
pub(super) async fn run(args: KeysArgs, connection: &Connection, console: &mut Console) -> Result<Exit, Fault> {
    let client = connection.client(console)?;
    match args.verb {
        KeysVerb::Create {
            name,
            scopes,
            expires_at,
        } => {
            let key = CreateKey {
                project_id: connection.project_id(&client).await?,
                org: None,
                name,
                scopes,
                expires_at,
            };
            created(&client.keys().create(&key).await?, console)
        }
        KeysVerb::List => {
            let project = connection.project_id(&client).await?;
            let keys: Vec<Key> = client.keys().list(project.as_deref()).try_collect().await?;
            if console.json() {
                console.result(&json!({ "keys": keys }))?;
                return Ok(Exit::Ok);
            }
            show(&keys, console)
        }
        KeysVerb::Revoke { id } => {
            client.keys().revoke(&id).await?;
            deleted("key", &id, console)
        }
    }
}

/// The key alone on standard output, so that it can be taken from there; what it is on standard error.
fn created(created: &CreatedKey, console: &mut Console) -> Result<Exit, Fault> {
    if console.json() {
        console.result(created)?;
        return Ok(Exit::Ok);
    }
    let Key { id, name, scopes, .. } = &created.record;
    console.note(&format!(
        "key {name} ({id}) with {}; it is not shown again:",
        scopes.join(", ")
    ))?;
    console.line(created.key.expose())?;
    Ok(Exit::Ok)
}

fn show(keys: &[Key], console: &mut Console) -> Result<Exit, Fault> {
    let mut table = Table::new(&["ID", "PREFIX", "NAME", "PROJECT", "SCOPES", "EXPIRES", "LAST USED"]);
    for key in keys {
        let time = |at: &Option<String>| at.clone().unwrap_or_default();
        table.row([
            key.id.clone(),
            key.prefix.clone(),
            key.name.clone(),
            key.project_id.clone(),
            key.scopes.join(","),
            time(&key.expires_at),
            time(&key.last_used_at),
        ]);
    }
    console.table(&table)?;
    Ok(Exit::Ok)
}
