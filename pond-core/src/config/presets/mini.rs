//! `mini`: Pond's own agent loop, run by the worker; its tools act in the sandbox.

use super::{MINI, Preset};

pub(super) const PRESET: Preset = Preset {
    key: "mini",
    aliases: &[],
    label: "Pond mini",
    wire: None,
    verified: true,
    command: &[MINI, "{{MODEL}}"],
    files: &[],
};
