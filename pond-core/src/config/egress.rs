//! Egress rules: where sandboxes may connect to. An entry is known by its host rule, in the one spelling of it.

use serde::{Deserialize, Serialize};

use super::{EntryKind, Record};
use crate::body::Object;
use crate::outbound::HostPattern;

/// What a rule says of its hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EgressAction {
    /// They may be reached.
    #[default]
    Allow,
    /// They may not, whatever else allows them.
    Deny,
}

impl EgressAction {
    /// All of them, as the API spells them.
    pub const ALL: [(&'static str, Self); 2] = [("allow", Self::Allow), ("deny", Self::Deny)];

    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// An egress rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressRule {
    /// The hosts it is about.
    pub host: HostPattern,
    /// What it says of them.
    pub action: EgressAction,
    /// Whether a plain connection may be turned into another protocol (`Upgrade`).
    pub upgrade: bool,
}

impl Record for EgressRule {
    const KIND: EntryKind = EntryKind::Egress;

    fn name(&self) -> &str {
        self.host.as_str()
    }

    fn read(object: &mut Object<'_>) -> Option<Self> {
        let host = object.required_text("host").and_then(|text| {
            let read = HostPattern::parse(text);
            read.map_err(|bad| object.fault("host", bad.to_string())).ok()
        });
        let action = match object.text("action") {
            None => EgressAction::default(),
            Some(text) => {
                let known = EgressAction::ALL.iter().find(|(name, _)| *name == text);
                if known.is_none() {
                    object.fault("action", "expected allow or deny");
                }
                known.map(|(_, action)| *action).unwrap_or_default()
            }
        };
        let upgrade = object.boolean("upgrade").unwrap_or(false);
        Some(Self {
            host: host?,
            action,
            upgrade,
        })
    }
}
