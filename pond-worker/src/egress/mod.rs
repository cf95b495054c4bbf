//! The egress proxy: the one way from a confined job to the network, beside its model broker.
//!
//! One proxy per job listens on a Unix socket and dies with its handle. It speaks `CONNECT` and absolute-form HTTP and nothing
//! else. A host is read by the one parser and judged by the job's [`EgressPolicy`](pond_core::egress::EgressPolicy) before it
//! is looked up; then the one dialer resolves it, judges every address and dials a judged one. A tunnel to 443 must begin with
//! a ClientHello for the host that was asked for. Every decision is told on a queue, which holds the job up when it is full
//! and loses nothing.
//!
//! Hosts that carry secrets are handed to an [`Intercept`], which opens their TLS.

mod body;
mod ca;
mod client;
mod connection;
mod defaults;
mod forward;
mod head;
mod hello;
mod intercept;
mod judge;
mod opened;
mod record;
mod sealing;
mod secrets;
mod serve;
mod swap;
mod traffic;
mod trust;
mod tunnel;

pub use ca::{CaError, SandboxCa};
pub use defaults::{BadDefaults, EgressDefaults};
pub use intercept::{BoxedIo, Intercept, Io, Teller, Tunnel};
pub use opened::Opener;
pub use sealing::{Sealer, Sealing, SealingError};
pub use secrets::{SealedSecret, SealedSecrets};
pub use serve::{Parts, Proxy, ProxyHandle};
pub use trust::{AUTHORITY, BUNDLE, Laid, Trust, in_an_image, on_the_host, variables};
