//! Whether a job may reach a place: its rules, the names that suffix rules let it use, and what a denial says.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use pond_core::clock::Timestamp;
use pond_core::config::EgressAction;
use pond_core::egress::{Decision, EgressPolicy, Origin, Ruled};
use pond_core::outbound::{Host, WEB_PORTS};

use super::head::Place;

/// How many distinct names a job may use under suffix rules within [`WINDOW`].
pub(super) const MAX_NAMES: usize = 60;
/// The time over which names are counted.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// The port whose tunnels must begin with a ClientHello.
pub(super) const TLS_PORT: u16 = 443;

/// How a place is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// By a tunnel.
    Tunnel,
    /// By one plain request, which may want to change the protocol.
    Plain {
        /// Whether it does.
        upgrade: bool,
    },
}

/// What was judged.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// It may be reached.
    Allowed {
        /// The rule that allows it.
        rule: String,
        /// Whether that rule lets the protocol change.
        upgrade: bool,
    },
    /// It may not.
    Denied {
        /// The rule that decided, if one did.
        rule: Option<String>,
        /// One line for a reader.
        reason: String,
    },
}

/// Judges places for one job.
pub(super) struct Judge {
    policy: EgressPolicy,
    names: Names,
}

impl Judge {
    pub(super) fn new(policy: EgressPolicy) -> Self {
        Self {
            policy,
            names: Names::default(),
        }
    }

    /// Judges a place without looking its name up.
    pub(super) fn judge(&self, place: &Place, way: Way, now: Timestamp) -> Judged {
        let Place { host, port } = place;
        let denied = |rule: Option<&Ruled>, reason: String| Judged::Denied {
            rule: rule.map(|ruled| ruled.rule.host.to_string()),
            reason,
        };
        let first = match self.policy.decide(host, *port) {
            Decision::Forbidden(ruled) => return denied(Some(ruled), forbidden(place, ruled)),
            Decision::Unlisted => return denied(None, self.unlisted(place)),
            Decision::Allowed(first) => first,
        };
        let ruled = self.closest(place).unwrap_or(first);
        if way == Way::Tunnel && *port != TLS_PORT && !self.names_port(place) {
            return denied(Some(ruled), unnamed_port(place, ruled));
        }
        if way == (Way::Plain { upgrade: true }) && !ruled.rule.upgrade {
            return denied(Some(ruled), no_upgrade(place, ruled));
        }
        if let Host::Name(name) = host
            && ruled.rule.host.is_suffix()
            && !self.names.admit(name, now)
        {
            return denied(Some(ruled), too_many_names(place, ruled));
        }
        Judged::Allowed {
            rule: ruled.rule.host.to_string(),
            upgrade: ruled.rule.upgrade,
        }
    }

    fn allowing<'p>(&'p self, place: &Place) -> impl Iterator<Item = &'p Ruled> {
        let Place { host, port } = place.clone();
        let allows =
            move |ruled: &&Ruled| ruled.rule.action == EgressAction::Allow && ruled.rule.host.admits(&host, port);
        self.policy.rules().iter().filter(allows)
    }

    /// The rule that is told, and whose `upgrade` counts: one that names the host itself before a suffix.
    fn closest(&self, place: &Place) -> Option<&Ruled> {
        let exact = self.allowing(place).find(|ruled| !ruled.rule.host.is_suffix());
        exact.or_else(|| self.allowing(place).next())
    }

    fn names_port(&self, place: &Place) -> bool {
        self.allowing(place)
            .any(|ruled| ruled.rule.host.port() == Some(place.port))
    }

    fn unlisted(&self, place: &Place) -> String {
        let rule = rule_for(place);
        let own = |ruled: &Ruled| matches!(ruled.from, Origin::Org | Origin::Project);
        match self.policy.rules().iter().any(own) {
            true => format!(
                "no egress rule allows {}: add one with `pond egress set {rule}`",
                spelt(place)
            ),
            false => format!(
                "nothing allows {}: add {rule} to the stage's allow_hosts, or a rule with `pond egress set {rule}`",
                spelt(place)
            ),
        }
    }
}

fn spelt(place: &Place) -> String {
    format!("{}:{}", place.host, place.port)
}

/// The rule that would allow a place.
fn rule_for(place: &Place) -> String {
    match WEB_PORTS.contains(&place.port) {
        true => place.host.to_string(),
        false => spelt(place),
    }
}

fn forbidden(place: &Place, ruled: &Ruled) -> String {
    let (host, from) = (&ruled.rule.host, ruled.from.as_str());
    format!(
        "the {from} rule {host} denies {}: remove that rule with `pond egress delete {host}` to allow it",
        spelt(place)
    )
}

fn unnamed_port(place: &Place, ruled: &Ruled) -> String {
    let (host, spelt) = (&ruled.rule.host, spelt(place));
    format!(
        "the rule {host} allows no tunnel to {spelt}, only to port 443: add the rule {spelt} with `pond egress set {spelt}`"
    )
}

fn no_upgrade(place: &Place, ruled: &Ruled) -> String {
    let host = &ruled.rule.host;
    format!(
        "the rule {host} does not let {} change the protocol: set it anew with `pond egress set {host} --upgrade`",
        spelt(place)
    )
}

fn too_many_names(place: &Place, ruled: &Ruled) -> String {
    let (host, own) = (&ruled.rule.host, rule_for(place));
    format!(
        "{} is one name too many: rules for sub-domains as {host} let a job use {MAX_NAMES} names a minute; a rule for the \
         host itself has no such bound: `pond egress set {own}`",
        spelt(place)
    )
}

/// The names that were used under suffix rules, and when last. Labels of names that are looked up carry data out, so there
/// may not be many.
#[derive(Default)]
struct Names(Mutex<HashMap<String, Timestamp>>);

impl Names {
    fn admit(&self, name: &str, now: Timestamp) -> bool {
        let mut names = self.0.lock().expect("no holder of this lock panics");
        names.retain(|_, used| now.since(*used) < WINDOW);
        if names.len() >= MAX_NAMES && !names.contains_key(name) {
            return false;
        }
        names.insert(name.to_owned(), now);
        true
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
