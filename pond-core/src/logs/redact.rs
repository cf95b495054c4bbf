//! Cuts known secrets out of whatever leaves a worker: raw, base64 at any alignment, hex, percent- and JSON-escaped.
//!
//! What is cut does not depend on how the bytes arrive: each byte that any occurrence covers is covered, occurrences that
//! overlap become one mark, and of a stream only the end that may still grow into an occurrence is held back.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

use super::mark::mark;
use crate::config::MIN_REDACTABLE;
use crate::secret::Secret;

/// A shorter secret is cut only where it stands alone: it may be part of ordinary words.
const STANDS_OUT: usize = 12;
/// Longer secrets, such as key files, are told by their beginning and by each later part of this length.
const MAX_PART: usize = 4 << 10;

/// What RFC 3986 lets stand as it is.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// What JavaScript's `encodeURIComponent` lets stand.
const COMPONENT: &AsciiSet = &UNRESERVED
    .remove(b'!')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*');

/// One form of a secret.
struct Form {
    name: Arc<str>,
    length: usize,
    /// Counts only between characters that are no part of a word.
    alone: bool,
}

struct Known {
    automaton: AhoCorasick,
    /// In the automaton's order.
    forms: Vec<Form>,
    /// The forms in order, to tell whether an end may grow into one.
    sorted: Vec<Zeroizing<Vec<u8>>>,
    longest: usize,
}

/// Knows the secrets of one job.
#[derive(Clone, Default)]
pub struct Redactor(Option<Arc<Known>>);

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor").finish_non_exhaustive()
    }
}

impl Redactor {
    /// Knows these secrets by name. Those of less than six bytes cannot be told from ordinary text and are left out.
    pub fn new<'a>(secrets: impl IntoIterator<Item = (&'a str, &'a Secret)>) -> Self {
        let mut seen = BTreeSet::new();
        let mut patterns = Vec::new();
        let mut forms = Vec::new();
        for (name, secret) in secrets {
            let name: Arc<str> = name.into();
            for (form, alone) in forms_of(secret.expose()) {
                if seen.insert(form.to_vec()) {
                    let (name, length) = (Arc::clone(&name), form.len());
                    forms.push(Form { name, length, alone });
                    patterns.push(form);
                }
            }
        }
        if patterns.is_empty() {
            return Self(None);
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .build(patterns.iter().map(|pattern| pattern.as_slice()))
            .expect("a few short patterns make an automaton");
        let longest = patterns.iter().map(|pattern| pattern.len()).max().unwrap_or(0);
        let sorted = seen.into_iter().map(Zeroizing::new).collect();
        Self(Some(Arc::new(Known {
            automaton,
            forms,
            sorted,
            longest,
        })))
    }

    /// Whether it knows any secret at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Starts on a stream of bytes.
    pub fn stream(&self) -> Redacting {
        Redacting {
            known: self.0.clone(),
            held: Vec::new(),
            before: None,
            covered: 0,
            touched: false,
        }
    }

    /// A whole text without its secrets.
    pub fn text(&self, text: &str) -> String {
        let mut stream = self.stream();
        let mut out = Vec::with_capacity(text.len());
        stream.push(text.as_bytes(), &mut out);
        stream.finish(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }
}

/// Cuts secrets out of one stream.
pub struct Redacting {
    known: Option<Arc<Known>>,
    /// What may still grow into an occurrence.
    held: Vec<u8>,
    /// The byte before what is held.
    before: Option<u8>,
    /// How much of the beginning of what is held is covered by an occurrence already told.
    covered: usize,
    touched: bool,
}

impl fmt::Debug for Redacting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redacting").finish_non_exhaustive()
    }
}

/// One occurrence.
struct Found {
    start: usize,
    end: usize,
    form: usize,
}

