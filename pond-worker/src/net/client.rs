//! HTTP over the dialer: pooled connections, no redirects, bounded waiting for headers.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pond_core::outbound::{OutboundUrl, Purpose};
use tower::Service;

use super::{DialError, Dialer, Stream};

/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(30);

/// How many idle connections are kept per host.
const IDLE_PER_HOST: usize = 16;

/// The most that the head of an HTTP/1 answer may take.
const MAX_HEAD: usize = 256 << 10;

/// The most headers an answer may have.
const MAX_HEADERS: usize = 200;

/// What a body's stream may fail with.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The body of a request, whole or streamed.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A body without bytes.
pub fn empty_body() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body known whole.
pub fn full_body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Which HTTP versions are offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocols {
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/2 where the server has it.
    Http2OrHttp1,
}

/// Opens connections for hyper's pooled client; each one by the outbound rule.
#[derive(Clone)]
pub struct Connector {
    dialer: Dialer,
    purpose: Purpose,
    protocols: Protocols,
}

impl Connector {
    /// Connections for one purpose.
    pub fn new(dialer: Dialer, purpose: Purpose, protocols: Protocols) -> Self {
        Self {
            dialer,
            purpose,
            protocols,
        }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self {
            dialer,
            purpose,
            protocols,
        } = self.clone();
        Box::pin(async move {
            let url = OutboundUrl::parse(&uri.to_string(), purpose, dialer.allow())?;
            dialer.connect_url(purpose, &url, protocols).await.map(TokioIo::new)
        })
    }
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No connection was made.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The headers of the answer did not come in time.
    #[error("no answer in time")]
    Timeout,
    /// The connection broke, or what came is not HTTP.
    #[error("the connection broke before an answer came")]
    Broken(#[source] BoxError),
}

/// A pooled client for one purpose. Never follows a redirect; the caller sees it and checks its target anew.
#[derive(Clone)]
pub struct HttpClient(Client<Connector, Body>);

/// A client for one purpose, with connections of its own.
pub fn client(dialer: Dialer, purpose: Purpose, protocols: Protocols) -> HttpClient {
    let pooled = Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(IDLE_PER_HOST)
        .http1_max_buf_size(MAX_HEAD)
        .http1_max_headers(MAX_HEADERS)
        .build(Connector::new(dialer, purpose, protocols));
    HttpClient(pooled)
}

impl HttpClient {
    /// Sends a request and waits for the headers of its answer for `within` at most. The body streams at the reader's pace
    /// and has no bound of its own: the reader sets it.
    pub async fn send(&self, request: Request<Body>, within: Duration) -> Result<Response<Incoming>, SendError> {
        match tokio::time::timeout(within, self.0.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(meaning(error)),
            Err(_) => Err(SendError::Timeout),
        }
    }
}

/// Digs the dialer's own error out of hyper's, which only lends it.
fn meaning(error: hyper_util::client::legacy::Error) -> SendError {
    let mut next: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(inner) = next {
        if let Some(dial) = inner.downcast_ref::<DialError>() {
            return SendError::Dial(dial.again());
        }
        next = inner.source();
    }
    SendError::Broken(Box::new(error))
}
