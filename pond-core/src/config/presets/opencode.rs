//! `opencode`: OpenCode over the Chat wire, with the broker as a provider of its own. It takes the prompt from standard
//! input.

use super::Preset;

pub(super) const PRESET: Preset = Preset {
    key: "opencode",
    aliases: &[],
    label: "OpenCode",
    wire: Some("chat"),
    verified: false,
    command: &["opencode", "run", "--model", "pond/{{MODEL}}"],
    files: &[(
        ".config/opencode/opencode.json",
        r#"{
  "autoupdate": false,
  "share": "disabled",
  "permission": { "edit": "allow", "bash": "allow", "webfetch": "deny" },
  "provider": {
    "pond": {
      "npm": "@ai-sdk/openai-compatible",
      "name": "Pond broker",
      "options": { "baseURL": "{{BROKER_URL}}/v1", "apiKey": "{env:OPENAI_API_KEY}" },
      "models": { "{{MODEL}}": { "name": "{{MODEL}}" } }
    }
  }
}
"#,
    )],
};
