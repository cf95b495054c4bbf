//! Cuts known secrets out of whatever leaves a worker: raw, base64 at any alignment, hex, percent- and JSON-escaped; and what
//! has the shape of one of Pond's own tokens, whosever it is.
//!
//! What is cut does not depend on how the bytes arrive: each byte that any occurrence covers is covered, occurrences that
//! overlap become one mark, and of a stream only the end that may still grow into an occurrence is held back.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

use crate::config::MIN_REDACTABLE;
use crate::secret::Secret;

/// A shorter secret is cut only where it stands alone: it may be part of ordinary words.
const STANDS_OUT: usize = 12;
/// Longer secrets, such as key files, are told by their beginning and by each later part of this length.
const MAX_PART: usize = 4 << 10;

/// How Pond's own tokens begin.
const TOKENS: [&str; 7] = [
    "pond_pk_", "pond_ok_", "pond_wk_", "pond_at_", "pond_pc_", "pond_ec_", "whsec_",
];
/// What follows the beginning of a token: less is a mention of the kind, and of more the rest is no part of it.
const MIN_BODY: usize = 16;
const MAX_BODY: usize = 256;
/// What stands in the mark in place of a name.
const TOKEN: &str = "token";

/// What RFC 3986 lets stand as it is.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// What JavaScript's `encodeURIComponent` lets stand.
const COMPONENT: &AsciiSet = &UNRESERVED
    .remove(b'!')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*');

/// How a place is marked at which something was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marks {
    /// `[redacted:NAME]`: for logs and messages, whose readers are told the name only if they may know it; see
    /// [`without_names`].
    Named,
    /// `[redacted]`: for artifacts, which everybody reads as they are.
    Nameless,
    /// The name alone: where it is what stood for the secret before, see [`Redactor::back`].
    Bare,
}

/// A text with the names taken out of its marks, for readers who may not know which secret stood there.
pub fn without_names(text: &str) -> Cow<'_, str> {
    const MARK: &str = "[redacted:";
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(MARK) {
        let name = &rest[at + MARK.len()..];
        let end = name.bytes().position(|byte| !is_word(Some(byte)) && byte != b'-');
        match end.filter(|end| name.as_bytes()[*end] == b']') {
            Some(end) => {
                out.push_str(&rest[..at]);
                out.push_str("[redacted]");
                rest = &name[end + 1..];
            }
            None => {
                out.push_str(&rest[..at + MARK.len()]);
                rest = name;
            }
        }
    }
    if out.is_empty() && rest.len() == text.len() {
        return Cow::Borrowed(text);
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// When a form counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counts {
    /// Wherever it stands.
    Anywhere,
    /// Only between characters that are no part of a word.
    Alone,
    /// With enough of a token's body behind it, which it covers too.
    WithBody,
}

/// One form of a secret, or the beginning of a token.
struct Form {
    name: Arc<str>,
    counts: Counts,
}

struct Known {
    automaton: AhoCorasick,
    /// In the automaton's order.
    forms: Vec<Form>,
    /// The forms in order, to tell whether an end may grow into one.
    sorted: Vec<Zeroizing<Vec<u8>>>,
    longest: usize,
}

/// Knows the secrets of one job, and the shapes of Pond's own tokens.
#[derive(Clone)]
pub struct Redactor(Arc<Known>);

impl Default for Redactor {
    /// Knows no secret but by its shape.
    fn default() -> Self {
        Self::new([])
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor").finish_non_exhaustive()
    }
}

