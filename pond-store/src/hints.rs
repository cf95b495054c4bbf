//! Hints about writes, to watchers of this process and, where there is a way, of other ones.

use pond_core::store::Change;
use tokio::sync::{broadcast, mpsc};

use crate::fact::Touches;

/// Hints that a slow watcher may be behind by; then it has missed some.
const BEHIND: usize = 4096;

/// Where hints go.
#[derive(Debug, Clone)]
pub(crate) struct Hints {
    watchers: broadcast::Sender<Change>,
    /// To the other servers on the same database.
    others: Option<mpsc::Sender<Touches>>,
}

impl Hints {
    /// Hints for this process.
    pub(crate) fn new() -> Self {
        Self {
            watchers: broadcast::Sender::new(BEHIND),
            others: None,
        }
    }

    /// Tells other servers too. Hints that do not fit into the channel are lost; so it must be emptied steadily.
    pub(crate) fn with_others(self, others: mpsc::Sender<Touches>) -> Self {
        Self {
            others: Some(others),
            ..self
        }
    }

    /// Watches.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.watchers.subscribe()
    }

    /// Tells of a durable write of this process.
    pub(crate) fn tell(&self, touches: Touches) {
        if let Some(run) = touches.run {
            self.hint(Change::Run(run));
        }
        if touches.line {
            self.hint(Change::Work);
        }
        if let Some(others) = &self.others {
            let _full = others.try_send(touches);
        }
    }

    /// Passes a hint on to the watchers of this process.
    pub(crate) fn hint(&self, change: Change) {
        let _nobody_watches = self.watchers.send(change);
    }
}
