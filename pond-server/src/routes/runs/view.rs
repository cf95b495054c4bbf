//! How much of a run's texts a caller may read: the names of the secrets that were cut out are for admins.

use pond_core::keys::{Action, Principal, may};
use pond_core::logs::without_names;

/// How texts of a run are shown. Every log line and every message of a failure passes here on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// As they are stored.
    Whole,
    /// Without the names of secrets, so that redaction answers no guess.
    Nameless,
}

impl View {
    /// What this caller may read.
    pub(super) fn of(caller: &Principal) -> Self {
        match may(caller, Action::Admin, caller.scope()) {
            Ok(()) => Self::Whole,
            Err(_) => Self::Nameless,
        }
    }

    /// A text as it may be read.
    pub(super) fn text(self, text: &str) -> String {
        match self {
            Self::Whole => text.to_owned(),
            Self::Nameless => without_names(text).into_owned(),
        }
    }
}
