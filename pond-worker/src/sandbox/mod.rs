//! Sandbox backends. Each is one file; what they share is everything but the way of confining.
//!
//! A start goes: a launcher (the embedded init) waits in control groups of its own (`launch`, `launched`); it is told the
//! job's uid and what to become (`bubblewrap`, `none`), and inside, the init answers on the very stream it was started with.
//! Or an engine makes a container (`docker`), and its init comes in by a socket. From there on all is one: the control is
//! spoken to (`init`), what lives is `live`, and what has to be ended some time is `remains`. What is on disk about it is a
//! `record`, by which a later life of the worker ends what this one left.
//!
//! To add a backend: one file that implements [`Sandbox`], and one line in [`KINDS`] and [`open`].

mod bridges;
mod bubblewrap;
mod docker;
mod guest;
mod host;
mod init;
mod launch;
mod launched;
mod limits;
mod live;
mod none;
mod ownership;
mod probe;
mod program;
mod record;
mod remains;
mod seccomp;
mod uid;

use std::sync::Arc;

use pond_core::sandbox::{BackendKind, Sandbox};

pub use bubblewrap::{Bubblewrap, BubblewrapSettings};
pub use docker::{Docker, DockerSettings};
pub use host::{Host, HostSettings};
pub use limits::Means;
pub use none::NoSandbox;
pub use uid::{UidLease, UidPool};

/// The backends there are, in the order in which they are preferred.
pub const KINDS: [BackendKind; 3] = [BackendKind::Bubblewrap, BackendKind::Docker, BackendKind::None];

/// How each backend is used.
#[derive(Debug, Clone, Default)]
pub struct BackendSettings {
    /// By `bwrap`.
    pub bubblewrap: BubblewrapSettings,
    /// By Docker Engine.
    pub docker: DockerSettings,
}

/// Opens a backend on a host.
pub fn open(kind: BackendKind, host: &Arc<Host>, settings: &BackendSettings) -> Arc<dyn Sandbox> {
    let host = Arc::clone(host);
    match kind {
        BackendKind::None => Arc::new(NoSandbox::new(host)),
        BackendKind::Bubblewrap => Arc::new(Bubblewrap::new(host, settings.bubblewrap.clone())),
        BackendKind::Docker => Arc::new(Docker::new(host, settings.docker.clone())),
    }
}
