//! Projects.

use async_trait::async_trait;
use pond_core::id::ProjectId;
use pond_core::projects::{Project, ProjectDeleted, ProjectStore, Slug};
use pond_core::store::StoreError;

use super::Sql;
use super::db::args;
use super::row::Row;
use crate::error::unavailable;

fn project(row: &Row) -> Result<Project, StoreError> {
    let cells = row.cells("projects");
    Ok(Project {
        id: cells.id(0, "id")?,
        slug: Slug::new(cells.text(1, "slug")?).map_err(|_| cells.corrupt("slug"))?,
        name: cells.text(2, "name")?,
        created_at: cells.time(3, "created_at")?,
    })
}

#[async_trait]
impl ProjectStore for Sql {
    async fn create_project(&self, new: Project) -> Result<Option<Project>, StoreError> {
        let mut tx = self.db.begin().await.map_err(unavailable)?;
        // Either the id or the slug may be taken.
        let insert = "INSERT INTO projects (id, slug, name, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
        let args = args![new.id.as_bytes(), new.slug.as_str(), new.name, new.created_at.micros()];
        tx.write(insert, args).await.map_err(unavailable)?;
        let select = "SELECT id, slug, name, created_at FROM projects WHERE id = $1";
        let rows = tx.read(select, args![new.id.as_bytes()]).await.map_err(unavailable)?;
        tx.commit().await.map_err(unavailable)?;
        rows.first().map(project).transpose()
    }

    async fn project(&self, id: ProjectId) -> Result<Option<Project>, StoreError> {
        let text = "SELECT id, slug, name, created_at FROM projects WHERE id = $1";
        let row = self
            .db
            .read_one(text, args![id.as_bytes()])
            .await
            .map_err(unavailable)?;
        row.as_ref().map(project).transpose()
    }

    async fn project_by_slug(&self, slug: &Slug) -> Result<Option<Project>, StoreError> {
        let text = "SELECT id, slug, name, created_at FROM projects WHERE slug = $1";
        let row = self
            .db
            .read_one(text, args![slug.as_str()])
            .await
            .map_err(unavailable)?;
        row.as_ref().map(project).transpose()
    }

    async fn projects(&self) -> Result<Vec<Project>, StoreError> {
        let text = "SELECT id, slug, name, created_at FROM projects ORDER BY slug";
        let rows = self.db.read(text, args![]).await.map_err(unavailable)?;
        rows.iter().map(project).collect()
    }

    async fn delete_project(&self, id: ProjectId) -> Result<ProjectDeleted, StoreError> {
        let mut tx = self.db.begin().await.map_err(unavailable)?;
        let delete = "DELETE FROM projects WHERE id = $1
                        AND NOT EXISTS (SELECT 1 FROM runs WHERE project = $1)
                        AND NOT EXISTS (SELECT 1 FROM config WHERE owner = $1)
                        AND NOT EXISTS (SELECT 1 FROM api_keys WHERE project = $1)";
        let deleted = tx.write(delete, args![id.as_bytes()]).await.map_err(unavailable)?;
        let still = tx
            .read("SELECT 1 FROM projects WHERE id = $1", args![id.as_bytes()])
            .await
            .map_err(unavailable)?;
        tx.commit().await.map_err(unavailable)?;
        Ok(match (deleted, still.is_empty()) {
            (0, true) => ProjectDeleted::Unknown,
            (0, false) => ProjectDeleted::InUse,
            _ => ProjectDeleted::Gone,
        })
    }
}
