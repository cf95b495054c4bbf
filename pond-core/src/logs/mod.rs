//! Log lines of runs, and how secrets are kept out of them.

mod line;
mod redact;

pub use line::{LogLine, LogSource, LogStream, MAX_LINE_BYTES, split_lines};
pub use redact::{Marks, Redacting, Redactor, without_names};
