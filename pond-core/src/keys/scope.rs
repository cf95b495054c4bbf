//! What a key is allowed: a closed list of scopes.

use std::collections::BTreeSet;

use super::Area;

/// Reading or writing; writing implies reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    /// To read.
    Read,
    /// To write, and to read.
    Write,
}

/// One scope of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyScope {
    /// A right over one family of records.
    Of(Area, Right),
    /// To read which workers there are.
    RunnersRead,
}

impl KeyScope {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 11] = [
        Self::Of(Area::Runs, Right::Read),
        Self::Of(Area::Runs, Right::Write),
        Self::Of(Area::Agents, Right::Read),
        Self::Of(Area::Agents, Right::Write),
        Self::Of(Area::Pods, Right::Read),
        Self::Of(Area::Pods, Right::Write),
        Self::Of(Area::Repos, Right::Read),
        Self::Of(Area::Repos, Right::Write),
        Self::Of(Area::External, Right::Read),
        Self::Of(Area::External, Right::Write),
        Self::RunnersRead,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        use Right::{Read, Write};
        match self {
            Self::Of(Area::Runs, Read) => "runs:read",
            Self::Of(Area::Runs, Write) => "runs:write",
            Self::Of(Area::Agents, Read) => "agents:read",
            Self::Of(Area::Agents, Write) => "agents:write",
            Self::Of(Area::Pods, Read) => "pods:read",
            Self::Of(Area::Pods, Write) => "pods:write",
            Self::Of(Area::Repos, Read) => "repos:read",
            Self::Of(Area::Repos, Write) => "repos:write",
            Self::Of(Area::External, Read) => "external:read",
            Self::Of(Area::External, Write) => "external:write",
            Self::RunnersRead => "runners:read",
        }
    }

    /// The scope of this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }

    /// Whether a key with `held` has it.
    pub fn is_within(self, held: &BTreeSet<Self>) -> bool {
        let stronger = match self {
            Self::Of(area, Right::Read) => held.contains(&Self::Of(area, Right::Write)),
            Self::Of(_, Right::Write) | Self::RunnersRead => false,
        };
        stronger || held.contains(&self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_write_implies_read() {
        for scope in KeyScope::ALL {
            assert_eq!(KeyScope::parse(scope.as_str()), Some(scope));
            assert!(scope.is_within(&BTreeSet::from([scope])));
        }
        for unknown in ["", "runs", "runners:write", "admin", "RUNS:READ", "runs:read "] {
            assert_eq!(KeyScope::parse(unknown), None, "{unknown}");
        }
        let write = BTreeSet::from([KeyScope::Of(Area::Runs, Right::Write)]);
        assert!(KeyScope::Of(Area::Runs, Right::Read).is_within(&write));
        assert!(!KeyScope::Of(Area::Pods, Right::Read).is_within(&write));
        let read = BTreeSet::from([KeyScope::Of(Area::Runs, Right::Read)]);
        assert!(!KeyScope::Of(Area::Runs, Right::Write).is_within(&read));
    }
}
