//! Blobs in a bucket. Requests go through a client of our own, so that TLS is ring's alone and a redirect is never followed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use object_store::aws::AmazonS3Builder;
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService,
};
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, RetryConfig};
use pond_core::artifacts::BlobStore;
use pond_core::secret::Secret;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

use super::{Blobs, path};

/// How long connecting may take, and how long nothing may come.
const CONNECT: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(60);

/// How often a request is tried again, and for how long in all.
const RETRIES: usize = 4;
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a bucket is, and with which keys.
#[derive(Clone)]
pub struct S3Place {
    /// The bucket.
    pub bucket: String,
    /// What all keys start with: the alphabet of blob keys, without a slash at either end; empty for none.
    pub prefix: String,
    /// The bucket's region.
    pub region: String,
    /// The service, where it is not AWS; with `http` nothing is encrypted.
    pub endpoint: Option<String>,
    /// Which key.
    pub access_key_id: String,
    /// The key.
    pub secret_access_key: Secret,
    /// What temporary keys come with.
    pub session_token: Option<Secret>,
    /// CA certificates trusted beside the system's.
    pub extra_ca: Vec<CertificateDer<'static>>,
}

impl fmt::Debug for S3Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Place")
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

/// Why a bucket cannot be used at all. Whether it is there, only the first request tells.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// The place is none.
    #[error("the bucket, prefix or endpoint is not valid")]
    Place(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No client.
    #[error("the HTTP client cannot be set up")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Blobs in a bucket. A put is streamed in parts, and durable when it returns.
///
/// # Errors
/// When place or client cannot be set up; nothing is sent yet.
pub fn blobs_in_bucket(place: &S3Place) -> Result<Arc<dyn BlobStore>, BucketError> {
    let invalid = |error: object_store::Error| BucketError::Place(Box::new(error));
    let client = client(&place.extra_ca)?;
    let plain = place.endpoint.as_deref().is_some_and(|url| url.starts_with("http://"));
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&place.bucket)
        .with_region(&place.region)
        .with_access_key_id(&place.access_key_id)
        .with_secret_access_key(place.secret_access_key.expose())
        // The bucket stands in the path, as every service has it; dots in its name then harm no certificate.
        .with_virtual_hosted_style_request(false)
        .with_allow_http(plain)
        .with_retry(retry())
        .with_http_connector(Ready(client));
    if let Some(endpoint) = &place.endpoint {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
    }
    if let Some(token) = &place.session_token {
        builder = builder.with_token(token.expose());
    }
    let bucket = builder.build().map_err(invalid)?;
    if place.prefix.is_empty() {
        return Ok(Arc::new(Blobs {
            objects: Arc::new(bucket),
            files: None,
        }));
    }
    let prefix = path(&place.prefix).map_err(|error| BucketError::Place(Box::new(error)))?;
    Ok(Arc::new(Blobs {
        objects: Arc::new(PrefixStore::new(bucket, prefix)),
        files: None,
    }))
}

fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: RETRIES,
        retry_timeout: PATIENCE,
    }
}

fn client(extra_ca: &[CertificateDer<'static>]) -> Result<reqwest::Client, BucketError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| BucketError::Client(error);
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for certificate in extra_ca {
        roots.add(certificate.clone()).map_err(|error| failed(error.into()))?;
    }
    let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.into()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        // A signature is for one host alone.
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        .build()
        .map_err(|error| failed(error.into()))
}

/// A client that is there already.
#[derive(Debug, Clone)]
struct Ready(reqwest::Client);

impl HttpConnector for Ready {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Ready {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let request = request.map(reqwest::Body::wrap);
        let request =
            reqwest::Request::try_from(request).map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let response = self.0.execute(request).await.map_err(http_error)?;
        let (head, body) = http::Response::<reqwest::Body>::from(response).into_parts();
        let body = http_body_util::BodyExt::map_err(body, http_error);
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
    }
}

/// What kind of failure it is decides whether the request is tried again.
fn http_error(error: reqwest::Error) -> HttpError {
    let kind = if error.is_timeout() {
        HttpErrorKind::Timeout
    } else if error.is_connect() {
        HttpErrorKind::Connect
    } else if error.is_request() {
        HttpErrorKind::Request
    } else if error.is_body() {
        HttpErrorKind::Interrupted
    } else {
        HttpErrorKind::Unknown
    };
    HttpError::new(kind, error.without_url())
}
