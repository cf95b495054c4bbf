//! API keys.

use async_trait::async_trait;
use pond_core::clock::Timestamp;
use pond_core::id::KeyId;
use pond_core::keys::{ApiKey, KeyScope, KeyStore, KnownKey, NewKey};
use pond_core::page::{Page, PageRequest};
use pond_core::projects::Slug;
use pond_core::scope::Scope;
use pond_core::store::StoreError;

use super::Sql;
use super::db::{Arg, args};
use super::row::Cells;
use crate::error::unavailable;

fn key(cells: &Cells<'_>) -> Result<ApiKey, StoreError> {
    let scopes = cells.text(4, "scopes")?;
    let scopes = scopes
        .split(',')
        .map(|name| KeyScope::parse(name).ok_or_else(|| cells.corrupt("scopes")));
    Ok(ApiKey {
        id: cells.id(0, "id")?,
        project: cells.id(1, "project")?,
        name: cells.text(2, "name")?,
        prefix: cells.text(3, "prefix")?,
        scopes: scopes.collect::<Result<_, _>>()?,
        created_at: cells.time(5, "created_at")?,
        expires_at: cells.maybe_time(6, "expires_at")?,
        last_used_at: cells.maybe_time(7, "last_used_at")?,
    })
}

/// The one project, or an empty blob for all: so that scoped and unscoped reads are one statement.
fn within(scope: Scope) -> Arg {
    Arg::Blob(
        scope
            .project()
            .map(|project| project.as_bytes().to_vec())
            .unwrap_or_default(),
    )
}

#[async_trait]
impl KeyStore for Sql {
    async fn create_key(&self, new: NewKey) -> Result<bool, StoreError> {
        let text =
            "INSERT INTO api_keys (id, hash, project, name, prefix, scopes, created_at, expires_at, last_used_at)
                    SELECT $1, $2, p.id, $4, $5, $6, $7, $8, $9 FROM projects AS p WHERE p.id = $3";
        let NewKey { key, hash } = new;
        let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.as_str()).collect();
        let args = vec![
            key.id.as_bytes().into(),
            hash.to_vec().into(),
            key.project.as_bytes().into(),
            key.name.into(),
            key.prefix.into(),
            scopes.join(",").into(),
            key.created_at.micros().into(),
            Arg::MaybeInt(key.expires_at.map(Timestamp::micros)),
            Arg::MaybeInt(key.last_used_at.map(Timestamp::micros)),
        ];
        Ok(self.db.write(text, args).await.map_err(unavailable)? == 1)
    }

    async fn key_by_hash(&self, hash: [u8; 32]) -> Result<Option<KnownKey>, StoreError> {
        let text =
            "SELECT k.id, k.project, k.name, k.prefix, k.scopes, k.created_at, k.expires_at, k.last_used_at, p.slug
                    FROM api_keys AS k JOIN projects AS p ON p.id = k.project WHERE k.hash = $1";
        let row = self
            .db
            .read_one(text, args![hash.to_vec()])
            .await
            .map_err(unavailable)?;
        let known = row.as_ref().map(|row| {
            let cells = row.cells("api_keys");
            let slug = Slug::new(cells.text(8, "slug")?).map_err(|_| cells.corrupt("slug"))?;
            Ok(KnownKey {
                key: key(&cells)?,
                slug,
            })
        });
        known.transpose()
    }

    async fn keys(&self, scope: Scope, page: PageRequest<KeyId>) -> Result<Page<ApiKey, KeyId>, StoreError> {
        let text = "SELECT id, project, name, prefix, scopes, created_at, expires_at, last_used_at FROM api_keys
                    WHERE (length($1) = 0 OR project = $1) AND id > $2 ORDER BY id LIMIT $3";
        let after = page.after.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
        let args = vec![within(scope), Arg::Blob(after), Arg::Int(i64::from(page.limit) + 1)];
        let rows = self.db.read(text, args).await.map_err(unavailable)?;
        let keys = rows.iter().map(|row| key(&row.cells("api_keys")));
        Ok(Page::cut(keys.collect::<Result<_, _>>()?, page.limit, |key| key.id))
    }

    async fn revoke_key(&self, scope: Scope, id: KeyId) -> Result<Option<ApiKey>, StoreError> {
        let text = "DELETE FROM api_keys WHERE id = $2 AND (length($1) = 0 OR project = $1)
                    RETURNING id, project, name, prefix, scopes, created_at, expires_at, last_used_at";
        let mut tx = self.db.begin().await.map_err(unavailable)?;
        let args = vec![within(scope), id.as_bytes().into()];
        let rows = tx.read(text, args).await.map_err(unavailable)?;
        tx.commit().await.map_err(unavailable)?;
        rows.first().map(|row| key(&row.cells("api_keys"))).transpose()
    }

    async fn touch_key(&self, id: KeyId, at: Timestamp, known_since: Timestamp) -> Result<(), StoreError> {
        let text = "UPDATE api_keys SET last_used_at = $2
                    WHERE id = $1 AND (last_used_at IS NULL OR last_used_at <= $3)";
        let args = args![id.as_bytes(), at.micros(), known_since.micros()];
        self.db.write(text, args).await.map(drop).map_err(unavailable)
    }
}
