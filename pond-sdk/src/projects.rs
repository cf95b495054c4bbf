//! Projects.

use crate::api::{CreateProject, Project, ProjectList};
use crate::client::Client;
use crate::error::Result;
use crate::pages::{Page, Pages, pages};
use crate::request::Call;

/// The calls on projects.
#[derive(Debug, Clone)]
pub struct Projects {
    client: Client,
}

impl Client {
    /// The calls on projects.
    pub fn projects(&self) -> Projects {
        Projects { client: self.clone() }
    }
}

impl Projects {
    /// Creates a project.
    pub async fn create(&self, project: &CreateProject) -> Result<Project> {
        self.client
            .read("project", Call::create(&["v1", "admin", "projects"])?.json(project)?)
            .await
    }

    /// All projects.
    pub fn list(&self) -> Pages<Project> {
        let client = self.client.clone();
        pages(move |cursor| {
            let client = client.clone();
            async move {
                let call = Call::get(&["v1", "admin", "projects"]).query("cursor", cursor);
                let list: ProjectList = client.read("list of projects", call).await?;
                Ok(Page {
                    entries: list.projects,
                    next: list.next_cursor,
                })
            }
        })
    }

    /// Removes a project.
    pub async fn delete(&self, id: &str) -> Result<()> {
        self.client.done(Call::delete(&["v1", "admin", "projects", id])).await
    }
}
