//! API keys.

use crate::api::{ApiKey, ApiKeyList, CreateKey, IssuedKey};
use crate::client::Client;
use crate::error::Result;
use crate::pages::{Page, Pages, pages};
use crate::request::Call;

/// The calls on API keys.
#[derive(Debug, Clone)]
pub struct Keys {
    client: Client,
}

impl Client {
    /// The calls on API keys.
    pub fn keys(&self) -> Keys {
        Keys { client: self.clone() }
    }
}

impl Keys {
    /// Creates a key. The answer holds the key itself, which is never shown again.
    pub async fn create(&self, key: &CreateKey) -> Result<IssuedKey> {
        self.client.read("key", Call::create(&["v1", "keys"])?.json(key)?).await
    }

    /// The keys of a project; without one, all.
    pub fn list(&self, project_id: Option<&str>) -> Pages<ApiKey> {
        let (client, project) = (self.client.clone(), project_id.map(ToOwned::to_owned));
        pages(move |cursor| {
            let call = Call::get(&["v1", "keys"])
                .query("project_id", project.as_ref())
                .query("cursor", cursor);
            let client = client.clone();
            async move {
                let list: ApiKeyList = client.read("list of keys", call).await?;
                Ok(Page {
                    entries: list.keys,
                    next: list.next_cursor,
                })
            }
        })
    }

    /// Revokes a key: no server takes it any more.
    pub async fn revoke(&self, id: &str) -> Result<()> {
        self.client.done(Call::delete(&["v1", "keys", id])).await
    }
}