impl Redacting {
    /// Takes the next bytes, and adds to `out` what can be told of them now.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let Some(known) = self.known.clone() else {
            out.extend_from_slice(bytes);
            return;
        };
        self.held.extend_from_slice(bytes);
        let settled = known.settled(&self.held);
        self.tell(&known, settled, out);
    }

    /// The stream has ended: adds the rest.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if let Some(known) = self.known.clone() {
            self.tell(&known, self.held.len(), out);
        }
    }

    /// Whether anything was cut so far.
    pub fn touched(&self) -> bool {
        self.touched
    }

    /// Tells everything before `settled`: no occurrence that begins there can be found later.
    fn tell(&mut self, known: &Known, settled: usize, out: &mut Vec<u8>) {
        if settled == 0 {
            return;
        }
        let mut covered = self.covered;
        for found in known.occurrences(&self.held, self.before, settled) {
            if found.start >= covered {
                out.extend_from_slice(&self.held[covered..found.start]);
                out.extend_from_slice(mark(&known.forms[found.form].name).as_bytes());
                self.touched = true;
            }
            covered = covered.max(found.end);
        }
        if covered < settled {
            out.extend_from_slice(&self.held[covered..settled]);
        }
        self.before = Some(self.held[settled - 1]);
        self.held.drain(..settled);
        self.covered = covered.saturating_sub(settled);
    }
}

impl Known {
    /// Occurrences that begin before `settled`, by beginning, longest first.
    fn occurrences(&self, text: &[u8], before: Option<u8>, settled: usize) -> Vec<Found> {
        let mut found: Vec<Found> = self
            .automaton
            .find_overlapping_iter(text)
            .map(|hit| Found {
                start: hit.start(),
                end: hit.end(),
                form: hit.pattern().as_usize(),
            })
            .filter(|found| found.start < settled)
            .filter(|found| {
                let ahead = found.start.checked_sub(1).map_or(before, |at| Some(text[at]));
                !self.forms[found.form].alone || !(is_word(ahead) || is_word(text.get(found.end).copied()))
            })
            .collect();
        found.sort_by_key(|found| {
            (
                found.start,
                std::cmp::Reverse(self.forms[found.form].length),
                found.form,
            )
        });
        found
    }

    /// How much of `text` no occurrence can begin in that is not whole already: up to its first end that begins a form.
    fn settled(&self, text: &[u8]) -> usize {
        let first = text.len().saturating_sub(self.longest);
        (first..text.len())
            .find(|&at| self.begins_a_form(&text[at..]))
            .unwrap_or(text.len())
    }

    /// A form that is whole counts too: what stands behind it may matter.
    fn begins_a_form(&self, end: &[u8]) -> bool {
        let at = self.sorted.partition_point(|form| form.as_slice() < end);
        self.sorted.get(at).is_some_and(|form| form.starts_with(end))
    }
}

fn is_word(byte: Option<u8>) -> bool {
    byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80)
}

/// The forms of a secret, and whether each counts only where it stands alone.
fn forms_of(secret: &str) -> Vec<(Zeroizing<Vec<u8>>, bool)> {
    if secret.len() < MIN_REDACTABLE {
        return Vec::new();
    }
    let alone = secret.len() < STANDS_OUT;
    let mut forms = Vec::new();
    let mut add = |form: Vec<u8>, alone: bool| {
        if form.len() >= MIN_REDACTABLE {
            forms.push((Zeroizing::new(form), alone));
        }
    };
    for part in parts(secret) {
        for text in escaped(part) {
            add(text.into_bytes(), alone);
        }
        // No ordinary text looks like these.
        for text in base64_forms(part.as_bytes()) {
            add(text, false);
        }
        add(hex::encode(part).into_bytes(), false);
        add(hex::encode_upper(part).into_bytes(), false);
    }
    forms
}

/// A secret of usual length as it is, a long one in parts.
fn parts(secret: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = secret;
    while rest.len() > MAX_PART {
        let (part, left) = rest.split_at(rest.floor_char_boundary(MAX_PART));
        parts.push(part);
        rest = left;
    }
    // A last part that is too short to stand out is left to the one before it.
    if parts.is_empty() || rest.len() >= STANDS_OUT {
        parts.push(rest);
    }
    parts
}

