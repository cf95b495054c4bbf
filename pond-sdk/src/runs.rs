//! Runs: create, look, follow, stop.

use std::time::Duration;

use futures::StreamExt;

use crate::api::{CreateRun, Preflight, Run, RunDetail, RunList, RunStatus, Usage};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::events::Events;
use crate::logs::LogQuery;
use crate::pages::{Page, Pages, pages};
use crate::request::Call;

/// Between two looks at a run whose events cannot be followed.
const POLL: Duration = Duration::from_millis(1500);

/// The calls on runs.
#[derive(Debug, Clone)]
pub struct Runs {
    client: Client,
}

/// Which runs to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Of this project; none: of all that the caller may see.
    pub project_id: Option<String>,
    /// In one of these states; empty: in any.
    pub statuses: Vec<RunStatus>,
    /// Set off by this.
    pub trigger: Option<String>,
    /// Created at or after this time (RFC 3339).
    pub since: Option<String>,
    /// Runs per page; 1 to 500.
    pub page_size: Option<u32>,
}

impl Client {
    /// The calls on runs.
    pub fn runs(&self) -> Runs {
        Runs { client: self.clone() }
    }
}

impl Runs {
    /// Creates a run.
    pub async fn create(&self, run: &CreateRun) -> Result<Run> {
        self.client.read("run", Call::create(&["v1", "runs"])?.json(run)?).await
    }

    /// Creates a run from a body written elsewhere.
    pub async fn create_raw(&self, body: &serde_json::Value) -> Result<Run> {
        self.client
            .read("run", Call::create(&["v1", "runs"])?.json(body)?)
            .await
    }

    /// Tells what would keep this run from running well, and creates nothing.
    pub async fn preflight(&self, run: &CreateRun) -> Result<Preflight> {
        self.client
            .read("preflight", Call::put_like(&["v1", "runs", "preflight"]).json(run)?)
            .await
    }

    /// The same for a body written elsewhere.
    pub async fn preflight_raw(&self, body: &serde_json::Value) -> Result<Preflight> {
        self.client
            .read("preflight", Call::put_like(&["v1", "runs", "preflight"]).json(body)?)
            .await
    }

    /// The runs that fit, newest first.
    pub fn list(&self, filter: RunFilter) -> Pages<Run> {
        let client = self.client.clone();
        pages(move |cursor| {
            let (client, filter) = (client.clone(), filter.clone());
            async move {
                let list: RunList = client.read("list of runs", list_call(&filter, cursor)).await?;
                Ok(Page {
                    entries: list.runs,
                    next: list.next_cursor,
                })
            }
        })
    }

    /// A run and its stages.
    pub async fn get(&self, id: &str) -> Result<RunDetail> {
        self.client.read("run", Call::get(&["v1", "runs", id])).await
    }

    /// What the run used so far.
    pub async fn usage(&self, id: &str) -> Result<Usage> {
        self.client.read("usage", Call::get(&["v1", "runs", id, "usage"])).await
    }

    /// Asks for the run to be cancelled. A run that has ended is answered unchanged.
    pub async fn cancel(&self, id: &str) -> Result<Run> {
        self.client
            .read("run", Call::put_like(&["v1", "runs", id, "cancel"]))
            .await
    }

    /// Creates a new run like this one, which must have ended.
    pub async fn retry(&self, id: &str) -> Result<Run> {
        self.client
            .read("run", Call::create(&["v1", "runs", id, "retry"])?)
            .await
    }

    /// The run's log.
    pub fn logs(&self, id: impl Into<String>) -> LogQuery {
        LogQuery::new(self.client.clone(), id.into())
    }

    /// The run's events after this number, live, until it has ended. A broken connection is taken up again where it broke:
    /// none is lost, none comes twice.
    pub fn events(&self, id: impl Into<String>, after: Option<u64>) -> Events {
        Events::new(self.client.clone(), id.into(), after)
    }

    /// Waits until the run has ended. Where its events cannot be followed, it is looked at now and then.
    pub async fn wait(&self, id: &str) -> Result<RunDetail> {
        let mut detail = self.get(id).await?;
        if detail.run.status.is_terminal() {
            return Ok(detail);
        }
        let mut events = self.events(id, None);
        while let Some(event) = events.next().await {
            if let Err(error) = event {
                if matches!(error, Error::Unreachable { .. }) {
                    return Err(error);
                }
                break;
            }
        }
        loop {
            detail = self.get(id).await?;
            if detail.run.status.is_terminal() {
                return Ok(detail);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }
}

fn list_call(filter: &RunFilter, cursor: Option<String>) -> Call {
    let statuses: Vec<&str> = filter.statuses.iter().map(RunStatus::as_str).collect();
    Call::get(&["v1", "runs"])
        .query("projectId", filter.project_id.as_ref())
        .query("status", (!statuses.is_empty()).then(|| statuses.join(",")))
        .query("trigger", filter.trigger.as_ref())
        .query("since", filter.since.as_ref())
        .query("limit", filter.page_size)
        .query("cursor", cursor)
}
