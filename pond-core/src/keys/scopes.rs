//! What a key may do: scopes such as `runs:read`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Action;

/// A family of the API that keys are let into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Area {
    /// Runs.
    Runs,
    /// Agents, their instances and sessions.
    Agents,
    /// Pods.
    Pods,
    /// Repositories.
    Repos,
    /// External agents.
    External,
}

impl Area {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Runs, Self::Agents, Self::Pods, Self::Repos, Self::External];

    /// Those whose work is done by runs.
    pub const OF_RUNS: [Self; 4] = [Self::Runs, Self::Agents, Self::Pods, Self::External];
}

/// One scope of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyScope {
    /// Reads of a family.
    Read(Area),
    /// Writes of a family, and its reads.
    Write(Area),
    /// Reads of the workers that serve the project.
    ReadRunners,
}

impl KeyScope {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 11] = [
        Self::Read(Area::Runs),
        Self::Write(Area::Runs),
        Self::Read(Area::Agents),
        Self::Write(Area::Agents),
        Self::Read(Area::Pods),
        Self::Write(Area::Pods),
        Self::Read(Area::Repos),
        Self::Write(Area::Repos),
        Self::Read(Area::External),
        Self::Write(Area::External),
        Self::ReadRunners,
    ];

    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read(Area::Runs) => "runs:read",
            Self::Write(Area::Runs) => "runs:write",
            Self::Read(Area::Agents) => "agents:read",
            Self::Write(Area::Agents) => "agents:write",
            Self::Read(Area::Pods) => "pods:read",
            Self::Write(Area::Pods) => "pods:write",
            Self::Read(Area::Repos) => "repos:read",
            Self::Write(Area::Repos) => "repos:write",
            Self::Read(Area::External) => "external:read",
            Self::Write(Area::External) => "external:write",
            Self::ReadRunners => "runners:read",
        }
    }

    /// Reads a scope.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

/// The scopes of a key; never none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct KeyScopes(BTreeSet<KeyScope>);

/// No scopes at all, or one that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the scopes of a key")]
pub struct BadScopes;

impl KeyScopes {
    /// These scopes; none when there are none.
    pub fn new(scopes: impl IntoIterator<Item = KeyScope>) -> Option<Self> {
        let scopes: BTreeSet<KeyScope> = scopes.into_iter().collect();
        (!scopes.is_empty()).then_some(Self(scopes))
    }

    /// Whether one of them admits this. Writes admit the reads of their family.
    pub fn admit(&self, action: Action) -> bool {
        let has = |scope| self.0.contains(&scope);
        match action {
            Action::Identify => true,
            Action::Read(area) => has(KeyScope::Read(area)) || has(KeyScope::Write(area)),
            Action::Write(area) => has(KeyScope::Write(area)),
            Action::ReadRunners => has(KeyScope::ReadRunners),
            Action::Admin => false,
        }
    }

    /// As the API spells them, in the order of [`KeyScope::ALL`].
    pub fn words(&self) -> Vec<String> {
        let known = KeyScope::ALL.into_iter().filter(|scope| self.0.contains(scope));
        known.map(|scope| scope.as_str().to_owned()).collect()
    }
}

impl From<KeyScopes> for Vec<String> {
    fn from(scopes: KeyScopes) -> Self {
        scopes.words()
    }
}

impl TryFrom<Vec<String>> for KeyScopes {
    type Error = BadScopes;

    fn try_from(words: Vec<String>) -> Result<Self, BadScopes> {
        let scopes: Option<BTreeSet<KeyScope>> = words.iter().map(|word| KeyScope::parse(word)).collect();
        scopes.and_then(Self::new).ok_or(BadScopes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_read_back_as_they_are_spelled_and_others_do_not() {
        for scope in KeyScope::ALL {
            assert_eq!(KeyScope::parse(scope.as_str()), Some(scope));
        }
        let scopes = KeyScopes::new([KeyScope::ReadRunners, KeyScope::Write(Area::Runs)]).unwrap();
        let json = serde_json::to_string(&scopes).unwrap();
        assert_eq!(json, r#"["runs:write","runners:read"]"#);
        assert_eq!(serde_json::from_str::<KeyScopes>(&json).unwrap(), scopes);
        for bad in [
            "[]",
            r#"["runs"]"#,
            r#"["runs:read","admin"]"#,
            r#"["Runs:read"]"#,
            r#"["runners:write"]"#,
        ] {
            assert!(serde_json::from_str::<KeyScopes>(bad).is_err(), "{bad}");
        }
    }
}
