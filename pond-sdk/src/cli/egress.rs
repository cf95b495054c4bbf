//! `pond egress`.

use clap::{Args, Subcommand, ValueEnum};
use futures::TryStreamExt;
use serde_json::json;

use super::Connection;
use super::console::Console;
use super::credential::deleted;
use super::exit::{Exit, Fault};
use super::table::Table;
use crate::api::{EgressAction, EgressRule, PutEgressRule};

/// What stands behind `pond egress`.
#[derive(Debug, Args)]
pub struct EgressArgs {
    #[command(subcommand)]
    verb: EgressVerb,
}

#[derive(Debug, Subcommand)]
enum EgressVerb {
    /// Make or replace a rule of where sandboxes may connect to
    Set {
        /// A host, or .suffix for its sub-domains, with an optional :port; without one 443 and 80
        host: String,
        /// What the rule says of them
        #[arg(long, value_enum, default_value_t = Action::Allow)]
        action: Action,
        /// Let a plain connection be turned into another protocol
        #[arg(long)]
        upgrade: bool,
    },
    /// List rules
    List {
        /// Those of the org and of all projects
        #[arg(long)]
        all: bool,
    },
    /// Delete a rule
    Delete {
        /// Its host, as it was set or in another spelling
        host: String,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Action {
    /// They may be reached
    Allow,
    /// They may not, whatever else allows them
    Deny,
}

/// Carries out `pond egress …`.
pub(super) async fn run(args: EgressArgs, connection: &Connection, console: &mut Console) -> Result<Exit, Fault> {
    let client = connection.client(console)?;
    match args.verb {
        EgressVerb::Set { host, action, upgrade } => {
            let put = PutEgressRule {
                host,
                action: Some(match action {
                    Action::Allow => EgressAction::Allow,
                    Action::Deny => EgressAction::Deny,
                }),
                upgrade: Some(upgrade),
                project_id: connection.project_id(&client).await?,
            };
            let rule = client.egress().put(&put).await?;
            if console.json() {
                console.result(&rule)?;
                return Ok(Exit::Ok);
            }
            show(&[rule], console)
        }
        EgressVerb::List { all } => {
            let selection = connection.selection(&client, all).await?;
            let rules: Vec<EgressRule> = client.egress().list(&selection).try_collect().await?;
            if console.json() {
                console.result(&json!({ "rules": rules }))?;
                return Ok(Exit::Ok);
            }
            show(&rules, console)
        }
        EgressVerb::Delete { host } => {
            let project = connection.project_id(&client).await?;
            client.egress().delete(&host, project.as_deref()).await?;
            deleted("egress rule", &host, console)
        }
    }
}

fn show(rules: &[EgressRule], console: &mut Console) -> Result<Exit, Fault> {
    let mut table = Table::new(&["HOST", "ACTION", "UPGRADE", "SCOPE", "UPDATED"]);
    for entry in rules {
        let upgrade = if entry.upgrade { "yes" } else { "no" };
        table.row([
            &entry.host,
            entry.action.as_str(),
            upgrade,
            entry.scope.as_str(),
            &entry.updated_at,
        ]);
    }
    console.table(&table)?;
    Ok(Exit::Ok)
}
