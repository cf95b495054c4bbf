//! Pond's HTTP server, over the same library that other programs embed.
//!
//! [`app`] turns an engine into an axum router, [`serve`] answers on a listener until it is told to stop. Nothing here
//! reads the environment or installs anything global: the two programs do that.
//!
//! To add an endpoint: one function and one line in `routes/mod.rs`; access, strict query and the OpenAPI document follow
//! from that line. To add an error meaning: one variant, and the table in `error.rs` asks for its status.

mod auth;
#[cfg(feature = "demo")]
pub mod demo;
mod error;
mod extract;
pub mod home;
mod hosts;
pub mod key_command;
mod launch;
mod metrics;
mod openapi;
mod peer;
pub mod program;
mod routes;
mod serve;
pub mod settings;
mod state;
mod telemetry;

pub use hosts::HostRule;
pub use peer::TrustedProxies;
pub use routes::app;
pub use serve::serve;
pub use state::{AppSettings, AppState};
