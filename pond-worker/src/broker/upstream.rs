//! The broker's way to the provider, as a port: one request, one answer, no redirects followed.

use bytes::Bytes;
use futures::future::BoxFuture;
use hyper::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::{self, connect::Connect};

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
