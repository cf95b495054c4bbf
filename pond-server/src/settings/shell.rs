//! How `shell` stages are confined on this host.

use super::reader::Reader;

/// How `shell` stages are confined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ShellSandbox {
    /// In bubblewrap, without network.
    #[default]
    Bubblewrap,
    /// Not at all: with all that the server itself may do.
    None,
}

pub(super) fn read(reader: &mut Reader<'_>) -> ShellSandbox {
    let choice = |text: &str| match text {
        "bubblewrap" => Some(ShellSandbox::Bubblewrap),
        "none" => Some(ShellSandbox::None),
        _ => None,
    };
    reader
        .parsed("POND_SHELL_SANDBOX", choice, "bubblewrap or none")
        .unwrap_or_default()
}
