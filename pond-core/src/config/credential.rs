//! Credentials: keys to model providers and sources. Reads show the names of secrets, never their values.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::name::{entry_name, env_name_fault, env_value_fault};
use super::{CredentialHost, EntryKind, Record};
use crate::body::{Object, escape};
use crate::outbound::MAX_PATTERNS;
use crate::secret::Secret;
use crate::sources::{BUCKET, is_bucket};

/// A shorter secret is accepted with a warning: it cannot be told from ordinary text.
pub const MIN_REDACTABLE: usize = 6;

/// The features by which a provider itself fetches, runs or keeps something.
const REMOTE_FEATURES: [&str; 8] = [
    "mcp",
    "web_search",
    "web_fetch",
    "code_execution",
    "file_search",
    "remote_url",
    "background",
    "store",
];

/// A credential without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// Its name.
    pub name: String,
    /// The provider it is for.
    pub provider: String,
    /// Settings that are no secret, such as the base URL.
    pub env: BTreeMap<String, String>,
    /// Names of its secrets.
    pub secret_keys: BTreeSet<String>,
    /// Hosts that a source credential may be sent to.
    pub hosts: Vec<CredentialHost>,
    /// Buckets that an S3 credential may be used for.
    pub buckets: Vec<String>,
    /// Features by which the provider itself fetches, runs or keeps something, opened for this credential.
    pub remote_features: BTreeSet<String>,
}

/// The secrets of a credential, by environment name.
pub type CredentialSecrets = BTreeMap<String, Secret>;

impl Credential {
    /// The first of what must not change without the secrets being sent again, since it says where they go.
    pub fn drawn_elsewhere(&self, before: &Self) -> Option<&'static str> {
        let urls = |credential: &Self| -> BTreeMap<String, String> {
            credential
                .env
                .clone()
                .into_iter()
                .filter(|(name, _)| name.ends_with("_BASE_URL"))
                .collect()
        };
        if self.provider != before.provider {
            Some("provider")
        } else if urls(self) != urls(before) {
            Some("env")
        } else if self.hosts != before.hosts {
            Some("hosts")
        } else if self.buckets != before.buckets {
            Some("buckets")
        } else {
            None
        }
    }
}

impl Record for Credential {
    const KIND: EntryKind = EntryKind::Credential;

    fn name(&self) -> &str {
        &self.name
    }

    /// Reads all but `secrets`, which `read_secrets` takes.
    fn read(object: &mut Object<'_>) -> Option<Self> {
        let name = entry_name(object, "name");
        let provider = provider_name(object);
        let env = object.texts("env").unwrap_or_default();
        for (key, value) in &env {
            fault_at(
                object,
                "env",
                key,
                env_name_fault(key).or_else(|| env_value_fault(value)),
            );
        }
        let env = env
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let hosts = hosts(object);
        let buckets = buckets(object);
        let remote_features: BTreeSet<String> = texts(object, "remote_features").into_iter().collect();
        if remote_features
            .iter()
            .any(|feature| !REMOTE_FEATURES.contains(&feature.as_str()))
        {
            object.fault(
                "remote_features",
                format!("expected some of {}", REMOTE_FEATURES.join(", ")),
            );
        }
        let provider = provider?;
        if matches!(provider.as_str(), "git" | "s3") && lists_none(object, "hosts") {
            object.fault(
                "hosts",
                "is required for a source credential: the hosts that it may be sent to",
            );
        }
        if provider == "s3" && lists_none(object, "buckets") {
            object.fault("buckets", "is required for provider s3");
        }
        Some(Self {
            name: name?,
            provider,
            env,
            secret_keys: BTreeSet::new(),
            hosts,
            buckets,
            remote_features,
        })
    }
}

/// Reads `secrets`: none when absent (those stored are kept), else the whole new set. Faults never tell a value.
pub(super) fn read_secrets(object: &mut Object<'_>) -> Option<CredentialSecrets> {
    let secrets = object.texts("secrets")?;
    for (key, value) in &secrets {
        let empty = value.is_empty().then_some("is empty");
        fault_at(
            object,
            "secrets",
            key,
            env_name_fault(key).or_else(|| env_value_fault(value)).or(empty),
        );
    }
    Some(
        secrets
            .into_iter()
            .map(|(key, value)| (key.to_owned(), Secret::new(value)))
            .collect(),
    )
}

fn fault_at(object: &Object<'_>, field: &str, key: &str, fault: Option<&str>) {
    if let Some(fault) = fault {
        object
            .faults()
            .add(format!("{}/{}", object.pointer(field), escape(key)), fault);
    }
}

fn texts(object: &mut Object<'_>, field: &'static str) -> Vec<String> {
    object
        .text_list(field)
        .unwrap_or_default()
        .into_iter()
        .map(ToOwned::to_owned)
        .collect()
}

/// A required provider: any name, since an unconfined stage may use one that the broker does not know.
pub(super) fn provider_name(object: &mut Object<'_>) -> Option<String> {
    let provider = object.required_text("provider")?;
    let fits = (1..=64).contains(&provider.len())
        && provider
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'));
    if !fits {
        object.fault("provider", "expected 1 to 64 of a-z 0-9 _ -");
        return None;
    }
    Some(provider.to_owned())
}

/// Whether a list is absent or empty as it was sent.
fn lists_none(object: &mut Object<'_>, field: &'static str) -> bool {
    let list = object.optional(field);
    list.is_none_or(|list| list.as_array().is_some_and(Vec::is_empty))
}

fn hosts(object: &mut Object<'_>) -> Vec<CredentialHost> {
    let mut hosts = Vec::new();
    for (index, text) in texts(object, "hosts").iter().enumerate() {
        match CredentialHost::parse(text) {
            Ok(host) if index < MAX_PATTERNS => hosts.push(host),
            Ok(_) => object.fault("hosts", format!("expected at most {MAX_PATTERNS}")),
            // The text is not told: an address that was put here may hold a user and password.
            Err(bad) => {
                let pointer = format!("{}/{index}", object.pointer("hosts"));
                object.faults().add(pointer, bad.to_string());
            }
        }
    }
    hosts
}

fn buckets(object: &mut Object<'_>) -> Vec<String> {
    let buckets = texts(object, "buckets");
    if buckets.len() > MAX_PATTERNS {
        object.fault("buckets", format!("expected at most {MAX_PATTERNS}"));
    }
    for (index, _) in buckets.iter().enumerate().filter(|(_, name)| !is_bucket(name)) {
        let pointer = format!("{}/{index}", object.pointer("buckets"));
        object.faults().add(pointer, BUCKET);
    }
    buckets
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::body::Faults;

    #[test]
    fn a_bad_host_is_pointed_at_and_never_told() {
        let body = json!({
            "name": "c", "provider": "git",
            "hosts": ["git.example", "https://user:CANARY@git.example/x", "CANARY@h"],
        });
        let faults = Faults::new();
        Credential::read(&mut Object::read(&body, "", &faults).expect("an object"));
        let faults = faults.take();
        let pointers: Vec<&str> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(pointers, ["/hosts/1", "/hosts/2"]);
        assert!(!format!("{faults:?}").contains("CANARY"), "{faults:?}");
    }
}
