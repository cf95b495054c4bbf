//! What a caller may do: one total function over caller, action and scope.

use super::{KeyScope, Principal, Right};
use crate::scope::Scope;

/// A family of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Area {
    /// Runs.
    Runs,
    /// Agents.
    Agents,
    /// Pods.
    Pods,
    /// Repositories.
    Repos,
    /// External agents.
    External,
}

/// Families whose work is runs.
const FAMILIES: [Area; 4] = [Area::Runs, Area::Agents, Area::Pods, Area::External];

/// What a caller wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Ask who it is.
    Identify,
    /// Read records of a family.
    Read(Area),
    /// Create or change records of a family.
    Write(Area),
    /// Read one run, or what it left, whatever family it is of: `None` before the run is looked up.
    ReadRun(Option<Area>),
    /// Cancel one run, whatever family it is of: `None` before the run is looked up.
    CancelRun(Option<Area>),
    /// Read which workers there are.
    ReadRunners,
    /// Anything of admin.
    Admin,
}

/// Whether it may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Allowed,
    /// It lacks scopes: any one of these would do.
    Missing(Vec<&'static str>),
    /// The record is another's: to this caller it does not exist.
    Elsewhere,
}

/// What admin is called where scopes are told.
const ADMIN: &str = "admin";

/// Whether `principal` may do `action` to records of `scope`: those of one project, or of the whole deployment.
pub fn may(principal: &Principal, action: Action, scope: Scope) -> Verdict {
    let key = match principal {
        Principal::Service => return Verdict::Allowed,
        Principal::Key(key) => key,
    };
    let Some(enough) = enough(action) else {
        return match action {
            Action::Identify => Verdict::Allowed,
            _ => Verdict::Missing(vec![ADMIN]),
        };
    };
    if scope != Scope::Project(key.project) {
        return Verdict::Elsewhere;
    }
    if enough.iter().any(|scope| scope.is_within(&key.scopes)) {
        return Verdict::Allowed;
    }
    // The plain scope alone is told: the others are shortcuts of other families.
    Verdict::Missing(enough.first().map(|scope| scope.as_str()).into_iter().collect())
}

/// Scopes of which any one is enough; none where no scope is.
fn enough(action: Action) -> Option<Vec<KeyScope>> {
    use Right::{Read, Write};
    match action {
        Action::Identify | Action::Admin => None,
        Action::Read(area) => Some(vec![KeyScope::Of(area, Read)]),
        Action::Write(area) => Some(vec![KeyScope::Of(area, Write)]),
        Action::ReadRun(family) => Some(of_run(family, Read)),
        Action::CancelRun(family) => Some(of_run(family, Write)),
        Action::ReadRunners => Some(vec![KeyScope::RunnersRead]),
    }
}

/// The scope over all runs of a project, and that over its family; before the family is known, that over any.
fn of_run(family: Option<Area>, right: Right) -> Vec<KeyScope> {
    let scope = |area| KeyScope::Of(area, right);
    match family {
        Some(Area::Runs) => vec![scope(Area::Runs)],
        Some(family) => vec![scope(Area::Runs), scope(family)],
        None => FAMILIES.into_iter().map(scope).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::id::KeyId;
    use crate::keys::KeyHolder;
    use crate::projects::Slug;
    use crate::testing::Samples;

    const AREAS: [Area; 5] = [Area::Runs, Area::Agents, Area::Pods, Area::Repos, Area::External];

    fn actions() -> Vec<Action> {
        let mut actions = vec![Action::Identify, Action::ReadRunners, Action::Admin];
        for area in AREAS {
            actions.extend([Action::Read(area), Action::Write(area)]);
        }
        for family in FAMILIES.map(Some).into_iter().chain([None]) {
            actions.extend([Action::ReadRun(family), Action::CancelRun(family)]);
        }
        actions
    }

    /// The scopes with which a key may, told once more by hand.
    fn table(action: Action) -> Vec<&'static str> {
        match action {
            Action::Identify | Action::Admin => vec![],
            Action::ReadRunners => vec!["runners:read"],
            Action::Read(Area::Runs) | Action::ReadRun(Some(Area::Runs)) => vec!["runs:read", "runs:write"],
            Action::Read(Area::Agents) => vec!["agents:read", "agents:write"],
            Action::Read(Area::Pods) => vec!["pods:read", "pods:write"],
            Action::Read(Area::Repos) => vec!["repos:read", "repos:write"],
            Action::Read(Area::External) => vec!["external:read", "external:write"],
            Action::Write(Area::Runs) | Action::CancelRun(Some(Area::Runs)) => vec!["runs:write"],
            Action::Write(Area::Agents) => vec!["agents:write"],
            Action::Write(Area::Pods) => vec!["pods:write"],
            Action::Write(Area::Repos) => vec!["repos:write"],
            Action::Write(Area::External) => vec!["external:write"],
            Action::ReadRun(Some(Area::Agents)) => vec!["runs:read", "runs:write", "agents:read", "agents:write"],
            Action::ReadRun(Some(Area::Pods)) => vec!["runs:read", "runs:write", "pods:read", "pods:write"],
            Action::ReadRun(Some(Area::External)) => vec!["runs:read", "runs:write", "external:read", "external:write"],
            Action::CancelRun(Some(Area::Agents)) => vec!["runs:write", "agents:write"],
            Action::CancelRun(Some(Area::Pods)) => vec!["runs:write", "pods:write"],
            Action::CancelRun(Some(Area::External)) => vec!["runs:write", "external:write"],
            Action::ReadRun(Some(Area::Repos)) | Action::CancelRun(Some(Area::Repos)) => vec![],
            Action::ReadRun(None) => vec![
                "runs:read",
                "runs:write",
                "agents:read",
                "agents:write",
                "pods:read",
                "pods:write",
                "external:read",
                "external:write",
            ],
            Action::CancelRun(None) => vec!["runs:write", "agents:write", "pods:write", "external:write"],
        }
    }

    #[test]
    fn c17_114_every_caller_action_and_scope() {
        let samples = Samples::new(1);
        let (own, other) = (samples.project, Samples::new(2).project);
        for action in actions() {
            for scope in [Scope::Org, Scope::Project(own), Scope::Project(other)] {
                assert_eq!(may(&Principal::Service, action, scope), Verdict::Allowed);
                for held in KeyScope::ALL {
                    let key = Principal::Key(Arc::new(KeyHolder {
                        id: KeyId::from(uuid::Uuid::nil()),
                        name: "k".into(),
                        project: own,
                        slug: Slug::default_project(),
                        scopes: BTreeSet::from([held]),
                    }));
                    let good = table(action).contains(&held.as_str());
                    let verdict = may(&key, action, scope);
                    match (action, scope) {
                        (Action::Identify, _) => assert_eq!(verdict, Verdict::Allowed),
                        (Action::Admin, _) => assert_eq!(verdict, Verdict::Missing(vec!["admin"])),
                        (_, Scope::Project(project)) if project == own && good => {
                            assert_eq!(verdict, Verdict::Allowed, "{action:?} {held:?}");
                        }
                        (_, Scope::Project(project)) if project == own => {
                            assert!(matches!(verdict, Verdict::Missing(_)), "{action:?} {held:?}");
                        }
                        _ => assert_eq!(verdict, Verdict::Elsewhere, "{action:?} {held:?}"),
                    }
                }
            }
        }
    }
}
