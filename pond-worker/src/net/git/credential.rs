//! What git shows to the server.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pond_core::secret::Secret;

/// A token, sent as HTTP basic authentication. It reaches git through its environment, never through an argument or a file.
#[derive(Debug, Clone)]
pub struct GitCredential {
    username: String,
    token: Secret,
}

impl GitCredential {
    /// A token with the user name that the server expects beside it.
    pub fn new(username: Option<&str>, token: Secret) -> Self {
        // GitHub's word for it; GitLab, Gitea and Bitbucket take any.
        Self {
            username: username.unwrap_or("x-access-token").to_owned(),
            token,
        }
    }

    pub(super) fn header(&self) -> Secret {
        let pair = Secret::new(format!("{}:{}", self.username, self.token.expose()));
        Secret::new(format!("Authorization: Basic {}", STANDARD.encode(pair.expose())))
    }
}
