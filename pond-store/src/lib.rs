//! Pond's stores: the `Store` port on memory, SQLite and PostgreSQL, and the `BlobStore` port on object_store.

mod blob;
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
mod waiting;

pub use blob::{BucketError, S3Place, blobs_in_bucket, blobs_in_folder, blobs_in_memory};
pub use open::{OpenError, StoreUrl, memory, open};
