//! What the egress rules in scope, a stage's `allow_hosts` and the defaults come to: one total decision over a place.
//!
//! Rules of the org and of the project first (a project's rule replaces the org's of the same host, which the caller has
//! done); then deny wins over allow. Any rule in scope, also a lone deny, makes the list the operator's own: `allow_hosts` can
//! narrow nothing and widen nothing. The defaults pass beside either, and a deny beats them too.

use serde::{Deserialize, Serialize};

use crate::config::{EgressAction, EgressRule, Owner, Stored};
use crate::outbound::{Host, HostPattern};

/// Who a rule comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The org's config.
    Org,
    /// The project's config.
    Project,
    /// The stage's `allow_hosts`.
    Run,
    /// The worker's defaults.
    Default,
}

impl Origin {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Org => "org",
            Self::Project => "project",
            Self::Run => "run",
            Self::Default => "default",
        }
    }
}

/// A rule with its origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ruled {
    /// The rule.
    #[serde(flatten)]
    pub rule: EgressRule,
    /// Who it comes from.
    pub from: Origin,
}

impl From<&Stored<EgressRule>> for Ruled {
    fn from(stored: &Stored<EgressRule>) -> Self {
        let from = match stored.owner {
            Owner::Org => Origin::Org,
            Owner::Project(_) => Origin::Project,
        };
        Self {
            rule: stored.record.clone(),
            from,
        }
    }
}

/// What is decided over a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<'p> {
    /// It may be reached, by this rule.
    Allowed(&'p Ruled),
    /// This rule forbids it.
    Forbidden(&'p Ruled),
    /// No rule allows it.
    Unlisted,
}

/// All that decides where a stage may connect to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EgressPolicy {
    rules: Vec<Ruled>,
    narrowed: Vec<HostPattern>,
}

impl EgressPolicy {
    /// Puts together the rules in scope, what the stage asks for, and the worker's defaults.
    pub fn new(
        in_scope: impl IntoIterator<Item = Ruled>,
        allow_hosts: &[HostPattern],
        defaults: &[HostPattern],
    ) -> Self {
        let mut rules: Vec<Ruled> = in_scope.into_iter().collect();
        let authoritative = !rules.is_empty();
        let (asked, dropped): (Vec<_>, Vec<_>) = allow_hosts.iter().partition(|_| !authoritative);
        let narrowed = dropped
            .into_iter()
            .filter(|host| !within(&rules, host))
            .cloned()
            .collect();
        rules.extend(asked.into_iter().map(|host| allowing(host, Origin::Run)));
        rules.extend(defaults.iter().map(|host| allowing(host, Origin::Default)));
        Self { rules, narrowed }
    }

    /// Decides over a place.
    pub fn decide(&self, host: &Host, port: u16) -> Decision<'_> {
        let first = |action, fits: fn(&HostPattern, &Host, u16) -> bool| {
            self.rules
                .iter()
                .find(|ruled| ruled.rule.action == action && fits(&ruled.rule.host, host, port))
        };
        if let Some(ruled) = first(EgressAction::Deny, HostPattern::forbids) {
            return Decision::Forbidden(ruled);
        }
        first(EgressAction::Allow, HostPattern::admits).map_or(Decision::Unlisted, Decision::Allowed)
    }

    /// What the stage asked for and does not get, since the operator's list has no room for it.
    pub fn narrowed(&self) -> &[HostPattern] {
        &self.narrowed
    }

    /// Whether a rule forbids all of `host`.
    pub fn forbids_all_of(&self, host: &HostPattern) -> bool {
        let denied = |ruled: &Ruled| ruled.rule.action == EgressAction::Deny && ruled.rule.host.forbids_all_of(host);
        self.rules.iter().any(denied)
    }

    /// All rules, with their origins.
    pub fn rules(&self) -> &[Ruled] {
        &self.rules
    }
}

fn allowing(host: &HostPattern, from: Origin) -> Ruled {
    let rule = EgressRule {
        host: host.clone(),
        action: EgressAction::Allow,
        upgrade: false,
    };
    Ruled { rule, from }
}

/// Whether the rules allow all of `host` already.
fn within(rules: &[Ruled], host: &HostPattern) -> bool {
    let allowed = |ruled: &Ruled| ruled.rule.action == EgressAction::Allow && ruled.rule.host.admits_all_of(host);
    let denied = |ruled: &Ruled| ruled.rule.action == EgressAction::Deny && ruled.rule.host.forbids_all_of(host);
    rules.iter().any(allowed) && !rules.iter().any(denied)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(action: EgressAction, host: &str) -> Ruled {
        let rule = EgressRule {
            host: HostPattern::parse(host).unwrap(),
            action,
            upgrade: false,
        };
        Ruled {
            rule,
            from: Origin::Org,
        }
    }

    fn hosts(list: &[&str]) -> Vec<HostPattern> {
        list.iter().map(|text| HostPattern::parse(text).unwrap()).collect()
    }

    fn decided(policy: &EgressPolicy, host: &str) -> &'static str {
        match policy.decide(&Host::parse(host).unwrap(), 443) {
            Decision::Allowed(ruled) => ruled.from.as_str(),
            Decision::Forbidden(_) => "forbidden",
            Decision::Unlisted => "unlisted",
        }
    }

    #[test]
    fn c17_68_any_rule_in_scope_makes_the_list_the_operators_own() {
        use EgressAction::{Allow, Deny};
        let asked = hosts(&["asked.test", "a.listed.test", "banned.test"]);
        let defaults = hosts(&["registry.test", "banned-registry.test"]);
        type Case<'c> = (&'c [(EgressAction, &'c str)], &'c [(&'c str, &'c str)], &'c [&'c str]);
        let cases: &[Case<'_>] = &[
            (
                &[],
                &[
                    ("asked.test", "run"),
                    ("registry.test", "default"),
                    ("other.test", "unlisted"),
                    ("8.8.8.8", "unlisted"),
                ],
                &[],
            ),
            (
                &[(Deny, "elsewhere.test")],
                &[
                    ("asked.test", "unlisted"),
                    ("registry.test", "default"),
                    ("elsewhere.test", "forbidden"),
                ],
                &["asked.test", "a.listed.test", "banned.test"],
            ),
            (
                &[
                    (Allow, ".listed.test"),
                    (Deny, "banned-registry.test"),
                    (Allow, "banned.test"),
                    (Deny, "banned.test"),
                ],
                &[
                    ("asked.test", "unlisted"),
                    ("a.listed.test", "org"),
                    ("listed.test", "unlisted"),
                    ("banned.test", "forbidden"),
                    ("banned-registry.test", "forbidden"),
                    ("registry.test", "default"),
                ],
                &["asked.test", "banned.test"],
            ),
            (
                &[(Allow, "8.8.8.8")],
                &[("8.8.8.8", "org"), ("134744072", "org")],
                &["asked.test", "a.listed.test", "banned.test"],
            ),
        ];
        for (rules, places, narrowed) in cases {
            let rules: Vec<_> = rules.iter().map(|(action, host)| rule(*action, host)).collect();
            let policy = EgressPolicy::new(rules.clone(), &asked, &defaults);
            for (host, expected) in *places {
                assert_eq!(decided(&policy, host), *expected, "{host} under {rules:?}");
            }
            let told: Vec<&str> = policy.narrowed().iter().map(HostPattern::as_str).collect();
            assert_eq!(told, *narrowed, "{rules:?}");
        }
    }
}
