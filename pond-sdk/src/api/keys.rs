//! API keys.

use serde::{Deserialize, Serialize};

use crate::secret::{self, Secret};

/// An API key, without the key itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Key {
    /// Its id.
    pub id: String,
    /// How the key begins.
    pub prefix: String,
    /// Its name.
    pub name: String,
    /// The one project that it opens.
    pub project_id: String,
    /// What it may do, such as `runs:read`.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at: String,
    /// From when on it opens nothing; null: never.
    pub expires_at: Option<String>,
    /// When it was last used, to the minute; null: never.
    pub last_used_at: Option<String>,
}

/// A key that was just made.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreatedKey {
    /// The key itself. It is shown here and nowhere else.
    #[serde(with = "secret::wire")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub key: Secret,
    /// Everything else about it.
    #[serde(flatten)]
    pub record: Key,
}

/// The body of `POST /v1/keys`. Of `project_id` and `org` at most one; the project `default` with neither.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    /// The project that it opens, by id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
    /// The same by slug.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org: Option<String>,
    /// Its name.
    pub name: String,
    /// What it may do: `runs`, `agents`, `pods`, `repos` or `external` with `:read` or `:write`, and `runners:read`.
    pub scopes: Vec<String>,
    /// From when on it opens nothing, as an RFC 3339 time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// A page of keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeyList {
    /// The keys.
    pub keys: Vec<Key>,
    /// Where the next page begins; null at the end.
    pub next_cursor: Option<String>,
}
