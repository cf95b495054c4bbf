//! Sandbox backends. Each is one file; what they share is everything but the way of confining.
//!
//! A start goes: a launcher (the embedded init) waits in control groups of its own (`launch`); it is told the job's uid
//! and what to become (`bubblewrap`, `none`); inside, the init answers on the very stream it was started with
//! (`init`), and what then lives is `live`. What is on disk about it is a `record`, by which a later life of the
//! worker ends what this one left.
//!
//! To add a backend: one file that implements [`Sandbox`], and one line in [`KINDS`] and [`open`].

mod bubblewrap;
mod host;
mod init;
mod launch;
mod limits;
mod live;
mod none;
mod ownership;
mod probe;
mod program;
mod record;
mod seccomp;
mod uid;

use std::sync::Arc;

use pond_core::sandbox::{BackendKind, Sandbox, SandboxError};

pub use bubblewrap::{Bubblewrap, BubblewrapSettings};
pub use host::{Host, HostSettings};
pub use limits::Means;
pub use none::NoSandbox;
pub use uid::{UidLease, UidPool};

/// The backends there are, in the order in which they are preferred.
pub const KINDS: [BackendKind; 2] = [BackendKind::Bubblewrap, BackendKind::None];

/// Opens a backend on a host with its ordinary settings.
///
/// # Errors
/// When this build has no such backend.
pub fn open(kind: BackendKind, host: &Arc<Host>) -> Result<Arc<dyn Sandbox>, SandboxError> {
    match kind {
        BackendKind::None => Ok(Arc::new(NoSandbox::new(Arc::clone(host)))),
        BackendKind::Bubblewrap => Ok(Arc::new(Bubblewrap::new(
            Arc::clone(host),
            BubblewrapSettings::default(),
        ))),
        BackendKind::Docker => Err(SandboxError::Unsupported {
            reason: "this worker has no docker backend".into(),
            fix: "use bubblewrap".into(),
        }),
    }
}
