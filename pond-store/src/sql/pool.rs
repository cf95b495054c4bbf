//! Orchestrators, workers and codes.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use pond_core::clock::Timestamp;
use pond_core::id::{OrchestratorId, WorkerId};
use pond_core::pool::{Admits, Code, Enrolled, EnrolledWorker, Orchestrator, PoolStore, WorkerKeys, WorkerSeen};
use pond_core::store::StoreError;

use super::Sql;
use super::db::{Arg, Text, Tx, args, over_rows};
use super::item::{JsonRow, json_rows};
use super::row::{Cells, Row};
use crate::error::{corrupt, unavailable};

/// Plain fields as JSON.
fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("a record of plain fields serialises")
}

/// A column that holds JSON.
fn parsed<T: serde::de::DeserializeOwned>(
    cells: &Cells<'_>,
    place: usize,
    column: &'static str,
) -> Result<T, StoreError> {
    serde_json::from_str(&cells.text(place, column)?).map_err(|_| cells.corrupt(column))
}

fn code(row: &Row) -> Result<Code, StoreError> {
    let cells = row.cells("codes");
    Ok(Code {
        hash: cells.array(0, "hash")?,
        admits: parsed(&cells, 1, "admits")?,
        expires_at: cells.time(2, "expires_at")?,
    })
}

fn orchestrator(row: &Row) -> Result<Orchestrator, StoreError> {
    let cells = row.cells("orchestrators");
    Ok(Orchestrator {
        id: cells.id(0, "id")?,
        name: cells.text(1, "name")?,
        token: cells.array(2, "token")?,
        paired_at: cells.time(3, "paired_at")?,
        last_seen_at: cells.maybe_time(4, "seen_at")?,
    })
}

fn worker(row: &Row) -> Result<EnrolledWorker, StoreError> {
    let cells = row.cells("workers");
    Ok(EnrolledWorker {
        id: cells.id(0, "id")?,
        orchestrator: cells.id(1, "orchestrator")?,
        name: cells.text(2, "name")?,
        keys: WorkerKeys {
            x25519: cells.array(3, "x25519")?,
            ed25519: cells.array(4, "ed25519")?,
        },
        tags: parsed(&cells, 5, "tags")?,
        capabilities: parsed::<BTreeSet<String>>(&cells, 6, "capabilities")?,
        enrolled_at: cells.time(7, "enrolled_at")?,
        draining: cells.int(8, "draining")? != 0,
        seen: parsed(&cells, 9, "seen")?,
    })
}

/// An id that is there already makes no sense; anything else is the database's.
fn refused(table: &'static str, id: impl std::fmt::Display) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |error| {
        let taken = error
            .as_database_error()
            .is_some_and(sqlx::error::DatabaseError::is_unique_violation);
        if taken {
            corrupt(table, "id", &id)
        } else {
            unavailable(error)
        }
    }
}

async fn insert_orchestrator(tx: &mut Tx, new: Orchestrator) -> Result<(), sqlx::Error> {
    let text = "INSERT INTO orchestrators (id, name, token, paired_at, seen_at) VALUES ($1, $2, $3, $4, $5)";
    let args = args![
        new.id.as_bytes(),
        new.name,
        new.token.to_vec(),
        new.paired_at.micros(),
        Arg::MaybeInt(new.last_seen_at.map(Timestamp::micros)),
    ];
    tx.write(text, args).await.map(drop)
}

async fn insert_worker(tx: &mut Tx, new: EnrolledWorker) -> Result<(), sqlx::Error> {
    let text =
        "INSERT INTO workers (id, orchestrator, name, x25519, ed25519, tags, capabilities, enrolled_at, draining,
                                     seen_at, seen)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    let args = args![
        new.id.as_bytes(),
        new.orchestrator.as_bytes(),
        new.name,
        new.keys.x25519.to_vec(),
        new.keys.ed25519.to_vec(),
        json(&new.tags),
        json(&new.capabilities),
        new.enrolled_at.micros(),
        i64::from(new.draining),
        Arg::MaybeInt(new.seen.at.map(Timestamp::micros)),
        json(&new.seen),
    ];
    tx.write(text, args).await.map(drop)
}

