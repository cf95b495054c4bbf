//! The marks that stand where a secret was: with its name for those who may know it, without for all others.

use std::borrow::Cow;

/// How a mark begins; the name and a bracket follow.
pub(super) const OPEN: &str = "[redacted:";
/// A mark without a name.
const BARE: &str = "[redacted";

/// The mark of a secret.
pub(super) fn mark(name: &str) -> String {
    format!("{OPEN}{name}]")
}

/// A text without the names of the secrets that were cut out of it, so that no guess at a secret is answered by its name. A
/// mark that is cut off at the end of the text loses what there is of its name too.
pub fn without_names(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find(OPEN) else {
        return Cow::Borrowed(text);
    };
    let mut out = String::with_capacity(text.len());
    let (mut told, mut rest) = text.split_at(first);
    while let Some(after) = rest.strip_prefix(OPEN) {
        out.push_str(told);
        out.push_str(BARE);
        let name = after.find(|c: char| !is_of_name(c)).unwrap_or(after.len());
        // The bracket, if it is there, is told with what follows.
        rest = &after[name..];
        (told, rest) = rest.split_at(rest.find(OPEN).unwrap_or(rest.len()));
    }
    out.push_str(told);
    Cow::Owned(out)
}

/// Names of secrets are names of environment variables; some more is taken for one, to be on the safe side.
fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn c17_101_marks_lose_their_names_and_nothing_else_changes() {
        for (text, expected) in [
            ("", ""),
            ("plain [redacted] text", "plain [redacted] text"),
            ("a [redacted:GIT_TOKEN] b", "a [redacted] b"),
            ("[redacted:A][redacted:B2]", "[redacted][redacted]"),
            ("x [redacted:A", "x [redacted"),
            ("[redacted:", "[redacted"),
            ("[redacted:[redacted:A]]", "[redacted[redacted]]"),
            ("[redacted:A b]", "[redacted b]"),
            ("[redacted::A]", "[redacted]"),
            ("ä[redacted:Ä]", "ä[redactedÄ]"),
        ] {
            assert_eq!(without_names(text), expected, "{text}");
        }
        assert!(matches!(without_names("plain"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn no_mark_keeps_its_name(before in ".{0,20}", name in "[A-Z_][A-Z0-9_]{0,20}", after in ".{0,20}") {
            let text = format!("{before}{}{after}", mark(&name));
            let shown = without_names(&text);
            prop_assert!(!shown.contains(OPEN), "{}", shown);
            prop_assert!(shown.contains("[redacted]"), "{}", shown);
        }
    }
}
