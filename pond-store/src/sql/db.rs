//! The two databases behind one small face: statements whose text is the same in both, or stands here side by side.

use sqlx::postgres::{PgArguments, PgPool};
use sqlx::sqlite::{SqliteArguments, SqlitePool};
use sqlx::{Arguments, Executor, Postgres, Sqlite, Transaction};

use super::row::Row;

/// A database.
#[derive(Debug)]
pub(crate) enum Db {
    /// One file: a single writer, and readers that cannot write.
    Sqlite { writer: SqlitePool, readers: SqlitePool },
    /// A server.
    Postgres(PgPool),
}

/// A transaction that writes; it rolls back when dropped.
pub(crate) enum Tx {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

/// A statement, in both dialects.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text {
    pub(crate) sqlite: &'static str,
    pub(crate) postgres: &'static str,
}

impl From<&'static str> for Text {
    fn from(both: &'static str) -> Self {
        Self {
            sqlite: both,
            postgres: both,
        }
    }
}

/// A statement over the rows of one JSON parameter, an array: `$head FROM the rows, r.value each, $tail`.
macro_rules! over_rows {
    ($head:literal, $tail:literal) => {
        $crate::sql::db::Text {
            sqlite: concat!($head, " FROM json_each($1) AS r ", $tail),
            postgres: concat!($head, " FROM json_array_elements($1::json) AS r(value) ", $tail),
        }
    };
}
pub(crate) use over_rows;

/// A parameter.
#[derive(Debug, Clone)]
pub(crate) enum Arg {
    Int(i64),
    MaybeInt(Option<i64>),
    Text(String),
    MaybeText(Option<String>),
    Blob(Vec<u8>),
    MaybeBlob(Option<Vec<u8>>),
    /// Ids: a JSON array of hex on SQLite, `bytea[]` on Postgres.
    Ids(Vec<[u8; 16]>),
}

impl From<i64> for Arg {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<u32> for Arg {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

impl From<String> for Arg {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&str> for Arg {
    fn from(value: &str) -> Self {
        Self::Text(value.into())
    }
}

impl From<&[u8; 16]> for Arg {
    fn from(id: &[u8; 16]) -> Self {
        Self::Blob(id.to_vec())
    }
}

impl From<Vec<u8>> for Arg {
    fn from(value: Vec<u8>) -> Self {
        Self::Blob(value)
    }
}

/// A list of parameters.
macro_rules! args {
    ($($value:expr),* $(,)?) => { vec![$($crate::sql::db::Arg::from($value)),*] };
}
pub(crate) use args;

/// Ids as a JSON array of hex.
pub(crate) fn ids_json(ids: &[[u8; 16]]) -> String {
    let mut json = String::with_capacity(ids.len() * 35 + 2);
    json.push('[');
    for (index, id) in ids.iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        json.push('"');
        json.push_str(&hex::encode(id));
        json.push('"');
    }
    json.push(']');
    json
}

fn sqlite_args(args: Vec<Arg>) -> Result<SqliteArguments, sqlx::Error> {
    let mut list = SqliteArguments::default();
    for arg in args {
        match arg {
            Arg::Int(value) => list.add(value),
            Arg::MaybeInt(value) => list.add(value),
            Arg::Text(value) => list.add(value),
            Arg::MaybeText(value) => list.add(value),
            Arg::Blob(value) => list.add(value),
            Arg::MaybeBlob(value) => list.add(value),
            Arg::Ids(ids) => list.add(ids_json(&ids)),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(list)
}

fn postgres_args(args: Vec<Arg>) -> Result<PgArguments, sqlx::Error> {
    let mut list = PgArguments::default();
    for arg in args {
        match arg {
            Arg::Int(value) => list.add(value),
            Arg::MaybeInt(value) => list.add(value),
            Arg::Text(value) => list.add(value),
            Arg::MaybeText(value) => list.add(value),
            Arg::Blob(value) => list.add(value),
            Arg::MaybeBlob(value) => list.add(value),
            Arg::Ids(ids) => list.add(ids),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(list)
}

impl Db {
    /// Reads rows, outside any transaction.
    pub(crate) async fn read(&self, text: impl Into<Text>, args: Vec<Arg>) -> Result<Vec<Row>, sqlx::Error> {
        let text = text.into();
        match self {
            Self::Sqlite { readers, .. } => {
                let query = sqlx::query_with(text.sqlite, sqlite_args(args)?);
                Ok(readers.fetch_all(query).await?.into_iter().map(Row::Sqlite).collect())
            }
            Self::Postgres(pool) => {
                let query = sqlx::query_with(text.postgres, postgres_args(args)?);
                Ok(pool.fetch_all(query).await?.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// Reads a row, outside any transaction.
    pub(crate) async fn read_one(&self, text: impl Into<Text>, args: Vec<Arg>) -> Result<Option<Row>, sqlx::Error> {
        Ok(self.read(text, args).await?.into_iter().next())
    }

    /// Begins a transaction that writes. On SQLite there is one at a time.
    pub(crate) async fn begin(&self) -> Result<Tx, sqlx::Error> {
        match self {
            Self::Sqlite { writer, .. } => Ok(Tx::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?)),
            Self::Postgres(pool) => Ok(Tx::Postgres(pool.begin().await?)),
        }
    }

    /// Makes one write as a transaction of its own, and says how many rows it changed.
    pub(crate) async fn write(&self, text: impl Into<Text>, args: Vec<Arg>) -> Result<u64, sqlx::Error> {
        let text = text.into();
        match self {
            Self::Sqlite { writer, .. } => {
                let query = sqlx::query_with(text.sqlite, sqlite_args(args)?);
                Ok(writer.execute(query).await?.rows_affected())
            }
            Self::Postgres(pool) => {
                let query = sqlx::query_with(text.postgres, postgres_args(args)?);
                Ok(pool.execute(query).await?.rows_affected())
            }
        }
    }

    /// Closes all connections.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

impl Tx {
    /// Makes a write, and says how many rows it changed.
    pub(crate) async fn write(&mut self, text: impl Into<Text>, args: Vec<Arg>) -> Result<u64, sqlx::Error> {
        let text = text.into();
        match self {
            Self::Sqlite(tx) => {
                let query = sqlx::query_with(text.sqlite, sqlite_args(args)?);
                Ok(tx.execute(query).await?.rows_affected())
            }
            Self::Postgres(tx) => {
                let query = sqlx::query_with(text.postgres, postgres_args(args)?);
                Ok(tx.execute(query).await?.rows_affected())
            }
        }
    }

    /// Reads rows, or makes a write that gives some.
    pub(crate) async fn read(&mut self, text: impl Into<Text>, args: Vec<Arg>) -> Result<Vec<Row>, sqlx::Error> {
        let text = text.into();
        match self {
            Self::Sqlite(tx) => {
                let query = sqlx::query_with(text.sqlite, sqlite_args(args)?);
                Ok(tx.fetch_all(query).await?.into_iter().map(Row::Sqlite).collect())
            }
            Self::Postgres(tx) => {
                let query = sqlx::query_with(text.postgres, postgres_args(args)?);
                Ok(tx.fetch_all(query).await?.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// Makes it durable.
    pub(crate) async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(tx) => tx.commit().await,
            Self::Postgres(tx) => tx.commit().await,
        }
    }
}
