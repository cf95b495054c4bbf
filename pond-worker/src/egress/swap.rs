//! Puts values in place of sealed tokens, in a whole text or in a stream of any chunks. Pure: which tokens are known here was
//! decided before, by host and by place.

use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::{Bytes, BytesMut};
use memchr::{memmem, memrchr};
use pond_core::egress::SealedToken;
use pond_core::secret::Secret;
use zeroize::Zeroizing;

/// Base64 as `Authorization: Basic` has it: written with padding, read without as well.
const BASIC: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A token and what it stands for.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) token: SealedToken,
    pub(super) value: Secret,
}

/// The tokens that are replaced in one place.
#[derive(Debug, Clone, Default)]
pub(super) struct Swap(Vec<Arc<Pair>>);

impl FromIterator<Arc<Pair>> for Swap {
    fn from_iter<I: IntoIterator<Item = Arc<Pair>>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl Swap {
    /// Whether nothing is replaced.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A whole text with values for tokens; nothing when there is none in it.
    pub(super) fn text(&self, text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut out = BytesMut::new();
        let told = self.fill(text, &mut out);
        (told > 0).then(|| {
            let mut whole = Zeroizing::new(Vec::with_capacity(out.len() + text.len() - told));
            whole.extend_from_slice(&out);
            whole.extend_from_slice(&text[told..]);
            whole
        })
    }

    /// The value of an `Authorization` header with values for tokens, also for those within `Basic`.
    pub(super) fn authorization(&self, value: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.basic(value).or_else(|| self.text(value))
    }

    fn basic(&self, value: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (scheme, rest) = value.split_at_checked(b"Basic".len())?;
        let credentials = rest.trim_ascii();
        if !scheme.eq_ignore_ascii_case(b"Basic") || rest.len() == credentials.len() {
            return None;
        }
        let clear = self.text(&BASIC.decode(credentials).ok()?)?;
        let encoded = Zeroizing::new(BASIC.encode(&*clear));
        let mut whole = Zeroizing::new(Vec::with_capacity(b"Basic ".len() + encoded.len()));
        whole.extend_from_slice(b"Basic ");
        whole.extend_from_slice(encoded.as_bytes());
        Some(whole)
    }

    /// Starts on a stream.
    pub(super) fn stream(&self) -> Swapping {
        Swapping {
            swap: self.clone(),
            held: BytesMut::new(),
        }
    }

    /// Adds to `out` all of the text up to the end of its last token, with values, and tells how much that is.
    fn fill(&self, text: &[u8], out: &mut BytesMut) -> usize {
        let (mut told, mut from) = (0, 0);
        while let Some(found) = memmem::find(&text[from..], SealedToken::PREFIX.as_bytes()) {
            let start = from + found;
            let Some(token) = text.get(start..start + SealedToken::LEN) else {
                break;
            };
            match self.0.iter().find(|pair| pair.token.as_str().as_bytes() == token) {
                Some(pair) => {
                    out.extend_from_slice(&text[told..start]);
                    out.extend_from_slice(pair.value.expose().as_bytes());
                    told = start + SealedToken::LEN;
                    from = told;
                }
                None => from = start + SealedToken::PREFIX.len(),
            }
        }
        told
    }

    /// From where on a text may go on into a token. A token begins with the only `p` it has, so it is the last one or none.
    fn growing(&self, text: &[u8]) -> usize {
        let first = text.len().saturating_sub(SealedToken::LEN - 1);
        let start = memrchr(b'p', &text[first..]).map_or(text.len(), |at| first + at);
        let end = &text[start..];
        match self
            .0
            .iter()
            .any(|pair| pair.token.as_str().as_bytes().starts_with(end))
        {
            true => start,
            false => text.len(),
        }
    }
}

/// Replaces tokens in one stream. Only an end that may go on into a token is held back.
#[derive(Debug)]
pub(super) struct Swapping {
    swap: Swap,
    held: BytesMut,
}

impl Swapping {
    /// Takes the next bytes and gives what can be told now.
    pub(super) fn push(&mut self, chunk: Bytes) -> Bytes {
        if self.held.is_empty() {
            return self.tell(chunk);
        }
        self.held.extend_from_slice(&chunk);
        let text = self.held.split().freeze();
        self.tell(text)
    }

    /// The stream has ended: the rest.
    pub(super) fn finish(&mut self) -> Bytes {
        self.held.split().freeze()
    }

