//! `goose`: Goose over the Chat wire. It takes the prompt from standard input.

use super::Preset;

pub(super) const PRESET: Preset = Preset {
    key: "goose",
    aliases: &[],
    label: "Goose",
    wire: Some("chat"),
    verified: false,
    command: &["goose", "run", "--no-session", "--instructions", "-"],
    files: &[(
        ".config/goose/config.yaml",
        "GOOSE_PROVIDER: openai
GOOSE_MODEL: \"{{MODEL}}\"
GOOSE_MODE: auto
GOOSE_DISABLE_KEYRING: \"true\"
GOOSE_TELEMETRY_ENABLED: false
OPENAI_HOST: \"{{BROKER_URL}}\"
extensions:
  developer:
    enabled: true
    type: builtin
    name: developer
    timeout: 300
",
    )],
};
