//! Following a run: its events as they come, until it has ended.

use std::sync::Arc;
use std::time::Duration;

use super::RunStatus;
use crate::engine::{Parts, RunWatch};
use crate::error::Result;
use crate::event::{Event, EventBody, EventNumber, NumberedEvent, StatusChange};
use crate::id::RunId;
use crate::scope::Scope;

/// Events read in one go.
pub(super) const EVENTS_AT_ONCE: u32 = 500;
/// A follower looks again after this, whatever it heard.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Follows one run, from a number on.
pub(super) struct Follower {
    pub(super) parts: Arc<Parts>,
    pub(super) watch: RunWatch,
    pub(super) scope: Scope,
    pub(super) id: RunId,
    pub(super) after: EventNumber,
    pub(super) over: bool,
}

impl Follower {
    /// The next events, as soon as there are some; none after the run's end.
    pub(super) async fn next(mut self) -> Result<Option<(Vec<NumberedEvent>, Self)>> {
        loop {
            let events = self
                .parts
                .store
                .events(self.scope, self.id, self.after, EVENTS_AT_ONCE)
                .await?;
            if let Some(last) = events.last() {
                self.after = last.id;
                self.over |= events.iter().any(|event| ends_run(&event.event));
                return Ok(Some((events, self)));
            }
            if self.over || self.ended().await? {
                return Ok(None);
            }
            tokio::select! {
                biased;
                () = self.watch.changed() => {}
                () = self.parts.clock.sleep(LOOK_AGAIN) => {}
            }
        }
    }

    /// Whether the run has ended, and all of its events were read: for those who start behind its end.
    async fn ended(&self) -> Result<bool> {
        let run = self.parts.store.run(self.scope, self.id).await?;
        Ok(run.is_none_or(|run| run.head.state.phase.status().is_terminal() && run.head.next_event <= self.after + 1))
    }
}

fn ends_run(event: &Event) -> bool {
    match &event.body {
        EventBody::Status(StatusChange { stage: None, to, .. }) => {
            RunStatus::parse(to).is_some_and(RunStatus::is_terminal)
        }
        _ => false,
    }
}
