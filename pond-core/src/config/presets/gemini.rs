//! `gemini`: Gemini CLI. It takes the prompt from standard input, the broker's address and the dummy key from the
//! environment (`GOOGLE_GEMINI_BASE_URL`, `GEMINI_API_KEY`).

use super::Preset;

pub(super) const PRESET: Preset = Preset {
    key: "gemini",
    aliases: &["gemini-cli"],
    label: "Gemini CLI",
    wire: Some("gemini"),
    verified: false,
    command: &["gemini", "--model", "{{MODEL}}", "--approval-mode", "yolo"],
    files: &[(
        ".gemini/settings.json",
        r#"{
  "general": { "disableAutoUpdate": true, "disableUpdateNag": true },
  "privacy": { "usageStatisticsEnabled": false },
  "telemetry": { "enabled": false },
  "tools": { "sandbox": false },
  "security": {
    "auth": { "selectedType": "gemini-api-key" },
    "folderTrust": { "enabled": false }
  }
}
"#,
    )],
};