impl Redactor {
    /// Knows these secrets by name. Those of less than six bytes cannot be told from ordinary text and are left out.
    pub fn new<'a>(secrets: impl IntoIterator<Item = (&'a str, &'a Secret)>) -> Self {
        Self::knowing(secrets, &TOKENS)
    }

    /// Knows these secrets by what is to stand in their place again, and nothing else: to be used with [`Marks::Bare`].
    pub fn back<'a>(secrets: impl IntoIterator<Item = (&'a str, &'a Secret)>) -> Self {
        Self::knowing(secrets, &[])
    }

    fn knowing<'a>(secrets: impl IntoIterator<Item = (&'a str, &'a Secret)>, prefixes: &[&str]) -> Self {
        let mut seen = BTreeSet::new();
        let mut patterns = Vec::new();
        let mut forms = Vec::new();
        let mut add = |name: &Arc<str>, form: Zeroizing<Vec<u8>>, counts| {
            if seen.insert(form.to_vec()) {
                let name = Arc::clone(name);
                forms.push(Form { name, counts });
                patterns.push(form);
            }
        };
        for (name, secret) in secrets {
            let name: Arc<str> = name.into();
            for (form, alone) in forms_of(secret.expose()) {
                add(&name, form, if alone { Counts::Alone } else { Counts::Anywhere });
            }
        }
        let token: Arc<str> = TOKEN.into();
        for &prefix in prefixes {
            add(&token, Zeroizing::new(prefix.into()), Counts::WithBody);
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .build(patterns.iter().map(|pattern| pattern.as_slice()))
            .expect("a few short patterns make an automaton");
        let tokens = prefixes.iter().map(|prefix| prefix.len() + MAX_BODY);
        let longest = patterns.iter().map(|pattern| pattern.len()).chain(tokens).max();
        let sorted = seen.into_iter().map(Zeroizing::new).collect();
        Self(Arc::new(Known {
            automaton,
            forms,
            sorted,
            longest: longest.unwrap_or(0),
        }))
    }

    /// Starts on a stream of bytes.
    pub fn stream(&self, marks: Marks) -> Redacting {
        Redacting {
            known: Arc::clone(&self.0),
            marks,
            held: Vec::new(),
            before: None,
            covered: 0,
            touched: false,
        }
    }

    /// A whole text without its secrets.
    pub fn text(&self, text: &str) -> String {
        let mut stream = self.stream(Marks::Named);
        let mut out = Vec::with_capacity(text.len());
        stream.push(text.as_bytes(), &mut out);
        stream.finish(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }
}

/// Cuts secrets out of one stream.
pub struct Redacting {
    known: Arc<Known>,
    marks: Marks,
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
        let known = Arc::clone(&self.known);
        self.held.extend_from_slice(bytes);
        let settled = known.settled(&self.held);
        self.tell(&known, settled, out);
    }

    /// The stream has ended: adds the rest.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let known = Arc::clone(&self.known);
        self.tell(&known, self.held.len(), out);
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
                match self.marks {
                    Marks::Named => out.extend_from_slice(format!("[redacted:{}]", known.name(&found)).as_bytes()),
                    Marks::Nameless => out.extend_from_slice(b"[redacted]"),
                    Marks::Bare => out.extend_from_slice(known.name(&found).as_bytes()),
                }
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
            .filter(|hit| hit.start() < settled)
            .filter_map(|hit| {
                let form = hit.pattern().as_usize();
                let end = self.end(&text[..hit.end()], &text[hit.end()..], hit.start(), before, form)?;
                let start = hit.start();
                Some(Found { start, end, form })
            })
            .collect();
        found.sort_by_key(|found| (found.start, std::cmp::Reverse(found.end), found.form));
        found
    }

    fn name(&self, found: &Found) -> &str {
        &self.forms[found.form].name
    }

    /// Where the occurrence of a form ends that was found from `start` to the end of `text`, if it counts as one. `after`
    /// follows it, and `before` stands ahead of all.
    fn end(&self, text: &[u8], after: &[u8], start: usize, before: Option<u8>, form: usize) -> Option<usize> {
        let counts = match self.forms[form].counts {
            Counts::Anywhere => true,
            Counts::Alone => {
                let ahead = start.checked_sub(1).map_or(before, |at| Some(text[at]));
                !(is_word(ahead) || is_word(after.first().copied()))
            }
            Counts::WithBody => {
                let body = body(&text[start..], after);
                return (body >= MIN_BODY).then_some(text.len() + body);
            }
        };
        counts.then_some(text.len())
    }

    /// How much of `text` no occurrence can begin in that is not whole already: up to its first end that begins a form.
    fn settled(&self, text: &[u8]) -> usize {
        let first = text.len().saturating_sub(self.longest);
        (first..text.len())
            .find(|&at| self.begins_a_form(&text[at..]) || is_growing_token(&text[at..]))
            .unwrap_or(text.len())
    }

    /// A form that is whole counts too: what stands behind it may matter.
    fn begins_a_form(&self, end: &[u8]) -> bool {
        let at = self.sorted.partition_point(|form| form.as_slice() < end);
        self.sorted.get(at).is_some_and(|form| form.starts_with(end))
    }
}

/// Whether a text is a token whose body may go on behind it.
fn is_growing_token(text: &[u8]) -> bool {
    let prefix = TOKENS.iter().find(|prefix| text.starts_with(prefix.as_bytes()));
    prefix.is_some_and(|prefix| {
        let (prefix, after) = text.split_at(prefix.len());
        after.len() < MAX_BODY && body(prefix, after) == after.len()
    })
}

