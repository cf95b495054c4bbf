//! `pond credential`: secrets come from standard input, a prompt or a file, never from the command line.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use futures::TryStreamExt;
use serde_json::json;

use super::Connection;
use super::connect::secret_file;
use super::console::Console;
use super::exit::{Exit, Fault};
use super::table::Table;
use crate::Secret;
use crate::api::{Credential, PutCredential};

/// The longest secret that a server takes.
const MAX_SECRET: u64 = 8 << 10;

/// What stands behind `pond credential`.
#[derive(Debug, Args)]
pub struct CredentialArgs {
    #[command(subcommand)]
    verb: CredentialVerb,
}

#[derive(Debug, Subcommand)]
enum CredentialVerb {
    /// Make or replace a credential
    Set(Set),
    /// List credentials; secrets are never shown
    List {
        /// Those of the org and of all projects
        #[arg(long)]
        all: bool,
    },
    /// Delete a credential
    Delete {
        /// Its name
        name: String,
    },
}

#[derive(Debug, Args)]
struct Set {
    /// Its name
    name: String,
    /// anthropic, openai, openai_compatible, openrouter, gemini, git, s3
    #[arg(long)]
    provider: String,
    /// Plain environment, such as ANTHROPIC_BASE_URL=https://…
    #[arg(long, value_name = "K=V")]
    env: Vec<String>,
    /// Name of a secret; its value is one line of standard input, or asked for at a terminal
    #[arg(long, value_name = "K")]
    secret: Vec<String>,
    /// Name of a secret and the file that holds it
    #[arg(long, value_name = "K=PATH")]
    secret_file: Vec<String>,
    /// Host it may be sent to: host[:port][/path]
    #[arg(long)]
    host: Vec<String>,
    /// Bucket it may be used for
    #[arg(long)]
    bucket: Vec<String>,
    /// Feature by which the provider itself may fetch, run or keep something
    #[arg(long)]
    remote_feature: Vec<String>,
}

/// Carries out `pond credential …`.
pub(super) async fn run(args: CredentialArgs, connection: &Connection, console: &mut Console) -> Result<Exit, Fault> {
    match args.verb {
        CredentialVerb::Set(args) => set(args, connection, console).await,
        CredentialVerb::List { all } => list(all, connection, console).await,
        CredentialVerb::Delete { name } => {
            let client = connection.client(console)?;
            let project = connection.project_id(&client).await?;
            client.credentials().delete(&name, project.as_deref()).await?;
            deleted("credential", &name, console)
        }
    }
}

async fn set(args: Set, connection: &Connection, console: &mut Console) -> Result<Exit, Fault> {
    refuse_values(&args.secret)?;
    let env = pairs("--env", &args.env)?;
    let client = connection.client(console)?;
    let mut secrets = BTreeMap::new();
    for (name, path) in pairs("--secret-file", &args.secret_file)? {
        let secret = secret_file(&console.io.cwd.join(path), MAX_SECRET)?;
        add_secret(&mut secrets, &name, secret)?;
    }
    for name in &args.secret {
        let secret = console.secret(name).await?;
        add_secret(&mut secrets, name, secret)?;
    }
    let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
    let put = PutCredential {
        name: args.name,
        provider: args.provider,
        env: (!env.is_empty()).then_some(env),
        secrets: (!secrets.is_empty()).then_some(secrets),
        hosts: some(args.host),
        buckets: some(args.bucket),
        remote_features: some(args.remote_feature),
        project_id: connection.project_id(&client).await?,
    };
    let credential = client.credentials().put(&put).await?;
    show(&[credential], console)
}

async fn list(all: bool, connection: &Connection, console: &mut Console) -> Result<Exit, Fault> {
    let client = connection.client(console)?;
    let selection = connection.selection(&client, all).await?;
    let credentials: Vec<Credential> = client.credentials().list(&selection).try_collect().await?;
    if console.json() {
        console.result(&json!({ "credentials": credentials }))?;
        return Ok(Exit::Ok);
    }
    show(&credentials, console)
}

fn show(credentials: &[Credential], console: &mut Console) -> Result<Exit, Fault> {
    if let (true, [credential]) = (console.json(), credentials) {
        console.result(credential)?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&["NAME", "PROVIDER", "SECRETS", "HOSTS", "SCOPE", "UPDATED"]);
    for entry in credentials {
        table.row([
            entry.name.clone(),
            entry.provider.clone(),
            entry.secret_keys.join(", "),
            entry.hosts.join(", "),
            entry.scope.to_string(),
            entry.updated_at.clone(),
        ]);
    }
    console.table(&table)?;
    Ok(Exit::Ok)
}

/// A value on the command line would be seen by every user of the host, and kept by the shell. It is not repeated here.
fn refuse_values(names: &[String]) -> Result<(), Fault> {
    match names.iter().find_map(|name| name.split_once('=')) {
        None => Ok(()),
        Some((name, _)) => Err(Fault::usage(format!(
            "a secret's value does not belong on the command line: give --secret {name} and the value on standard input, \
             or --secret-file {name}=PATH; the value given here should be replaced at the provider"
        ))),
    }
}

fn add_secret(secrets: &mut BTreeMap<String, Secret>, name: &str, secret: Secret) -> Result<(), Fault> {
    match secrets.insert(name.to_owned(), secret) {
        None => Ok(()),
        Some(_) => Err(Fault::usage(format!("the secret {name} is given twice"))),
    }
}

/// Reads `K=V` arguments. A faulty one is not repeated, as it may be a secret in the wrong place.
pub(super) fn pairs(flag: &str, arguments: &[String]) -> Result<BTreeMap<String, String>, Fault> {
    let mut map = BTreeMap::new();
    for argument in arguments {
        let pair = argument.split_once('=').filter(|(name, _)| !name.is_empty());
        let (name, value) = pair.ok_or_else(|| Fault::usage(format!("{flag} wants NAME=VALUE")))?;
        if map.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(Fault::usage(format!("{flag} names {name} twice")));
        }
    }
    Ok(map)
}

/// Says that an entry is gone.
pub(super) fn deleted(noun: &str, name: &str, console: &mut Console) -> Result<Exit, Fault> {
    if console.json() {
        console.result(&json!({ "deleted": name }))?;
    } else {
        console.line(&format!("deleted {noun} {name}"))?;
    }
    Ok(Exit::Ok)
}
