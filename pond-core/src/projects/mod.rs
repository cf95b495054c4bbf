//! Projects: the tenants.

mod record;
mod service;
mod store;

pub use record::{Project, Slug};
pub use service::Projects;
pub use store::{ProjectDeleted, ProjectStore};