/// How many bytes of a token's body follow its beginning.
fn body(prefix: &[u8], after: &[u8]) -> usize {
    // Webhook secrets are ordinary base64, all others are safe in URLs.
    let base64 = prefix == b"whsec_";
    let part = |byte: &u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') || (base64 && matches!(byte, b'+' | b'/' | b'='))
    };
    after.iter().take(MAX_BODY).take_while(|byte| part(byte)).count()
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
        let mut stream = redactor.stream(Marks::Named);
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
    fn c17_75_every_form_is_cut() {
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
    fn c17_101_short_secrets_are_cut_only_where_they_stand_alone() {
        let redactor = redactor(&[("PIN", "hunter22"), ("TINY", "abc")]);
        assert_eq!(
            redactor.text("hunter22 xhunter22 hunter22x \"hunter22\" abc hunter22"),
            "[redacted:PIN] xhunter22 hunter22x \"[redacted:PIN]\" abc [redacted:PIN]"
        );
        assert!(redactor.text(&hex::encode("hunter22")).contains("[redacted:PIN]"));
        assert_eq!(
            self::redactor(&[("TINY", "abcde")]).text("abcde"),
            "abcde",
            "too short to be told"
        );
        let six = self::redactor(&[("SIX", "abc123")]);
        assert_eq!(
            six.text("xabc123 abc1234 abc123_ abc123"),
            "xabc123 abc1234 abc123_ [redacted:SIX]"
        );
    }

    #[test]
    fn tokens_of_ponds_own_are_cut_by_their_shape() {
        let redactor = Redactor::default();
        let body = "0123456789abcdefABCDEF_-";
        for prefix in TOKENS {
            assert_eq!(
                redactor.text(&format!("x{prefix}{body}.y {prefix}{body}")),
                "x[redacted:token].y [redacted:token]",
                "{prefix}"
            );
            for mention in [format!("{prefix}…"), format!("{prefix}KEY"), format!("{prefix} {body}")] {
                assert_eq!(redactor.text(&mention), mention);
            }
        }
        assert_eq!(redactor.text(&format!("whsec_{body}+/==\"")), "[redacted:token]\"");
        assert_eq!(redactor.text(&format!("pond_pk_{body}/runs")), "[redacted:token]/runs");
        let long = format!("pond_wk_{}", "a".repeat(MAX_BODY + 3));
        assert_eq!(redactor.text(&long), "[redacted:token]aaa");
    }

    #[test]
    fn c17_101_artifacts_and_readers_who_may_not_know_get_no_name() {
        let redactor = redactor(&[("KEY", LONG)]);
        let mut stream = redactor.stream(Marks::Nameless);
        let mut out = Vec::new();
        stream.push(format!("<{LONG}>").as_bytes(), &mut out);
        stream.finish(&mut out);
        assert_eq!(out, b"<[redacted]>");
        assert!(stream.touched());
        for (text, told) in [
            ("a [redacted:KEY] b [redacted:MY-KEY_2]", "a [redacted] b [redacted]"),
            ("[redacted:token]", "[redacted]"),
            ("[redacted:no name] [redacted:", "[redacted:no name] [redacted:"),
            ("[redacted:[redacted:A]]", "[redacted:[redacted]]"),
            ("plain", "plain"),
        ] {
            assert_eq!(without_names(text), told);
        }
    }

    #[test]
    fn what_stood_for_a_secret_stands_there_again() {
        let (secret, own) = (Secret::new(LONG), Secret::new("0123456789abcdefABCDEF"));
        let back = Redactor::back([("instead", &secret), ("other", &own)]);
        let mut stream = back.stream(Marks::Bare);
        let mut out = Vec::new();
        stream.push(
            format!("<{LONG}> {} pond_pk_{}", hex::encode(LONG), own.expose()).as_bytes(),
            &mut out,
        );
        stream.finish(&mut out);
        assert_eq!(String::from_utf8_lossy(&out), "<instead> instead pond_pk_other");
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
        let mut stream = redactor.stream(Marks::Named);
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
            pieces in proptest::collection::vec((0..14usize, "[ab\"/ ü%=\\\\]{0,6}"), 0..12),
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
                    7 => text.push_str(&format!("pond_ec_{}", "aB".repeat(MIN_BODY))),
                    8 => text.push_str(&format!("whsec_{}", "a".repeat(MAX_BODY + 1))),
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
            prop_assert!(!whole.contains("pond_ec_aB") && !whole.contains("whsec_aaaaaaaaaaaaaaaa"), "{}", whole);
        }
    }
}
