//! A request whose redirects are followed, a few of them and each judged anew. Only its method goes to another place: no
//! header, and so no credential, is ever sent where a redirect leads.

use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::LOCATION;
use hyper::{Method, Request, Response, StatusCode};
use pond_core::outbound::{BadUrl, OutboundUrl, Purpose};

use super::{Body, Dialer, HttpClient, SendError, empty_body};

/// How many redirects are followed.
const MAX_REDIRECTS: usize = 3;

/// How long the headers of each answer may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum FollowError {
    /// A place did not answer.
    #[error(transparent)]
    Send(#[from] SendError),
    /// A redirect leads to where nothing may be dialled.
    #[error("redirects elsewhere: {0}")]
    Place(#[from] BadUrl),
    /// A redirect that leads nowhere, or one of a request that is not repeated.
    #[error("redirects elsewhere, which is not followed")]
    NoPlace,
    /// One redirect too many.
    #[error("redirects more than {MAX_REDIRECTS} times")]
    TooMany,
}

impl FollowError {
    /// Whether the same request may go through later.
    pub(super) fn may_pass(&self) -> bool {
        use super::DialError::{BadUrl, Refused, Tls};
        match self {
            Self::Send(SendError::Dial(BadUrl(_) | Refused { .. } | Tls { .. })) => false,
            Self::Send(_) => true,
            Self::Place(_) | Self::NoPlace | Self::TooMany => false,
        }
    }
}

/// Sends a request to `url` and follows where its answers lead.
pub(super) async fn follow(
    client: &HttpClient,
    dialer: &Dialer,
    purpose: Purpose,
    url: &OutboundUrl,
    first: Request<Body>,
) -> Result<Response<Incoming>, FollowError> {
    let method = first.method().clone();
    let (mut place, mut next) = (url.clone(), first);
    for _ in 0..=MAX_REDIRECTS {
        let answer = client.send(next, HEAD_TIMEOUT).await?;
        if !is_redirect(answer.status()) {
            return Ok(answer);
        }
        if !matches!(method, Method::GET | Method::HEAD) {
            return Err(FollowError::NoPlace);
        }
        let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let target = location
            .and_then(|text| place.url().join(text).ok())
            .ok_or(FollowError::NoPlace)?;
        place = OutboundUrl::parse(target.as_str(), purpose, dialer.allow())?;
        next = request(&method, &place)?;
    }
    Err(FollowError::TooMany)
}

/// A request without headers.
pub(super) fn request(method: &Method, place: &OutboundUrl) -> Result<Request<Body>, FollowError> {
    let mut url = place.url().clone();
    url.set_fragment(None);
    Request::builder()
        .method(method)
        .uri(url.as_str())
        .body(empty_body())
        .map_err(|_| FollowError::NoPlace)
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}
