//! The hot statements: those of every run. Each has a text per dialect, side by side. SQLite opens one JSON parameter;
//! Postgres takes a typed array per column, and writes the segments in the same statement.

use pond_core::clock::Timestamp;
use pond_core::id::RunId;
use sqlx::postgres::PgArguments;
use sqlx::{Arguments, Executor};
use uuid::Uuid;

use super::db::{Tx, args};
use super::item::{Body, ChangeItem, CreateItem, JsonRow, Ready, RunRow, UpdateRow, json_rows, status_code};
use super::row::Row;

/// A run as a change left it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Changed {
    pub(crate) run: RunId,
    pub(crate) revision: i64,
    pub(crate) next_event: i64,
    pub(crate) log_bytes: i64,
}

mod sqlite {
    pub(super) const CREATE: &str = "
        INSERT INTO runs (id, project, trigger, definition, created_at, owner, revision, next_event, log_bytes,
                          status, started_at, finished_at, cancel_at, state)
        SELECT unhex(value ->> 0), unhex(value ->> 1), value ->> 2, unhex(value ->> 3), value ->> 4,
               unhex(value ->> 5), 1, value ->> 6, value ->> 7,
               value ->> 8, value ->> 9, value ->> 10, value ->> 11, value ->> 12
        FROM json_each($1)";

    // The parameter is the outer loop, so each run is one look-up by key.
    pub(super) const COMMIT: &str = "
        UPDATE runs
        SET revision = revision + 1, owner = unhex(c.value ->> 2),
            next_event = next_event + (c.value ->> 3), log_bytes = log_bytes + (c.value ->> 4),
            status = c.value ->> 5, started_at = c.value ->> 6, finished_at = c.value ->> 7,
            cancel_at = c.value ->> 8, state = c.value ->> 9
        FROM json_each($1) AS c
        WHERE runs.id = unhex(c.value ->> 0) AND runs.revision = c.value ->> 1
        RETURNING id, revision, next_event, log_bytes";

    pub(super) const APPEND: &str = "
        UPDATE runs
        SET next_event = next_event + (c.value ->> 1), log_bytes = log_bytes + (c.value ->> 2)
        FROM json_each($1) AS c
        WHERE runs.id = unhex(c.value ->> 0)
        RETURNING id, revision, next_event, log_bytes";

    pub(super) const SEGMENTS: &str = "
        INSERT INTO segments (run_id, first_event, last_event, body)
        SELECT unhex(value ->> 0), value ->> 1, value ->> 2, unhex(value ->> 3)
        FROM json_each($1)";
}

mod postgres {
    pub(super) const CREATE: &str = "
        WITH new AS (
            SELECT * FROM UNNEST($1::bytea[], $2::bytea[], $3::text[], $4::bytea[], $5::bigint[], $6::bytea[],
                                 $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[],
                                 $12::bigint[], $13::text[], $14::bytea[])
                AS new (id, project, trigger, definition, created_at, owner, next_event, log_bytes,
                        status, started_at, finished_at, cancel_at, state, body)
        ), events AS (
            INSERT INTO segments (run_id, first_event, last_event, body)
            SELECT id, 1, next_event - 1, body FROM new WHERE body IS NOT NULL
        )
        INSERT INTO runs (id, project, trigger, definition, created_at, owner, revision, next_event, log_bytes,
                          status, started_at, finished_at, cancel_at, state)
        SELECT id, project, trigger, definition, created_at, owner, 1, next_event, log_bytes,
               status, started_at, finished_at, cancel_at, state
        FROM new";

