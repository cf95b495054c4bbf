//! What a run can reach, and what it reached.

use crate::api::{EgressDecision, EgressDecisionList, Reach};
use crate::error::Result;
use crate::pages::{Page, Pages, pages};
use crate::request::Call;
use crate::runs::Runs;

impl Runs {
    /// What the run asked to reach and what was decided, oldest first.
    pub fn egress(&self, id: impl Into<String>) -> Pages<EgressDecision> {
        let (client, id) = (self.client().clone(), id.into());
        pages(move |cursor| {
            let call = Call::get(&["v1", "runs", &id, "egress"]).query("cursor", cursor);
            let client = client.clone();
            async move {
                let list: EgressDecisionList = client.read("decisions", call).await?;
                Ok(Page {
                    entries: list.decisions,
                    next: list.next_cursor,
                })
            }
        })
    }

    /// What the run can reach and which secret goes where: of stages that a worker got as it was decided then, of the others
    /// as config says now.
    pub async fn reach(&self, id: &str) -> Result<Reach> {
        self.client()
            .read("reach", Call::get(&["v1", "runs", id, "reach"]))
            .await
    }
}
