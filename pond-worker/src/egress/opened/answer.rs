//! An answer on its way back, with tokens for values.

use std::sync::Arc;

use hyper::body::{Body, Incoming};
use hyper::header::{ALT_SVC, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderValue};
use hyper::{Method, Response, StatusCode};
use tokio::sync::Semaphore;

use super::super::secrets::Scrub;
use super::body::{self, BoxError, Cleaning, Passing};
use super::decode::Decoding;
use super::request::{Protocol, end_hop};

/// Why an answer does not pass.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    /// It came in a form that nobody asked for.
    #[error("the answer is compressed, which was not asked for, in a way that cannot be looked into")]
    Encoded,
    /// It broke off.
    #[error("the answer broke off")]
    Broken(#[source] BoxError),
}

/// Takes the values out of an answer.
pub(super) async fn clean(
    answer: Response<Incoming>,
    method: &Method,
    protocol: Protocol,
    scrub: &Scrub,
    room: &Arc<Semaphore>,
) -> Result<Response<Passing>, Unreadable> {
    let (mut head, body) = answer.into_parts();
    let closes = protocol == Protocol::Http1 && says_close(&head.headers);
    end_hop(&mut head.headers);
    // It would lead past the tunnel.
    head.headers.remove(ALT_SVC);
    let bodiless = *method == Method::HEAD || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let body = if bodiless || body.is_end_stream() {
        body::untouched(body)
    } else {
        let decoding = Decoding::of(&head.headers).map_err(|_| Unreadable::Encoded)?;
        if decoding.is_some() && head.status == StatusCode::PARTIAL_CONTENT {
            return Err(Unreadable::Encoded);
        }
        head.headers.remove(CONTENT_ENCODING);
        let cleaning = Cleaning::new(scrub, decoding);
        let (body, length) = body::altered(body, cleaning, room).await.map_err(Unreadable::Broken)?;
        head.headers.remove(CONTENT_LENGTH);
        if let Some(length) = length {
            head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        body
    };
    head.headers = scrub.headers(&head.headers);
    if closes {
        head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(Response::from_parts(head, body))
}

fn says_close(headers: &HeaderMap) -> bool {
    let values = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .any(|word| word.trim().eq_ignore_ascii_case("close"))
}
