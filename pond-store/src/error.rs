//! From what storage says to what the port says.

use std::fmt::Display;

use pond_core::store::StoreError;

#[derive(Debug, thiserror::Error)]
#[error("the store is closed")]
struct Closed;

/// The store was closed.
pub(crate) fn closed() -> StoreError {
    StoreError::Unavailable(Box::new(Closed))
}

/// A stored value makes no sense.
pub(crate) fn corrupt(table: &'static str, column: &'static str, id: &dyn Display) -> StoreError {
    StoreError::Corrupt {
        table,
        column,
        id: id.to_string(),
    }
}

/// The database did not answer as it should.
pub(crate) fn unavailable(error: sqlx::Error) -> StoreError {
    StoreError::Unavailable(Box::new(error))
}
