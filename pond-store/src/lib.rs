//! Pond's stores: the `Store` port on memory, SQLite and PostgreSQL, and the `BlobStore` port on object_store.

mod error;
mod fact;
mod front;
mod hints;
mod line;
mod memory;
mod open;
mod postgres;
mod sql;
mod sqlite;
#[cfg(feature = "testing")]
pub mod testing;

pub use open::{OpenError, StoreUrl, memory, open};
