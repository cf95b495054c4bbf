//! `pond variable`.

use clap::{Args, Subcommand};
use futures::TryStreamExt;
use serde_json::json;

use super::Connection;
use super::console::Console;
use super::credential::deleted;
use super::exit::{Exit, Fault};
use super::table::Table;
use crate::api::{PutVariable, Variable};

/// What stands behind `pond variable`.
#[derive(Debug, Args)]
pub struct VariableArgs {
    #[command(subcommand)]
    verb: VariableVerb,
}

#[derive(Debug, Subcommand)]
enum VariableVerb {
    /// Make or replace a variable; not for secrets
    Set {
        /// Its name in the environment
        name: String,
        /// Its value
        value: String,
    },
    /// List variables
    List {
        /// Those of the org and of all projects
        #[arg(long)]
        all: bool,
    },
    /// Delete a variable
    Delete {
        /// Its name
        name: String,
    },
}

/// Carries out `pond variable …`.
pub(super) async fn run(args: VariableArgs, connection: &Connection, console: &mut Console) -> Result<Exit, Fault> {
    let client = connection.client(console)?;
    match args.verb {
        VariableVerb::Set { name, value } => {
            let put = PutVariable {
                name,
                value,
                project_id: connection.project_id(&client).await?,
            };
            let variable = client.variables().put(&put).await?;
            if console.json() {
                console.result(&variable)?;
                return Ok(Exit::Ok);
            }
            show(&[variable], console)
        }
        VariableVerb::List { all } => {
            let selection = connection.selection(&client, all).await?;
            let variables: Vec<Variable> = client.variables().list(&selection).try_collect().await?;
            if console.json() {
                console.result(&json!({ "variables": variables }))?;
                return Ok(Exit::Ok);
            }
            show(&variables, console)
        }
        VariableVerb::Delete { name } => {
            let project = connection.project_id(&client).await?;
            client.variables().delete(&name, project.as_deref()).await?;
            deleted("variable", &name, console)
        }
    }
}

fn show(variables: &[Variable], console: &mut Console) -> Result<Exit, Fault> {
    let mut table = Table::new(&["NAME", "VALUE", "SCOPE", "UPDATED"]);
    for entry in variables {
        table.row([&entry.name, &entry.value, entry.scope.as_str(), &entry.updated_at]);
    }
    console.table(&table)?;
    Ok(Exit::Ok)
}
