//! One call: how it is written, sent, tried again and read.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::Problem;
use crate::client::Client;
use crate::error::{Error, Refusal, Result};
use crate::retry::{Failure, Repeat};

/// The longest JSON answer that is read: a page of 500 log lines at 64 KiB each stays below.
const MAX_JSON: usize = 64 << 20;
/// The longest error answer that is read.
const MAX_PROBLEM: usize = 4 << 20;
/// All but RFC 3986's unreserved characters.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A call on its way to be sent.
#[must_use]
pub(crate) struct Call {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    headers: HeaderMap,
    body: Option<Bytes>,
    repeat: Repeat,
    timeout: Option<Duration>,
}

impl Call {
    /// A read.
    pub(crate) fn get(segments: &[&str]) -> Self {
        Self::new(Method::GET, segments, Repeat::Safe)
    }

    /// A write that does the same when done twice.
    pub(crate) fn put_like(segments: &[&str]) -> Self {
        Self::new(Method::POST, segments, Repeat::Safe)
    }

    /// A write that creates. It carries a key under which the server does it once, so it may be sent again when its answer was
    /// lost.
    pub(crate) fn create(segments: &[&str]) -> Result<Self> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| Error::Setup(format!("no randomness for a key: {error}")))?;
        let key = uuid::Builder::from_random_bytes(random).into_uuid().to_string();
        Self::new(Method::POST, segments, Repeat::Safe).header("idempotency-key", &key)
    }

    /// A removal, which is answered otherwise the second time.
    pub(crate) fn delete(segments: &[&str]) -> Self {
        Self::new(Method::DELETE, segments, Repeat::Unsafe)
    }

    fn new(method: Method, segments: &[&str], repeat: Repeat) -> Self {
        Self {
            method,
            path: path(segments),
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: None,
            repeat,
            timeout: None,
        }
    }

    /// Adds a query parameter, where there is a value.
    pub(crate) fn query(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Result<Self> {
        let value =
            HeaderValue::from_str(value).map_err(|_| Error::Setup(format!("not a value for the header {name}")))?;
        self.headers.insert(name, value);
        Ok(self)
    }

    /// Asks for this media type.
    pub(crate) fn accept(mut self, media_type: &'static str) -> Self {
        self.headers.insert(ACCEPT, HeaderValue::from_static(media_type));
        self
    }

    /// Bounds each try until the whole answer is there.
    pub(crate) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sends this as JSON.
    pub(crate) fn json(mut self, body: &impl Serialize) -> Result<Self> {
        let body = serde_json::to_vec(body).map_err(|error| Error::Setup(format!("cannot write the body: {error}")))?;
        self.headers
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.body = Some(body.into());
        Ok(self)
    }
}

fn path(segments: &[&str]) -> String {
    let mut path = String::new();
    for segment in segments {
        path.push('/');
        // A segment of dots alone would be taken for a step in the path, whatever its encoding.
        match *segment {
            "." | ".." => path.extend(utf8_percent_encode(segment, NON_ALPHANUMERIC)),
            _ => path.extend(utf8_percent_encode(segment, SEGMENT)),
        }
    }
    path
}

impl Client {
    /// Sends a call and reads its answer as JSON.
    pub(crate) async fn read<T: DeserializeOwned>(&self, what: &'static str, call: Call) -> Result<T> {
        self.read_with_headers(what, call).await.map(|(_, answer)| answer)
    }

    /// Sends a call and reads its answer as JSON, for those who need its headers too.
    pub(crate) async fn read_with_headers<T: DeserializeOwned>(
        &self,
        what: &'static str,
        call: Call,
    ) -> Result<(HeaderMap, T)> {
        let call = if call.headers.contains_key(ACCEPT) {
            call
        } else {
            call.accept("application/json")
        };
        let timeout = call.timeout.unwrap_or(self.timeout());
        let mut response = self.send(call.timeout(timeout)).await?;
        let headers = std::mem::take(response.headers_mut());
        let body = self.body(what, response, MAX_JSON).await?;
        let answer = serde_json::from_slice(&body).map_err(|error| Error::decode(what, error))?;
        Ok((headers, answer))
    }

