//! One job's egress proxy: a listener, its connections, and their end.

use std::sync::Arc;
use std::time::Duration;

use pond_core::clock::Clock;
use pond_core::egress::{EgressDecision, EgressPolicy};
use pond_core::entropy::Entropy;
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Intercept;
use super::connection::connection;
use super::judge::Judge;

use crate::net::Dialer;

/// Connections of one job; more wait to be accepted.
const MAX_CONNECTIONS: usize = 256;

/// What a proxy needs of its worker.
#[derive(Clone)]
pub struct Parts {
    /// Resolves, judges addresses and dials; its exceptions are those of `POND_EGRESS_ALLOW_PRIVATE`.
    pub dialer: Dialer,
    /// Dates decisions.
    pub clock: Arc<dyn Clock>,
    /// Mints their ids.
    pub entropy: Arc<dyn Entropy>,
    /// Opens the TLS of hosts that carry secrets, if there are any.
    pub intercept: Option<Arc<dyn Intercept>>,
}

/// Starts proxies.
#[derive(Debug)]
pub struct Proxy;

impl Proxy {
    /// Serves a job's connections on `listener` by `policy` until the handle is dropped. Each decision is told on
    /// `decisions`; when that queue is full, what comes next waits.
    pub fn start(
        listener: UnixListener,
        policy: EgressPolicy,
        parts: Parts,
        decisions: mpsc::Sender<EgressDecision>,
    ) -> ProxyHandle {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let shared = Arc::new(Shared {
            judge: Judge::new(policy),
            parts,
            decisions,
        });
        tasks.spawn(accept(listener, shared, stop.clone(), tasks.clone()));
        tasks.close();
        ProxyHandle { stop, tasks }
    }
}

/// What the connections of one proxy share.
pub(super) struct Shared {
    pub(super) judge: Judge,
    pub(super) parts: Parts,
    pub(super) decisions: mpsc::Sender<EgressDecision>,
}

/// A running proxy. Dropping it closes its address and cuts every tunnel at once.
#[derive(Debug)]
pub struct ProxyHandle {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl ProxyHandle {
    /// Waits until the proxy serves no more, for whatever reason.
    pub async fn ended(&self) {
        self.stop.cancelled().await;
    }

    /// Ends the proxy; on return every decision has been told.
    pub async fn close(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for ProxyHandle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(listener: UnixListener, shared: Arc<Shared>, stop: CancellationToken, tasks: TaskTracker) {
    // If this ends, for whatever reason, nothing goes on without it.
    let _guard = stop.clone().drop_guard();
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let next = async {
            let place = connections.clone().acquire_owned().await.ok()?;
            Some((listener.accept().await, place))
        };
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = next => accepted,
        };
        match accepted {
            None => return,
            Some((Ok((stream, _)), place)) => {
                let (shared, stop) = (shared.clone(), stop.clone());
                tasks.spawn(async move {
                    let _place = place;
                    connection(stream, shared, stop).await;
                });
            }
            Some((Err(error), _)) => {
                // Out of descriptors, mostly: without a pause this would spin.
                tracing::warn!(%error, "the egress proxy cannot accept");
                shared.parts.clock.sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
