//! `mini-swe-agent`: over the Chat wire. Its first-run questions and its price list, which knows no brokered model, are off.

use super::Preset;

pub(super) const PRESET: Preset = Preset {
    key: "mini-swe-agent",
    aliases: &[],
    label: "mini-swe-agent",
    wire: Some("chat"),
    verified: false,
    command: &[
        "mini",
        "--model",
        "openai/{{MODEL}}",
        "--task",
        "{{PROMPT}}",
        "--yolo",
        "--exit-immediately",
    ],
    files: &[(
        ".config/mini-swe-agent/.env",
        "MSWEA_CONFIGURED='true'
MSWEA_SILENT_STARTUP='1'
MSWEA_COST_TRACKING='ignore_errors'
OPENAI_API_BASE='{{BROKER_URL}}/v1'
",
    )],
};