    // Parameters come in id order and the look-ups are a nested loop over them, so rows are locked in that order.
    pub(super) const COMMIT: &str = "
        WITH changed AS (
            UPDATE runs
            SET revision = runs.revision + 1, owner = c.owner,
                next_event = runs.next_event + c.events, log_bytes = runs.log_bytes + c.log_bytes,
                status = c.status, started_at = c.started_at, finished_at = c.finished_at,
                cancel_at = c.cancel_at, state = c.state
            FROM UNNEST($1::bytea[], $2::bigint[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bigint[],
                        $7::bigint[], $8::bigint[], $9::bigint[], $10::text[], $11::bytea[])
                AS c (id, expected, owner, events, log_bytes, status, started_at, finished_at, cancel_at, state, body)
            WHERE runs.id = c.id AND runs.revision = c.expected
            RETURNING runs.id, runs.revision, runs.next_event, runs.log_bytes, c.events, c.body
        ), events AS (
            INSERT INTO segments (run_id, first_event, last_event, body)
            SELECT id, next_event - events, next_event - 1, body FROM changed WHERE body IS NOT NULL
        )
        SELECT id, revision, next_event, log_bytes FROM changed";

    pub(super) const APPEND: &str = "
        WITH changed AS (
            UPDATE runs
            SET next_event = runs.next_event + c.events, log_bytes = runs.log_bytes + c.log_bytes
            FROM UNNEST($1::bytea[], $2::bigint[], $3::bigint[], $4::bytea[]) AS c (id, events, log_bytes, body)
            WHERE runs.id = c.id
            RETURNING runs.id, runs.revision, runs.next_event, runs.log_bytes, c.events, c.body
        ), events AS (
            INSERT INTO segments (run_id, first_event, last_event, body)
            SELECT id, next_event - events, next_event - 1, body FROM changed WHERE body IS NOT NULL
        )
        SELECT id, revision, next_event, log_bytes FROM changed";
}

/// Writes new runs, and on Postgres their segments.
pub(crate) async fn create(tx: &mut Tx, items: &[&CreateItem]) -> Result<(), sqlx::Error> {
    match tx {
        Tx::Sqlite(_) => {
            let rows = items.iter().filter_map(|item| item.row.as_json());
            tx.write(sqlite::CREATE, args![json_rows(rows)]).await?;
        }
        Tx::Postgres(tx) => {
            tx.execute(sqlx::query_with(postgres::CREATE, create_args(items)?))
                .await?;
        }
    }
    Ok(())
}

/// Changes the state of runs whose revision is as expected, and gives those.
pub(crate) async fn commit(tx: &mut Tx, items: &[&ChangeItem]) -> Result<Vec<Changed>, sqlx::Error> {
    let rows = match tx {
        Tx::Sqlite(_) => {
            let rows = items.iter().filter_map(|item| item.update.as_ref()?.as_json());
            tx.read(sqlite::COMMIT, args![json_rows(rows)]).await?
        }
        Tx::Postgres(tx) => fetch(tx, postgres::COMMIT, commit_args(items)?).await?,
    };
    rows.iter().map(changed).collect()
}

/// Counts the events of runs on, and gives those that are there.
pub(crate) async fn append(tx: &mut Tx, items: &[&ChangeItem]) -> Result<Vec<Changed>, sqlx::Error> {
    let rows = match tx {
        Tx::Sqlite(_) => {
            let row = |item: &&ChangeItem| {
                let mut row = JsonRow::new(80);
                row.hex(item.run.as_bytes());
                row.int(item.events);
                row.int(item.log_bytes);
                row.end()
            };
            let rows: Vec<String> = items.iter().map(row).collect();
            tx.read(sqlite::APPEND, args![json_rows(rows.iter().map(String::as_str))])
                .await?
        }
        Tx::Postgres(tx) => fetch(tx, postgres::APPEND, append_args(items)?).await?,
    };
    rows.iter().map(changed).collect()
}

/// Writes segments: run, number of the first event, how many, body. On Postgres the statements above have done so.
pub(crate) async fn segments(tx: &mut Tx, segments: &[(RunId, i64, i64, &Body)]) -> Result<(), sqlx::Error> {
    if segments.is_empty() || matches!(tx, Tx::Postgres(_)) {
        return Ok(());
    }
    let row = |(run, first, count, body): &(RunId, i64, i64, &Body)| {
        let mut row = JsonRow::new(128);
        row.hex(run.as_bytes());
        row.int(*first);
        row.int(first + count - 1);
        match body {
            Body::Hex(hex) => row.raw_hex(hex),
            Body::Bytes(bytes) => row.hex(bytes),
        }
        row.end()
    };
    let rows: Vec<String> = segments.iter().map(row).collect();
    tx.write(sqlite::SEGMENTS, args![json_rows(rows.iter().map(String::as_str))])
        .await?;
    Ok(())
}

async fn fetch(
    tx: &mut sqlx::Transaction<'static, sqlx::Postgres>,
    text: &'static str,
    args: PgArguments,
) -> Result<Vec<Row>, sqlx::Error> {
    let rows = tx.fetch_all(sqlx::query_with(text, args)).await?;
    Ok(rows.into_iter().map(Row::Postgres).collect())
}

fn changed(row: &Row) -> Result<Changed, sqlx::Error> {
    let cells = row.cells("runs");
    let read = || {
        Ok(Changed {
            run: cells.id(0, "id")?,
            revision: cells.int(1, "revision")?,
            next_event: cells.int(2, "next_event")?,
            log_bytes: cells.int(3, "log_bytes")?,
        })
    };
    read().map_err(|error: pond_core::store::StoreError| sqlx::Error::Decode(Box::new(error)))
}

impl<R> Ready<R> {
    fn as_json(&self) -> Option<&str> {
        match self {
            Self::Json(json) => Some(json),
            Self::Row(_) => None,
        }
    }

