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
    /// The project, when only workers without a `tenant:` tag, or with this project's, may take it. Always set.
    pub tenant: Option<ProjectId>,
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

    /// Whether a worker with these tags and capabilities fits.
    pub fn fit(&self, tags: &BTreeSet<String>, capabilities: &BTreeSet<String>) -> bool {
        self.tags.is_subset(tags)
            && self.capabilities.is_subset(capabilities)
            && (self.any_of.is_empty() || !self.any_of.is_disjoint(capabilities))
            && self.tenant_fits(tags)
    }

    /// A worker with a `tenant:` tag serves only that project, whatever else fits.
    fn tenant_fits(&self, tags: &BTreeSet<String>) -> bool {
        tags.iter()
            .filter_map(|tag| tag.strip_prefix("tenant:"))
            .all(|tenant| self.tenant.is_some_and(|project| project.to_string() == tenant))
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
        let project: ProjectId = "018f0000-0000-7000-8000-000000000001".parse().unwrap();
        let needs = Needs {
            tags: set(&["pool:trusted"]),
            capabilities: set(&["harness.mini"]),
            any_of: set(&["sandbox.bubblewrap", "sandbox.docker"]),
            tenant: Some(project),
        };
        let own = format!("tenant:{project}");
        let table: [(&[&str], &[&str], bool); 6] = [
            (&["pool:trusted"], &["harness.mini", "sandbox.docker"], true),
            (&["pool:trusted"], &["harness.mini"], false),
            (&["pool:trusted"], &["sandbox.docker"], false),
            (&[], &["harness.mini", "sandbox.docker"], false),
            (&["pool:trusted", &own], &["harness.mini", "sandbox.bubblewrap"], true),
            (
                &["pool:trusted", "tenant:other"],
                &["harness.mini", "sandbox.bubblewrap"],
                false,
            ),
        ];
        for (tags, capabilities, fits) in table {
            assert_eq!(
                needs.fit(&set(tags), &set(capabilities)),
                fits,
                "{tags:?} {capabilities:?}"
            );
        }
    }
}
