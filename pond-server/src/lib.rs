//! Pond's HTTP server, over the same library that other programs embed.

#[cfg(feature = "demo")]
pub mod demo;
