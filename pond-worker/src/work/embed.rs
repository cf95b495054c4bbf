//! A worker in the engine's own process.

use std::sync::Arc;

use pond_core::Pond;
use pond_core::clock::SystemClock;
use pond_core::dispatch::WorkerInfo;
use pond_core::entropy::SystemEntropy;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Worker, WorkerError, WorkerSettings};

/// A worker that runs in this process. Dropped, its jobs are killed at once; [`EmbeddedPool::shutdown`] ends them in order.
#[derive(Debug)]
pub struct EmbeddedPool {
    info: WorkerInfo,
    stop: CancellationToken,
    running: Option<JoinHandle<()>>,
}

/// Starts a worker for an engine.
///
/// # Errors
/// As [`Worker::start`].
pub async fn embed(pond: &Pond, settings: WorkerSettings) -> Result<EmbeddedPool, WorkerError> {
    let worker = Worker::start(settings, Arc::new(SystemClock), Arc::new(SystemEntropy)).await?;
    let info = worker.info().clone();
    let link = Arc::new(pond.pool().attach(info.clone()));
    let stop = CancellationToken::new();
    let running = Some(tokio::spawn(worker.run(link, stop.clone())));
    Ok(EmbeddedPool { info, stop, running })
}

impl EmbeddedPool {
    /// The worker, and what it can do.
    pub fn info(&self) -> &WorkerInfo {
        &self.info
    }

    /// Ends its jobs, gives them back to the engine, and waits until nothing of them is left. To be called before the
    /// engine's own shutdown.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        if let Some(running) = self.running.take()
            && let Err(error) = running.await
        {
            tracing::error!(%error, "the embedded worker ended badly");
        }
    }
}

impl Drop for EmbeddedPool {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
        }
    }
}
