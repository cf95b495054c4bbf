//! What came of a battery, for people and for programs.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pond_core::pool::WorkerSecretKeys;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// As whom the worker of a battery runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Privilege {
    /// The host's root, which gives each job a uid of its own.
    Root,
    /// A user without privileges.
    User,
}

impl Privilege {
    /// As reports spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::User => "user",
        }
    }
}

/// One case on one backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The case.
    pub name: String,
    /// Its group.
    pub group: String,
    /// The backend.
    pub backend: String,
    /// As whom the worker ran.
    pub privilege: Privilege,
    /// How far the job was confined.
    pub profile: String,
    /// Whether it was held.
    pub held: bool,
    /// What shows it.
    pub detail: String,
}

/// A case that was not shown to succeed without a sandbox, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotShown {
    /// The case.
    pub name: String,
    /// As whom.
    pub privilege: Privilege,
    /// The reason.
    pub reason: String,
}

/// The battery's outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// All cases on all backends.
    pub cases: Vec<Finding>,
    /// How many controls succeeded.
    pub shown: usize,
    /// The other controls.
    pub not_shown: Vec<NotShown>,
}

impl Report {
    /// Whether everything was held, and something was tried at all.
    pub fn all_held(&self) -> bool {
        !self.cases.is_empty() && self.cases.iter().all(|finding| finding.held)
    }

    pub(super) fn add(&mut self, other: Self) {
        self.cases.extend(other.cases);
        self.shown += other.shown;
        self.not_shown.extend(other.not_shown);
    }

    /// The text for people: what broke, then a line per backend.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.cases {
            let verdict = if finding.held { "held  " } else { "BROKEN" };
            let Finding {
                name,
                group,
                backend,
                profile,
                ..
            } = finding;
            let privilege = finding.privilege.as_str();
            let _ = write!(text, "{verdict} {backend} {privilege} {profile} {group}/{name}");
            let _ = match finding.held {
                true => writeln!(text),
                false => writeln!(text, ": {}", finding.detail),
            };
        }
        let broken = self.cases.iter().filter(|finding| !finding.held).count();
        let held = self.cases.len() - broken;
        let _ = writeln!(text, "{held} held, {broken} broken");
        let (shown, not_shown) = (self.shown, self.not_shown.len());
        let _ = writeln!(
            text,
            "{shown} controls succeeded without a sandbox, {not_shown} could not:"
        );
        for NotShown {
            name,
            privilege,
            reason,
        } in &self.not_shown
        {
            let _ = writeln!(text, "  {name} ({}): {reason}", privilege.as_str());
        }
        text
    }

    /// The document for programs, signed by the worker's key where there is one, over its RFC 8785 form without `signature`.
    pub fn document(&self, at: i64, keys: Option<&WorkerSecretKeys>) -> Value {
        let mut document = json!({
            "cases": self.cases,
            "controls": {"shown": self.shown, "not_shown": self.not_shown},
            "held": self.all_held(),
            "at": at,
        });
        if let Some(keys) = keys {
            let bytes = serde_json_canonicalizer::to_vec(&document).expect("texts, numbers and truth values alone");
            document["signature"] = json!({
                "key": STANDARD.encode(keys.public().ed25519),
                "fingerprint": keys.public().fingerprint(),
                "value": STANDARD.encode(keys.attest(&bytes)),
            });
        }
        document
    }
}
