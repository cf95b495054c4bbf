//! A caller whose token was found good. A new kind of caller is a variant, and [`super::may`] asks what it may do.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::KeyScope;
use crate::id::{KeyId, ProjectId};
use crate::projects::Slug;
use crate::scope::Scope;
use crate::sources::FolderScope;

/// A caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// The service token: all projects, all of admin.
    Service,
    /// A project's key.
    Key(Arc<KeyHolder>),
}

/// What a key says of its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyHolder {
    /// The key.
    pub id: KeyId,
    /// Its name.
    pub name: String,
    /// The one project it may touch.
    pub project: ProjectId,
    /// That project's short name.
    pub slug: Slug,
    /// What it may do there.
    pub scopes: BTreeSet<KeyScope>,
}

impl Principal {
    /// The records it may see.
    pub fn scope(&self) -> Scope {
        match self {
            Self::Service => Scope::Org,
            Self::Key(key) => Scope::Project(key.project),
        }
    }

    /// Whether it is admin of everything.
    pub fn is_admin(&self) -> bool {
        match self {
            Self::Service => true,
            Self::Key(_) => false,
        }
    }

    /// The folders that it may name as sources.
    pub fn folders(&self) -> FolderScope {
        match self {
            Self::Service => FolderScope::Root,
            Self::Key(key) => FolderScope::Project {
                id: key.project,
                slug: Some(key.slug.to_string()),
            },
        }
    }

    /// As the audit log names it.
    pub fn actor(&self) -> String {
        match self {
            Self::Service => "service".into(),
            Self::Key(key) => format!("key:{}", key.id),
        }
    }
}
