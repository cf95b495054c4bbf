//! The one decision about rights.

use super::{Area, KeyScope, Principal};
use crate::scope::Scope;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Learn who one is.
    Identify,
    /// Read records of a family.
    Read(Area),
    /// Make, change or end records of a family.
    Write(Area),
    /// Read which workers there are.
    ReadRunners,
    /// Everything else: config, keys, projects, the pool; and the names of the secrets that were cut out of a log.
    Admin,
}

/// Why a caller may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It lacks this scope.
    Lacks(&'static str),
    /// The records are not among those it may know of: to be answered as if they were not there.
    OutOfSight,
}

/// Whether a caller may do this to records of that scope. What it lacks is told first: it depends on nothing that is stored.
pub fn may(principal: &Principal, action: Action, scope: Scope) -> Result<(), Refused> {
    match principal {
        Principal::Service => Ok(()),
        Principal::Key(key) => {
            if !key.scopes.admit(action) {
                return Err(Refused::Lacks(action.scope_name()));
            }
            match scope {
                Scope::Project(project) if project == key.project => Ok(()),
                Scope::Project(_) | Scope::Org => Err(Refused::OutOfSight),
            }
        }
    }
}

impl Action {
    /// The scope that a key needs for it, as the API spells it. No key has `admin`, and every one may learn who it is.
    fn scope_name(self) -> &'static str {
        match self {
            Self::Read(area) => KeyScope::Read(area).as_str(),
            Self::Write(area) => KeyScope::Write(area).as_str(),
            Self::ReadRunners => KeyScope::ReadRunners.as_str(),
            Self::Identify | Self::Admin => "admin",
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::id::ProjectId;
    use crate::keys::{KeyHolder, KeyScopes};
    use crate::projects::Slug;

    const ACTIONS: [Action; 13] = [
        Action::Identify,
        Action::Read(Area::Runs),
        Action::Write(Area::Runs),
        Action::Read(Area::Agents),
        Action::Write(Area::Agents),
        Action::Read(Area::Pods),
        Action::Write(Area::Pods),
        Action::Read(Area::Repos),
        Action::Write(Area::Repos),
        Action::Read(Area::External),
        Action::Write(Area::External),
        Action::ReadRunners,
        Action::Admin,
    ];

    /// Per scope of a key, one character per action in the order above: `y` it may, `.` it lacks the scope.
    const KEYS: [(&str, &str); 11] = [
        ("runs:read", "yy..........."),
        ("runs:write", "yyy.........."),
        ("agents:read", "y..y........."),
        ("agents:write", "y..yy........"),
        ("pods:read", "y....y......."),
        ("pods:write", "y....yy......"),
        ("repos:read", "y......y....."),
        ("repos:write", "y......yy...."),
        ("external:read", "y........y..."),
        ("external:write", "y........yy.."),
        ("runners:read", "y..........y."),
    ];

    fn project(number: u128) -> ProjectId {
        Uuid::from_u128(number).into()
    }

    fn key(scopes: &[&str]) -> Principal {
        let scopes = scopes.iter().map(|scope| KeyScope::parse(scope).unwrap());
        Principal::Key(KeyHolder {
            id: Uuid::from_u128(9).into(),
            name: "ci".into(),
            project: project(1),
            slug: Slug::new("own").unwrap(),
            scopes: KeyScopes::new(scopes).unwrap(),
        })
    }

    #[test]
    fn c17_114_principal_action_and_scope_are_all_decided_here() {
        let scopes = [Scope::Project(project(1)), Scope::Project(project(2)), Scope::Org];
        for action in ACTIONS {
            for scope in scopes {
                assert_eq!(may(&Principal::Service, action, scope), Ok(()), "{action:?} {scope:?}");
            }
        }
        assert_eq!(KEYS.map(|(scope, _)| scope), KeyScope::ALL.map(KeyScope::as_str));
        for (scope, row) in KEYS {
            let caller = key(&[scope]);
            for (action, cell) in ACTIONS.into_iter().zip(row.chars()) {
                let own = may(&caller, action, scopes[0]);
                let others = [may(&caller, action, scopes[1]), may(&caller, action, scopes[2])];
                match cell {
                    'y' => {
                        assert_eq!(own, Ok(()), "{scope} {action:?}");
                        assert_eq!(others, [Err(Refused::OutOfSight); 2], "{scope} {action:?}");
                    }
                    _ => {
                        assert!(matches!(own, Err(Refused::Lacks(_))), "{scope} {action:?}");
                        assert_eq!(others, [own; 2], "{scope} {action:?}: whatever the project");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_lacked_is_named_and_scopes_add_up() {
        let caller = key(&["runs:read", "pods:write"]);
        let own = Scope::Project(project(1));
        assert_eq!(may(&caller, Action::Read(Area::Pods), own), Ok(()));
        assert_eq!(may(&caller, Action::Read(Area::Runs), own), Ok(()));
        for (action, lacked) in [
            (Action::Write(Area::Runs), "runs:write"),
            (Action::Read(Area::Agents), "agents:read"),
            (Action::ReadRunners, "runners:read"),
            (Action::Admin, "admin"),
        ] {
            assert_eq!(may(&caller, action, own), Err(Refused::Lacks(lacked)));
        }
    }
}
