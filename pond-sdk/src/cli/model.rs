//! `pond model`.

use clap::{Args, Subcommand};
use futures::TryStreamExt;
use serde_json::{Number, json};

use super::Connection;
use super::console::Console;
use super::credential::deleted;
use super::exit::{Exit, Fault};
use super::table::Table;
use crate::api::{Model, PutModel};

/// What stands behind `pond model`.
#[derive(Debug, Args)]
pub struct ModelArgs {
    #[command(subcommand)]
    verb: ModelVerb,
}

#[derive(Debug, Subcommand)]
enum ModelVerb {
    /// Make or replace a model
    Create(Create),
    /// List models
    List {
        /// Those of the org and of all projects
        #[arg(long)]
        all: bool,
    },
    /// Delete a model
    Delete {
        /// Its key
        key: String,
    },
}

#[derive(Debug, Args)]
struct Create {
    /// Its key
    key: String,
    /// A name for people
    #[arg(long)]
    label: Option<String>,
    /// Its provider
    #[arg(long)]
    provider: String,
    /// The model as the provider names it
    #[arg(long)]
    model_id: String,
    /// Name of the credential it is called with
    #[arg(long, value_name = "NAME")]
    credential: String,
    /// A capability that a worker must have for it
    #[arg(long)]
    capability: Option<String>,
    /// Price of a million input tokens in USD
    #[arg(long, value_name = "USD", value_parser = price)]
    input_cost: Option<Number>,
    /// Price of a million output tokens in USD
    #[arg(long, value_name = "USD", value_parser = price)]
    output_cost: Option<Number>,
    /// Price of a million input tokens read from the cache in USD
    #[arg(long, value_name = "USD", value_parser = price)]
    cache_read_cost: Option<Number>,
    /// Price of a million input tokens written to the cache in USD
    #[arg(long, value_name = "USD", value_parser = price)]
    cache_write_cost: Option<Number>,
}

fn price(text: &str) -> Result<Number, String> {
    text.parse()
        .map_err(|_| "a price is a number, such as 3 or 0.25".to_owned())
}

/// Carries out `pond model …`.
pub(super) async fn run(args: ModelArgs, connection: &Connection, console: &mut Console) -> Result<Exit, Fault> {
    let client = connection.client(console)?;
    match args.verb {
        ModelVerb::Create(args) => {
            let put = args.put(connection.project_id(&client).await?);
            let model = client.models().put(&put).await?;
            if console.json() {
                console.result(&model)?;
                return Ok(Exit::Ok);
            }
            show(&[model], console)
        }
        ModelVerb::List { all } => {
            let selection = connection.selection(&client, all).await?;
            let models: Vec<Model> = client.models().list(&selection).try_collect().await?;
            if console.json() {
                console.result(&json!({ "models": models }))?;
                return Ok(Exit::Ok);
            }
            show(&models, console)
        }
        ModelVerb::Delete { key } => {
            let project = connection.project_id(&client).await?;
            client.models().delete(&key, project.as_deref()).await?;
            deleted("model", &key, console)
        }
    }
}

impl Create {
    fn put(self, project_id: Option<String>) -> PutModel {
        PutModel {
            key: self.key,
            label: self.label,
            provider: self.provider,
            model_id: self.model_id,
            credential_name: self.credential,
            capability: self.capability,
            input_cost_per_mtok: self.input_cost,
            output_cost_per_mtok: self.output_cost,
            cache_read_cost_per_mtok: self.cache_read_cost,
            cache_write_cost_per_mtok: self.cache_write_cost,
            project_id,
        }
    }
}

fn show(models: &[Model], console: &mut Console) -> Result<Exit, Fault> {
    let mut table = Table::new(&[
        "KEY",
        "PROVIDER",
        "MODEL",
        "CREDENTIAL",
        "IN/MTOK",
        "OUT/MTOK",
        "SCOPE",
        "UPDATED",
    ]);
    let price = |price: &Option<Number>| price.as_ref().map(Number::to_string).unwrap_or_default();
    for entry in models {
        table.row([
            entry.key.clone(),
            entry.provider.clone(),
            entry.model_id.clone(),
            entry.credential_name.clone(),
            price(&entry.input_cost_per_mtok),
            price(&entry.output_cost_per_mtok),
            entry.scope.to_string(),
            entry.updated_at.clone(),
        ]);
    }
    console.table(&table)?;
    Ok(Exit::Ok)
}
