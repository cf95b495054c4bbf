//! Presets: the agent programs that people use, ready to register as harnesses. One file and one line each.
//!
//! A preset sets the arguments and files that make its program speak to the broker, and switches the program's own
//! telemetry, update check and second sandbox off.

use super::{Harness, HarnessFile};

mod aider;
mod claude;
mod codex;
mod gemini;
mod goose;
mod mini;
mod mini_swe_agent;
mod opencode;
mod qwen;
mod shell;

/// A preset.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// Its key.
    pub key: &'static str,
    /// Other names of it.
    pub aliases: &'static [&'static str],
    /// Its name for people.
    pub label: &'static str,
    /// The wire that its program speaks; none needs no model.
    pub wire: Option<&'static str>,
    /// Whether the program itself was tried with it.
    pub verified: bool,
    /// Program and arguments.
    pub command: &'static [&'static str],
    /// Files for its home folder: path and template.
    pub files: &'static [(&'static str, &'static str)],
}

/// All of them.
pub const PRESETS: &[Preset] = &[
    codex::PRESET,
    claude::PRESET,
    mini::PRESET,
    opencode::PRESET,
    gemini::PRESET,
    qwen::PRESET,
    aider::PRESET,
    mini_swe_agent::PRESET,
    goose::PRESET,
    shell::PRESET,
];

/// The first word of the command that stands for Pond's own agent loop.
pub const MINI: &str = "@mini";

impl Preset {
    /// The preset of this key or alias.
    pub fn find(name: &str) -> Option<&'static Self> {
        PRESETS
            .iter()
            .find(|preset| preset.key == name || preset.aliases.contains(&name))
    }

    /// The key that a name stands for: itself, unless it is an alias.
    pub fn key_of(name: &str) -> &str {
        Self::find(name).map_or(name, |preset| preset.key)
    }

    /// A harness made of it.
    pub fn harness(&self, key: &str, label: Option<String>) -> Harness {
        let file = |&(path, content): &(&str, &str)| HarnessFile {
            path: path.into(),
            content: content.into(),
        };
        Harness {
            key: key.to_owned(),
            label: Some(label.unwrap_or_else(|| self.label.to_owned())),
            capability: format!("harness.{}", self.key),
            command_template: self.command.iter().map(|&word| word.to_owned()).collect(),
            files: self.files.iter().map(file).collect(),
            wire: self.wire.map(ToOwned::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::body::{Faults, Object};
    use crate::config::Record;

    #[test]
    fn c17_47_every_preset_passes_the_checks_of_a_harness() {
        let keys: Vec<&str> = PRESETS.iter().map(|preset| preset.key).collect();
        let all = "codex claude mini opencode gemini qwen aider mini-swe-agent goose shell";
        assert_eq!(keys.join(" "), all);
        for preset in PRESETS {
            let harness = preset.harness(preset.key, None);
            let files: Vec<_> = harness
                .files
                .iter()
                .map(|file| json!({"path": file.path, "content": file.content}))
                .collect();
            let body = json!({"key": harness.key, "label": harness.label, "capability": harness.capability,
                "command_template": harness.command_template, "files": files, "wire": harness.wire});
            let faults = Faults::new();
            let mut object = Object::read(&body, "", &faults).unwrap();
            assert_eq!(Harness::read(&mut object).as_ref(), Some(&harness), "{}", preset.key);
            object.close();
            assert_eq!(faults.take(), []);
        }
    }

    #[test]
    fn c17_124_aliases_stand_for_their_preset() {
        for (alias, key) in [
            ("claude-code", "claude"),
            ("codex-cli", "codex"),
            ("codex-brokered", "codex"),
            ("gemini-cli", "gemini"),
        ] {
            assert_eq!(Preset::key_of(alias), key);
        }
        assert_eq!(Preset::key_of("own"), "own");
    }
}
