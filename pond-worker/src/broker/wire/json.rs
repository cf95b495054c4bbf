//! Request bodies as the broker judges them: strictly, so that no provider can read them in another way.
//!
//! A body passes on byte for byte, so whatever two parsers could see differently is refused here: a key that stands twice
//! in one object, and, for the words that decisions hang on, two spellings in different case (some providers' parsers
//! match keys without regard to case; so does [`Json::get`]).

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Values in one body; past it a small body could take a great deal of memory.
const MAX_NODES: u32 = 250_000;

/// Keys up to which an object's are compared one by one.
const SMALL_OBJECT: usize = 8;

/// The words whose value decides something. A second spelling of one in the same object is refused.
const DECIDING: [&str; 36] = [
    "audio_url",
    "background",
    "container",
    "content",
    "conversation",
    "definition",
    "environment",
    "execution",
    "fallbacks",
    "file",
    "file_data",
    "file_id",
    "file_url",
    "id",
    "image_url",
    "include_usage",
    "input",
    "mcp_servers",
    "messages",
    "model",
    "models",
    "plugins",
    "preset",
    "previous_response_id",
    "prompt",
    "source",
    "store",
    "stream",
    "stream_options",
    "system",
    "thread",
    "tools",
    "type",
    "url",
    "video_url",
    "web_search_options",
];

/// A parsed body. Numbers decide nothing and are not kept.
#[derive(Debug, PartialEq)]
pub enum Json<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// Any number.
    Number,
    /// A string.
    String(Cow<'a, str>),
    /// An array.
    Array(Vec<Json<'a>>),
    /// An object, in its own order.
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

/// Why a body is refused.
#[derive(Debug, thiserror::Error)]
#[error("the body is not JSON that every reader reads alike: {0}")]
pub struct BadJson(#[from] serde_json::Error);

impl<'a> Json<'a> {
    /// Reads a whole body.
    ///
    /// # Errors
    /// When it is no JSON, has a key twice, is nested deeper than 128 or holds more than 250,000 values.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BadJson> {
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let left = Cell::new(MAX_NODES);
        let value = Node { left: &left }.deserialize(&mut reader)?;
        reader.end()?;
        Ok(value)
    }

    /// The value of a key, in whatever case; `null` counts as absent.
    pub fn get(&self, name: &str) -> Option<&Json<'a>> {
        let Self::Object(entries) = self else { return None };
        let found = entries.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value).filter(|value| **value != Json::Null)
    }

    /// The text of a key.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Self::as_text)
    }

    /// Its text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// Whether a key has this very boolean.
    pub fn is(&self, name: &str, value: bool) -> bool {
        self.get(name) == Some(&Json::Bool(value))
    }
}

#[derive(Clone, Copy)]
struct Node<'c> {
    left: &'c Cell<u32>,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Json<'de>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Json<'de>, D::Error> {
        let left = self
            .left
            .get()
            .checked_sub(1)
            .ok_or_else(|| D::Error::custom("too many values"))?;
        self.left.set(left);
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Json<'de>, E> {
        Ok(Json::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json<'de>, E> {
        Ok(Json::Number)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::String(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::String(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json<'de>, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key_seed(Key)? {
            entries.push((key, map.next_value_seed(self)?));
        }
        if let Some(key) = repeated(&entries) {
            return Err(A::Error::custom(format_args!(
                "the key `{}` stands twice in one object",
                key.escape_debug()
            )));
        }
        Ok(Json::Object(entries))
    }
}

struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Cow<'de, str>, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

fn repeated<'e>(entries: &'e [(Cow<'_, str>, Json<'_>)]) -> Option<&'e str> {
    let mut keys = entries.iter().map(|(key, _)| key.as_ref());
    // Most objects are small, and a set would cost more than it saves.
    if entries.len() <= SMALL_OBJECT {
        let before = |at: usize, key: &str| entries[..at].iter().any(|(other, _)| folded(other) == folded(key));
        return keys.enumerate().find(|(at, key)| before(*at, key)).map(|(_, key)| key);
    }
    let mut seen = HashSet::with_capacity(entries.len());
    keys.find(|key| !seen.insert(folded(key)))
}

/// The key as the strictest reader would tell it apart from others.
fn folded(key: &str) -> Cow<'_, str> {
    let deciding = DECIDING.iter().find(|word| word.eq_ignore_ascii_case(key));
    deciding.map_or(Cow::Borrowed(key), |word| Cow::Borrowed(*word))
}

/// A change to a body on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Sets a key of the body to this JSON text.
    Set(&'static str, &'static str),
    /// Sets a key of an object of the body, made if absent.
    SetIn(&'static str, &'static str, &'static str),
}

impl Edit {
    fn key(&self) -> &'static str {
        match self {
            Self::Set(key, _) | Self::SetIn(key, _, _) => key,
        }
    }

    fn apply(&self, old: Option<&str>) -> Result<String, BadJson> {
        match self {
            Self::Set(_, value) => Ok((*value).to_owned()),
            Self::SetIn(_, key, value) => match old {
                Some(old) if old.trim_start().starts_with('{') => {
                    let edited = edit(old.as_bytes(), &[Edit::Set(key, value)])?;
                    Ok(String::from_utf8_lossy(&edited).into_owned())
                }
                _ => Ok(format!("{{\"{key}\":{value}}}")),
            },
        }
    }
}

