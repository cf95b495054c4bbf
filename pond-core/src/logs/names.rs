//! Who sees the names of secrets in what was redacted: readers without admin do not, so that redaction answers no guess.

use std::borrow::Cow;

use super::without_names;

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
            Self::Hidden => without_names(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c17_101_who_is_not_admin_sees_no_name() {
        let stored = "a [redacted:KEY] b[redacted:OTHER_2]";
        assert_eq!(SecretNames::Hidden.show(stored), "a [redacted] b[redacted]");
        assert_eq!(SecretNames::Shown.show(stored), stored);
        assert_eq!(SecretNames::Hidden.show("plain [text]"), "plain [text]");
    }
}