    /// Sends a call whose answer has no body that matters.
    pub(crate) async fn done(&self, call: Call) -> Result<()> {
        let timeout = self.timeout();
        self.send(call.timeout(timeout)).await.map(drop)
    }

    /// Sends a call, again where the policy says so, until there is an answer of success.
    pub(crate) async fn send(&self, call: Call) -> Result<reqwest::Response> {
        let mut tried = 0;
        loop {
            tried += 1;
            let (error, failure) = match self.attempt(&call).await {
                Ok(response) => return Ok(response),
                Err(failed) => failed,
            };
            let Some(failure) = failure else { return Err(error) };
            let asked = error.refusal().and_then(|refusal| refusal.retry_after);
            let Some(wait) = self.retry().wait(tried, failure, call.repeat, asked) else {
                return Err(error);
            };
            tokio::time::sleep(wait).await;
        }
    }

    async fn attempt(&self, call: &Call) -> Result<reqwest::Response, (Error, Option<Failure>)> {
        let request = self.write(call).map_err(|error| (error, None))?;
        let response = self.http().execute(request).await.map_err(|error| {
            let failure = if error.is_connect() {
                Failure::NotDone
            } else {
                Failure::Unknown
            };
            (self.unreachable(error), Some(failure))
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let error = self.refused(response).await;
        let failure = match error.refusal() {
            Some(refusal) => failure(refusal),
            None => None,
        };
        Err((error, failure))
    }

    fn write(&self, call: &Call) -> Result<reqwest::Request> {
        let mut url = self.base().clone();
        let prefix = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{prefix}{}", call.path));
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&call.query);
        }
        let mut request = reqwest::Request::new(call.method.clone(), url);
        *request.headers_mut() = call.headers.clone();
        *request.timeout_mut() = call.timeout;
        if let Some(token) = self.token() {
            let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
                .map_err(|_| Error::Setup("the token holds characters that no token has".to_owned()))?;
            bearer.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, bearer);
        }
        if let Some(body) = &call.body {
            *request.body_mut() = Some(body.clone().into());
        }
        Ok(request)
    }

    /// Reads a body of at most `limit` bytes.
    async fn body(&self, what: &'static str, mut response: reqwest::Response, limit: usize) -> Result<Bytes> {
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(error))? {
            if body.len() + chunk.len() > limit {
                return Err(Error::TooLong { what, limit });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    async fn refused(&self, response: reqwest::Response) -> Error {
        let status = response.status();
        let retry_after = retry_after(response.headers());
        let body = self.body("error", response, MAX_PROBLEM).await.unwrap_or_default();
        let problem = serde_json::from_slice(&body)
            .ok()
            .filter(|problem: &Problem| !problem.code.is_empty());
        let problem = problem.unwrap_or_else(|| {
            let title = status.canonical_reason().unwrap_or("error");
            Problem::new(status.as_u16(), format!("http_{}", status.as_u16()), title, "")
        });
        Error::Refused(Box::new(Refusal {
            status: status.as_u16(),
            problem,
            retry_after,
        }))
    }

    pub(crate) fn unreachable(&self, error: reqwest::Error) -> Error {
        Error::Unreachable {
            origin: self.origin(),
            source: Box::new(error.without_url()),
        }
    }
}

/// What a refusal means for the next try. Only the server's own words say that nothing was done; a proxy's do not.
fn failure(refusal: &Refusal) -> Option<Failure> {
    let own = !refusal.problem.code.starts_with("http_");
    match refusal.status {
        429 | 503 if own => Some(Failure::NotDone),
        // The first try is still being carried out: its answer can be had in a moment.
        409 if refusal.problem.code == "idempotency_in_flight" => Some(Failure::NotDone),
        429 | 502..=504 => Some(Failure::Unknown),
        _ => None,
    }
}

/// `Retry-After` in seconds; the form with a date is not one that Pond sends.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
        .map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_stay_segments() {
        assert_eq!(path(&["v1", "runs", "a/b?c#d %"]), "/v1/runs/a%2Fb%3Fc%23d%20%25");
        assert_eq!(path(&["v1", ".."]), "/v1/%2E%2E");
        assert_eq!(path(&["artifacts", "changes.patch"]), "/artifacts/changes.patch");
    }
}
