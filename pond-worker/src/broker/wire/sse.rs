//! Server-sent events, read on the way: any cut of the stream into chunks gives the same events.

/// The longest event that is read. The last event of a Responses stream repeats the whole answer.
const MAX_EVENT: usize = 16 << 20;

/// Reads events out of chunks.
#[derive(Debug, Default)]
pub struct Sse {
    /// The line so far, where a chunk ended within it.
    line: Vec<u8>,
    /// The event's data so far.
    data: Vec<u8>,
    has_data: bool,
    after_cr: bool,
    begun: bool,
    /// This event is too long to be read; its end is still found.
    too_long: bool,
}

impl Sse {
    /// Reads a chunk; `on_event` gets the data of each event that ends in it, and how many bytes of the chunk are up to
    /// and with that end.
    pub fn feed(&mut self, chunk: &[u8], mut on_event: impl FnMut(&[u8], usize)) {
        let mut at = 0;
        if self.after_cr && chunk.first() == Some(&b'\n') {
            at = 1;
        }
        if !chunk.is_empty() {
            self.after_cr = false;
        }
        while let Some(length) = chunk[at..].iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let end = at + length;
            let mut next = end + 1;
            if chunk[end] == b'\r' {
                match chunk.get(next) {
                    Some(b'\n') => next += 1,
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            self.line_end(&chunk[at..end], |data| on_event(data, next));
            at = next;
        }
        self.keep(&chunk[at..]);
    }

    /// The stream has ended: reads what came after the last blank line, which some providers leave out.
    pub fn finish(&mut self, mut on_event: impl FnMut(&[u8])) {
        self.line_end(&[], &mut on_event);
        self.dispatch(&mut on_event);
    }

    fn line_end(&mut self, rest: &[u8], on_event: impl FnMut(&[u8])) {
        if self.line.is_empty() {
            return self.take_line(rest, on_event);
        }
        self.keep(rest);
        let mut line = std::mem::take(&mut self.line);
        self.take_line(&line, on_event);
        line.clear();
        self.line = line;
    }

    fn keep(&mut self, part: &[u8]) {
        if self.line.len() + part.len() > MAX_EVENT {
            self.too_long = true;
            // A line must stay non-empty to be told from a blank one: the rest reads as a comment.
            self.line.clear();
            self.line.push(b':');
        } else {
            self.line.extend_from_slice(part);
        }
    }

    fn take_line(&mut self, line: &[u8], on_event: impl FnMut(&[u8])) {
        let line = if self.begun {
            line
        } else {
            line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line)
        };
        self.begun = true;
        if line.is_empty() {
            return self.dispatch(on_event);
        }
        let Some(value) = line.strip_prefix(b"data") else {
            return;
        };
        let value = match value.split_first() {
            None => value,
            Some((b':', value)) => value.strip_prefix(b" ").unwrap_or(value),
            Some(_) => return,
        };
        if self.data.len() + value.len() >= MAX_EVENT {
            self.too_long = true;
            return;
        }
        if self.has_data {
            self.data.push(b'\n');
        }
        self.has_data = true;
        self.data.extend_from_slice(value);
    }

    fn dispatch(&mut self, mut on_event: impl FnMut(&[u8])) {
        if self.has_data && !self.too_long {
            on_event(&self.data);
        }
        self.data.clear();
        self.has_data = false;
        self.too_long = false;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events(chunks: &[&[u8]]) -> Vec<String> {
        let (mut sse, mut events) = (Sse::default(), Vec::new());
        for chunk in chunks {
            sse.feed(chunk, |data, end| {
                assert!(end <= chunk.len());
                events.push(String::from_utf8_lossy(data).into_owned());
            });
        }
        sse.finish(|data| events.push(String::from_utf8_lossy(data).into_owned()));
        events
    }

    #[test]
    fn lines_end_in_each_of_the_three_ways() {
        let stream = b"\xef\xbb\xbfdata: a\n\nevent: x\r\ndata:b\r\ndata: c\r\n\r\n: note\ndata\r\rdata: last";
        assert_eq!(events(&[stream]), ["a", "b\nc", "", "last"]);
    }

    #[test]
    fn an_event_without_data_and_a_field_like_data_are_none() {
        assert_eq!(events(&[b"event: ping\n\ndatabase: x\n\n\n\n"]), Vec::<String>::new());
    }

    #[test]
    fn the_end_of_an_event_is_told_within_its_chunk() {
        let (mut sse, mut ends) = (Sse::default(), Vec::new());
        sse.feed(b"data: a\r\n\r\ndata: b\n\nrest", |_, end| ends.push(end));
        assert_eq!(ends, [11, 20]);
    }

    #[test]
    fn an_event_past_the_bound_is_skipped_and_the_next_one_read() {
        let long = vec![b'x'; MAX_EVENT + 1];
        assert_eq!(events(&[b"data: ", &long, &long, b"\n\ndata: next\n\n"]), ["next"]);
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_events(
            parts in proptest::collection::vec("(data: ?[a-z]{0,5}|event: x|:|)(\n|\r|\r\n)", 0..12),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8),
        ) {
            let stream = parts.concat().into_bytes();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            at.extend([0, stream.len()]);
            at.sort_unstable();
            let chunks: Vec<&[u8]> = at.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
            prop_assert_eq!(events(&chunks), events(&[&stream]));
        }
    }
}
