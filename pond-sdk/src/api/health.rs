//! Whether the server is well, and who the caller is.

use serde::{Deserialize, Serialize};

use super::open_enum::open_enum;

/// The answer of `GET /health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Health {
    /// `ok`, or what is wrong.
    pub status: String,
    /// The operator's name for this deployment.
    pub label: String,
    /// The server's version.
    pub version: String,
}

open_enum! {
    /// What kind of caller a token belongs to.
    PrincipalKind {
        /// The service token.
        Service = "service",
        /// A project's API key.
        Key = "key",
    }
}

/// The caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Principal {
    /// What kind of caller.
    pub kind: PrincipalKind,
    /// Id of the key, for a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// Its name, for a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The one project it may touch, for a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
    /// What it may do, for a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
}

/// The answer of `GET /v1/whoami`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Whoami {
    /// The caller.
    pub principal: Principal,
    /// The server's version.
    pub version: String,
    /// The operator's name for this deployment.
    pub label: String,
}
