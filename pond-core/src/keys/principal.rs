//! Who calls.

use super::{Action, KeyScopes, Refused, may};
use crate::id::{KeyId, ProjectId};
use crate::projects::Slug;
use crate::scope::Scope;
use crate::sources::FolderScope;

/// A caller that is known. People with roles become further variants; [`may`] then asks for their rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// The service token: all projects, all of admin.
    Service,
    /// A project's API key.
    Key(KeyHolder),
}

/// Whoever holds a key that is good now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyHolder {
    /// The key.
    pub id: KeyId,
    /// Its name.
    pub name: String,
    /// The one project that it opens.
    pub project: ProjectId,
    /// That project's short name.
    pub slug: Slug,
    /// As far as these go.
    pub scopes: KeyScopes,
}

impl Principal {
    /// All that it may know of.
    pub fn scope(&self) -> Scope {
        match self {
            Self::Service => Scope::Org,
            Self::Key(key) => Scope::Project(key.project),
        }
    }

    /// What a list shows it: the project it names, or all that it may know of.
    ///
    /// # Errors
    /// [`Refused::OutOfSight`] when it names a project that is not its own, whether there is one or not.
    pub fn scope_of(&self, named: Option<ProjectId>) -> Result<Scope, Refused> {
        let asked = named.map_or(self.scope(), Scope::Project);
        may(self, Action::Identify, asked).map(|()| asked)
    }

    /// Where a create goes: the project it names, else its own; none when it has none of its own.
    ///
    /// # Errors
    /// As [`Principal::scope_of`].
    pub fn project_of(&self, named: Option<ProjectId>) -> Result<Option<ProjectId>, Refused> {
        self.scope_of(named).map(Scope::project)
    }

    /// As the audit log names it.
    pub fn actor(&self) -> String {
        match self {
            Self::Service => "service".into(),
            Self::Key(key) => format!("key:{}", key.id),
        }
    }

    /// The folders that it may name as sources.
    pub fn folders(&self) -> FolderScope {
        match self {
            Self::Service => FolderScope::Root,
            Self::Key(key) => FolderScope::Project {
                id: key.project,
                slug: Some(key.slug.as_str().to_owned()),
            },
        }
    }
}
