//! Reads the usage out of an answer while it passes.

use bytes::{Bytes, BytesMut};
use pond_core::usage::Tokens;

use super::Wire;
use super::array::Elements;
use super::sse::Sse;
use crate::broker::refusal::Refusal;

/// The longest whole answer that is kept to be read; a longer one passes and is estimated.
const MAX_WHOLE: usize = 32 << 20;
/// The longest event held back while it may be one to hide.
const MAX_HELD: usize = 1 << 20;
/// Bytes of text per token, where nothing better is known: the rule of thumb that the providers give for English. Base64
/// and other scripts have fewer bytes per token; an estimate is marked as one.
const BYTES_PER_TOKEN: u64 = 4;

/// What the events of a stream have told so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The counts so far.
    pub tokens: Tokens,
    /// The provider has told the input.
    pub knows_input: bool,
    /// The provider has told its last word on the usage.
    pub settled: bool,
    /// Bytes of text, reasoning and tool arguments in the answer so far.
    pub text: u64,
}

/// What a call used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metered {
    /// The counts.
    pub tokens: Tokens,
    /// Whether they are (partly) estimated.
    pub estimated: bool,
}

enum Framing {
    Whole(BytesMut),
    Events(Sse),
    /// An array whose elements are the events.
    Array(Elements),
    /// A whole answer too long to keep.
    Uncounted,
}

/// Follows one answer.
pub struct Meter {
    wire: &'static dyn Wire,
    framing: Framing,
    hide: Option<BytesMut>,
    /// Bytes of what was last passed up to the end of its last event; none when no event ended in it.
    boundary: Option<usize>,
    seen: Seen,
    asked: u64,
    answered: u64,
}

impl Meter {
    /// A meter for the answer to a request of this many bytes, until its head has come.
    pub fn new(wire: &'static dyn Wire, asked: usize) -> Self {
        let framing = Framing::Whole(BytesMut::new());
        Self {
            wire,
            framing,
            hide: None,
            boundary: None,
            seen: Seen::default(),
            asked: asked as u64,
            answered: 0,
        }
    }

    /// The answer is a stream of events. `hide_usage` leaves out the event that holds usage alone.
    pub fn expect_events(&mut self, hide_usage: bool) {
        self.framing = Framing::Events(Sse::default());
        self.hide = hide_usage.then(BytesMut::new);
    }

    /// The answer is no stream of events: it comes whole, or as an array on a wire that streams so.
    pub fn expect_json(&mut self) {
        if self.wire.streams_array() {
            self.framing = Framing::Array(Elements::default());
        }
    }

    /// Whether bytes may be left out, so that the answer's length is not that of the provider's.
    pub fn alters(&self) -> bool {
        self.hide.is_some()
    }

    /// Takes a chunk and gives what is to be passed on now: the chunk itself, unless something is hidden.
    pub fn pass(&mut self, chunk: Bytes) -> Bytes {
        self.answered += chunk.len() as u64;
        let (wire, seen, boundary) = (self.wire, &mut self.seen, &mut self.boundary);
        *boundary = None;
        let mut event = |data: &[u8], end: usize| {
            wire.event(data, seen);
            *boundary = Some(end);
        };
        match &mut self.framing {
            Framing::Uncounted => chunk,
            Framing::Whole(kept) if kept.len() + chunk.len() > MAX_WHOLE => {
                self.framing = Framing::Uncounted;
                chunk
            }
            Framing::Whole(kept) => {
                kept.extend_from_slice(&chunk);
                chunk
            }
            Framing::Events(sse) => match &mut self.hide {
                None => {
                    sse.feed(&chunk, event);
                    chunk
                }
                Some(held) => hide(wire, sse, held, chunk, &mut event),
            },
            Framing::Array(elements) => {
                elements.feed(&chunk, event);
                chunk
            }
        }
    }

    /// What the stream has told so far, while its last word on the usage is still to come: the input only where that was
    /// told, the output at least by the bytes of text. None of an answer whose usage comes at its end alone.
    pub fn so_far(&self) -> Option<Tokens> {
        let streams = matches!(self.framing, Framing::Events(_) | Framing::Array(_));
        if !streams || self.seen.settled {
            return None;
        }
        let mut tokens = self.seen.tokens;
        tokens.output = tokens.output.max(self.seen.text.div_ceil(BYTES_PER_TOKEN));
        Some(tokens)
    }

    /// How many bytes of what was last passed are up to the end of its last event; none when no event ended in it.
    pub fn boundary(&self) -> Option<usize> {
        self.boundary
    }

    /// What ends the stream behind an event, telling the client why. Empty where the answer is no stream.
    pub fn cut(&self, refusal: &Refusal) -> Bytes {
        let (name, data) = self.wire.error_event(refusal);
        match &self.framing {
            Framing::Events(_) => {
                let name = name.map(|name| format!("event: {name}\n")).unwrap_or_default();
                format!("{name}data: {data}\n\n").into()
            }
            Framing::Array(_) => format!(",\n{data}]").into(),
            Framing::Whole(_) | Framing::Uncounted => Bytes::new(),
        }
    }

    /// The provider has ended the answer: gives what was held back.
    pub fn end(&mut self) -> Bytes {
        let Framing::Events(sse) = &mut self.framing else {
            return Bytes::new();
        };
        let mut shown = true;
        sse.finish(|data| {
            self.wire.event(data, &mut self.seen);
            shown &= !self.wire.is_usage_alone(data);
        });
        match self.hide.as_mut() {
            Some(held) if shown => held.split().freeze(),
            _ => Bytes::new(),
        }
    }

    /// What the call used, as far as the answer told.
    pub fn read(&self) -> Metered {
        if let Framing::Whole(answer) = &self.framing
            && let Some(tokens) = self.wire.whole(answer)
        {
            return Metered {
                tokens,
                estimated: false,
            };
        }
        if self.seen.settled {
            return Metered {
                tokens: self.seen.tokens,
                estimated: false,
            };
        }
        let mut tokens = self.seen.tokens;
        if !self.seen.knows_input {
            tokens.input = self.asked.div_ceil(BYTES_PER_TOKEN);
        }
        if self.wire.bills_output() {
            let text = if matches!(self.framing, Framing::Events(_) | Framing::Array(_)) {
                self.seen.text
            } else {
                self.answered
            };
            tokens.output = tokens.output.max(text.div_ceil(BYTES_PER_TOKEN));
        }
        Metered {
            tokens,
            estimated: true,
        }
    }
}

/// Passes events, but for the one to hide. An event is passed when it is known to be another, which is at its end.
/// `on_event` gets the data of each event, and how many bytes of what passes are up to and with its end.
fn hide(
    wire: &dyn Wire,
    sse: &mut Sse,
    held: &mut BytesMut,
    chunk: Bytes,
    on_event: &mut impl FnMut(&[u8], usize),
) -> Bytes {
    let (mut out, mut from, mut hidden) = (BytesMut::new(), 0, false);
    let untouched = held.is_empty();
    sse.feed(&chunk, |data, end| {
        if wire.is_usage_alone(data) {
            hidden = true;
            held.clear();
        } else {
            out.extend_from_slice(held);
            held.clear();
            out.extend_from_slice(&chunk[from..end]);
        }
        on_event(data, out.len());
        from = end;
    });
    if untouched && !hidden && from == chunk.len() {
        return chunk;
    }
    held.extend_from_slice(&chunk[from..]);
    if held.len() > MAX_HELD {
        out.extend_from_slice(held);
        held.clear();
    }
    out.freeze()
}
