//! Log lines as they travel: chunks of a bounded size, numbered without a gap though the worker's own pieces may be larger.

use std::collections::HashMap;

use pond_core::clock::Timestamp;
use pond_core::logs::{LogSource, LogStream};

/// Bytes of the lines of one call; the whole body has 256 KiB at most.
const MAX: usize = 255 << 10;
/// What a line takes beside its text: time, brackets, commas.
const PER_LINE: usize = 24;

/// A line as it travels: Unix time in milliseconds, and its text.
pub(super) type Line = (i64, String);

/// Cuts lines into chunks of whole lines. A line that is too long alone, which takes a great many control characters, is split.
pub(super) fn split(lines: Vec<(Timestamp, String)>) -> Vec<Vec<Line>> {
    let (mut chunks, mut chunk, mut bytes) = (Vec::new(), Vec::new(), 0);
    for (at, text) in lines {
        for text in fitting(text) {
            let more = cost(&text);
            if bytes + more > MAX && !chunk.is_empty() {
                chunks.push(std::mem::take(&mut chunk));
                bytes = 0;
            }
            bytes += more;
            chunk.push((at.millis(), text));
        }
    }
    if !chunk.is_empty() {
        chunks.push(chunk);
    }
    chunks
}

fn fitting(text: String) -> Vec<String> {
    if cost(&text) <= MAX {
        return vec![text];
    }
    let (mut parts, mut part, mut bytes) = (Vec::new(), String::new(), PER_LINE);
    for c in text.chars() {
        let more = spelt(c);
        if bytes + more > MAX {
            parts.push(std::mem::take(&mut part));
            bytes = PER_LINE;
        }
        bytes += more;
        part.push(c);
    }
    parts.push(part);
    parts
}

/// Bytes of a line in JSON.
fn cost(text: &str) -> usize {
    PER_LINE + text.chars().map(spelt).sum::<usize>()
}

fn spelt(c: char) -> usize {
    match c {
        '"' | '\\' => 2,
        c if c.is_control() => 6,
        c => c.len_utf8(),
    }
}

/// Numbers of the chunks of a job, per source and stream.
#[derive(Debug, Default)]
pub(super) struct Numbers(HashMap<(LogSource, LogStream), Number>);

#[derive(Debug, Clone, Copy, Default)]
struct Number {
    /// The worker's own number of its last piece.
    piece: u64,
    /// Number of the piece's first chunk.
    first: u64,
    /// Chunks that it was cut into.
    chunks: u64,
}

impl Numbers {
    /// Number of the first chunk of a piece: the same as before when a piece is told again.
    pub(super) fn first(&mut self, of: (LogSource, LogStream), piece: u64, chunks: u64) -> u64 {
        let number = self.0.entry(of).or_default();
        if piece != number.piece {
            number.first += number.chunks;
            number.piece = piece;
        }
        number.chunks = chunks;
        number.first
    }

    /// A chunk of a piece was refused for good: the number of the piece will come again, with other lines, and those go on
    /// where this one stopped.
    pub(super) fn refused(&mut self, of: (LogSource, LogStream), at: u64) {
        let number = self.0.entry(of).or_default();
        number.first = at;
        number.chunks = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF: (LogSource, LogStream) = (LogSource::Agent, LogStream::Stdout);

    #[test]
    fn chunks_stay_below_the_bound_as_json_and_lose_nothing() {
        let lines: Vec<(Timestamp, String)> = ["x", "\u{1b}", "\"", "ü"]
            .iter()
            .cycle()
            .take(24)
            .map(|text| (Timestamp::from_millis(1), text.repeat(60_000)))
            .collect();
        let chunks = split(lines.clone());
        for chunk in &chunks {
            assert!(serde_json::to_string(chunk).unwrap().len() <= 256 << 10);
        }
        let joined: String = chunks.concat().into_iter().map(|(_, text)| text).collect();
        let sent: String = lines.into_iter().map(|(_, text)| text).collect();
        assert_eq!(joined, sent);
    }

    #[test]
    fn c17_56_numbers_have_no_gap_and_a_repeat_has_the_same() {
        let mut numbers = Numbers::default();
        assert_eq!(numbers.first(OF, 0, 3), 0);
        assert_eq!(numbers.first(OF, 0, 3), 0, "told again");
        assert_eq!(numbers.first(OF, 1, 1), 3);
        assert_eq!(numbers.first(OF, 2, 2), 4);
        assert_eq!(numbers.first((LogSource::Agent, LogStream::Stderr), 0, 1), 0);
        // The second of its two chunks is refused, and other lines come under the same number.
        numbers.refused(OF, 5);
        assert_eq!(numbers.first(OF, 2, 1), 5);
        assert_eq!(numbers.first(OF, 3, 1), 6);
    }
}
