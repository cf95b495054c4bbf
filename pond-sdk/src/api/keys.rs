//! API keys.

use serde::{Deserialize, Serialize};

use crate::Secret;

/// A key of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApiKey {
    /// Its id.
    pub id: String,
    /// How its token begins.
    pub prefix: String,
    /// Its name.
    pub name: String,
    /// The one project it may touch.
    pub project_id: String,
    /// What it may do there.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at: String,
    /// When it ceases to work.
    pub expires_at: Option<String>,
    /// When it was last used, give or take a minute.
    pub last_used_at: Option<String>,
}

/// The answer of `POST /v1/keys`: the only one that holds the key itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct IssuedKey {
    /// Its id.
    pub id: String,
    /// The key itself, shown once.
    #[serde(with = "crate::secret::wire")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub key: Secret,
    /// How it begins.
    pub prefix: String,
    /// Its name.
    pub name: String,
    /// The one project it may touch.
    pub project_id: String,
    /// What it may do there.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at: String,
    /// When it ceases to work.
    pub expires_at: Option<String>,
    /// When it was last used.
    pub last_used_at: Option<String>,
}

/// The body of `POST /v1/keys`. Without project and org: a key of the project `default`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    /// The project it may touch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
    /// The same project, by its slug.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org: Option<String>,
    /// Its name.
    pub name: String,
    /// What it may do: some of `{runs,agents,pods,repos,external}:{read,write}` and `runners:read`.
    pub scopes: Vec<String>,
    /// When it ceases to work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// A page of keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApiKeyList {
    /// The keys.
    pub keys: Vec<ApiKey>,
    /// Where the next page begins; null at the end.
    pub next_cursor: Option<String>,
}
