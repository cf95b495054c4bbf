//! What the broker answers itself, in place of the provider.

use hyper::StatusCode;

use super::call::Exceeded;

/// A refusal: the status, a stable code, and a text that says what to do. The provider's error shape is put around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status. A 4xx is said to be final, so that no client library tries it again.
    pub status: StatusCode,
    /// The stable code, which stands as the error's type.
    pub code: &'static str,
    /// For the agent's log. Holds nothing of the upstream and no secret.
    pub message: String,
}

impl Refusal {
    /// A refusal by policy.
    pub fn forbidden(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::FORBIDDEN,
            code,
            message: message.into(),
        }
    }

    /// The budget is spent.
    pub(super) fn spent(exceeded: &Exceeded) -> Self {
        Self::forbidden("budget_exceeded", exceeded.message.clone())
    }

    /// A request that cannot be read.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code: "invalid_request_error",
            message: message.into(),
        }
    }

    /// The provider cannot be reached or answers what it must not. Nothing of its words is told.
    pub fn upstream(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_GATEWAY,
            code: "upstream_failed",
            message: message.into(),
        }
    }

    pub(super) fn with_status(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }
}
