//! Hints about writes, to watchers of this process and, where there is a way, of other ones.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use pond_core::store::Change;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;

use crate::fact::Touches;

/// Hints that a slow watcher may be behind by; then it has missed some.
const BEHIND: usize = 4096;

/// Where hints go.
#[derive(Debug, Clone)]
pub(crate) struct Hints {
    watchers: broadcast::Sender<Change>,
    others: Option<Arc<Others>>,
    /// Counts the hints that jobs came, or may have come, into line.
    line_news: Arc<AtomicU64>,
}

/// The way to the other servers on the same database, and the tasks that keep it open.
#[derive(Debug)]
pub(crate) struct Others {
    entrance: mpsc::Sender<Touches>,
    /// Set when a hint found no place in the channel.
    lost: Arc<AtomicBool>,
    tasks: Mutex<JoinSet<()>>,
}

impl Others {
    /// Sends through `entrance`; `tasks` end with this.
    pub(crate) fn new(entrance: mpsc::Sender<Touches>, lost: Arc<AtomicBool>, tasks: JoinSet<()>) -> Self {
        Self {
            entrance,
            lost,
            tasks: Mutex::new(tasks),
        }
    }
}

impl Hints {
    /// Hints for this process.
    pub(crate) fn new() -> Self {
        Self {
            watchers: broadcast::Sender::new(BEHIND),
            others: None,
            line_news: Arc::default(),
        }
    }

    /// Tells other servers too.
    pub(crate) fn with_others(self, others: Others) -> Self {
        Self {
            others: Some(Arc::new(others)),
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
        if touches.pool {
            self.hint(Change::Pool);
        }
        if let Some(others) = &self.others
            && others.entrance.try_send(touches).is_err()
        {
            others.lost.store(true, Ordering::Release);
        }
    }

    /// Passes a hint on to the watchers of this process.
    pub(crate) fn hint(&self, change: Change) {
        if matches!(change, Change::Work | Change::Missed) {
            self.line_news.fetch_add(1, Ordering::AcqRel);
        }
        let _nobody_watches = self.watchers.send(change);
    }

    /// How often jobs came, or may have come, into line so far. Counted before anybody is told.
    pub(crate) fn line_news(&self) -> u64 {
        self.line_news.load(Ordering::Acquire)
    }

    /// Ends the tasks.
    pub(crate) async fn close(&self) {
        if let Some(others) = &self.others {
            let mut tasks = std::mem::take(&mut *others.tasks.lock().expect("no holder of this lock panics"));
            tasks.shutdown().await;
        }
    }
}
