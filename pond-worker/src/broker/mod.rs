//! The model broker: the one way from a job to its model provider.
//!
//! One broker per job listens on a Unix socket and dies with its handle. The agent holds a dummy key; the broker drops
//! whatever authentication the agent sends, puts the real key, and dials the upstream that the credential names, whatever
//! the request says. Requests are checked per wire ([`wire`]) against the grant: paths, models, and what would make the
//! provider itself fetch, run or keep something. Answers pass unbuffered; usage is read from them on the way.
//!
//! To add a provider: one file in [`wire`] with its [`Provider`] and one line in [`PROVIDERS`].

mod call;
mod grant;
mod headers;
mod provider;
mod proxy;
mod purse;
mod refusal;
mod relay;
mod serve;
mod upstream;
pub mod wire;

pub use call::{Exceeded, ModelCall, Spend, Unlimited};
pub use grant::{Feature, Grant, GrantError};
pub use provider::{Auth, ClientBase, Found, PROVIDERS, Provider, Route, provider};
pub use purse::{Draws, Purse, Tally};
pub use refusal::Refusal;
pub use serve::{Broker, BrokerHandle, Parts};
pub use upstream::{Upstream, UpstreamError, dialled};
