//! One job's broker: a listener, its connections, and their end.

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use pond_core::clock::Clock;
use pond_core::entropy::Entropy;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::{Builder, Uuid};

use super::call::{ModelCall, Spend};
use super::grant::Grant;
use super::proxy;
use super::upstream::Upstream;

/// Connections of one job; more wait to be accepted.
const MAX_CONNECTIONS: usize = 256;
/// Calls of one job at the same time; more wait.
const MAX_CALLS: usize = 64;
/// Bytes of request bodies of one job in memory at the same time; more wait.
const MAX_BODIES: usize = 128 << 20;
/// How long a client may take to send a request's head, or leave a connection idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of a request's head.
const MAX_HEAD: usize = 64 << 10;

/// What a broker needs of its worker.
#[derive(Clone)]
pub struct Parts {
    /// The way to the provider.
    pub upstream: Arc<dyn Upstream>,
    /// Draws calls from the job's budget.
    pub spend: Arc<dyn Spend>,
    /// Dates calls.
    pub clock: Arc<dyn Clock>,
    /// Mints their ids.
    pub entropy: Arc<dyn Entropy>,
}

/// What the connections of one broker share.
pub(super) struct Shared {
    pub(super) grant: Grant,
    pub(super) upstream: Arc<dyn Upstream>,
    pub(super) spend: Arc<dyn Spend>,
    pub(super) clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    pub(super) calls: mpsc::Sender<ModelCall>,
    pub(super) slots: Arc<Semaphore>,
    pub(super) bodies: Arc<Semaphore>,
}

impl Shared {
    pub(super) fn call_id(&self) -> Uuid {
        let millis = u64::try_from(self.clock.now().millis()).unwrap_or(0);
        Builder::from_unix_timestamp_millis(millis, &self.entropy.draw()).into_uuid()
    }
}

/// Starts brokers.
#[derive(Debug)]
pub struct Broker;

impl Broker {
    /// Serves `grant` on `listener` until the handle is dropped. Each billed call is told on `calls` when it has ended; when
    /// that queue is full, the next call waits before it is sent.
    pub fn start(listener: UnixListener, grant: Grant, parts: Parts, calls: mpsc::Sender<ModelCall>) -> BrokerHandle {
        let Parts {
            upstream,
            spend,
            clock,
            entropy,
        } = parts;
        let slots = Arc::new(Semaphore::new(MAX_CALLS));
        let bodies = Arc::new(Semaphore::new(MAX_BODIES));
        let shared = Arc::new(Shared {
            grant,
            upstream,
            spend,
            clock,
            entropy,
            calls,
            slots,
            bodies,
        });
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(accept(listener, shared, stop.clone(), tasks.clone()));
        tasks.close();
        BrokerHandle { stop, tasks }
    }
}

/// A running broker. Dropping it closes its address and breaks every connection at once.
#[derive(Debug)]
pub struct BrokerHandle {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl BrokerHandle {
    /// Waits until the broker serves no more, for whatever reason.
    pub async fn ended(&self) {
        self.tasks.wait().await;
    }

    /// Ends the broker; on return every call has been told.
    pub async fn close(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for BrokerHandle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(listener: UnixListener, shared: Arc<Shared>, stop: CancellationToken, tasks: TaskTracker) {
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
                    stop.run_until_cancelled(connection(stream, shared)).await;
                });
            }
            Some((Err(error), _)) => {
                // Out of descriptors, mostly: without a pause this would spin.
                tracing::warn!(%error, "the broker cannot accept");
                shared.clock.sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: UnixStream, shared: Arc<Shared>) {
    let service = service_fn(move |request| proxy::answer(shared.clone(), request));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD);
    // A client that goes away, and an answer that is cut off, both end the connection; the call's record tells of it.
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a broker connection ended");
    }
}
