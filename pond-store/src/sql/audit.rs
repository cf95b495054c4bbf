//! The audit log. Rows are only ever added.

use async_trait::async_trait;
use pond_core::audit::{AuditFilter, AuditHead, AuditRow, AuditStore, Entry};
use pond_core::clock::Timestamp;
use pond_core::page::{Page, PageRequest};
use pond_core::store::StoreError;

use super::Sql;
use super::db::{Arg, Tx, args};
use super::row::{Cells, Row};
use crate::error::unavailable;

const HEAD: &str = "SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1";

fn head(rows: &[Row]) -> Result<Option<AuditHead>, StoreError> {
    let head = rows.first().map(|row| {
        let cells = row.cells("audit");
        Ok(AuditHead {
            id: cells.int(0, "id")?,
            hash: cells.array(1, "hash")?,
        })
    });
    head.transpose()
}

fn row(cells: &Cells<'_>) -> Result<AuditRow, StoreError> {
    let project = match cells.maybe_bytes(5, "project")? {
        Some(_) => Some(cells.id(5, "project")?),
        None => None,
    };
    let changed = serde_json::from_str(&cells.text(6, "changed")?).map_err(|_| cells.corrupt("changed"))?;
    Ok(AuditRow {
        id: cells.int(0, "id")?,
        at: cells.time(1, "at")?,
        entry: Entry {
            actor: cells.text(2, "actor")?,
            action: cells.text(3, "action")?,
            target: cells.text(4, "target")?,
            project,
            changed,
            request_id: cells.maybe_text(7, "request_id")?,
        },
        prev_hash: cells.array(8, "prev_hash")?,
        hash: cells.array(9, "hash")?,
        mac: cells.array(10, "mac")?,
    })
}

async fn insert(tx: &mut Tx, row: AuditRow) -> Result<u64, sqlx::Error> {
    // Of two servers that add one number the second waits for the first to end, and then writes nothing.
    let text = "INSERT INTO audit (id, at, actor, action, target, project, changed, request_id, prev_hash, hash, mac)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (id) DO NOTHING";
    let entry = row.entry;
    let changed = serde_json::to_string(&entry.changed).map_err(|error| sqlx::Error::Encode(error.into()))?;
    let args = vec![
        row.id.into(),
        row.at.micros().into(),
        entry.actor.into(),
        entry.action.into(),
        entry.target.into(),
        Arg::MaybeBlob(entry.project.map(|project| project.as_bytes().to_vec())),
        changed.into(),
        Arg::MaybeText(entry.request_id),
        row.prev_hash.to_vec().into(),
        row.hash.to_vec().into(),
        row.mac.to_vec().into(),
    ];
    tx.write(text, args).await
}

#[async_trait]
impl AuditStore for Sql {
    async fn audit_head(&self) -> Result<Option<AuditHead>, StoreError> {
        head(&self.db.read(HEAD, args![]).await.map_err(unavailable)?)
    }

    async fn append_audit(&self, after: Option<AuditHead>, rows: Vec<AuditRow>) -> Result<bool, StoreError> {
        let mut tx = self.db.begin().await.map_err(unavailable)?;
        if head(&tx.read(HEAD, args![]).await.map_err(unavailable)?)? != after {
            return Ok(false);
        }
        for row in rows {
            if insert(&mut tx, row).await.map_err(unavailable)? == 0 {
                return Ok(false);
            }
        }
        tx.commit().await.map_err(unavailable)?;
        Ok(true)
    }

    async fn audit_rows(
        &self,
        filter: &AuditFilter,
        page: PageRequest<i64>,
    ) -> Result<Page<AuditRow, i64>, StoreError> {
        let text = "SELECT id, at, actor, action, target, project, changed, request_id, prev_hash, hash, mac FROM audit
                    WHERE id < $1 AND at >= $2 AND ($3 = '' OR actor = $3) AND ($4 = '' OR action = $4)
                    ORDER BY id DESC LIMIT $5";
        let args = args![
            page.after.unwrap_or(i64::MAX),
            filter.since.map_or(i64::MIN, Timestamp::micros),
            filter.actor.clone().unwrap_or_default(),
            filter.action.clone().unwrap_or_default(),
            i64::from(page.limit) + 1,
        ];
        let rows = self.db.read(text, args).await.map_err(unavailable)?;
        let rows = rows.iter().map(|found| row(&found.cells("audit")));
        Ok(Page::cut(rows.collect::<Result<_, _>>()?, page.limit, |row| row.id))
    }

    async fn audit_chain(&self, after: i64, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        let text = "SELECT id, at, actor, action, target, project, changed, request_id, prev_hash, hash, mac FROM audit
                    WHERE id > $1 ORDER BY id LIMIT $2";
        let rows = self.db.read(text, args![after, limit]).await.map_err(unavailable)?;
        rows.iter().map(|found| row(&found.cells("audit"))).collect()
    }
}
