//! Log lines of runs.

mod line;

pub use line::{LogLine, LogSource, LogStream, MAX_LINE_BYTES, split_lines};
