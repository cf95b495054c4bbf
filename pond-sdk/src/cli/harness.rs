//! `pond harness`.

use std::io::Read;
use std::path::Path;

use clap::{Args, Subcommand};
use futures::TryStreamExt;
use serde_json::json;

use super::Connection;
use super::console::Console;
use super::credential::{deleted, pairs};
use super::exit::{Exit, Fault};
use super::table::Table;
use crate::Client;
use crate::api::{Harness, HarnessFile, HarnessFromPreset, HarnessPreset, PutHarness};

/// The longest file that a server takes.
const MAX_FILE: u64 = 128 << 10;

/// What stands behind `pond harness`.
#[derive(Debug, Args)]
pub struct HarnessArgs {
    #[command(subcommand)]
    verb: HarnessVerb,
}

#[derive(Debug, Subcommand)]
enum HarnessVerb {
    /// List the harnesses that Pond knows how to set up
    Presets,
    /// Make or replace a harness from a preset
    FromPreset {
        /// The preset
        preset: String,
        /// Key of the harness; left out: the preset's name
        #[arg(long)]
        key: Option<String>,
        /// A name for people
        #[arg(long)]
        label: Option<String>,
    },
    /// Make or replace a harness
    Create(Create),
    /// List harnesses
    List {
        /// Those of the org and of all projects
        #[arg(long)]
        all: bool,
    },
    /// Delete a harness
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
    /// The capability that a worker must have; left out: harness.<key>
    #[arg(long)]
    capability: Option<String>,
    /// The model API that it speaks
    #[arg(long)]
    wire: Option<String>,
    /// A file for the job's home folder, and the local file that holds its content
    #[arg(long, value_name = "PATH=FILE")]
    file: Vec<String>,
    /// The command that starts the agent, with placeholders, after --
    #[arg(last = true, required = true, value_name = "ARGV")]
    command: Vec<String>,
}

/// Carries out `pond harness …`.
pub(super) async fn run(args: HarnessArgs, connection: &Connection, console: &mut Console) -> Result<Exit, Fault> {
    let client = connection.client(console)?;
    match args.verb {
        HarnessVerb::Presets => presets(&client, console).await,
        HarnessVerb::FromPreset { preset, key, label } => {
            let project_id = connection.project_id(&client).await?;
            let preset = HarnessFromPreset {
                preset,
                key,
                label,
                project_id,
            };
            one(&client.harnesses().from_preset(&preset).await?, console)
        }
        HarnessVerb::Create(args) => {
            let put = args.put(&console.io.cwd, connection.project_id(&client).await?)?;
            one(&client.harnesses().put(&put).await?, console)
        }
        HarnessVerb::List { all } => {
            let selection = connection.selection(&client, all).await?;
            let harnesses: Vec<Harness> = client.harnesses().list(&selection).try_collect().await?;
            if console.json() {
                console.result(&json!({ "harnesses": harnesses }))?;
                return Ok(Exit::Ok);
            }
            show(&harnesses, console)
        }
        HarnessVerb::Delete { key } => {
            let project = connection.project_id(&client).await?;
            client.harnesses().delete(&key, project.as_deref()).await?;
            deleted("harness", &key, console)
        }
    }
}

async fn presets(client: &Client, console: &mut Console) -> Result<Exit, Fault> {
    let presets: Vec<HarnessPreset> = client.harnesses().presets().try_collect().await?;
    if console.json() {
        console.result(&json!({ "presets": presets }))?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&["KEY", "LABEL", "WIRE", "VERIFIED"]);
    for preset in presets {
        let verified = if preset.verified { "yes" } else { "no" };
        table.row([
            preset.key,
            preset.label,
            preset.wire.unwrap_or_default(),
            verified.to_owned(),
        ]);
    }
    console.table(&table)?;
    Ok(Exit::Ok)
}

impl Create {
    fn put(self, cwd: &Path, project_id: Option<String>) -> Result<PutHarness, Fault> {
        let mut files = Vec::new();
        for (path, local) in pairs("--file", &self.file)? {
            files.push(HarnessFile {
                path,
                content: content(&cwd.join(local))?,
            });
        }
        Ok(PutHarness {
            key: self.key,
            label: self.label,
            capability: self.capability,
            command_template: self.command,
            files: (!files.is_empty()).then_some(files),
            wire: self.wire,
            project_id,
        })
    }
}

fn content(path: &Path) -> Result<String, Fault> {
    let shown = path.display();
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text));
    read.map_err(|error| Fault::Usage(format!("cannot read {shown}: {error}")))?;
    if text.len() as u64 > MAX_FILE {
        return Err(Fault::Usage(format!("{shown} is longer than {MAX_FILE} bytes")));
    }
    Ok(text)
}

fn one(harness: &Harness, console: &mut Console) -> Result<Exit, Fault> {
    if console.json() {
        console.result(harness)?;
        return Ok(Exit::Ok);
    }
    show(std::slice::from_ref(harness), console)
}

fn show(harnesses: &[Harness], console: &mut Console) -> Result<Exit, Fault> {
    let mut table = Table::new(&["KEY", "LABEL", "CAPABILITY", "WIRE", "SCOPE", "UPDATED"]);
    for entry in harnesses {
        table.row([
            entry.key.as_str(),
            entry.label.as_deref().unwrap_or_default(),
            &entry.capability,
            entry.wire.as_deref().unwrap_or_default(),
            entry.scope.as_str(),
            &entry.updated_at,
        ]);
    }
    console.table(&table)?;
    Ok(Exit::Ok)
}