/// Raw, percent- and JSON-escaped in the usual ways.
fn escaped(text: &str) -> Vec<String> {
    let mut forms = vec![text.to_owned()];
    for set in [UNRESERVED, COMPONENT] {
        let form = utf8_percent_encode(text, set).to_string();
        forms.push(lower_hex(&form));
        forms.push(form.replace("%20", "+"));
        forms.push(form);
    }
    let every: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
    forms.push(every.to_ascii_lowercase());
    forms.push(every);
    let json = |text: &str| {
        let quoted = serde_json::to_string(text).unwrap_or_default();
        quoted[1.min(quoted.len())..quoted.len().saturating_sub(1)].to_owned()
    };
    let once = json(text);
    let slashed = once.replace('/', "\\/");
    for form in [once, slashed] {
        let ascii = ascii_json(&form);
        // Agents print JSON that holds JSON.
        forms.extend([json(&form), json(&ascii), form, ascii]);
    }
    forms
}

/// The lower-case spelling of `%2F`.
fn lower_hex(form: &str) -> String {
    let mut bytes = form.as_bytes().to_vec();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            let end = (at + 3).min(bytes.len());
            bytes[at..end].make_ascii_lowercase();
            at = end;
        } else {
            at += 1;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// JSON text with nothing but ASCII.
fn ascii_json(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() {
            text.push(character);
        } else {
            let mut units = [0; 2];
            text.extend(
                character
                    .encode_utf16(&mut units)
                    .iter()
                    .map(|unit| format!("\\u{unit:04x}")),
            );
        }
    }
    text
}

