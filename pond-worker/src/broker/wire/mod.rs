//! The wires that providers speak: how a request on one is judged, and where its answer tells the usage.
//!
//! A [`Wire`] is pure; sockets, keys and clocks are elsewhere. One file per wire; each provider's [`Provider`](super::Provider)
//! value stands in the file of its wire.

pub mod anthropic;
mod array;
pub mod chat;
pub mod embeddings;
pub mod gemini;
mod inspect;
pub mod json;
mod meter;
pub mod openai;
pub mod responses;
pub mod sse;

pub(super) use inspect::require;

pub use json::{Edit, Json};
pub use meter::{Meter, Metered, Seen};

use pond_core::usage::Tokens;
use serde_json::Value;

use super::grant::Grant;
use super::refusal::Refusal;

/// What a judged request asks for, and how it is to be changed on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The model, as the grant names it.
    pub model: String,
    /// Changes to the body.
    pub edits: Vec<Edit>,
    /// Whether the answer's extra usage event was not asked for by the client, and is to be left out.
    pub hide_usage: bool,
}

/// One wire format.
pub trait Wire: Send + Sync {
    /// Its name.
    fn name(&self) -> &'static str;

    /// Judges a request body against the grant. `model` is the one that the path names, on a wire where it does.
    ///
    /// # Errors
    /// What is not allowed, with what to do about it.
    fn judge(&self, model: Option<&str>, body: &Json<'_>, grant: &Grant) -> Result<Asked, Refusal>;

    /// The usage in an answer that came whole.
    fn whole(&self, answer: &[u8]) -> Option<Tokens>;

    /// Takes note of one event of a streamed answer.
    fn event(&self, data: &[u8], seen: &mut Seen);

    /// Whether what it answers is billed too, so that an answer cut off has output to be estimated.
    fn bills_output(&self) -> bool;

    /// Whether this event holds usage alone, so that it may be hidden from a client that did not ask for it.
    fn is_usage_alone(&self, data: &[u8]) -> bool;

    /// Whether an answer that is no stream of events is a JSON array whose elements are the events.
    fn streams_array(&self) -> bool;

    /// What tells a client in mid-stream that no more comes: the event's name, where events have one, and its data.
    fn error_event(&self, refusal: &Refusal) -> (Option<&'static str>, Value);
}
