//! Projects.

use serde::{Deserialize, Serialize};

/// A project. In the pods family it is the org of that slug.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Project {
    /// Its id.
    pub id: String,
    /// Its short name in addresses.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: String,
}

/// The body of `POST /v1/admin/projects`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateProject {
    /// Its short name in addresses.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// An id of the caller's choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// A page of projects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProjectList {
    /// The projects.
    pub projects: Vec<Project>,
    /// Where the next page begins; null at the end.
    pub next_cursor: Option<String>,
}
