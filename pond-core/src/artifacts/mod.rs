//! Artifacts: files that a run leaves.

mod blob;
mod name;
mod record;

pub use blob::{BlobError, BlobStore, ByteStream};
pub use name::{ArtifactName, BadName, content_type};
pub use record::Artifact;
