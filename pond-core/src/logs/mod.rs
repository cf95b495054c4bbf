//! Log lines of runs, and how secrets are kept out of them.

mod line;
mod mark;
mod redact;

pub use line::{LogLine, LogSource, LogStream, MAX_LINE_BYTES, split_lines};
pub use mark::without_names;
pub use redact::{Redacting, Redactor};
