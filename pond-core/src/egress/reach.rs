//! What a stage can reach and which secret goes where: answered from config before it is handed out, and from what was decided
//! then on.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{EgressPolicy, Origin, Ruled, SealedRule};
use crate::config::{Credential, EgressAction, Provider, Resolution};
use crate::outbound::HostPattern;
use crate::runs::executors::SandboxBlock;
use crate::sandbox::Profile;

/// What stands for every host.
pub const EVERYWHERE: &str = "*";

/// A host rule with its origin; [`EVERYWHERE`] is one too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReachHost {
    /// The rule.
    pub rule: String,
    /// Who it comes from.
    pub from: Origin,
}

/// A secret, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReachSecret {
    /// Its name.
    pub name: String,
    /// The hosts that get it.
    pub hosts: Vec<String>,
    /// Where it stands: `broker`, `source`, `environment`, or the places of a sealed token.
    #[serde(rename = "in")]
    pub places: Vec<String>,
}

/// What is reached, by a stage or by a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunReach {
    /// What it can reach.
    pub hosts: BTreeSet<ReachHost>,
    /// What rules deny it, whatever else is allowed.
    pub denied: BTreeSet<ReachHost>,
    /// Its secrets.
    pub secrets: BTreeSet<ReachSecret>,
    /// Features of a model provider that are open to it.
    pub remote_features: BTreeSet<String>,
}

/// What one stage reaches, as it was decided when a worker got it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageReach {
    /// Key of the stage.
    #[serde(rename = "k")]
    pub stage: String,
    /// What it reaches.
    #[serde(flatten)]
    pub reach: RunReach,
}

/// All that says what a stage reaches.
#[derive(Debug, Clone, Copy)]
pub struct Ways<'a> {
    /// How it is confined.
    pub sandbox: &'a SandboxBlock,
    /// What its names mean; none where they cannot be resolved.
    pub resolution: Option<&'a Resolution>,
    /// The rules in scope.
    pub rules: &'a [Ruled],
    /// Its worker's defaults.
    pub defaults: &'a [HostPattern],
    /// The secrets that it holds as tokens.
    pub sealed: &'a [SealedRule],
}

impl RunReach {
    /// What a stage reaches.
    pub fn of_stage(ways: Ways<'_>) -> Self {
        let mut reach = Self::default();
        let policy = match ways.sandbox.profile {
            Profile::None => {
                reach.hosts.insert(ReachHost {
                    rule: EVERYWHERE.into(),
                    from: Origin::Run,
                });
                EgressPolicy::default()
            }
            Profile::UntrustedCodeRead => EgressPolicy::default(),
            Profile::UntrustedCodeWrite => {
                EgressPolicy::new(ways.rules.iter().cloned(), &ways.sandbox.allow_hosts, ways.defaults)
            }
        };
        for ruled in policy.rules() {
            let host = ReachHost {
                rule: ruled.rule.host.to_string(),
                from: ruled.from,
            };
            match ruled.rule.action {
                EgressAction::Deny => drop(reach.denied.insert(host)),
                EgressAction::Allow if policy.forbids_all_of(&ruled.rule.host) => {}
                EgressAction::Allow => drop(reach.hosts.insert(host)),
            }
        }
        if let Some(credential) = ways.resolution.and_then(|found| found.credential.as_ref()) {
            reach.credential(&credential.record, &policy, ways);
        }
        reach
    }

    fn credential(&mut self, credential: &Credential, policy: &EgressPolicy, ways: Ways<'_>) {
        self.remote_features.extend(credential.remote_features.iter().cloned());
        let provider = Provider::find(&credential.provider);
        let upstream = provider.and_then(|provider| {
            let named = credential.env.get(provider.base_url).map(String::as_str);
            let url = url::Url::parse(named.or(provider.public_url)?).ok()?;
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            Some(format!("{}{port}", url.host_str()?))
        });
        let confined = ways.sandbox.profile.is_confined();
        for name in &credential.secret_keys {
            let brokered = provider.is_some_and(|provider| provider.keys.contains(&name.as_str()));
            let sealed = ways.sealed.iter().find(|sealed| sealed.name == *name);
            let (hosts, places) = match (confined, brokered, sealed) {
                (false, ..) => (vec![EVERYWHERE.to_owned()], vec!["environment".to_owned()]),
                (true, true, _) => (upstream.iter().cloned().collect(), vec!["broker".to_owned()]),
                (true, false, Some(sealed)) => (
                    sealed_hosts(sealed, policy),
                    sealed.places.iter().cloned().map(String::from).collect(),
                ),
                (true, false, None) => continue,
            };
            self.secrets.insert(ReachSecret {
                name: name.clone(),
                hosts,
                places,
            });
        }
    }

    /// Secrets that fetch sources, before the first stage.
    pub fn source(&mut self, credential: &Credential) {
        for name in &credential.secret_keys {
            self.secrets.insert(ReachSecret {
                name: name.clone(),
                hosts: credential.hosts.iter().map(ToString::to_string).collect(),
                places: vec!["source".into()],
            });
        }
    }

    /// Adds what another stage reaches.
    pub fn add(&mut self, other: Self) {
        self.hosts.extend(other.hosts);
        self.denied.extend(other.denied);
        self.secrets.extend(other.secrets);
        self.remote_features.extend(other.remote_features);
    }
}

/// The hosts at which a token is swapped: its own that can be reached at all, or, where it names none, all that rules or the
/// stage allow, but not those reached by a default.
fn sealed_hosts(sealed: &SealedRule, policy: &EgressPolicy) -> Vec<String> {
    if !sealed.hosts.is_empty() {
        return sealed.hosts.iter().map(ToString::to_string).collect();
    }
    let named = policy
        .rules()
        .iter()
        .filter(|ruled| ruled.rule.action == EgressAction::Allow && ruled.from != Origin::Default);
    named
        .filter(|ruled| !policy.forbids_all_of(&ruled.rule.host))
        .map(|ruled| ruled.rule.host.to_string())
        .collect()
}
