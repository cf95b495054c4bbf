//! `claude`: Claude Code. It takes the prompt from standard input with `-p`, the broker's address and the dummy key from
//! the environment (`ANTHROPIC_BASE_URL`, `ANTHROPIC_API_KEY`). It prints its last answer as text: in its JSON, fenced blocks
//! could not be found by a stage's `parse`.

use super::Preset;

pub(super) const PRESET: Preset = Preset {
    key: "claude",
    aliases: &["claude-code"],
    label: "Claude Code",
    wire: Some("anthropic"),
    verified: true,
    command: &[
        "claude",
        "-p",
        "--model",
        "{{MODEL}}",
        "--dangerously-skip-permissions",
        "--output-format",
        "text",
    ],
    files: &[(
        ".claude/settings.json",
        r#"{
  "env": {
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_TELEMETRY": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"
  }
}
"#,
    )],
};