/// The body with its edits; every value that is not edited stays byte for byte.
///
/// # Errors
/// When the body is no JSON object.
pub fn edit(body: &[u8], edits: &[Edit]) -> Result<Vec<u8>, BadJson> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let entries = reader.deserialize_map(Entries)?;
    let mut out = Vec::with_capacity(body.len() + 64);
    let mut write = |key: &str, value: &str| -> Result<(), BadJson> {
        out.push(if out.is_empty() { b'{' } else { b',' });
        serde_json::to_writer(&mut out, key)?;
        out.push(b':');
        out.extend_from_slice(value.as_bytes());
        Ok(())
    };
    for (key, value) in &entries {
        match edits.iter().find(|edit| edit.key().eq_ignore_ascii_case(key)) {
            Some(edit) => write(edit.key(), &edit.apply(Some(value.get()))?)?,
            None => write(key, value.get())?,
        }
    }
    for edit in edits {
        if !entries.iter().any(|(key, _)| edit.key().eq_ignore_ascii_case(key)) {
            write(edit.key(), &edit.apply(None)?)?;
        }
    }
    if out.is_empty() {
        out.push(b'{');
    }
    out.push(b'}');
    Ok(out)
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key_seed(Key)? {
            entries.push((key, map.next_value()?));
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for bad in [
            r#"{"model":"a","model":"b"}"#,
            r#"{"model":"a","mo\u0064el":"b"}"#,
            r#"{"model":"a","Model":"b"}"#,
            r#"{"tools":[{"type":"function","TYPE":"mcp"}]}"#,
            r#"{"a":{"b":1,"b":2}}"#,
            r#"{"a":1} {"a":2}"#,
            r#"{"a":"\ud800"}"#,
            "{\"a\":\"\u{1}\"}",
            "{'a':1}",
            r#"{"a":1,}"#,
            "",
        ] {
            assert!(Json::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Json::parse(b"{\"a\":\"\xff\"}").is_err());
        let schema = br#"{"Path":1,"path":2}"#;
        assert!(
            Json::parse(schema).is_ok(),
            "keys that decide nothing may differ in case"
        );
    }

    #[test]
    fn a_repeated_key_is_found_in_large_objects_too() {
        let keys = |last: &str| {
            let first: String = (0..40).map(|n| format!("\"k{n}\":0,")).collect();
            format!("{{{first}\"model\":1,\"{last}\":2}}")
        };
        assert!(Json::parse(keys("k41").as_bytes()).is_ok());
        for repeated in ["k7", "model", "MODEL"] {
            assert!(Json::parse(keys(repeated).as_bytes()).is_err(), "{repeated}");
        }
    }

    #[test]
    fn depth_and_count_are_bounded() {
        let deep = "[".repeat(200) + &"]".repeat(200);
        assert!(Json::parse(deep.as_bytes()).is_err());
        let wide = format!("[{}0]", "0,".repeat(300_000));
        assert!(Json::parse(wide.as_bytes()).is_err());
    }

    #[test]
    fn keys_are_found_in_any_case() {
        let body = Json::parse(br#"{"Tools":[{"Type":"mcp"}],"store":null}"#).expect("valid");
        let tool = Json::parse(br#"{"Type":"mcp"}"#).expect("valid");
        assert_eq!(tool.text("type"), Some("mcp"));
        assert_eq!(body.get("tools"), Some(&Json::Array(vec![tool])));
        assert_eq!(body.get("store"), None);
    }

    #[test]
    fn edits_leave_all_else_as_it_was() {
        let body = br#" { "temperature" : 0.10, "stream_options": {"x": 1e2, "include_usage":false}, "n":12345678901234567890123 } "#;
        let edits = [
            Edit::SetIn("stream_options", "include_usage", "true"),
            Edit::Set("store", "false"),
        ];
        let edited = edit(body, &edits).expect("an object");
        assert_eq!(
            std::str::from_utf8(&edited).expect("text"),
            r#"{"temperature":0.10,"stream_options":{"x":1e2,"include_usage":true},"n":12345678901234567890123,"store":false}"#
        );
        assert_eq!(edit(b"{}", &edits[1..]).expect("an object"), br#"{"store":false}"#);
        let null = edit(br#"{"stream_options":null}"#, &edits[..1]).expect("an object");
        assert_eq!(null, br#"{"stream_options":{"include_usage":true}}"#);
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Json::parse(&bytes);
        }

        #[test]
        fn edited_objects_parse_again(text in "[a-z\"\\\\{}:,0-9 ]{0,40}") {
            let body = serde_json::json!({ "prompt": text }).to_string();
            let edited = edit(body.as_bytes(), &[Edit::Set("store", "false")]).expect("an object");
            let parsed = Json::parse(&edited).expect("still JSON");
            prop_assert_eq!(parsed.text("prompt"), Some(text.as_str()));
            prop_assert!(parsed.is("store", false));
        }
    }
}
