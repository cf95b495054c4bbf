//! Credentials: keys to model providers and sources. Reads show the names of secrets, never their values.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::name::{entry_name, env_name_fault, env_value_fault};
use super::{EntryKind, Record};
use crate::body::{Object, escape};
use crate::secret::Secret;

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
    pub hosts: Vec<String>,
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
        let hosts = texts(object, "hosts");
        for (index, _) in hosts.iter().enumerate().filter(|(_, host)| !is_host_prefix(host)) {
            let pointer = format!("{}/{index}", object.pointer("hosts"));
            // Not told: an address that was put here may hold a user and password.
            object.faults().add(pointer, "expected an exact host[:port][/path]");
        }
        let buckets = texts(object, "buckets");
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
        if matches!(provider.as_str(), "git" | "s3") && hosts.is_empty() {
            object.fault(
                "hosts",
                "is required for a source credential: the hosts that it may be sent to",
            );
        }
        if provider == "s3" && buckets.is_empty() {
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

fn is_host_prefix(text: &str) -> bool {
    let host = text.split('/').next().unwrap_or_default();
    let (name, port) = host
        .rsplit_once(':')
        .map_or((host, None), |(name, port)| (name, Some(port)));
    let port_fits = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let label = |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    port_fits && name.len() <= 253 && name.split('.').all(label) && !text.contains("..")
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
