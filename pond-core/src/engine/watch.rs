//! Wakes those who wait for news of a run, or for work. A wake-up is a hint: who is woken looks at the store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, watch};

use crate::id::RunId;

/// Who waits for what.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    runs: Mutex<HashMap<RunId, watch::Sender<u64>>>,
    work: Notify,
}

/// A wait for news of one run.
#[derive(Debug)]
pub(crate) struct RunWatch {
    id: RunId,
    news: watch::Receiver<u64>,
    watches: Arc<Watches>,
}

impl Watches {
    /// Starts to wait for news of a run. News from before this call are not told: look at the store after it.
    pub(crate) fn run(self: &Arc<Self>, id: RunId) -> RunWatch {
        let mut runs = self.runs.lock().expect("no holder of this lock panics");
        let news = runs.entry(id).or_insert_with(|| watch::Sender::new(0)).subscribe();
        RunWatch {
            id,
            news,
            watches: self.clone(),
        }
    }

    /// A wait for work; create it before looking for work, so that none is missed.
    pub(crate) fn work(&self) -> tokio::sync::futures::Notified<'_> {
        self.work.notified()
    }

    /// Wakes all who wait for work.
    pub(crate) fn wake_work(&self) {
        self.work.notify_waiters();
    }

    /// Wakes those who watch a run.
    pub(crate) fn wake_run(&self, id: RunId) {
        let runs = self.runs.lock().expect("no holder of this lock panics");
        if let Some(news) = runs.get(&id) {
            news.send_modify(|count| *count += 1);
        }
    }

    /// Wakes everyone.
    pub(crate) fn wake_all(&self) {
        let runs = self.runs.lock().expect("no holder of this lock panics");
        for news in runs.values() {
            news.send_modify(|count| *count += 1);
        }
        drop(runs);
        self.wake_work();
    }
}

impl RunWatch {
    /// Completes at the next news.
    pub(crate) async fn changed(&mut self) {
        // The sender stays in the map as long as this watch is alive.
        let _ = self.news.changed().await;
    }
}

impl Drop for RunWatch {
    fn drop(&mut self) {
        let mut runs = self.watches.runs.lock().expect("no holder of this lock panics");
        if runs.get(&self.id).is_some_and(|news| news.receiver_count() <= 1) {
            runs.remove(&self.id);
        }
    }
}
