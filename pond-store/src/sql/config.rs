//! Config entries, and the keyring.

use async_trait::async_trait;
use pond_core::config::{
    ConfigChange, ConfigCommitted, ConfigRevision, ConfigSnapshot, ConfigStore, Entry, EntryKind, Owner,
};
use pond_core::sealing::{KeyringStore, Sealed, WrappedKey};
use pond_core::store::StoreError;

use super::Sql;
use super::db::{Arg, Tx, args};
use super::row::Cells;
use crate::error::unavailable;

/// An owner as stored: a project's id, empty for the org.
fn owner_bytes(owner: Owner) -> Vec<u8> {
    match owner {
        Owner::Org => Vec::new(),
        Owner::Project(project) => project.as_bytes().to_vec(),
    }
}

async fn put(tx: &mut Tx, entry: Entry) -> Result<u64, sqlx::Error> {
    let text = "INSERT INTO config (kind, owner, name, body, key_version, sealed, updated_at)
                VALUES ($1, $2, $3, $4, $5, $6, $7)
                ON CONFLICT (kind, owner, name) DO UPDATE
                SET body = excluded.body, key_version = excluded.key_version, sealed = excluded.sealed,
                    updated_at = excluded.updated_at";
    let key_version = entry.sealed.as_ref().map(|sealed| i64::from(sealed.key_version));
    let args = vec![
        entry.kind.as_str().into(),
        owner_bytes(entry.owner).into(),
        entry.name.into(),
        entry.body.into(),
        Arg::MaybeInt(key_version),
        Arg::MaybeBlob(entry.sealed.map(|sealed| sealed.bytes)),
        entry.updated_at.micros().into(),
    ];
    tx.write(text, args).await
}

async fn delete(tx: &mut Tx, kind: EntryKind, owner: Owner, name: &str) -> Result<u64, sqlx::Error> {
    let text = "DELETE FROM config WHERE kind = $1 AND owner = $2 AND name = $3";
    tx.write(text, args![kind.as_str(), owner_bytes(owner), name]).await
}

fn entry(cells: &Cells<'_>) -> Result<Entry, StoreError> {
    let owner = match cells.bytes(1, "owner")?.as_slice() {
        [] => Owner::Org,
        _ => Owner::Project(cells.id(1, "owner")?),
    };
    let sealed = match cells.maybe_bytes(5, "sealed")? {
        Some(bytes) => Some(Sealed {
            key_version: cells.count(4, "key_version")?,
            bytes,
        }),
        None => None,
    };
    Ok(Entry {
        kind: EntryKind::parse(&cells.text(0, "kind")?).ok_or_else(|| cells.corrupt("kind"))?,
        owner,
        name: cells.text(2, "name")?,
        body: cells.text(3, "body")?,
        sealed,
        updated_at: cells.time(6, "updated_at")?,
    })
}

#[async_trait]
impl ConfigStore for Sql {
    async fn config_revision(&self) -> Result<ConfigRevision, StoreError> {
        let row = self
            .db
            .read_one("SELECT revision FROM config_revision", args![])
            .await
            .map_err(unavailable)?;
        row.map_or(Ok(0), |row| row.cells("config_revision").int(0, "revision"))
            .map(ConfigRevision)
    }

    async fn config(&self) -> Result<ConfigSnapshot, StoreError> {
        // One statement, so that revision and entries belong together.
        let text = "SELECT c.kind, c.owner, c.name, c.body, c.key_version, c.sealed, c.updated_at, v.revision
                    FROM config_revision AS v LEFT JOIN config AS c ON 1 = 1
                    ORDER BY c.kind, c.owner, c.name";
        let rows = self.db.read(text, args![]).await.map_err(unavailable)?;
        let mut snapshot = ConfigSnapshot {
            revision: ConfigRevision(0),
            entries: Vec::new(),
        };
        for row in &rows {
            let cells = row.cells("config");
            snapshot.revision = ConfigRevision(cells.int(7, "revision")?);
            if cells.maybe_text(0, "kind")?.is_some() {
                snapshot.entries.push(entry(&cells)?);
            }
        }
        Ok(snapshot)
    }

    async fn commit_config(
        &self,
        expected: ConfigRevision,
        change: ConfigChange,
    ) -> Result<ConfigCommitted, StoreError> {
        let mut tx = self.db.begin().await.map_err(unavailable)?;
        let step = "UPDATE config_revision SET revision = revision + 1 WHERE revision = $1";
        if tx.write(step, args![expected.0]).await.map_err(unavailable)? == 0 {
            return Ok(ConfigCommitted::Stale);
        }
        match change {
            ConfigChange::Put(entry) => put(&mut tx, entry).await,
            ConfigChange::Delete { kind, owner, name } => delete(&mut tx, kind, owner, &name).await,
        }
        .map_err(unavailable)?;
        tx.commit().await.map_err(unavailable)?;
        Ok(ConfigCommitted::At(ConfigRevision(expected.0 + 1)))
    }
}

#[async_trait]
impl KeyringStore for Sql {
    async fn wrapped_keys(&self) -> Result<Vec<WrappedKey>, StoreError> {
        let text = "SELECT version, wrapped FROM keyring ORDER BY version";
        let rows = self.db.read(text, args![]).await.map_err(unavailable)?;
        let key = |row: &super::row::Row| {
            let cells = row.cells("keyring");
            Ok(WrappedKey {
                version: cells.count(0, "version")?,
                wrapped: cells.bytes(1, "wrapped")?,
            })
        };
        rows.iter().map(key).collect()
    }

    async fn add_wrapped_key(&self, key: WrappedKey) -> Result<bool, StoreError> {
        let text = "INSERT INTO keyring (version, wrapped) VALUES ($1, $2) ON CONFLICT (version) DO NOTHING";
        let added = self
            .db
            .write(text, args![key.version, key.wrapped])
            .await
            .map_err(unavailable)?;
        Ok(added == 1)
    }

    async fn server_key(&self, name: &str) -> Result<Option<Sealed>, StoreError> {
        let text = "SELECT name, key_version, sealed FROM server_keys WHERE name = $1";
        let row = self.db.read_one(text, args![name]).await.map_err(unavailable)?;
        let sealed = |row: &super::row::Row| {
            let cells = row.cells("server_keys");
            Ok(Sealed {
                key_version: cells.count(1, "key_version")?,
                bytes: cells.bytes(2, "sealed")?,
            })
        };
        row.as_ref().map(sealed).transpose()
    }

    async fn add_server_key(&self, name: &str, sealed: Sealed) -> Result<bool, StoreError> {
        let text =
            "INSERT INTO server_keys (name, key_version, sealed) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING";
        let added = self.db.write(text, args![name, sealed.key_version, sealed.bytes]).await;
        Ok(added.map_err(unavailable)? == 1)
    }
}
