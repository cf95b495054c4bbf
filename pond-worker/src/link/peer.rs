//! The other end of a hop: the orchestrator for a worker, the engine for an orchestrator. It is always dialled from here.

use std::error::Error as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::http::request;
use hyper::{Method, Request, Response, StatusCode};
use pond_core::outbound::{AllowPrivate, Purpose};
use pond_core::pool::ClaimToken;
use pond_core::secret::Secret;
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::{Host, Url};

use crate::net::{
    Body, BoxError, DialError, Dialer, DialerSettings, HttpClient, Protocols, SendError, SetupError, client, full_body,
};

/// Names the claim in every call about a job.
pub const CLAIM_TOKEN: &str = "x-claim-token";
/// SHA-256 of an artifact, in hex.
pub const CONTENT_SHA256: &str = "x-content-sha256";
/// The longest JSON answer: a poll may bring 64 jobs, each with its prompt.
const MAX_ANSWER: usize = 64 << 20;
/// The longest problem.
const MAX_PROBLEM: usize = 64 << 10;
/// How long an answer whose head is there may take.
const BODY_WITHIN: Duration = Duration::from_secs(60);

/// Whether a peer that is not on this host must be reached by TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// It must.
    Required,
    /// The operator waived it: tokens travel in clear.
    Waived,
}

/// Why an address cannot be a peer's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPeer {
    /// It is no address.
    #[error("expected an address such as https://pond.example, without user, query or fragment")]
    Malformed,
    /// It is not encrypted, and not on this host.
    #[error("plain http to another host would show its token: use https, or waive it by --insecure-no-tls")]
    Plain,
}

/// The address of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerUrl {
    url: Url,
    plain_afar: bool,
}

impl PeerUrl {
    /// Reads an address.
    ///
    /// # Errors
    /// [`BadPeer`].
    pub fn parse(text: &str, tls: Tls) -> Result<Self, BadPeer> {
        let url = Url::parse(text.trim()).map_err(|_| BadPeer::Malformed)?;
        let bare = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
            && url.host().is_some();
        let plain = match url.scheme() {
            "https" => false,
            "http" => true,
            _ => return Err(BadPeer::Malformed),
        };
        if !bare {
            return Err(BadPeer::Malformed);
        }
        let plain_afar = plain && !is_loopback(&url);
        if plain_afar && tls == Tls::Required {
            return Err(BadPeer::Plain);
        }
        Ok(Self { url, plain_afar })
    }

    /// Whether what is said to it can be read on the way.
    pub fn is_plain_afar(&self) -> bool {
        self.plain_afar
    }

    /// The address, without a slash at its end.
    pub fn as_str(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    /// `host:port`, as lists of exceptions spell it.
    fn place(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        let port = self.url.port_or_known_default().unwrap_or(443);
        format!("{host}:{port}")
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(ip)) => IpAddr::from(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::from(ip).is_loopback(),
        None => false,
    }
}

/// Why a call to a peer came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// It refuses.
    #[error("{}: {}", .0.code, .0.detail)]
    Refused(Refusal),
    /// It does not answer, or breaks off.
    #[error("no answer")]
    Unreachable(#[source] BoxError),
    /// What it answers is not what it should.
    #[error("an answer that does not read: {0}")]
    Malformed(String),
}

/// A refusal, as the peer tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The stable code; empty when it is no problem of Pond's.
    pub code: String,
    /// What went wrong.
    pub detail: String,
    /// The chunk that is expected, with `chunk_gap`.
    pub expected: Option<u64>,
    /// When to try again.
    pub retry_after: Option<Duration>,
}

impl PeerError {
    /// The code of a refusal.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => Some(&refusal.code),
            Self::Unreachable(_) | Self::Malformed(_) => None,
        }
    }

    /// Whether the peer does not take our token.
    pub fn is_shut_out(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.status == 401 || (refusal.status == 403 && refusal.code == "forbidden"))
    }

    /// The error with all that led to it, in one line, and what may mend it.
    pub fn told(&self) -> String {
        let mut text = self.to_string();
        let mut distrusted = false;
        let mut cause = self.source();
        while let Some(inner) = cause {
            text.push_str(": ");
            text.push_str(&inner.to_string());
            distrusted |= matches!(inner.downcast_ref(), Some(SendError::Dial(DialError::Tls { .. })));
            cause = inner.source();
        }
        if distrusted {
            text.push_str("; where it goes by a CA of your own, POND_EXTRA_CA_FILE names its certificate");
        }
        text
    }
}

/// One call.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Path on the peer, from `/`.
    pub path: &'a str,
    /// The claim that the call is about.
    pub claim: Option<&'a ClaimToken>,
    /// How long the head of the answer may take.
    pub within: Duration,
}

/// A peer that can be called.
#[derive(Clone)]
pub struct Peer {
    base: Arc<str>,
    http: HttpClient,
    token: Option<HeaderValue>,
}

impl Peer {
    /// A peer. It is named by the operator, so its address may be a private one; no other place can be dialled with it.
    ///
    /// # Errors
    /// When the network cannot be set up.
    pub fn new(url: &PeerUrl, network: &DialerSettings) -> Result<Self, SetupError> {
        let allow = AllowPrivate::parse_for(Purpose::Endpoint, &url.place());
        let dialer = Dialer::new(DialerSettings {
            allow: allow.map_err(|bad| SetupError::Resolver(Box::new(bad)))?,
            ..network.clone()
        })?;
        Ok(Self {
            base: url.as_str().into(),
            http: client(dialer, Purpose::Endpoint, Protocols::Http2OrHttp1),
            token: None,
        })
    }

