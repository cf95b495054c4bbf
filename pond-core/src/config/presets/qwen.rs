//! `qwen`: Qwen Code over the Chat wire. It takes the prompt from standard input, the broker's address and the dummy key
//! from the environment (`OPENAI_BASE_URL`, `OPENAI_API_KEY`).

use super::Preset;

pub(super) const PRESET: Preset = Preset {
    key: "qwen",
    aliases: &[],
    label: "Qwen Code",
    wire: Some("chat"),
    verified: false,
    command: &["qwen", "--model", "{{MODEL}}", "--yolo"],
    files: &[(
        ".qwen/settings.json",
        r#"{
  "general": { "disableAutoUpdate": true, "disableUpdateNag": true },
  "privacy": { "usageStatisticsEnabled": false },
  "telemetry": { "enabled": false },
  "tools": { "sandbox": false },
  "security": {
    "auth": { "selectedType": "openai" },
    "folderTrust": { "enabled": false }
  }
}
"#,
    )],
};
