//! API keys.

use async_trait::async_trait;
use pond_core::clock::Timestamp;
use pond_core::id::KeyId;
use pond_core::keys::{ApiKey, KeyOfProject, KeyStore};
use pond_core::page::{Page, PageRequest};
use pond_core::projects::Slug;
use pond_core::scope::Scope;
use pond_core::store::StoreError;

use super::Sql;
use super::db::{Arg, args};
use super::row::{Cells, Row};
use crate::error::unavailable;

fn key(cells: &Cells<'_>) -> Result<ApiKey, StoreError> {
    let scopes = cells.text(5, "scopes")?;
    Ok(ApiKey {
        id: cells.id(0, "id")?,
        project: cells.id(1, "project")?,
        name: cells.text(2, "name")?,
        prefix: cells.text(3, "prefix")?,
        hash: cells.array(4, "hash")?,
        // What does not read as scopes must not open anything.
        scopes: serde_json::from_str(&scopes).map_err(|_| cells.corrupt("scopes"))?,
        created_at: cells.time(6, "created_at")?,
        expires_at: cells.maybe_time(7, "expires_at")?,
        last_used_at: cells.maybe_time(8, "last_used_at")?,
    })
}

fn key_of_project(row: &Row) -> Result<KeyOfProject, StoreError> {
    let cells = row.cells("api_keys");
    Ok(KeyOfProject {
        key: key(&cells)?,
        slug: Slug::new(cells.text(9, "slug")?).map_err(|_| cells.corrupt("slug"))?,
    })
}

#[async_trait]
impl KeyStore for Sql {
    async fn add_key(&self, new: ApiKey) -> Result<bool, StoreError> {
        let text =
            "INSERT INTO api_keys (id, project, name, prefix, hash, scopes, created_at, expires_at, last_used_at)
                    SELECT $1, id, $3, $4, $5, $6, $7, $8, $9 FROM projects WHERE id = $2
                    ON CONFLICT DO NOTHING";
        let scopes = serde_json::to_string(&new.scopes).expect("a list of words serialises");
        let args = args![
            new.id.as_bytes(),
            new.project.as_bytes(),
            new.name,
            new.prefix,
            new.hash.to_vec(),
            scopes,
            new.created_at.micros(),
            Arg::MaybeInt(new.expires_at.map(Timestamp::micros)),
            Arg::MaybeInt(new.last_used_at.map(Timestamp::micros)),
        ];
        Ok(self.db.write(text, args).await.map_err(unavailable)? > 0)
    }

    async fn key_by_hash(&self, hash: [u8; 32]) -> Result<Option<KeyOfProject>, StoreError> {
        let text = "SELECT k.id, k.project, k.name, k.prefix, k.hash, k.scopes, k.created_at, k.expires_at,
                           k.last_used_at, p.slug
                      FROM api_keys k JOIN projects p ON p.id = k.project
                     WHERE k.hash = $1";
        let row = self
            .db
            .read_one(text, args![hash.to_vec()])
            .await
            .map_err(unavailable)?;
        row.as_ref().map(key_of_project).transpose()
    }

    async fn keys(&self, scope: Scope, page: PageRequest<KeyId>) -> Result<Page<ApiKey, KeyId>, StoreError> {
        let text = "SELECT id, project, name, prefix, hash, scopes, created_at, expires_at, last_used_at FROM api_keys
                     WHERE ($1 IS NULL OR project = $1) AND ($2 IS NULL OR id < $2)
                     ORDER BY id DESC LIMIT $3";
        let project = scope.project().map(|project| project.as_bytes().to_vec());
        let after = page.after.map(|after| after.as_bytes().to_vec());
        let args = args![
            Arg::MaybeBlob(project),
            Arg::MaybeBlob(after),
            i64::from(page.limit) + 1
        ];
        let rows = self.db.read(text, args).await.map_err(unavailable)?;
        let keys = rows.iter().map(|row| key(&row.cells("api_keys")));
        Ok(Page::cut(
            keys.collect::<Result<_, _>>()?,
            page.limit,
            |key: &ApiKey| key.id,
        ))
    }

    async fn revoke_key(&self, scope: Scope, id: KeyId) -> Result<bool, StoreError> {
        let text = "DELETE FROM api_keys WHERE id = $1 AND ($2 IS NULL OR project = $2)";
        let project = scope.project().map(|project| project.as_bytes().to_vec());
        let args = args![id.as_bytes(), Arg::MaybeBlob(project)];
        Ok(self.db.write(text, args).await.map_err(unavailable)? > 0)
    }

    async fn touch_key(&self, id: KeyId, at: Timestamp, but_since: Timestamp) -> Result<bool, StoreError> {
        let text = "UPDATE api_keys SET last_used_at = $2
                     WHERE id = $1 AND (last_used_at IS NULL OR last_used_at <= $3)";
        let args = args![id.as_bytes(), at.micros(), but_since.micros()];
        Ok(self.db.write(text, args).await.map_err(unavailable)? > 0)
    }
}
