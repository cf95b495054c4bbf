//! Names of secrets in what was redacted: who is not admin does not see them, so that redaction answers no guess.

use std::borrow::Cow;

const OPEN: &str = "[redacted:";
/// The longest name that is looked for.
const MAX_NAME: usize = 256;

/// Whether `[redacted:NAME]` is shown as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretNames {
    /// It is.
    Shown,
    /// `[redacted]` is shown instead.
    Hidden,
}

impl SecretNames {
    /// The text as it is shown.
    pub fn show(self, text: &str) -> Cow<'_, str> {
        match self {
            Self::Shown => text.into(),
            Self::Hidden => hidden(text),
        }
    }
}

fn hidden(text: &str) -> Cow<'_, str> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(start) = rest.find(OPEN) {
        let (before, name) = (&rest[..start], &rest[start + OPEN.len()..]);
        out.push_str(before);
        match name
            .find([']', '[', '\n'])
            .filter(|end| *end <= MAX_NAME && name[*end..].starts_with(']'))
        {
            Some(end) => {
                out.push_str("[redacted]");
                rest = &name[end + 1..];
            }
            None => {
                out.push_str(OPEN);
                rest = name;
            }
        }
    }
    if rest.len() == text.len() {
        return text.into();
    }
    out.push_str(rest);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c17_101_who_is_not_admin_sees_no_name() {
        for (stored, shown) in [
            ("", ""),
            ("plain [text] here", "plain [text] here"),
            ("a [redacted:KEY] b", "a [redacted] b"),
            (
                "[redacted:A][redacted:B_2]\u{e4}[redacted:c.d]",
                "[redacted][redacted]\u{e4}[redacted]",
            ),
            ("[redacted:[redacted:A]]", "[redacted:[redacted]]"),
            ("[redacted:", "[redacted:"),
            ("[redacted:A\n]", "[redacted:A\n]"),
            ("[redacted]", "[redacted]"),
        ] {
            assert_eq!(SecretNames::Hidden.show(stored), shown);
            assert_eq!(SecretNames::Shown.show(stored), stored);
        }
        let long = format!("[redacted:{}]", "x".repeat(300));
        assert_eq!(SecretNames::Hidden.show(&long), long, "no name is as long");
    }
}
