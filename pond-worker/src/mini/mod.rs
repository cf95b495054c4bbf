//! `mini`, Pond's own small agent: model call, tools, results, and again, until the model answers in words.
//!
//! The loop runs in the worker; its model calls go to the job's broker, its tools act inside the sandbox and nowhere else.

mod call;
mod run;
mod tools;
mod wire;

pub use run::{LogSink, Mini, MiniEnd, MiniError, MiniLimits};
pub use tools::{Tool, UnknownTool};
pub use wire::MiniWire;
