//! A JSON array read on the way, element by element: any cut of it into chunks gives the same elements.

/// The longest element that is read.
const MAX_ELEMENT: usize = 16 << 20;

/// Finds the elements of an array of objects.
#[derive(Debug, Default)]
pub(super) struct Elements {
    /// The element so far.
    element: Vec<u8>,
    /// How many brackets are open.
    depth: u32,
    in_string: bool,
    escaped: bool,
    /// This element is too long to be read; its end is still found.
    too_long: bool,
}

impl Elements {
    /// Reads a chunk; `on_element` gets each object that ends in it, and how many bytes of the chunk are up to and with that
    /// end.
    pub(super) fn feed(&mut self, chunk: &[u8], mut on_element: impl FnMut(&[u8], usize)) {
        let mut from = 0;
        for (at, byte) in chunk.iter().enumerate() {
            let was_inside = self.depth > 1;
            self.step(*byte);
            match (was_inside, self.depth > 1) {
                (false, true) => from = at,
                (true, false) => {
                    self.keep(&chunk[from..=at]);
                    if !self.too_long {
                        on_element(&self.element, at + 1);
                    }
                    self.element.clear();
                    self.too_long = false;
                }
                _ => {}
            }
        }
        if self.depth > 1 {
            self.keep(&chunk[from..]);
        }
    }

    fn step(&mut self, byte: u8) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.in_string => self.escaped = true,
            b'"' => self.in_string = !self.in_string,
            _ if self.in_string => {}
            b'[' | b'{' => self.depth = self.depth.saturating_add(1),
            b']' | b'}' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }

    fn keep(&mut self, part: &[u8]) {
        if self.element.len() + part.len() > MAX_ELEMENT {
            self.too_long = true;
            self.element.clear();
        } else if !self.too_long {
            self.element.extend_from_slice(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn elements(chunks: &[&[u8]]) -> Vec<String> {
        let (mut reader, mut found) = (Elements::default(), Vec::new());
        for chunk in chunks {
            reader.feed(chunk, |element, end| {
                assert!(end <= chunk.len());
                found.push(String::from_utf8_lossy(element).into_owned());
            });
        }
        found
    }

    #[test]
    fn elements_end_where_their_brackets_do() {
        let array = br#"[{"a":[1,{"b":"]}\"["}]}
,
{"c":"\\"}, {}]"#;
        assert_eq!(
            elements(&[array]),
            [r#"{"a":[1,{"b":"]}\"["}]}"#, r#"{"c":"\\"}"#, "{}"]
        );
        assert_eq!(elements(&[b"[]"]), Vec::<String>::new());
        assert_eq!(
            elements(&[br#"{"error":{}}"#]),
            ["{}"],
            "what is no array gives what it holds"
        );
    }

    #[test]
    fn an_element_past_the_bound_is_skipped_and_the_next_one_read() {
        let long = vec![b'x'; MAX_ELEMENT + 1];
        assert_eq!(
            elements(&[b"[{\"a\":\"", &long, &long, b"\"},{\"b\":1}]"]),
            ["{\"b\":1}"]
        );
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_elements(
            texts in proptest::collection::vec("[a-z\"\\\\\\[\\]{},]{0,6}", 0..6),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8),
        ) {
            let parts: Vec<_> = texts.iter().map(|text| serde_json::json!({"t": text, "n": [{"m": text}]})).collect();
            let array = serde_json::to_vec_pretty(&parts).expect("JSON");
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(array.len() + 1)).collect();
            at.extend([0, array.len()]);
            at.sort_unstable();
            let chunks: Vec<&[u8]> = at.windows(2).map(|pair| &array[pair[0]..pair[1]]).collect();
            let found = elements(&chunks);
            prop_assert_eq!(found.len(), parts.len());
            for (text, part) in found.iter().zip(&parts) {
                prop_assert_eq!(&serde_json::from_str::<serde_json::Value>(text).expect("whole"), part);
            }
        }
    }
}
