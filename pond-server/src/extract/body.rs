//! Bodies. This family reads JSON also without a content type, and under the one that `curl -d` sends.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use futures::StreamExt;
use pond_core::Error;
use serde_json::Value;

use crate::error::Refusal;
use crate::routes::Endpoint;

/// The limit of an endpoint that says none.
const LIMIT: u64 = 1 << 20;
/// What is still read and dropped of a body over its limit, so that the sender gets to see the answer.
const DRAIN: u64 = 16 << 20;

/// The text of a JSON body, not yet parsed.
pub(crate) struct JsonText(pub(crate) String);

/// A JSON body.
pub(crate) struct JsonBody(pub(crate) Value);

/// A JSON body, or none: that is an empty object.
pub(crate) struct MaybeJson(pub(crate) Value);

/// No body, or an empty object.
pub(crate) struct NoBody;

impl<S: Sync> FromRequest<S> for JsonText {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let text = text(request).await?;
        if text.trim().is_empty() {
            return Err(Refusal::EmptyBody);
        }
        Ok(Self(text))
    }
}

impl<S: Sync> FromRequest<S> for JsonBody {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let JsonText(text) = JsonText::from_request(request, state).await?;
        parse(&text).map(Self)
    }
}

impl<S: Sync> FromRequest<S> for MaybeJson {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let text = text(request).await?;
        match text.trim().is_empty() {
            true => Ok(Self(Value::Object(serde_json::Map::new()))),
            false => parse(&text).map(Self),
        }
    }
}

impl<S: Sync> FromRequest<S> for NoBody {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let text = text(request).await?;
        if text.trim().is_empty() {
            return Ok(Self);
        }
        match parse(&text)? {
            Value::Object(fields) if fields.is_empty() => Ok(Self),
            Value::Object(fields) => {
                let pointer = |name: &String| format!("/{}", pond_core::body::escape(name));
                let faults = fields
                    .keys()
                    .map(|name| pond_core::Fault::new(pointer(name), "is not a known field; there are none"));
                Err(Error::Invalid(faults.collect()).into())
            }
            _ => Err(Error::invalid("", "expected no body, or an empty object").into()),
        }
    }
}

/// The position helps, the offending text might be a secret.
fn parse(text: &str) -> Result<Value, Refusal> {
    serde_json::from_str(text)
        .map_err(|error| Error::Unreadable(format!("line {} column {}", error.line(), error.column())).into())
}

/// A request's head and its whole body, within the endpoint's limit.
pub(crate) async fn whole_body(request: Request) -> Result<(Parts, Vec<u8>), Refusal> {
    let endpoint = request.extensions().get::<Arc<Endpoint>>();
    let limit = endpoint.map_or(LIMIT, |endpoint| endpoint.limit);
    let declared = http_body::Body::size_hint(request.body()).lower();
    let (head, mut body) = request.into_parts();
    if declared > limit {
        drain(&mut body, DRAIN).await;
        return Err(Error::TooLarge(limit).into());
    }
    let bytes = within(&mut body, limit).await?;
    Ok((head, bytes))
}

async fn text(request: Request) -> Result<String, Refusal> {
    let (head, bytes) = whole_body(request).await?;
    if !bytes.is_empty() && !is_json(&head.headers) {
        return Err(Refusal::MediaType("send the body as application/json"));
    }
    String::from_utf8(bytes).map_err(|_| Error::Unreadable("the body is not UTF-8".into()).into())
}

async fn within(body: &mut Body, limit: u64) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    let mut stream = std::mem::take(body).into_data_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| Refusal::BrokenBody)?;
        if bytes.len() as u64 + chunk.len() as u64 > limit {
            drain(&mut Body::from_stream(stream), DRAIN).await;
            return Err(Error::TooLarge(limit).into());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

async fn drain(body: &mut Body, mut left: u64) {
    let mut stream = std::mem::take(body).into_data_stream();
    while let Some(Ok(chunk)) = stream.next().await {
        let Some(rest) = left.checked_sub(chunk.len() as u64) else {
            return;
        };
        left = rest;
    }
}

/// JSON, nothing, or what `curl -d` says.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return true;
    };
    let kind = value.to_str().unwrap_or("?").split(';').next().unwrap_or_default();
    let kind = kind.trim().to_ascii_lowercase();
    kind.is_empty()
        || kind == "application/json"
        || kind == "application/x-www-form-urlencoded"
        || (kind.starts_with("application/") && kind.ends_with("+json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(kind: Option<&str>, body: impl Into<Body>) -> Result<Value, u16> {
        let mut request = Request::post("/");
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        let body = JsonBody::from_request(request.body(body.into()).unwrap(), &()).await;
        body.map(|body| body.0).map_err(|refusal| refusal.row().0.as_u16())
    }

    #[tokio::test]
    async fn json_is_read_under_the_spellings_of_this_family() {
        for kind in [
            None,
            Some("application/json; charset=utf-8"),
            Some("application/x-www-form-urlencoded"),
        ] {
            assert_eq!(
                read(kind, "{\"a\":1}").await,
                Ok(serde_json::json!({"a": 1})),
                "{kind:?}"
            );
        }
        assert_eq!(read(Some("text/plain"), "{}").await, Err(415));
        assert_eq!(read(None, "").await, Err(400));
        assert_eq!(read(None, " \n").await, Err(400));
        assert_eq!(read(None, "{\"a\":").await, Err(400));
        assert_eq!(read(None, vec![b'"', 0xff, b'"']).await, Err(400));
        assert_eq!(read(None, "[".repeat(100_000)).await, Err(400));
    }

    #[tokio::test]
    async fn a_body_over_its_limit_is_413_whether_or_not_it_says_so() {
        let long = vec![b' '; (LIMIT + 1) as usize];
        assert_eq!(read(None, long.clone()).await, Err(413));
        let pieces = futures::stream::iter(
            long.chunks(4096)
                .map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec()))
                .collect::<Vec<_>>(),
        );
        assert_eq!(read(None, Body::from_stream(pieces)).await, Err(413));
        assert_eq!(
            read(None, format!("\"{}\"", "a".repeat(LIMIT as usize - 2)))
                .await
                .map(|_| ()),
            Ok(())
        );
    }

    #[tokio::test]
    async fn no_body_is_nothing_or_an_empty_object() {
        for (body, status) in [("", 200), ("{}", 200), ("{\"x\":1}", 422), ("[]", 422), ("{", 400)] {
            let request = Request::post("/").body(Body::from(body)).unwrap();
            let read = NoBody::from_request(request, &()).await;
            assert_eq!(
                read.err().map_or(200, |refusal| refusal.row().0.as_u16()),
                status,
                "{body}"
            );
        }
    }
}
