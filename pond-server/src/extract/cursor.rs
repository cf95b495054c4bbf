//! Opaque cursors: base64 of a small JSON value, which may change shape from version to version.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest cursor that is read.
const MAX: usize = 2048;

/// Writes a place in a list.
pub(crate) fn write_cursor<T: Serialize>(place: &T) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(place).unwrap_or_default())
}

/// Reads a place in a list; none when the text is no cursor.
pub(crate) fn read_cursor<T: DeserializeOwned>(text: &str) -> Option<T> {
    if text.len() > MAX {
        return None;
    }
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_anything_else_does_not() {
        let cursor = write_cursor(&(17i64, "x".to_owned()));
        assert_eq!(read_cursor(&cursor), Some((17i64, "x".to_owned())));
        for bad in ["", "!", "e30", "bm9wZQ", &"A".repeat(3000)] {
            assert_eq!(read_cursor::<(i64, String)>(bad), None, "{bad}");
        }
    }
}
