//! The engine: the loops that make runs go on. Each is one file.
//!
//! `ledger` is the one way to change a run; `driver` follows one live run to its end; `keeper` keeps the engine's
//! own word alive, adopts runs that lost theirs, and takes back jobs whose lease ended; `retain` deletes what was kept long
//! enough; `hear` passes the store's hints on to
//! those who wait in `watch`.

mod advance;
mod areas;
mod draft;
mod driver;
mod fetch;
mod hear;
mod keeper;
mod ledger;
mod left;
mod limits;
mod parts;
mod placing;
mod prompt;
mod report;
mod retain;
mod settings;
mod tasks;
mod watch;

pub(crate) use advance::{cancel_live_jobs, end, parsed, settle, take_back};
pub(crate) use draft::Draft;
use driver::open_bundle;
pub(crate) use driver::{blob_key, drive};
pub(crate) use fetch::{bundle_key, stored_sources};
pub(crate) use hear::hear;
pub(crate) use keeper::{adopt, keep, reclaim_or_tell};
pub(crate) use ledger::{Ledger, Loaded, load, stale_claim};
pub(crate) use limits::Limits;
pub(crate) use parts::{Parts, ServerKeys, Word};
pub(crate) use prompt::prompt;
pub(crate) use retain::retain;
pub use settings::{EngineSettings, Takeover};
pub(crate) use tasks::Tasks;
pub(crate) use watch::{RunWatch, Watches};