    /// The same peer, called with a token.
    #[must_use]
    pub fn with_token(&self, token: &Secret) -> Self {
        let header = HeaderValue::from_str(&format!("Bearer {}", token.expose())).ok();
        let token = header.map(|mut header| {
            header.set_sensitive(true);
            header
        });
        Self { token, ..self.clone() }
    }

    /// A request to it, with its token.
    pub fn request(&self, method: Method, path: &str) -> request::Builder {
        let mut builder = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            builder = builder.header(AUTHORIZATION, token.clone());
        }
        builder
    }

    /// Sends a request; gives the answer whatever its status.
    ///
    /// # Errors
    /// [`PeerError::Unreachable`].
    pub async fn send_any(&self, request: Request<Body>, within: Duration) -> Result<Response<Incoming>, PeerError> {
        let sent = self.http.send(request, within).await;
        sent.map_err(|error| PeerError::Unreachable(Box::new(error)))
    }

    /// Sends a request; an answer that is no success is an error.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn send(&self, request: Request<Body>, within: Duration) -> Result<Response<Incoming>, PeerError> {
        let response = self.send_any(request, within).await?;
        match response.status().is_success() {
            true => Ok(response),
            false => Err(PeerError::Refused(refusal(response).await)),
        }
    }

    /// Posts JSON and reads JSON.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn post<Q, A>(&self, ask: Ask<'_>, body: &Q) -> Result<A, PeerError>
    where
        Q: Serialize + Sync,
        A: DeserializeOwned,
    {
        let body = serde_json::to_vec(body).map_err(|error| PeerError::Malformed(error.to_string()))?;
        let mut builder = self
            .request(Method::POST, ask.path)
            .header(CONTENT_TYPE, "application/json");
        if let Some(claim) = ask.claim {
            builder = builder.header(CLAIM_TOKEN, claim_header(claim)?);
        }
        self.ask(builder, full_body(body), ask.within).await
    }

    /// Gets JSON.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn get<A: DeserializeOwned>(&self, path: &str, within: Duration) -> Result<A, PeerError> {
        self.ask(self.request(Method::GET, path), crate::net::empty_body(), within)
            .await
    }

    /// Sends what was built and reads the JSON of its answer.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn ask<A: DeserializeOwned>(
        &self,
        builder: request::Builder,
        body: Body,
        within: Duration,
    ) -> Result<A, PeerError> {
        let request = builder
            .body(body)
            .map_err(|error| PeerError::Malformed(error.to_string()))?;
        let response = self.send(request, within).await?;
        let bytes = whole(response.into_body(), MAX_ANSWER).await?;
        serde_json::from_slice(&bytes).map_err(|error| PeerError::Malformed(error.to_string()))
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer").field("base", &self.base).finish_non_exhaustive()
    }
}

/// A claim's token as it travels.
///
/// # Errors
/// When it is none that a header can carry.
pub fn claim_header(claim: &ClaimToken) -> Result<HeaderValue, PeerError> {
    let mut header =
        HeaderValue::from_str(claim.expose()).map_err(|_| PeerError::Malformed("a claim token that is none".into()))?;
    header.set_sensitive(true);
    Ok(header)
}

/// All of a body, up to `limit` bytes.
async fn whole(body: Incoming, limit: usize) -> Result<bytes::Bytes, PeerError> {
    let read = tokio::time::timeout(BODY_WITHIN, Limited::new(body, limit).collect()).await;
    match read {
        Ok(Ok(read)) => Ok(read.to_bytes()),
        Ok(Err(error)) => Err(PeerError::Unreachable(error)),
        Err(late) => Err(PeerError::Unreachable(Box::new(late))),
    }
}

/// What a peer says when it refuses.
pub async fn refusal(response: Response<Incoming>) -> Refusal {
    let status = response.status();
    let after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok());
    let retry_after = after.and_then(|text| text.parse().ok()).map(Duration::from_secs);
    let body = whole(response.into_body(), MAX_PROBLEM).await.unwrap_or_default();
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |name: &str| problem.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
    Refusal {
        status: status.as_u16(),
        code: text("code").unwrap_or_default(),
        detail: text("detail").unwrap_or_else(|| reason(status)),
        expected: problem.get("expected").and_then(serde_json::Value::as_u64),
        retry_after,
    }
}

fn reason(status: StatusCode) -> String {
    status.canonical_reason().unwrap_or("refused").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c17_100_plain_http_is_for_this_host_alone_unless_it_is_waived() {
        for near in [
            "http://localhost:8080",
            "http://127.0.0.1:1/",
            "http://[::1]:5",
            "https://orch.example/a",
        ] {
            let url = PeerUrl::parse(near, Tls::Required).unwrap();
            assert!(!url.is_plain_afar(), "{near}");
            assert!(!url.as_str().ends_with('/'));
        }
        for afar in [
            "http://orch:8080",
            "http://10.0.0.1",
            "http://localhost.example",
            "http://[::2]:5",
        ] {
            assert_eq!(PeerUrl::parse(afar, Tls::Required), Err(BadPeer::Plain), "{afar}");
            assert!(PeerUrl::parse(afar, Tls::Waived).unwrap().is_plain_afar());
        }
        for bad in [
            "",
            "orch:8080",
            "ftp://x",
            "https://u:p@x",
            "https://x?token=1",
            "https://x#y",
        ] {
            assert_eq!(PeerUrl::parse(bad, Tls::Waived), Err(BadPeer::Malformed), "{bad}");
        }
    }
}
