//! `codex`: Codex CLI over the Responses wire. It takes the prompt from standard input. Its own sandbox is off inside ours;
//! so are the search of its provider, which the broker would refuse every request for, and the plug-ins, whose catalogue
//! it would fetch at each start.

use super::Preset;

pub(super) const PRESET: Preset = Preset {
    key: "codex",
    aliases: &["codex-cli", "codex-brokered"],
    label: "Codex",
    wire: Some("responses"),
    verified: true,
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

[features]
plugins = false
"#,
    )],
};