#[async_trait]
impl PoolStore for Sql {
    async fn add_code(&self, code: Code, now: Timestamp) -> Result<(), StoreError> {
        let orchestrator = match &code.admits {
            Admits::Pairing { .. } => None,
            Admits::Enrolment { orchestrator, .. } => Some(orchestrator.as_bytes().to_vec()),
        };
        let mut tx = self.db.begin().await.map_err(unavailable)?;
        let drop_old = "DELETE FROM codes WHERE expires_at <= $1";
        tx.write(drop_old, args![now.micros()]).await.map_err(unavailable)?;
        let insert = "INSERT INTO codes (hash, orchestrator, admits, expires_at) VALUES ($1, $2, $3, $4)
                      ON CONFLICT (hash) DO NOTHING";
        let args = args![
            code.hash.to_vec(),
            Arg::MaybeBlob(orchestrator),
            json(&code.admits),
            code.expires_at.micros(),
        ];
        tx.write(insert, args).await.map_err(unavailable)?;
        tx.commit().await.map_err(unavailable)
    }

    async fn code(&self, hash: [u8; 32]) -> Result<Option<Code>, StoreError> {
        let text = "SELECT hash, admits, expires_at FROM codes WHERE hash = $1";
        let row = self
            .db
            .read_one(text, args![hash.to_vec()])
            .await
            .map_err(unavailable)?;
        row.as_ref().map(code).transpose()
    }

    async fn pair(&self, code: [u8; 32], now: Timestamp, orchestrator: Orchestrator) -> Result<Enrolled, StoreError> {
        let mut tx = self.db.begin().await.map_err(unavailable)?;
        let use_up = "DELETE FROM codes WHERE hash = $1 AND orchestrator IS NULL AND expires_at > $2";
        let used = tx.write(use_up, args![code.to_vec(), now.micros()]).await;
        if used.map_err(unavailable)? == 0 {
            return Ok(Enrolled::Refused);
        }
        let id = orchestrator.id;
        insert_orchestrator(&mut tx, orchestrator)
            .await
            .map_err(refused("orchestrators", id))?;
        tx.commit().await.map_err(unavailable)?;
        Ok(Enrolled::Done)
    }

    async fn enrol(&self, code: [u8; 32], now: Timestamp, worker: EnrolledWorker) -> Result<Enrolled, StoreError> {
        // The orchestrator is locked first, as by its removal: a worker is never added behind one that goes.
        let orchestrator = Text {
            sqlite: "SELECT id FROM orchestrators WHERE id = $1",
            postgres: "SELECT id FROM orchestrators WHERE id = $1 FOR KEY SHARE",
        };
        let of = worker.orchestrator.as_bytes();
        let mut tx = self.db.begin().await.map_err(unavailable)?;
        if tx.read(orchestrator, args![of]).await.map_err(unavailable)?.is_empty() {
            return Ok(Enrolled::Refused);
        }
        let use_up = "DELETE FROM codes WHERE hash = $1 AND orchestrator = $2 AND expires_at > $3";
        let used = tx.write(use_up, args![code.to_vec(), of, now.micros()]).await;
        if used.map_err(unavailable)? == 0 {
            return Ok(Enrolled::Refused);
        }
        let id = worker.id;
        insert_worker(&mut tx, worker).await.map_err(refused("workers", id))?;
        tx.commit().await.map_err(unavailable)?;
        Ok(Enrolled::Done)
    }

    async fn orchestrators(&self) -> Result<Vec<Orchestrator>, StoreError> {
        let text = "SELECT id, name, token, paired_at, seen_at FROM orchestrators ORDER BY id";
        let rows = self.db.read(text, args![]).await.map_err(unavailable)?;
        rows.iter().map(orchestrator).collect()
    }

    async fn enrolled_workers(&self) -> Result<Vec<EnrolledWorker>, StoreError> {
        let text = "SELECT id, orchestrator, name, x25519, ed25519, tags, capabilities, enrolled_at, draining, seen
                    FROM workers ORDER BY id";
        let rows = self.db.read(text, args![]).await.map_err(unavailable)?;
        rows.iter().map(worker).collect()
    }

    async fn set_draining(&self, worker: WorkerId, draining: bool) -> Result<bool, StoreError> {
        let text = "UPDATE workers SET draining = $2 WHERE id = $1";
        let args = args![worker.as_bytes(), i64::from(draining)];
        Ok(self.db.write(text, args).await.map_err(unavailable)? > 0)
    }