    fn as_row(&self) -> Option<&R> {
        match self {
            Self::Json(_) => None,
            Self::Row(row) => Some(row),
        }
    }
}

impl Body {
    fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Hex(_) => None,
            Self::Bytes(bytes) => Some(bytes),
        }
    }
}

/// Adds one array per column.
macro_rules! columns {
    ($rows:expr; $($value:expr),+ $(,)?) => {{
        let mut list = PgArguments::default();
        $(list.add($rows.iter().map($value).collect::<Vec<_>>()).map_err(sqlx::Error::Encode)?;)+
        Ok(list)
    }};
}

fn id_bytes(id: Uuid) -> [u8; 16] {
    id.into_bytes()
}

type Column<'a, R> = (&'a R, Option<&'a [u8]>);

fn create_args(items: &[&CreateItem]) -> Result<PgArguments, sqlx::Error> {
    let rows: Vec<Column<'_, RunRow>> = items
        .iter()
        .filter_map(|item| Some((item.row.as_row()?, item.segment.as_ref().and_then(Body::as_bytes))))
        .collect();
    columns![rows;
        |(row, _)| id_bytes(row.id.uuid()),
        |(row, _)| id_bytes(row.project.uuid()),
        |(row, _)| &*row.trigger,
        |(row, _)| row.definition,
        |(row, _)| row.created_at,
        |(row, _)| id_bytes(row.owner.uuid()),
        |(row, _)| row.next_event,
        |(row, _)| row.log_bytes,
        |(row, _)| status_code(row.state.status),
        |(row, _)| row.state.started_at.map(Timestamp::micros),
        |(row, _)| row.state.finished_at.map(Timestamp::micros),
        |(row, _)| row.state.cancel_requested_at.map(Timestamp::micros),
        |(row, _)| row.state.rest.as_str(),
        |(_, body)| *body,
    ]
}

fn commit_args(items: &[&ChangeItem]) -> Result<PgArguments, sqlx::Error> {
    let mut rows: Vec<Column<'_, UpdateRow>> = items
        .iter()
        .filter_map(|item| {
            Some((
                item.update.as_ref()?.as_row()?,
                item.segment.as_ref().and_then(Body::as_bytes),
            ))
        })
        .collect();
    rows.sort_unstable_by_key(|(row, _)| row.id);
    columns![rows;
        |(row, _)| id_bytes(row.id.uuid()),
        |(row, _)| row.expected_revision,
        |(row, _)| id_bytes(row.owner.uuid()),
        |(row, _)| row.events,
        |(row, _)| row.log_bytes,
        |(row, _)| status_code(row.state.status),
        |(row, _)| row.state.started_at.map(Timestamp::micros),
        |(row, _)| row.state.finished_at.map(Timestamp::micros),
        |(row, _)| row.state.cancel_requested_at.map(Timestamp::micros),
        |(row, _)| row.state.rest.as_str(),
        |(_, body)| *body,
    ]
}

fn append_args(items: &[&ChangeItem]) -> Result<PgArguments, sqlx::Error> {
    let mut rows: Vec<&ChangeItem> = items.to_vec();
    rows.sort_unstable_by_key(|item| item.run);
    columns![rows;
        |item| id_bytes(item.run.uuid()),
        |item| item.events,
        |item| item.log_bytes,
        |item| item.segment.as_ref().and_then(Body::as_bytes),
    ]
}
