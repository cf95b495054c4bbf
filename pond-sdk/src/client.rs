//! The typed client: where the server is, who is calling, and how patiently.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect;
use rustls_platform_verifier::BuilderVerifierExt;
use url::{Host, Url};

use crate::Secret;
use crate::api::{Health, Whoami};
use crate::error::{Error, Result};
use crate::request::Call;
use crate::retry::RetryPolicy;

/// A client of one Pond server. Clones share their connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    base: Url,
    token: Option<Secret>,
    timeout: Duration,
    retry: RetryPolicy,
    http: reqwest::Client,
}

/// Makes a [`Client`].
#[must_use]
pub struct ClientBuilder {
    url: String,
    token: Option<Secret>,
    connect_timeout: Duration,
    timeout: Duration,
    silence: Duration,
    retry: RetryPolicy,
    user_agent: String,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base", &self.inner.base.as_str())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address is unchecked as yet and may hold a password.
        f.debug_struct("ClientBuilder")
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}

impl ClientBuilder {
    /// Calls with this token.
    pub fn token(mut self, token: Secret) -> Self {
        self.token = Some(token);
        self
    }

    /// Bounds the making of a connection; 10 s if not called.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Bounds each try of a call that is answered as a whole; 30 s if not called. Streams are bounded by silence instead.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long a stream may be silent before it counts as broken; 45 s if not called, three of the server's heartbeats.
    pub fn silence(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// When calls are tried again.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// What the client calls itself; `pond-sdk/<version>` if not called.
    pub fn user_agent(mut self, name: impl Into<String>) -> Self {
        self.user_agent = name.into();
        self
    }

    /// Makes the client. Nothing is dialled yet.
    pub fn build(self) -> Result<Client> {
        let base = address(&self.url)?;
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(&base)?)
            .connect_timeout(self.connect_timeout)
            .read_timeout(self.silence)
            // A redirect would carry the token to another place.
            .redirect(redirect::Policy::none())
            .user_agent(self.user_agent);
        if is_loopback(&base) {
            builder = builder.no_proxy();
        }
        let http = builder
            .build()
            .map_err(|error| Error::Setup(format!("cannot make the HTTP client: {error}")))?;
        let Self {
            token, timeout, retry, ..
        } = self;
        Ok(Client {
            inner: Arc::new(Inner {
                base,
                token,
                timeout,
                retry,
                http,
            }),
        })
    }
}

/// Checks where the server is said to be. The text is never repeated: it may hold a password.
fn address(text: &str) -> Result<Url> {
    let refuse = |why: &str| {
        Err(Error::Setup(format!(
            "the server's address {why}, such as http://127.0.0.1:8001"
        )))
    };
    let Ok(url) = Url::parse(text) else {
        return refuse("must be a URL");
    };
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return refuse("must be an http or https URL");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("must not hold a user or password");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refuse("must not have a query or fragment");
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// TLS by ring and the platform's own trust. The provider is handed over, as a library installs nothing process-wide.
fn tls(base: &Url) -> Result<rustls::ClientConfig> {
    let setup = |error: rustls::Error| Error::Setup(format!("cannot set up TLS: {error}"));
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(setup)?;
    if base.scheme() == "http" {
        // No TLS will be spoken, so a host without any certificates is no reason to stop; nothing would be trusted.
        return Ok(builder
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth());
    }
    let mut config = builder.with_platform_verifier().map_err(setup)?.with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

impl Client {
    /// A client of the server at this address, calling with this token.
    pub fn new(url: impl Into<String>, token: Secret) -> Result<Self> {
        Self::builder(url).token(token).build()
    }

    /// Begins to make a client of the server at this address.
    pub fn builder(url: impl Into<String>) -> ClientBuilder {
        ClientBuilder {
            url: url.into(),
            token: None,
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
            silence: Duration::from_secs(45),
            retry: RetryPolicy::default(),
            user_agent: concat!("pond-sdk/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }

    /// Whether the server is well. Needs no token.
    pub async fn health(&self) -> Result<Health> {
        self.read("health", Call::get(&["health"])).await
    }

    /// Who the caller is to the server.
    pub async fn whoami(&self) -> Result<Whoami> {
        self.read("answer to whoami", Call::get(&["v1", "whoami"])).await
    }

    /// Scheme, host and port of the server.
    pub fn origin(&self) -> String {
        self.inner.base.origin().ascii_serialization()
    }

    pub(crate) fn base(&self) -> &Url {
        &self.inner.base
    }

    pub(crate) fn token(&self) -> Option<&Secret> {
        self.inner.token.as_ref()
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.inner.timeout
    }

    pub(crate) fn retry(&self) -> &RetryPolicy {
        &self.inner.retry
    }

    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.inner.http
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_bare_one() {
        for good in [
            "http://127.0.0.1:8001",
            "https://pond.example/base/",
            "http://[::1]:8001",
        ] {
            assert!(address(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "localhost:8001",
            "ftp://x",
            "http://u:p4ss@h",
            "http://h/?t=p4ss",
            "http://h/#f",
        ] {
            let error = address(bad).expect_err(bad).to_string();
            assert!(!error.contains("p4ss"), "{error}");
        }
    }

    #[test]
    fn debug_shows_no_token() {
        let builder = Client::builder("http://127.0.0.1:1").token(Secret::new("t0ken"));
        assert!(!format!("{builder:?}").contains("t0ken"));
        assert!(!format!("{:?}", builder.build().expect("a good address")).contains("t0ken"));
    }

    #[test]
    fn https_is_set_up_without_a_process_wide_provider() {
        assert!(tls(&Url::parse("https://pond.example").expect("a URL")).is_ok());
        assert!(rustls::crypto::CryptoProvider::get_default().is_none());
    }
}
