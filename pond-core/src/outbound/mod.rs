//! The one outbound rule, as a pure judgement: which addresses, hosts and URLs Pond may dial on somebody's behalf.
//!
//! Nothing here resolves or connects. The one dialer (`pond-worker`'s `net`) resolves a [`Host`], asks [`judge`] about
//! *every* address of the answer, and dials only an address that was judged. [`AllowPrivate`] is the operator's exact list
//! of exceptions; there is no other one.

mod address;
mod allow;
mod host;
mod pattern;
mod url;

pub use self::url::{BadUrl, MAX_URL, OutboundUrl};
pub use address::{Refused, judge};
pub use allow::{AllowPrivate, BadEntry, MAX_ENTRIES, Purpose};
pub use host::{BadHost, Host};
pub use pattern::{BadPattern, HostPattern, MAX_PATTERNS, WEB_PORTS};
