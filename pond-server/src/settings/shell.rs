//! How `shell` stages are confined on this host.

use pond_worker::host::ShellSandbox;

use super::reader::Reader;

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
