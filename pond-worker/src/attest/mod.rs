//! The attack battery as a command: `worker attest` tries on this very host whether its sandboxes hold.
//!
//! A hostile guest (`intruder/`) tries each case (`cases`) twice: without a sandbox, where it must succeed, and in every
//! backend's sandbox, started as a job's is, with a real broker and egress proxy before it. Both happen in a closed world: a
//! network namespace whose one interface is `lo`, on which every address leads back to this host, so that nothing leaves the
//! machine and everything that is sent is heard. Judged (`judge`) is what was heard, read, written and killed on the host's
//! side, not what the guest says; its own word counts for its own system calls alone.
//!
//! `outer` makes the world and starts this program in it a second time (`inside`), as root's worker and as a user's.

pub mod cases;
mod ear;
mod inside;
mod jobs;
mod judge;
mod outer;
mod report;
mod town;

pub use inside::within;
pub use outer::{Order, Unable, attest};
pub use report::{Finding, NotShown, Privilege, Report};
