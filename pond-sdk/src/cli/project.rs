//! `pond project`.

use clap::{Args, Subcommand};
use futures::TryStreamExt;
use serde_json::json;

use super::Connection;
use super::console::Console;
use super::credential::deleted;
use super::exit::{Exit, Fault};
use super::table::Table;
use crate::api::{CreateProject, Project};

/// What stands behind `pond project`.
#[derive(Debug, Args)]
pub struct ProjectArgs {
    #[command(subcommand)]
    verb: ProjectVerb,
}

#[derive(Debug, Subcommand)]
enum ProjectVerb {
    /// Create a project
    Create {
        /// Its short name in addresses
        slug: String,
        /// Its name; left out: the slug
        #[arg(long)]
        name: Option<String>,
        /// An id of your choice
        #[arg(long)]
        id: Option<String>,
    },
    /// List projects
    List,
    /// Delete a project
    Delete {
        /// Its id or slug
        project: String,
    },
}

/// Carries out `pond project …`.
pub(super) async fn run(args: ProjectArgs, connection: &Connection, console: &mut Console) -> Result<Exit, Fault> {
    let client = connection.client(console)?;
    match args.verb {
        ProjectVerb::Create { slug, name, id } => {
            let name = name.unwrap_or_else(|| slug.clone());
            let project = client.projects().create(&CreateProject { slug, name, id }).await?;
            if console.json() {
                console.result(&project)?;
                return Ok(Exit::Ok);
            }
            show(&[project], console)
        }
        ProjectVerb::List => {
            let projects: Vec<Project> = client.projects().list().try_collect().await?;
            if console.json() {
                console.result(&json!({ "projects": projects }))?;
                return Ok(Exit::Ok);
            }
            show(&projects, console)
        }
        ProjectVerb::Delete { project } => {
            let named = Connection {
                project: Some(project.clone()),
                ..Connection::default()
            };
            let id = named.project_id(&client).await?.unwrap_or_else(|| project.clone());
            client.projects().delete(&id).await?;
            deleted("project", &project, console)
        }
    }
}

fn show(projects: &[Project], console: &mut Console) -> Result<Exit, Fault> {
    let mut table = Table::new(&["ID", "SLUG", "NAME", "CREATED"]);
    for project in projects {
        table.row([&project.id, &project.slug, &project.name, &project.created_at]);
    }
    console.table(&table)?;
    Ok(Exit::Ok)
}
