//! The store port.

/// Why a store could not answer. A refused fact is an outcome of its method and never one of these.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database does not answer now; the same call may go through later.
    #[error("the store is not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A stored value makes no sense.
    #[error("corrupt value in {table}.{column} of {id}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row.
        id: String,
    },
}
