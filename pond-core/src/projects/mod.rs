//! Projects: the tenants.

mod record;
mod store;

pub use record::{Project, Slug};
pub use store::{ProjectDeleted, ProjectStore};
