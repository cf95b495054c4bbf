//! `shell`: the prompt is a script for `/bin/sh` in the sandbox; no model.

use super::Preset;

pub(super) const PRESET: Preset = Preset {
    key: "shell",
    aliases: &[],
    label: "Shell",
    wire: None,
    verified: true,
    command: &["/bin/sh", "-s"],
    files: &[],
};
