//! Sources: what a run works on. Their records, the port that fetches them, and the tree formats: a written tree that cannot
//! be left, and the bundle that carries it to workers. Nothing here dials; fetching lives in `pond-worker`'s `net`.
//!
//! A fetched tree holds regular files (executable or not), folders and symbolic links that stay in it. Anything named
//! `.git` is left out: the commit is recorded beside the tree, and a repository's own settings must never be found by the
//! git that later runs in a checkout.

mod archive;
mod bundle;
mod bundle_seal;
mod compressed;
mod fetch;
mod fields;
mod key;
mod links;
mod record;
mod tree;

pub use archive::{BundleFile, extract, for_each_file};
pub use bundle::{digest, write_bundle};
pub use bundle_seal::{BundleDoesNotOpen, BundleKey};
pub use compressed::extract_compressed;
pub use fetch::{Caps, FolderScope, Resolved, SourceError, SourceFetch};
pub use key::{GitKey, KeyRefused, S3Key, SourceKey, fits};
pub(crate) use record::BUCKET;
pub use record::{Folder, Git, GitRef, Kind, MAX_SOURCES, S3, Source, Tarball, is_bucket, parse};
pub use tree::{Excess, FileMode, Limits, Stats, TreeError, TreeWriter};