    async fn remove_worker(&self, worker: WorkerId) -> Result<bool, StoreError> {
        let text = "DELETE FROM workers WHERE id = $1";
        Ok(self
            .db
            .write(text, args![worker.as_bytes()])
            .await
            .map_err(unavailable)?
            > 0)
    }

    async fn remove_orchestrator(&self, id: OrchestratorId) -> Result<Option<Vec<WorkerId>>, StoreError> {
        let mut tx = self.db.begin().await.map_err(unavailable)?;
        let of = id.as_bytes();
        let gone = tx.write("DELETE FROM orchestrators WHERE id = $1", args![of]).await;
        if gone.map_err(unavailable)? == 0 {
            return Ok(None);
        }
        let codes = "DELETE FROM codes WHERE orchestrator = $1";
        tx.write(codes, args![of]).await.map_err(unavailable)?;
        let workers = "DELETE FROM workers WHERE orchestrator = $1 RETURNING id";
        let rows = tx.read(workers, args![of]).await.map_err(unavailable)?;
        let workers = rows.iter().map(|row| row.cells("workers").id(0, "id"));
        let mut workers: Vec<WorkerId> = workers.collect::<Result<_, StoreError>>()?;
        workers.sort_unstable();
        tx.commit().await.map_err(unavailable)?;
        Ok(Some(workers))
    }

    async fn note_seen(
        &self,
        orchestrators: Vec<(OrchestratorId, Timestamp)>,
        workers: Vec<(WorkerId, WorkerSeen)>,
    ) -> Result<(), StoreError> {
        let orchestrators = newest(orchestrators, |at| Some(*at));
        if !orchestrators.is_empty() {
            self.note_orchestrators(&orchestrators).await.map_err(unavailable)?;
        }
        let workers = newest(workers, |seen| seen.at);
        if !workers.is_empty() {
            self.note_workers(&workers).await.map_err(unavailable)?;
        }
        Ok(())
    }
}

/// The newest word of each, in id order: a statement must not meet a row twice.
fn newest<I: Ord, W>(words: Vec<(I, W)>, at: impl Fn(&W) -> Option<Timestamp>) -> BTreeMap<I, W> {
    let mut newest: BTreeMap<I, W> = BTreeMap::new();
    for (id, word) in words {
        if newest.get(&id).is_none_or(|known| at(known) <= at(&word)) {
            newest.insert(id, word);
        }
    }
    newest
}

impl Sql {
    async fn note_orchestrators(&self, seen: &BTreeMap<OrchestratorId, Timestamp>) -> Result<(), sqlx::Error> {
        let row = |(id, at): (&OrchestratorId, &Timestamp)| {
            let mut row = JsonRow::new(64);
            row.hex(id.as_bytes());
            row.int(at.micros());
            row.end()
        };
        let rows: Vec<String> = seen.iter().map(row).collect();
        let text = over_rows!(
            "UPDATE orchestrators SET seen_at = CAST(r.value ->> 1 AS BIGINT)",
            "WHERE orchestrators.id = unhex(r.value ->> 0)
               AND (seen_at IS NULL OR seen_at < CAST(r.value ->> 1 AS BIGINT))"
        );
        let args = args![json_rows(rows.iter().map(String::as_str))];
        self.db.write(text, args).await.map(drop)
    }

    async fn note_workers(&self, seen: &BTreeMap<WorkerId, WorkerSeen>) -> Result<(), sqlx::Error> {
        let row = |(id, seen): (&WorkerId, &WorkerSeen)| {
            let mut row = JsonRow::new(256);
            row.hex(id.as_bytes());
            row.maybe_int(seen.at.map(Timestamp::micros));
            row.text(&json(seen));
            row.end()
        };
        let rows: Vec<String> = seen.iter().map(row).collect();
        let text = over_rows!(
            "UPDATE workers SET seen_at = CAST(r.value ->> 1 AS BIGINT), seen = r.value ->> 2",
            "WHERE workers.id = unhex(r.value ->> 0)
               AND (seen_at IS NULL OR seen_at <= CAST(r.value ->> 1 AS BIGINT))"
        );
        let args = args![json_rows(rows.iter().map(String::as_str))];
        self.db.write(text, args).await.map(drop)
    }
}
