//! What a job needs of a worker, and whether a worker has it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::id::ProjectId;

/// What a job needs: one of few distinct values, so that lines are indexed by it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Needs {
    /// Tags that the worker must have.
    pub tags: BTreeSet<String>,
    /// Capabilities that the worker must have, all of them.
    pub capabilities: BTreeSet<String>,
    /// Capabilities of which the worker must have at least one; none needed when empty.
    pub any_of: BTreeSet<String>,
}

/// Whose jobs a worker takes. Apart from what a job needs, so that needs stay few.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serves {
    /// Everyone's.
    All,
    /// Those of one project, whatever their tier.
    Only(ProjectId),
    /// Nobody's: its tags name several projects, or what is none.
    Nobody,
}

impl Serves {
    /// What the `tenant:` tags of a worker say.
    pub fn of(tags: &BTreeSet<String>) -> Self {
        let mut tenants = tags.iter().filter_map(|tag| tag.strip_prefix("tenant:"));
        match (tenants.next(), tenants.next()) {
            (None, _) => Self::All,
            (Some(tenant), None) => tenant.parse().map_or(Self::Nobody, Self::Only),
            (Some(_), Some(_)) => Self::Nobody,
        }
    }

    /// Whether it takes jobs of `project`.
    pub fn admits(self, project: ProjectId) -> bool {
        match self {
            Self::All => true,
            Self::Only(only) => only == project,
            Self::Nobody => false,
        }
    }
}

/// Digest that names a [`Needs`] in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NeedsKey(pub [u8; 16]);

impl Needs {
    /// Its name in the store.
    pub fn key(&self) -> NeedsKey {
        let text = serde_json::to_vec(self).expect("a record of plain fields serialises");
        let digest = Sha256::digest(&text);
        let mut key = [0; 16];
        key.copy_from_slice(&digest[..16]);
        NeedsKey(key)
    }

    /// Whether a worker with these tags and capabilities fits, if it serves the job's project: see [`Serves`].
    pub fn fit(&self, tags: &BTreeSet<String>, capabilities: &BTreeSet<String>) -> bool {
        self.tags.is_subset(tags)
            && self.capabilities.is_subset(capabilities)
            && (self.any_of.is_empty() || !self.any_of.is_disjoint(capabilities))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(items: &[&str]) -> BTreeSet<String> {
        items.iter().map(|&item| item.to_owned()).collect()
    }

    #[test]
    fn a_worker_fits_when_it_has_all_of_the_musts_and_one_of_the_choices() {
        let needs = Needs {
            tags: set(&["pool:trusted"]),
            capabilities: set(&["harness.mini"]),
            any_of: set(&["sandbox.bubblewrap", "sandbox.docker"]),
        };
        let table: [(&[&str], &[&str], bool); 4] = [
            (&["pool:trusted"], &["harness.mini", "sandbox.docker"], true),
            (&["pool:trusted"], &["harness.mini"], false),
            (&["pool:trusted"], &["sandbox.docker"], false),
            (&[], &["harness.mini", "sandbox.docker"], false),
        ];
        for (tags, capabilities, fits) in table {
            assert_eq!(
                needs.fit(&set(tags), &set(capabilities)),
                fits,
                "{tags:?} {capabilities:?}"
            );
        }
    }

    #[test]
    fn a_worker_with_a_tenant_serves_that_one() {
        let (own, other) = (
            "018f0000-0000-7000-8000-000000000001",
            "018f0000-0000-7000-8000-000000000002",
        );
        let project = |text: &str| text.parse::<ProjectId>().unwrap();
        let tag = |text: &str| format!("tenant:{text}");
        for (tags, serves, takes_own, takes_other) in [
            (set(&["pool:trusted"]), Serves::All, true, true),
            (set(&[&tag(own)]), Serves::Only(project(own)), true, false),
            (set(&[&tag(own), &tag(other)]), Serves::Nobody, false, false),
            (set(&["tenant:acme"]), Serves::Nobody, false, false),
            (set(&["tenant:"]), Serves::Nobody, false, false),
        ] {
            let said = Serves::of(&tags);
            assert_eq!(said, serves, "{tags:?}");
            assert_eq!(
                (said.admits(project(own)), said.admits(project(other))),
                (takes_own, takes_other),
                "{tags:?}"
            );
        }
    }
}
