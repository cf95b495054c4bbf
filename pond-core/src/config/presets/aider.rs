//! `aider`: Aider over the Chat wire. It makes its edits for one message and ends; commits are not its business here.

use super::Preset;

pub(super) const PRESET: Preset = Preset {
    key: "aider",
    aliases: &[],
    label: "Aider",
    wire: Some("chat"),
    verified: false,
    command: &[
        "aider",
        "--model",
        "openai/{{MODEL}}",
        "--openai-api-base",
        "{{BROKER_URL}}/v1",
        "--message",
        "{{PROMPT}}",
        "--yes-always",
        "--no-auto-commits",
        "--no-gitignore",
        "--no-check-update",
        "--no-show-release-notes",
        "--no-show-model-warnings",
        "--analytics-disable",
        "--no-pretty",
    ],
    files: &[],
};
