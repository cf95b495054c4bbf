//! Blocking work that stops by itself once nobody waits for it any more.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tells work on a thread of its own to stop.
#[derive(Debug, Clone, Default)]
pub(crate) struct Halt(Arc<AtomicBool>);

impl Halt {
    /// To be asked in each round of a loop.
    ///
    /// # Errors
    /// When the work is to stop.
    pub(crate) fn check(&self) -> io::Result<()> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(io::Error::other("nobody waits for it any more")),
            false => Ok(()),
        }
    }
}

struct OnDrop(Halt);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// Does work that blocks; when the future is let go of, the work is told to stop.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce(&Halt) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let halt = Halt::default();
    let _stop = OnDrop(halt.clone());
    let done = tokio::task::spawn_blocking(move || work(&halt)).await;
    done.unwrap_or_else(|panic| Err(io::Error::other(panic)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn work_that_nobody_waits_for_stops() {
        let (started, has_started) = tokio::sync::oneshot::channel();
        let (told, hear) = tokio::sync::oneshot::channel();
        let work = tokio::spawn(blocking(move |halt| {
            let _ = started.send(());
            while halt.check().is_ok() {
                std::thread::sleep(Duration::from_millis(1));
            }
            let _ = told.send(());
            Ok(())
        }));
        has_started.await.expect("it starts");
        work.abort();
        let stopped = tokio::time::timeout(Duration::from_secs(30), hear).await;
        stopped.expect("in time").expect("it stopped by itself");
    }
}
