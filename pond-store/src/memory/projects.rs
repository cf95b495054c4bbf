//! Projects in memory.

use async_trait::async_trait;
use pond_core::config::Owner;
use pond_core::id::ProjectId;
use pond_core::projects::{Project, ProjectDeleted, ProjectStore, Slug};
use pond_core::store::StoreError;

use super::Memory;

#[async_trait]
impl ProjectStore for Memory {
    async fn create_project(&self, project: Project) -> Result<Option<Project>, StoreError> {
        let mut state = self.state()?;
        if let Some(known) = state.projects.get(&project.id) {
            return Ok(Some(known.clone()));
        }
        if state.projects.values().any(|known| known.slug == project.slug) {
            return Ok(None);
        }
        state.projects.insert(project.id, project.clone());
        Ok(Some(project))
    }

    async fn project(&self, id: ProjectId) -> Result<Option<Project>, StoreError> {
        Ok(self.state()?.projects.get(&id).cloned())
    }

    async fn project_by_slug(&self, slug: &Slug) -> Result<Option<Project>, StoreError> {
        let state = self.state()?;
        Ok(state.projects.values().find(|project| project.slug == *slug).cloned())
    }

    async fn projects(&self) -> Result<Vec<Project>, StoreError> {
        let mut projects: Vec<Project> = self.state()?.projects.values().cloned().collect();
        projects.sort_by(|a, b| a.slug.cmp(&b.slug));
        Ok(projects)
    }

    async fn delete_project(&self, id: ProjectId) -> Result<ProjectDeleted, StoreError> {
        let mut state = self.state()?;
        if !state.projects.contains_key(&id) {
            return Ok(ProjectDeleted::Unknown);
        }
        let has_runs = state.by_project.get(&id).is_some_and(|runs| !runs.is_empty());
        let has_config = state.config.keys().any(|(_, owner, _)| *owner == Owner::Project(id));
        if has_runs || has_config || state.api_keys.values().any(|key| key.project == id) {
            return Ok(ProjectDeleted::InUse);
        }
        state.projects.remove(&id);
        Ok(ProjectDeleted::Gone)
    }
}
