//! Whose records a call may see. Every query of a store takes a scope; one without it does not compile.

use crate::id::ProjectId;

/// The part of the records that a caller may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Every project, and what belongs to the whole deployment.
    Org,
    /// One project.
    Project(ProjectId),
}

impl Scope {
    /// Whether records of `project` are within.
    pub fn admits(self, project: ProjectId) -> bool {
        match self {
            Self::Org => true,
            Self::Project(own) => own == project,
        }
    }

    /// The one project it is limited to.
    pub fn project(self) -> Option<ProjectId> {
        match self {
            Self::Org => None,
            Self::Project(own) => Some(own),
        }
    }
}
