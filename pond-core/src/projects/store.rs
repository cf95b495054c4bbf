//! What the store does for projects.

use async_trait::async_trait;

use super::{Project, Slug};
use crate::id::ProjectId;
use crate::store::StoreError;

/// What became of a delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProjectDeleted {
    /// It is gone.
    Gone,
    /// It has runs, config entries or keys.
    InUse,
    /// There was none.
    Unknown,
}

/// Projects.
#[async_trait]
pub trait ProjectStore: Send + Sync {
    /// Creates a project unless its id or its slug is there; gives the one that then has the id, or none when another
    /// project has the slug.
    async fn create_project(&self, project: Project) -> Result<Option<Project>, StoreError>;

    /// A project by id.
    async fn project(&self, id: ProjectId) -> Result<Option<Project>, StoreError>;

    /// A project by slug.
    async fn project_by_slug(&self, slug: &Slug) -> Result<Option<Project>, StoreError>;

    /// All projects, by slug.
    async fn projects(&self) -> Result<Vec<Project>, StoreError>;

    /// Deletes a project without runs, config entries and keys.
    async fn delete_project(&self, id: ProjectId) -> Result<ProjectDeleted, StoreError>;
}
