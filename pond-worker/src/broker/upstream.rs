//! The broker's way to the provider, as a port: one request, one answer, no redirects followed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::client::legacy::{self, connect::Connect};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use pond_core::outbound::Purpose;

use crate::net::{Connector, Dialer, Protocols};

/// How long an idle connection to the provider is kept.
const IDLE: Duration = Duration::from_secs(60);
/// How many idle connections are kept: as many as one job may have calls, so that none is dialled anew in between.
const IDLE_PER_HOST: usize = 64;
/// Bytes of an answer's head.
const MAX_HEAD: usize = 256 << 10;

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// No connection was made, so nothing was sent and nothing is billed.
    #[error("the provider cannot be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The connection broke before there was an answer; the provider may have worked on it.
    #[error("the provider broke the connection")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Sends requests to the provider.
pub trait Upstream: Send + Sync + 'static {
    /// Sends one request to its absolute URL and gives the answer's head, whatever its status.
    fn send(&self, request: Request<Full<Bytes>>) -> BoxFuture<'static, Result<Response<Incoming>, UpstreamError>>;
}

impl<C> Upstream for legacy::Client<C, Full<Bytes>>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    fn send(&self, request: Request<Full<Bytes>>) -> BoxFuture<'static, Result<Response<Incoming>, UpstreamError>> {
        let answer = self.request(request);
        Box::pin(async move {
            answer.await.map_err(|error| match error.is_connect() {
                true => UpstreamError::Unreachable(Box::new(error)),
                false => UpstreamError::Broken(Box::new(error)),
            })
        })
    }
}

/// The way to providers through the worker's dialer. Its connections are shared by all brokers that are given it.
pub fn dialled(dialer: Dialer) -> Arc<dyn Upstream> {
    let connector = Connector::new(dialer, Purpose::Model, Protocols::Http2OrHttp1);
    let client: legacy::Client<Connector, Full<Bytes>> = legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(IDLE_PER_HOST)
        .http1_max_buf_size(MAX_HEAD)
        .build(connector);
    Arc::new(client)
}
