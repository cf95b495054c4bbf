//! The audit log.

use crate::api::{AuditEntry, AuditList, AuditVerification};
use crate::client::Client;
use crate::error::Result;
use crate::pages::{Page, Pages, pages};
use crate::request::Call;

/// The calls on the audit log.
#[derive(Debug, Clone)]
pub struct Audit {
    client: Client,
}

/// Which rows to list; what is absent does not narrow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// Written at this RFC 3339 time or later.
    pub since: Option<String>,
    /// Of this actor.
    pub actor: Option<String>,
    /// Of this action.
    pub action: Option<String>,
}

impl Client {
    /// The calls on the audit log.
    pub fn audit(&self) -> Audit {
        Audit { client: self.clone() }
    }
}

impl Audit {
    /// Rows, newest first.
    pub fn list(&self, query: &AuditQuery) -> Pages<AuditEntry> {
        let (client, query) = (self.client.clone(), query.clone());
        pages(move |cursor| {
            let call = Call::get(&["v1", "admin", "audit"])
                .query("since", query.since.as_ref())
                .query("actor", query.actor.as_ref())
                .query("action", query.action.as_ref())
                .query("cursor", cursor);
            let client = client.clone();
            async move {
                let list: AuditList = client.read("audit log", call).await?;
                Ok(Page {
                    entries: list.entries,
                    next: list.next_cursor,
                })
            }
        })
    }

    /// Has the server check its whole chain, and that it leads past a signed head that was told before.
    pub async fn verify(&self, head: Option<&str>) -> Result<AuditVerification> {
        let call = Call::get(&["v1", "admin", "audit", "verify"]).query("head", head);
        self.client.read("check of the audit log", call).await
    }
}
