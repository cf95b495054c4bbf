//! One store for both databases: records from rows, facts to set-based statements.
//!
//! Statements read the same in both dialects, but for the hot ones ([`hot`]) and those that lock; a pair of texts then
//! stands in one place.

mod audit;
mod batch;
mod budgets;
pub(crate) mod claims;
mod config;
pub(crate) mod db;
mod engines;
mod hot;
mod idempotency;
mod item;
mod jobs;
mod keys;
mod known;
mod lanes;
mod pool;
mod projects;
mod retention;
mod row;
mod runs;
mod segment;

use async_trait::async_trait;
use pond_core::store::StoreError;

use self::db::{Db, args};
use self::item::{Dialect, Item};
use self::known::Known;
use crate::error::unavailable;
use crate::fact::{Answer, Backend, Fact};

/// The store on a database.
#[derive(Debug)]
pub(crate) struct Sql {
    db: Db,
    dialect: Dialect,
    /// Definitions and needs that are in the database for certain, so that they need not be offered again.
    known_definitions: Known<32>,
    known_needs: Known<16>,
}

impl Sql {
    /// A store on an open database with the current schema.
    pub(crate) fn new(db: Db) -> Self {
        let dialect = match db {
            Db::Sqlite { .. } => Dialect::Sqlite,
            Db::Postgres(_) => Dialect::Postgres,
        };
        Self {
            db,
            dialect,
            known_definitions: Known::default(),
            known_needs: Known::default(),
        }
    }
}

#[async_trait]
impl Backend for Sql {
    type Item = Item;

    fn prepare(&self, fact: Fact) -> Item {
        self.dialect.prepare(fact)
    }

    fn weight(item: &Item) -> usize {
        item.weight()
    }

    async fn apply(&self, batch: Vec<Item>) -> Vec<Answer> {
        self.write_batch(&batch).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.db.read("SELECT 1", args![]).await.map(drop).map_err(unavailable)
    }

    async fn close(&self) {
        self.db.close().await;
    }
}
