//! Scripts: what the model says, turn by turn.

use std::time::Duration;

use serde_json::Value;

/// A conversation's answers in order. The turn is found by how many answers the request already holds, so a repeated
/// request gets the same answer, and any number of conversations may go on at once. Past the end the last turn repeats.
#[derive(Debug, Clone)]
pub struct Script {
    /// The turns; at least one.
    pub turns: Vec<Turn>,
}

impl Script {
    /// A script of one answer.
    pub fn saying(text: &str) -> Self {
        Self {
            turns: vec![Turn::text(text)],
        }
    }

    pub(super) fn turn(&self, index: usize) -> (usize, &Turn) {
        let index = index.min(self.turns.len() - 1);
        (index, &self.turns[index])
    }
}

/// One answer.
#[derive(Debug, Clone, Default)]
pub struct Turn {
    /// What it says.
    pub text: String,
    /// The tools it calls.
    pub tools: Vec<ToolUse>,
    /// What it is billed with.
    pub counts: Counts,
    /// What goes wrong on the way.
    pub fault: Option<Fault>,
}

impl Turn {
    /// An answer in words.
    pub fn text(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            counts: Counts::default(),
            ..Self::default()
        }
    }

    /// An answer that calls one tool.
    pub fn tool(text: &str, name: &str, arguments: Value) -> Self {
        let tools = vec![ToolUse {
            name: name.to_owned(),
            arguments,
        }];
        Self {
            tools,
            ..Self::text(text)
        }
    }

    /// The same, billed with these counts.
    #[must_use]
    pub fn billed(self, counts: Counts) -> Self {
        Self { counts, ..self }
    }

    /// The same, with a fault.
    #[must_use]
    pub fn faulty(self, fault: Fault) -> Self {
        Self {
            fault: Some(fault),
            ..self
        }
    }
}

/// A tool call of the model.
#[derive(Debug, Clone)]
pub struct ToolUse {
    /// Name of the tool.
    pub name: String,
    /// Its arguments, an object.
    pub arguments: Value,
}

/// Tokens of one answer, four disjoint kinds. Each wire tells them in its own way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Input neither read from nor written to a cache.
    pub input: u64,
    /// Output.
    pub output: u64,
    /// Input read from the cache.
    pub cache_read: u64,
    /// Input written to the cache.
    pub cache_write: u64,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            input: 120,
            output: 35,
            cache_read: 0,
            cache_write: 0,
        }
    }
}

/// Something that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The first so many requests for this turn are refused with this status.
    Status {
        /// The HTTP status.
        status: u16,
        /// How many requests it strikes.
        times: usize,
    },
    /// The answer's head comes late.
    Delay(Duration),
    /// The connection breaks after so many events of a stream, or half-way through a whole answer.
    Cut {
        /// Events that still come.
        events: usize,
    },
    /// What comes is no JSON.
    Malformed,
    /// The text goes on for ever.
    Endless,
}
