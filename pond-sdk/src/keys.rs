//! API keys.

use crate::api::{CreateKey, CreatedKey, Key, KeyList};
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
    /// Makes a key. The answer alone holds it.
    pub async fn create(&self, key: &CreateKey) -> Result<CreatedKey> {
        self.client.read("key", Call::create(&["v1", "keys"])?.json(key)?).await
    }

    /// Keys of one project, or all, newest first.
    pub fn list(&self, project_id: Option<&str>) -> Pages<Key> {
        let (client, project) = (self.client.clone(), project_id.map(ToOwned::to_owned));
        pages(move |cursor| {
            let (client, project) = (client.clone(), project.clone());
            async move {
                let call = Call::get(&["v1", "keys"]).query("project_id", project);
                let list: KeyList = client.read("list of keys", call.query("cursor", cursor)).await?;
                Ok(Page {
                    entries: list.keys,
                    next: list.next_cursor,
                })
            }
        })
    }

    /// Revokes a key: from then on it opens nothing.
    pub async fn revoke(&self, id: &str) -> Result<()> {
        self.client.done(Call::delete(&["v1", "keys", id])).await
    }
}
