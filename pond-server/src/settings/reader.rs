//! Reads single settings, and remembers what was asked for and what was wrong.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use pond_core::secret::Secret;

use super::Environment;

/// The longest file that holds a secret.
const MAX_SECRET_FILE: u64 = 64 << 10;

/// A setting that does not read. Its value is not told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {why}")]
pub struct BadSetting {
    /// The variable.
    pub variable: String,
    /// What is wrong, and what would be right.
    pub why: String,
}

pub(super) struct Reader<'e> {
    environment: &'e Environment,
    asked: BTreeSet<String>,
    bad: Vec<BadSetting>,
}

impl<'e> Reader<'e> {
    pub(super) fn new(environment: &'e Environment) -> Self {
        Self {
            environment,
            asked: BTreeSet::new(),
            bad: Vec::new(),
        }
    }

    pub(super) fn bad(&mut self, variable: &str, why: impl Into<String>) {
        self.bad.push(BadSetting {
            variable: variable.to_owned(),
            why: why.into(),
        });
    }

    pub(super) fn knows(&self, variable: &str) -> bool {
        self.asked.contains(variable)
    }

    pub(super) fn done(self) -> Result<(), Vec<BadSetting>> {
        if self.bad.is_empty() { Ok(()) } else { Err(self.bad) }
    }

    /// All of it, for what reads the settings of other programs.
    pub(super) fn environment(&self) -> &'e Environment {
        self.environment
    }

    /// A text; one that is empty is not set.
    pub(super) fn text(&mut self, variable: &str) -> Option<&'e str> {
        self.asked.insert(variable.to_owned());
        self.environment
            .get(variable)
            .map(|text| text.trim())
            .filter(|text| !text.is_empty())
    }

    /// A value that reads itself.
    pub(super) fn parsed<T>(&mut self, variable: &str, read: impl Fn(&str) -> Option<T>, expected: &str) -> Option<T> {
        let found = read(self.text(variable)?);
        if found.is_none() {
            self.bad(variable, format!("expected {expected}"));
        }
        found
    }

    pub(super) fn number(&mut self, variable: &str, default: u64, bounds: RangeInclusive<u64>) -> u64 {
        let expected = format!("a whole number from {} to {}", bounds.start(), bounds.end());
        let read = |text: &str| text.parse().ok().filter(|number| bounds.contains(number));
        self.parsed(variable, read, &expected).unwrap_or(default)
    }

    pub(super) fn seconds(&mut self, variable: &str, default: Duration, bounds: RangeInclusive<u64>) -> Duration {
        Duration::from_secs(self.number(variable, default.as_secs(), bounds))
    }

    /// A number of bytes.
    pub(super) fn bytes(&mut self, variable: &str, default: u64) -> u64 {
        self.number(variable, default, 1..=1 << 50)
    }

    pub(super) fn boolean(&mut self, variable: &str) -> Option<bool> {
        let read = |text: &str| match text {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        };
        self.parsed(variable, read, "true or false")
    }

    pub(super) fn path(&mut self, variable: &str) -> Option<PathBuf> {
        self.text(variable).map(PathBuf::from)
    }

    /// A secret, from the variable or from the file that `…_FILE` names.
    pub(super) fn secret(&mut self, variable: &str) -> Option<Secret> {
        let file_variable = format!("{variable}_FILE");
        let (text, file) = (self.text(variable), self.path(&file_variable));
        match (text, file) {
            (Some(_), Some(_)) => {
                self.bad(variable, format!("is set, and so is {file_variable}: set one of them"));
                None
            }
            (Some(text), None) => Some(Secret::new(text)),
            (None, Some(file)) => match secret_file(&file) {
                Ok(secret) => Some(secret),
                Err(why) => {
                    self.bad(&file_variable, why);
                    None
                }
            },
            (None, None) => None,
        }
    }
}

fn secret_file(path: &std::path::Path) -> Result<Secret, String> {
    use std::io::Read;
    let mut text = zeroize::Zeroizing::new(String::new());
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_SECRET_FILE).read_to_string(&mut text));
    read.map_err(|error| format!("the file cannot be read: {}", error.kind()))?;
    let text = text.trim();
    if text.is_empty() {
        return Err("the file is empty".into());
    }
    Ok(Secret::new(text))
}
