//! Fenced blocks in a stream of text, by the rules of CommonMark: a line of at least three backticks or tildes opens one, a
//! line of at least as many of the same and nothing else closes it, both indented by three blanks at most. The first word
//! after the opening is its label, compared as it is written. What stands indented in a list is no fence.
//!
//! A block that is still open when the text ends counts as far as it goes: whoever asks for records tells half of one by
//! that it does not parse.

/// Bytes of a line that are kept; of a longer one, the rest is dropped.
pub(super) const MAX_LINE: usize = 16 << 20;
const MAX_INDENT: usize = 3;
const MIN_FENCE: usize = 3;

/// A piece of a block with the label.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(super) enum Piece<'a> {
    /// It begins.
    Opened,
    /// A line of it, without its end.
    Line(&'a [u8]),
    /// It is whole.
    Closed,
}

/// Finds the blocks with one label.
#[derive(Debug)]
pub(super) struct Fences {
    label: Vec<u8>,
    /// The line that has not ended yet.
    line: Vec<u8>,
    open: Option<Open>,
}

/// The fence that is open.
#[derive(Debug, Clone, Copy)]
struct Open {
    mark: u8,
    length: usize,
    indent: usize,
    wanted: bool,
}

impl Fences {
    pub(super) fn new(label: &str) -> Self {
        Self {
            label: label.into(),
            line: Vec::new(),
            open: None,
        }
    }

    /// Takes the next bytes and tells the pieces in them.
    pub(super) fn push(&mut self, bytes: &[u8], tell: &mut impl FnMut(Piece<'_>)) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            let room = MAX_LINE.saturating_sub(self.line.len());
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if ended {
                self.end_line(tell);
            }
        }
    }

    /// The text has ended.
    pub(super) fn finish(&mut self, tell: &mut impl FnMut(Piece<'_>)) {
        if !self.line.is_empty() {
            self.end_line(tell);
        }
        if self.open.take().is_some_and(|open| open.wanted) {
            tell(Piece::Closed);
        }
    }

    fn end_line(&mut self, tell: &mut impl FnMut(Piece<'_>)) {
        let whole = std::mem::take(&mut self.line);
        let line = whole.strip_suffix(b"\r").unwrap_or(&whole);
        match self.open {
            None => {
                self.open = opening(line, &self.label);
                if self.open.is_some_and(|open| open.wanted) {
                    tell(Piece::Opened);
                }
            }
            Some(open) if open.is_closed_by(line) => {
                self.open = None;
                if open.wanted {
                    tell(Piece::Closed);
                }
            }
            Some(open) if open.wanted => tell(Piece::Line(&line[blanks(line).min(open.indent)..])),
            Some(_) => {}
        }
        // A usual line's room is used again, a huge one's is not kept.
        self.line = whole;
        self.line.clear();
        self.line.shrink_to(64 << 10);
    }
}

impl Open {
    fn is_closed_by(self, line: &[u8]) -> bool {
        let Some((indent, mark, length, rest)) = fence(line) else {
            return false;
        };
        indent <= MAX_INDENT && mark == self.mark && length >= self.length && rest.trim_ascii().is_empty()
    }
}

fn opening(line: &[u8], label: &[u8]) -> Option<Open> {
    let (indent, mark, length, rest) = fence(line)?;
    // What follows backticks holds none, or it is code within a line.
    if indent > MAX_INDENT || length < MIN_FENCE || (mark == b'`' && rest.contains(&b'`')) {
        return None;
    }
    let word = rest.trim_ascii().split(u8::is_ascii_whitespace).next();
    Some(Open {
        mark,
        length,
        indent,
        wanted: word == Some(label),
    })
}

/// Indent, character, length and what follows of a line that begins like a fence.
fn fence(line: &[u8]) -> Option<(usize, u8, usize, &[u8])> {
    let indent = blanks(line);
    let rest = &line[indent..];
    let mark = *rest.first().filter(|mark| matches!(mark, b'`' | b'~'))?;
    let length = rest.iter().take_while(|byte| **byte == mark).count();
    Some((indent, mark, length, &rest[length..]))
}

fn blanks(line: &[u8]) -> usize {
    line.iter().take_while(|byte| **byte == b' ').count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn blocks(text: &str, cuts: &[usize]) -> Vec<String> {
        let mut fences = Fences::new("json");
        let mut blocks = Vec::new();
        let mut open = None;
        let mut tell = |piece: Piece<'_>| match piece {
            Piece::Opened => open = Some(String::new()),
            Piece::Line(line) => {
                let open = open.as_mut().expect("lines stand in blocks");
                open.push_str(&String::from_utf8_lossy(line));
                open.push('\n');
            }
            Piece::Closed => blocks.push(open.take().expect("opened before")),
        };
        let mut rest = text.as_bytes();
        for cut in cuts {
            let (part, left) = rest.split_at(*cut.min(&rest.len()));
            fences.push(part, &mut tell);
            rest = left;
        }
        fences.push(rest, &mut tell);
        fences.finish(&mut tell);
        blocks
    }

    #[test]
    fn blocks_are_told_by_the_rules_of_commonmark() {
        let table: &[(&str, &[&str])] = &[
            ("```json\n1\n```\nx\n~~~json\n2\n~~~\n", &["1\n", "2\n"]),
            ("```json extra words\n1\n```", &["1\n"]),
            ("``` json\r\n1\r\n```\r\n", &["1\n"]),
            ("````json\n```\n1\n````\n", &["```\n1\n"]),
            ("```json\n1\n`````\n2\n", &["1\n"]),
            ("```json\n~~~\n```\n", &["~~~\n"]),
            ("~~~json `x`\n1\n~~~\n", &["1\n"]),
            ("   ```json\n   1\n     2\n  ```\n", &["1\n  2\n"]),
            ("```json\n```\n", &[""]),
            ("```json\n1\n``` x\n```\n", &["1\n``` x\n"]),
            ("```json\n1\n    ```\n", &["1\n    ```\n"]),
            ("```jsonl\n1\n```\n```JSON\n2\n```\n```\n3\n```\n", &[]),
            ("``json\n1\n``\n    ```json\n2\n    ```\n", &[]),
            ("```json a`b\n1\n", &[]),
            ("```md\n```json\n1\n```\n```json\n2\n```\n", &["2\n"]),
            ("```json\n1\n2", &["1\n2\n"]),
            ("```json", &[""]),
        ];
        for (text, expected) in table {
            assert_eq!(blocks(text, &[]), *expected, "{text:?}");
        }
    }

    #[test]
    fn of_a_line_without_end_only_so_much_is_kept() {
        let mut fences = Fences::new("json");
        let mut longest = 0;
        let mut tell = |piece: Piece<'_>| {
            if let Piece::Line(line) = piece {
                longest = longest.max(line.len());
            }
        };
        fences.push(b"```json\n", &mut tell);
        let part = vec![b'x'; 1 << 20];
        for _ in 0..20 {
            fences.push(&part, &mut tell);
        }
        fences.push(b"\n```\n", &mut tell);
        assert_eq!(longest, MAX_LINE);
    }

    proptest! {
        #[test]
        fn how_the_text_arrives_makes_no_difference(
            lines in prop::collection::vec("(```|~~~|````)?(json)?[ `x1]{0,3}\r?", 0..20),
            cuts in prop::collection::vec(0usize..9, 0..40),
        ) {
            let text = lines.join("\n");
            prop_assert_eq!(blocks(&text, &cuts), blocks(&text, &[]));
        }
    }
}
