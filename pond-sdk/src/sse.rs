//! Server-sent events: bytes in, events out, whatever the cuts between chunks.

/// The longest line, and the most data of one event. A log line of 64 KiB stays below it in any JSON spelling.
pub(crate) const MAX_EVENT: usize = 1 << 20;

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SseEvent {
    /// The last `id` seen, of this event or an earlier one.
    pub(crate) id: Option<String>,
    /// Its type; `message` where it names none.
    pub(crate) kind: String,
    /// Its data, lines joined by line feeds.
    pub(crate) data: String,
}

/// An event or line is longer than [`MAX_EVENT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Reads a stream of events, one chunk after another.
#[derive(Debug, Default)]
pub(crate) struct SseParser {
    line: Vec<u8>,
    /// The last byte was a carriage return, so a line feed now belongs to it.
    after_cr: bool,
    /// The first line, which alone may begin with a byte order mark, is done.
    started: bool,
    id: Option<String>,
    kind: String,
    data: String,
    has_data: bool,
}

impl SseParser {
    /// Takes a chunk and gives the events that it completes.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> Result<Vec<SseEvent>, TooLong> {
        let mut events = Vec::new();
        for &byte in chunk {
            let after_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                b'\n' if after_cr => {}
                b'\n' | b'\r' => events.extend(self.end_line()?),
                _ if self.line.len() >= MAX_EVENT => return Err(TooLong),
                _ => self.line.push(byte),
            }
        }
        Ok(events)
    }

    fn end_line(&mut self) -> Result<Option<SseEvent>, TooLong> {
        let bytes = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&bytes);
        let line = if std::mem::replace(&mut self.started, true) {
            &*line
        } else {
            line.strip_prefix('\u{feff}').unwrap_or(&line)
        };
        if line.is_empty() {
            return Ok(self.end_event());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        self.field(field, value.strip_prefix(' ').unwrap_or(value))?;
        Ok(None)
    }

    fn field(&mut self, field: &str, value: &str) -> Result<(), TooLong> {
        match field {
            "event" => value.clone_into(&mut self.kind),
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "data" => {
                if self.data.len() + value.len() >= MAX_EVENT {
                    return Err(TooLong);
                }
                if self.has_data {
                    self.data.push('\n');
                }
                self.data.push_str(value);
                self.has_data = true;
            }
            // A comment has the empty name; `retry` is the policy's matter.
            _ => {}
        }
        Ok(())
    }

    fn end_event(&mut self) -> Option<SseEvent> {
        let kind = std::mem::take(&mut self.kind);
        let data = std::mem::take(&mut self.data);
        if !std::mem::take(&mut self.has_data) {
            return None;
        }
        let kind = if kind.is_empty() { "message".to_owned() } else { kind };
        Some(SseEvent {
            id: self.id.clone(),
            kind,
            data,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &[u8]) -> Vec<SseEvent> {
        SseParser::default().push(text).expect("short events")
    }

    fn event(id: Option<&str>, kind: &str, data: &str) -> SseEvent {
        SseEvent {
            id: id.map(str::to_owned),
            kind: kind.to_owned(),
            data: data.to_owned(),
        }
    }

    #[test]
    fn the_forms_of_the_standard() {
        for (text, expected) in [
            ("id: 1\nevent: log\ndata: a\n\n", vec![event(Some("1"), "log", "a")]),
            ("data: a\r\ndata:b\r\n\r\n", vec![event(None, "message", "a\nb")]),
            ("data: a\rdata\r\r", vec![event(None, "message", "a\n")]),
            ("\u{feff}data: a\n\n", vec![event(None, "message", "a")]),
            (": heartbeat\n\n", vec![]),
            ("event: log\n\ndata: a\n\n", vec![event(None, "message", "a")]),
            (
                "id: 1\ndata: a\n\ndata: b\n\n",
                vec![event(Some("1"), "message", "a"), event(Some("1"), "message", "b")],
            ),
            ("id: 1\0\ndata: a\n\n", vec![event(None, "message", "a")]),
            ("retry: 5\nnonsense\ndata: a\n\n", vec![event(None, "message", "a")]),
            ("data: not ended\n", vec![]),
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn too_long_is_refused() {
        let line = vec![b'x'; MAX_EVENT + 1];
        assert_eq!(SseParser::default().push(&line), Err(TooLong));
        let mut parser = SseParser::default();
        let part = format!("data: {}\n", "x".repeat(MAX_EVENT / 4));
        assert!((0..5).any(|_| parser.push(part.as_bytes()).is_err()));
    }

    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let words = prop::sample::select(vec![
            "data: a",
            "data",
            "data:é",
            "id: 7",
            "id",
            "event: log",
            ": hi",
            "x: y",
            "",
            "",
            "\u{feff}",
        ]);
        let ends = prop::sample::select(vec!["\n", "\r\n", "\r"]);
        prop::collection::vec((words, ends), 0..40).prop_map(|lines| {
            lines
                .into_iter()
                .flat_map(|(line, end)| format!("{line}{end}").into_bytes())
                .collect()
        })
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(text in stream(), sizes in prop::collection::vec(1_usize..9, 1..50)) {
            let mut parser = SseParser::default();
            let mut events = Vec::new();
            let mut rest = &text[..];
            for size in sizes.iter().cycle() {
                if rest.is_empty() { break }
                let (chunk, after) = rest.split_at((*size).min(rest.len()));
                events.extend(parser.push(chunk).expect("short events"));
                rest = after;
            }
            prop_assert_eq!(events, parse(&text));
        }

        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(SseParser::default().push(&bytes).is_ok());
        }
    }
}
