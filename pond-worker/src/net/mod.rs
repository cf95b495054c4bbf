//! The one dialer of the whole system. Broker, sources, webhooks and dispatches all reach the outside through it, so the
//! outbound rule of [`pond_core::outbound`] holds for each of them: resolve, judge every address, dial a judged one.
//!
//! Nothing global is installed: the TLS provider is given explicitly and the resolver is the dialer's own.

mod client;
mod dialer;
mod fetcher;
mod folder;
mod follow;
mod git;
mod process;
mod resolve;
mod s3;
mod s3_http;
mod stream;
mod tarball;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod tls;

pub use client::{Body, BoxError, Connector, HttpClient, Protocols, SendError, client, empty_body, full_body};
pub use dialer::{CONNECT_TIMEOUT, DialError, Dialer, DialerSettings, MAX_ADDRESSES};
pub use fetcher::{Fetcher, FetcherSettings};
pub use folder::{FolderRefused, FolderRoot, copy_folder};
pub use git::{GIT_TIMEOUT, GitFetcher};
pub use resolve::{DnsResolver, LookupError, Resolve};
pub use stream::Stream;
pub use tls::{CaFileError, SetupError, read_ca_file};
