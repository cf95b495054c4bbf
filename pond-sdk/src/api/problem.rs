//! The body of every error answer (RFC 9457, `application/problem+json`).

use serde::{Deserialize, Serialize};

use super::PreflightProblem;

/// An error as the API tells it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// `urn:pond:problem:<code>`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// What the code means, in a few words.
    #[serde(default)]
    pub title: String,
    /// The HTTP status.
    #[serde(default)]
    pub status: u16,
    /// What went wrong here, and what would be right.
    #[serde(default)]
    pub detail: String,
    /// Stable code.
    #[serde(default)]
    pub code: String,
    /// The id under which the server's log tells more.
    #[serde(default)]
    pub request_id: String,
    /// Faults of single fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// What preflight found, with code `preflight_failed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<PreflightProblem>,
    /// Who uses the record, with code `in_use`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<ProblemUser>,
    /// Number of the chunk that is expected, with code `chunk_gap`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<u64>,
    /// The scopes that the key lacks, with code `missing_scope`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required_scopes: Vec<String>,
    /// The record that exists already, with code `already_created`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

impl Problem {
    /// A problem of this status and code; the type follows from the code.
    pub fn new(status: u16, code: impl Into<String>, title: impl Into<String>, detail: impl Into<String>) -> Self {
        let code = code.into();
        Self {
            kind: format!("urn:pond:problem:{code}"),
            title: title.into(),
            status,
            detail: detail.into(),
            code,
            ..Self::default()
        }
    }
}

/// A fault of one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FieldError {
    /// JSON pointer into the body (RFC 6901), or the bare name of a query parameter.
    pub pointer: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// A record that uses another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProblemUser {
    /// Kind of the user, such as `model`.
    pub kind: String,
    /// Its key.
    pub key: String,
    /// The project it belongs to; null for the org.
    pub project_id: Option<String>,
}
