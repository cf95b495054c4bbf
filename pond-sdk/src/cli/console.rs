//! How verbs write: results to standard output, the rest to standard error, nothing dangerous to a terminal.

use std::io::{self, Write};

use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt};

use super::exit::Fault;
use super::io::Io;
use super::table::Table;
use super::terminal;
use crate::Secret;

/// The longest line that is read from standard input.
const MAX_LINE: u64 = 16 << 10;

/// The outside world and how to write to it.
pub(crate) struct Console {
    pub(crate) io: Io,
    json: bool,
}

impl Console {
    pub(crate) fn new(io: Io, json: bool) -> Self {
        Self { io, json }
    }

    /// Whether results are wanted in JSON.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// Writes one line of a result.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        let text = if self.io.terminals.stdout {
            terminal::line(text)
        } else {
            text.into()
        };
        writeln!(self.io.stdout, "{text}")?;
        self.io.stdout.flush()
    }

    /// Writes one line of a result exactly as it is.
    pub(crate) fn raw_line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.io.stdout, "{text}")?;
        self.io.stdout.flush()
    }

    /// Writes bytes of a result exactly as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.io.stdout.write_all(bytes)?;
        self.io.stdout.flush()
    }

    /// Writes a result as JSON in one line. JSON spells controls out, but not C1: those are spelled out for a terminal.
    pub(crate) fn result(&mut self, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(value)?;
        self.line(&text)
    }

    /// Writes a table.
    pub(crate) fn table(&mut self, table: &Table) -> io::Result<()> {
        let safe = self.io.terminals.stdout;
        for line in table.lines(|cell| {
            if safe {
                terminal::cell(cell).into_owned()
            } else {
                cell.to_owned()
            }
        }) {
            writeln!(self.io.stdout, "{line}")?;
        }
        self.io.stdout.flush()
    }

    /// Says something beside the result.
    pub(crate) fn note(&mut self, text: &str) -> io::Result<()> {
        let text = if self.io.terminals.stderr {
            terminal::line(text)
        } else {
            text.into()
        };
        writeln!(self.io.stderr, "{text}")?;
        self.io.stderr.flush()
    }

    /// Says something beside the result, as JSON in one line.
    pub(crate) fn note_json(&mut self, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(value)?;
        self.note(&text)
    }

    /// Says something beside the result, unless results are wanted in JSON.
    pub(crate) fn chat(&mut self, text: &str) -> io::Result<()> {
        if self.json { Ok(()) } else { self.note(text) }
    }

    /// Reads a secret: asked for at a terminal, else the next line of standard input.
    pub(crate) async fn secret(&mut self, name: &str) -> Result<Secret, Fault> {
        let secret = if self.io.terminals.stdin {
            let asked = self.io.prompt.ask(name);
            asked.map_err(|error| Fault::Usage(format!("cannot ask for {name}: {error}")))?
        } else {
            let mut line = String::new();
            let read = (&mut self.io.stdin).take(MAX_LINE).read_line(&mut line).await;
            // What was read is not repeated, and neither is the reader's error, which may quote it.
            read.map_err(|_| Fault::Usage(format!("cannot read {name} from standard input")))?;
            Secret::new(line.trim_end_matches(['\r', '\n']))
        };
        if secret.is_empty() {
            return Err(Fault::Usage(format!(
                "{name} is empty: give one line for each --secret on standard input"
            )));
        }
        Ok(secret)
    }

    /// Reads all of standard input, at most `limit` bytes.
    pub(crate) async fn stdin(&mut self, limit: u64) -> Result<Vec<u8>, Fault> {
        let mut bytes = Vec::new();
        let read = (&mut self.io.stdin).take(limit + 1).read_to_end(&mut bytes).await;
        read.map_err(|error| Fault::Usage(format!("cannot read standard input: {error}")))?;
        if bytes.len() as u64 > limit {
            return Err(Fault::Usage(format!("standard input is longer than {limit} bytes")));
        }
        Ok(bytes)
    }

    /// Looks a name up in the environment; an empty value counts as none.
    pub(crate) fn env(&self, name: &str) -> Option<String> {
        (self.io.env)(name).filter(|value| !value.is_empty())
    }
}
