//! Log lines of runs, and how secrets are kept out of them.

mod line;
mod names;
mod redact;

pub use line::{LogLine, LogSource, LogStream, MAX_LINE_BYTES, split_lines};
pub use names::SecretNames;
pub use redact::{Marks, Redacting, Redactor, without_names};
