//! Credentials, as the API shows them: names of secrets, never values.

use pond_core::config::{Credential, Stored};
use pond_sdk::api;

use super::{Shown, scope};

impl Shown for api::Credential {
    type Record = Credential;
    type Put = api::PutCredential;
    type List = api::CredentialList;
    const ABOUT: [&'static str; 4] = [
        "Lists credentials",
        "Shows a credential",
        "Deletes a credential",
        "Creates or replaces a credential",
    ];

    fn shown(stored: Stored<Credential>) -> Self {
        let (scope, project_id) = scope(stored.owner);
        let Credential {
            name,
            provider,
            env,
            secret_keys,
            hosts,
            buckets,
            remote_features,
        } = stored.record;
        Self {
            name,
            provider,
            env,
            secret_keys: secret_keys.into_iter().collect(),
            hosts: hosts.into_iter().map(String::from).collect(),
            buckets,
            remote_features: remote_features.into_iter().collect(),
            scope,
            project_id,
            updated_at: stored.updated_at.to_string(),
        }
    }

    fn page(credentials: Vec<Self>, next_cursor: Option<String>) -> api::CredentialList {
        api::CredentialList {
            credentials,
            next_cursor,
        }
    }
}