/// What base64 makes of these bytes alone, whatever stands before and behind them.
fn base64_forms(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    for (offset, mixed) in [(0, 0), (1, 2), (2, 3)] {
        let mut shifted = vec![0; offset];
        shifted.extend_from_slice(bytes);
        // The last character, if it is not of these bytes alone, is left out too.
        let own = shifted.len() * 8 / 6;
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            let text = engine.encode(&shifted).into_bytes();
            forms.push(text[mixed..own.min(text.len())].to_vec());
        }
    }
    forms
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn redactor(secrets: &[(&str, &str)]) -> Redactor {
        let secrets: Vec<(&str, Secret)> = secrets.iter().map(|(name, text)| (*name, Secret::new(*text))).collect();
        Redactor::new(secrets.iter().map(|(name, secret)| (*name, secret)))
    }

    fn in_chunks(redactor: &Redactor, text: &[u8], cuts: &[usize]) -> Vec<u8> {
        let mut stream = redactor.stream();
        let (mut out, mut rest) = (Vec::new(), text);
        for cut in cuts {
            let (chunk, left) = rest.split_at(*cut.min(&rest.len()));
            stream.push(chunk, &mut out);
            rest = left;
        }
        stream.push(rest, &mut out);
        stream.finish(&mut out);
        out
    }

    const LONG: &str = "sk/live+\"key\"-ü-0123456789";

    #[test]
    fn every_form_is_cut() {
        let redactor = redactor(&[("KEY", LONG)]);
        let json = serde_json::to_string(LONG).unwrap();
        let nested = serde_json::to_string(&json).unwrap();
        let mut texts = vec![
            LONG.to_owned(),
            json,
            nested,
            hex::encode(LONG),
            hex::encode_upper(LONG),
        ];
        texts.push("sk%2Flive%2B%22key%22-%C3%BC-0123456789".into());
        texts.push("sk%2flive%2b%22key%22-%c3%bc-0123456789".into());
        texts.push("sk\\/live+\\\"key\\\"-\\u00fc-0123456789".into());
        for before in ["", "a", "ab", "abc", "user:"] {
            for after in ["", "z", "zz"] {
                let text = format!("{before}{LONG}{after}");
                texts.push(base64::engine::general_purpose::STANDARD.encode(&text));
                texts.push(URL_SAFE_NO_PAD.encode(&text));
            }
        }
        for text in texts {
            assert!(redactor.text(&text).contains("[redacted:KEY]"), "{text}");
        }
        assert_eq!(redactor.text(&format!("a {LONG} b")), "a [redacted:KEY] b");
    }

    #[test]
    fn short_secrets_are_cut_only_where_they_stand_alone() {
        let redactor = redactor(&[("PIN", "hunter22"), ("TINY", "abc")]);
        assert_eq!(
            redactor.text("hunter22 xhunter22 hunter22x \"hunter22\" abc hunter22"),
            "[redacted:PIN] xhunter22 hunter22x \"[redacted:PIN]\" abc [redacted:PIN]"
        );
        assert!(redactor.text(&hex::encode("hunter22")).contains("[redacted:PIN]"));
        assert!(self::redactor(&[("TINY", "abc")]).is_empty());
    }

    #[test]
    fn occurrences_that_overlap_are_one_and_those_that_touch_are_two() {
        let redactor = redactor(&[("A", "aaaaaaaaaaaa-"), ("B", "-aaaaaaaaaaaa")]);
        assert_eq!(redactor.text("xaaaaaaaaaaaa-aaaaaaaaaaaax"), "x[redacted:A]x");
        let same = self::redactor(&[("A", "abcdefghijkl")]);
        assert_eq!(same.text("abcdefghijklabcdefghijkl"), "[redacted:A][redacted:A]");
    }

    #[test]
    fn a_whole_line_is_told_at_once() {
        let redactor = redactor(&[("KEY", LONG)]);
        let mut stream = redactor.stream();
        let mut out = Vec::new();
        stream.push(b"the key: sk/live\n", &mut out);
        assert_eq!(out, b"the key: sk/live\n");
        stream.push(b"sk/live", &mut out);
        assert_eq!(out, b"the key: sk/live\n", "what may become the key waits");
        assert!(!stream.touched());
    }

    #[test]
    fn a_long_secret_is_cut_in_parts() {
        let key: String = (0..4000).map(|n| format!("{n:x}.")).collect();
        let redactor = redactor(&[("PEM", &key)]);
        let text = redactor.text(&format!("before {key} after"));
        assert!(
            text.starts_with("before [redacted:PEM]") && text.ends_with("[redacted:PEM] after"),
            "{text}"
        );
        assert!(!text.contains("abc."), "{text}");
    }

    proptest! {
        // Each case builds an automaton of its own.
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_chunking_gives_the_same_and_none_leaks(
            secret in "[ab\"/ü]{6,16}",
            other in "[ab\"/ü]{6,14}",
            pieces in proptest::collection::vec((0..12usize, "[ab\"/ ü%=\\\\]{0,6}"), 0..12),
            cuts in proptest::collection::vec(0..9usize, 0..40),
        ) {
            let redactor = redactor(&[("ONE", &secret), ("TWO", &other)]);
            let mut text = String::new();
            for (which, filler) in pieces {
                text.push_str(&filler);
                match which {
                    0 | 1 => text.push_str(&secret),
                    2 => text.push_str(&other),
                    3 => text.push_str(&hex::encode(&secret)),
                    4 => text.push_str(&URL_SAFE_NO_PAD.encode(format!("{filler}{secret}"))),
                    5 => text.push_str(&serde_json::to_string(&secret).unwrap()),
                    6 => text.push_str(&utf8_percent_encode(&other, UNRESERVED).to_string()),
                    _ => {}
                }
            }
            let whole = redactor.text(&text);
            let cut_up = in_chunks(&redactor, text.as_bytes(), &cuts);
            prop_assert_eq!(String::from_utf8_lossy(&cut_up), whole.as_str());
            for known in [&secret, &other] {
                prop_assert!(known.len() < STANDS_OUT || !whole.contains(known.as_str()), "{} in {}", known, whole);
                prop_assert!(!whole.contains(&hex::encode(known)));
            }
        }
    }
}
