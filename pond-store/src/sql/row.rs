//! Reading rows: each cell by place, and what makes no sense becomes `Corrupt` with table, column and row.

use pond_core::clock::Timestamp;
use pond_core::store::StoreError;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, ValueRef};
use uuid::Uuid;

use crate::error::corrupt;

/// A row of either database.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

/// The cells of a row of `table`; the first one names the row in errors.
pub(crate) struct Cells<'r> {
    row: &'r Row,
    table: &'static str,
}

impl Row {
    /// Its cells, as of `table`.
    pub(crate) fn cells(&self, table: &'static str) -> Cells<'_> {
        Cells { row: self, table }
    }
}

macro_rules! cell {
    ($(#[$doc:meta])* $name:ident: $kind:ty) => {
        $(#[$doc])*
        pub(crate) fn $name(&self, place: usize, column: &'static str) -> Result<$kind, StoreError> {
            match self.row {
                Row::Sqlite(row) => row.try_get(place),
                Row::Postgres(row) => row.try_get(place),
            }
            .map_err(|_| self.corrupt(column))
        }
    };
}

impl Cells<'_> {
    cell! {
        /// A number.
        int: i64
    }
    cell! {
        /// A number or none.
        maybe_int: Option<i64>
    }
    cell! {
        /// A text.
        text: String
    }
    cell! {
        /// Bytes.
        bytes: Vec<u8>
    }
    cell! {
        /// Bytes or none.
        maybe_bytes: Option<Vec<u8>>
    }
    cell! {
        /// A text or none.
        maybe_text: Option<String>
    }

    /// A count.
    pub(crate) fn count<N: TryFrom<i64>>(&self, place: usize, column: &'static str) -> Result<N, StoreError> {
        N::try_from(self.int(place, column)?).map_err(|_| self.corrupt(column))
    }

    /// A time.
    pub(crate) fn time(&self, place: usize, column: &'static str) -> Result<Timestamp, StoreError> {
        self.int(place, column).map(Timestamp::from_micros)
    }

    /// A time or none.
    pub(crate) fn maybe_time(&self, place: usize, column: &'static str) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.maybe_int(place, column)?.map(Timestamp::from_micros))
    }

    /// Bytes of a fixed length.
    pub(crate) fn array<const N: usize>(&self, place: usize, column: &'static str) -> Result<[u8; N], StoreError> {
        self.bytes(place, column)?.try_into().map_err(|_| self.corrupt(column))
    }

    /// An id.
    pub(crate) fn id<I: From<Uuid>>(&self, place: usize, column: &'static str) -> Result<I, StoreError> {
        self.array(place, column).map(|bytes| Uuid::from_bytes(bytes).into())
    }

    /// The error that says that a column of this row makes no sense.
    pub(crate) fn corrupt(&self, column: &'static str) -> StoreError {
        corrupt(self.table, column, &self.name())
    }

    fn name(&self) -> String {
        let raw = match self.row {
            Row::Sqlite(row) => row
                .try_get_raw(0)
                .ok()
                .filter(|v| !v.is_null())
                .and_then(|_| row.try_get_unchecked::<Vec<u8>, _>(0).ok()),
            Row::Postgres(row) => row
                .try_get_raw(0)
                .ok()
                .filter(|v| !v.is_null())
                .and_then(|_| row.try_get_unchecked::<Vec<u8>, _>(0).ok()),
        };
        raw.map_or_else(|| "?".into(), hex::encode)
    }
}