    fn tell(&mut self, mut text: Bytes) -> Bytes {
        let mut out = BytesMut::new();
        let told = self.swap.fill(&text, &mut out);
        let mut rest = text.split_off(told);
        let growing = rest.split_off(self.swap.growing(&rest));
        self.held.extend_from_slice(&growing);
        if out.is_empty() {
            return rest;
        }
        out.extend_from_slice(&rest);
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use pond_core::testing::SeededEntropy;
    use proptest::prelude::*;

    use super::*;

    fn pairs(values: &[&str]) -> Vec<Arc<Pair>> {
        let entropy = SeededEntropy::new(7);
        let pair = |value: &&str| {
            let token = SealedToken::mint(&entropy);
            let value = Secret::new(*value);
            Arc::new(Pair { token, value })
        };
        values.iter().map(pair).collect()
    }

    fn whole(swap: &Swap, text: &str) -> String {
        let swapped = swap.text(text.as_bytes());
        swapped.map_or(text.to_owned(), |text| String::from_utf8(text.to_vec()).unwrap())
    }

    #[test]
    fn agents_25_whole_tokens_of_ones_own_are_replaced_and_nothing_else() {
        let known = pairs(&["one-value", "another"]);
        let (one, other) = (known[0].token.as_str().to_owned(), known[1].token.as_str().to_owned());
        let swap: Swap = known.into_iter().collect();
        let strange = format!("{}{}", SealedToken::PREFIX, "0".repeat(32));
        for (text, expected) in [
            (format!("Bearer {one}"), "Bearer one-value".to_owned()),
            (format!("{one}{other}"), "one-valueanother".into()),
            (format!("x{one}y {other}."), "xone-valuey another.".into()),
            (strange.clone(), strange.clone()),
            (format!("{strange}{one}"), format!("{strange}one-value")),
            (format!("pond_sealed_{one}"), "pond_sealed_one-value".into()),
            (one[..43].to_owned(), one[..43].to_owned()),
            (one.to_uppercase(), one.to_uppercase()),
            (String::new(), String::new()),
        ] {
            assert_eq!(whole(&swap, &text), expected, "{text}");
        }
        assert_eq!(whole(&Swap::default(), &one), one);
    }

    #[test]
    fn agents_52_basic_credentials_are_decoded_and_encoded_again() {
        let known = pairs(&["the value: with colons"]);
        let token = known[0].token.as_str().to_owned();
        let swap: Swap = known.into_iter().collect();
        let told = |value: &str| {
            let told = swap.authorization(value.as_bytes());
            told.map(|value| String::from_utf8(value.to_vec()).unwrap())
        };
        let expected = format!("Basic {}", BASIC.encode("user:the value: with colons"));
        for text in [format!("user:{token}")] {
            let encoded = BASIC.encode(&text);
            assert_eq!(told(&format!("Basic {encoded}")).as_deref(), Some(&*expected));
            assert_eq!(told(&format!("bASIC  {encoded} ")).as_deref(), Some(&*expected));
            assert_eq!(
                told(&format!("Basic {}", encoded.trim_end_matches('='))).as_deref(),
                Some(&*expected)
            );
            for other in [format!("Bearer {encoded}"), format!("Basic{encoded}"), encoded] {
                assert_eq!(told(&other), None, "{other}");
            }
        }
        assert_eq!(
            told(&format!("Bearer {token}")).as_deref(),
            Some("Bearer the value: with colons")
        );
        assert_eq!(told("Basic !!"), None);
        assert_eq!(told("Basic"), None);
    }

    #[test]
    fn what_holds_no_token_passes_as_it_is_at_once() {
        let known = pairs(&["v"]);
        let mut stream = known.into_iter().collect::<Swap>().stream();
        let chunk = Bytes::from_static(b"data: a pond_sealed_ text\n\n");
        let passed = stream.push(chunk.clone());
        assert_eq!(passed.as_ptr(), chunk.as_ptr(), "not copied");
        assert_eq!((passed, stream.finish()), (chunk, Bytes::new()));
    }

    proptest! {
        #[test]
        fn agents_24_any_chunking_gives_the_same_as_the_whole(
            pieces in proptest::collection::vec((0..9usize, 0..=44usize, "[pond_sealed0-9a-f ]{0,8}"), 0..12),
            cuts in proptest::collection::vec(0..50usize, 0..40),
        ) {
            let known = pairs(&["first-value", "pond_sealed_", "pond"]);
            let foreign = SealedToken::mint(&SeededEntropy::new(8));
            let (mut text, mut expected) = (String::new(), String::new());
            for (which, cut, filler) in pieces {
                text.push_str(&filler);
                expected.push_str(&filler);
                match which {
                    0..3 => {
                        text.push_str(known[which].token.as_str());
                        expected.push_str(known[which].value.expose());
                    }
                    3 => {
                        text.push_str(foreign.as_str());
                        expected.push_str(foreign.as_str());
                    }
                    4 => {
                        // A part of a token, made sure not to grow into one.
                        let part = format!("{}!", &known[0].token.as_str()[..cut.min(43)]);
                        text.push_str(&part);
                        expected.push_str(&part);
                    }
                    _ => {}
                }
            }
            let swap: Swap = known.into_iter().collect();
            prop_assert_eq!(&whole(&swap, &text), &expected);
            let mut stream = swap.stream();
            let (mut out, mut rest) = (Vec::new(), Bytes::from(text));
            for cut in cuts {
                let chunk = rest.split_to(cut.min(rest.len()));
                out.extend_from_slice(&stream.push(chunk));
            }
            out.extend_from_slice(&stream.push(rest));
            out.extend_from_slice(&stream.finish());
            prop_assert_eq!(String::from_utf8(out).unwrap(), expected);
        }

        #[test]
        fn no_bytes_but_tokens_are_touched(text in proptest::collection::vec(any::<u8>(), 0..200), at in 0..200usize) {
            let known = pairs(&["v"]);
            let mut stream = known.into_iter().collect::<Swap>().stream();
            let at = at.min(text.len());
            let mut out = stream.push(Bytes::copy_from_slice(&text[..at])).to_vec();
            out.extend_from_slice(&stream.push(Bytes::copy_from_slice(&text[at..])));
            out.extend_from_slice(&stream.finish());
            prop_assert_eq!(out, text);
        }
    }
}
