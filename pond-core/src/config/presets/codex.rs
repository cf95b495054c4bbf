//! `codex`: Codex CLI over the Responses wire. Its own sandbox is off inside ours.

use super::Preset;

pub(super) const PRESET: Preset = Preset {
    key: "codex",
    aliases: &["codex-cli", "codex-brokered"],
    label: "Codex",
    wire: Some("responses"),
    verified: false,
    command: &[
        "codex",
        "exec",
        "--skip-git-repo-check",
        "--dangerously-bypass-approvals-and-sandbox",
        "-m",
        "{{MODEL}}",
        "-",
    ],
    files: &[(
        ".codex/config.toml",
        r#"model = "{{MODEL}}"
model_provider = "pond"
check_for_update_on_startup = false
web_search = "disabled"

[model_providers.pond]
name = "Pond broker"
base_url = "{{BROKER_URL}}/v1"
env_key = "OPENAI_API_KEY"
wire_api = "responses"

[analytics]
enabled = false
"#,
    )],
};
