//! One log line, and how bytes become lines.

use serde::{Deserialize, Serialize};

/// A longer line is split.
pub const MAX_LINE_BYTES: usize = 64 << 10;

/// Which stream a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LogStream {
    /// Standard output of a job.
    #[serde(rename = "o")]
    Stdout,
    /// Standard error of a job.
    #[serde(rename = "e")]
    Stderr,
    /// Pond itself.
    #[serde(rename = "s")]
    System,
}

impl LogStream {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Stdout, Self::Stderr, Self::System];

    /// The stream of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stream| stream.as_str() == name)
    }

    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::System => "system",
        }
    }
}

/// Who wrote a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LogSource {
    /// Preflight.
    #[serde(rename = "p")]
    Preflight,
    /// The fetch of the sources.
    #[serde(rename = "f")]
    Fetch,
    /// The engine.
    #[serde(rename = "e")]
    Engine,
    /// The agent or program of the stage.
    #[serde(rename = "a")]
    Agent,
    /// The egress proxy.
    #[serde(rename = "x")]
    Proxy,
    /// The model broker.
    #[serde(rename = "b")]
    Broker,
}

impl LogSource {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Preflight,
        Self::Fetch,
        Self::Engine,
        Self::Agent,
        Self::Proxy,
        Self::Broker,
    ];

    /// The source of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.as_str() == name)
    }

    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preflight => "preflight",
            Self::Fetch => "fetch",
            Self::Engine => "engine",
            Self::Agent => "agent",
            Self::Proxy => "proxy",
            Self::Broker => "broker",
        }
    }
}

/// A line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Key of the stage; none for lines of the run.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Key of the substage.
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    pub substage: Option<String>,
    /// Which stream.
    #[serde(rename = "r")]
    pub stream: LogStream,
    /// Who wrote it.
    #[serde(rename = "w")]
    pub source: LogSource,
    /// The text, without its line end.
    #[serde(rename = "x")]
    pub line: String,
}

impl LogLine {
    /// A line of Pond's own about the run or one of its stages.
    pub fn system(source: LogSource, stage: Option<&str>, line: impl Into<String>) -> Self {
        Self {
            stage: stage.map(Into::into),
            substage: None,
            stream: LogStream::System,
            source,
            line: line.into(),
        }
    }
}

/// Takes whole lines off the front of `buffer`: ends at `\n` (a `\r` before it is cut), splits what is longer than
/// [`MAX_LINE_BYTES`] at a character, and turns bad UTF-8 into U+FFFD. What has no end yet stays, unless `last`.
pub fn split_lines(buffer: &mut Vec<u8>, last: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let mut start = 0;
    loop {
        let rest = &buffer[start..];
        let (end, skip) = match rest.iter().take(MAX_LINE_BYTES + 1).position(|&b| b == b'\n') {
            Some(at) => (at, 1),
            None if rest.len() > MAX_LINE_BYTES => (char_boundary(rest, MAX_LINE_BYTES), 0),
            None if last && !rest.is_empty() => (rest.len(), 0),
            None => break,
        };
        let line = &rest[..end];
        let line = if skip == 1 {
            line.strip_suffix(b"\r").unwrap_or(line)
        } else {
            line
        };
        lines.push(String::from_utf8_lossy(line).into_owned());
        start += end + skip;
    }
    buffer.drain(..start);
    lines
}

/// The last place at or before `at` that does not cut a UTF-8 character, looking back over at most three bytes.
fn char_boundary(bytes: &[u8], at: usize) -> usize {
    (at.saturating_sub(3)..=at)
        .rev()
        .find(|&i| bytes[i] & 0b1100_0000 != 0b1000_0000)
        .unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split_all(bytes: &[u8], chunk: usize) -> Vec<String> {
        let (mut buffer, mut lines) = (Vec::new(), Vec::new());
        for part in bytes.chunks(chunk.max(1)) {
            buffer.extend_from_slice(part);
            lines.extend(split_lines(&mut buffer, false));
        }
        lines.extend(split_lines(&mut buffer, true));
        lines
    }

    #[test]
    fn c17_20_a_long_line_is_split_and_bad_utf8_is_replaced() {
        let long = "ä".repeat(1 << 19);
        let lines = split_all(long.as_bytes(), 8192);
        assert!(
            lines
                .iter()
                .all(|line| line.len() <= MAX_LINE_BYTES && !line.contains('\u{fffd}'))
        );
        assert_eq!(lines.concat(), long);
        assert_eq!(split_all(b"a\xffb\r\nc", 3), ["a\u{fffd}b", "c"]);
    }

    proptest! {
        #[test]
        fn chunking_changes_nothing(text in "[a-zä\n]{0,400}", chunk in 1usize..50) {
            let expected: Vec<&str> = text.split_inclusive('\n').map(|l| l.trim_end_matches('\n')).collect();
            prop_assert_eq!(split_all(text.as_bytes(), chunk), expected);
        }
    }
}
