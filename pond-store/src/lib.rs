//! Pond's stores: the `Store` port on memory, SQLite and PostgreSQL, and the `BlobStore` port on object_store.

mod error;
mod fact;
mod front;
mod hints;
mod line;
mod memory;

use std::sync::Arc;

use pond_core::store::SharedStore;

use crate::front::Front;
use crate::hints::Hints;
use crate::line::Line;
use crate::memory::Memory;

/// A fresh store in memory; it ends with the last reference to it.
pub fn memory() -> SharedStore {
    let backend = Arc::new(Memory::default());
    Arc::new(Front::new(backend.clone(), Line::direct(backend), Hints::new()))
}
