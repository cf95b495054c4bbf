//! A far side: HTTPS on loopback that notes what it is sent, and answers as the path says.

use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::StreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONNECTION, CONTENT_ENCODING, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

/// Signs for far sides.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "the far side's authority");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    fn config(&self, names: &[&str], alpn: &[&str]) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) version: Version,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// A server.
pub(crate) struct Far {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    _task: AbortOnDropHandle<()>,
}

/// The versions of HTTP that it speaks.
pub(crate) const BOTH: [&str; 2] = ["h2", "http/1.1"];

impl Far {
    pub(crate) async fn start(authority: &Authority, names: &[&str], alpn: &[&str]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let acceptor = TlsAcceptor::from(Arc::new(authority.config(names, alpn)));
        let noted = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, noted) = (acceptor.clone(), Arc::clone(&noted));
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    let service = service_fn(move |request| answer(request, Arc::clone(&noted)));
                    let http = auto::Builder::new(TokioExecutor::new());
                    let _ = http.serve_connection_with_upgrades(TokioIo::new(tls), service).await;
                });
            }
        });
        Self {
            address,
            seen,
            _task: AbortOnDropHandle::new(task),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// All that came so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// What came last.
    pub(crate) fn last(&self) -> Seen {
        self.seen().pop().expect("a request")
    }
}

type Answer = Response<UnsyncBoxBody<Bytes, hyper::Error>>;

fn full(bytes: impl Into<Bytes>) -> UnsyncBoxBody<Bytes, hyper::Error> {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

async fn answer(mut request: Request<Incoming>, noted: Arc<Mutex<Vec<Seen>>>) -> Result<Answer, Infallible> {
    let path = request.uri().path().to_owned();
    let is_head = request.method() == Method::HEAD;
    let mut seen = Seen {
        version: request.version(),
        target: request.uri().to_string(),
        headers: request.headers().clone(),
        body: String::new(),
        trailers: None,
    };
    // These answer before the body has come.
    match path.as_str() {
        "/relay" => {
            noted.lock().unwrap().push(seen);
            let mut relayed = Response::new(request.into_body().boxed_unsync());
            relayed
                .headers_mut()
                .insert("trailer", HeaderValue::from_static("x-last"));
            return Ok(relayed);
        }
        "/denied" => {
            noted.lock().unwrap().push(seen);
            let mut denied = Response::new(full("denied"));
            *denied.status_mut() = StatusCode::UNAUTHORIZED;
            return Ok(denied);
        }
        "/upgrade" => {
            let far = hyper::upgrade::on(&mut request);
            noted.lock().unwrap().push(seen);
            tokio::spawn(async move {
                let Ok(io) = far.await else { return };
                let (mut reader, mut writer) = tokio::io::split(TokioIo::new(io));
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
            let mut changed = Response::new(full(""));
            *changed.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            changed
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("upgrade"));
            changed.headers_mut().insert(UPGRADE, HeaderValue::from_static("echo"));
            return Ok(changed);
        }
        _ => {}
    }
    let body = request.into_body().collect().await.expect("a whole body");
    seen.trailers = body.trailers().cloned();
    seen.body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    noted.lock().unwrap().push(seen.clone());
    let mut answer = told(&path, &seen);
    if is_head {
        *answer.body_mut() = full("");
    }
    Ok(answer)
}

/// Everything that was sent, told again.
fn echoed(seen: &Seen) -> String {
    let mut text = format!("{}\n", seen.target);
    for (name, value) in &seen.headers {
        text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
    }
    text.push_str(&seen.body);
    text
}

fn told(path: &str, seen: &Seen) -> Answer {
    let text = echoed(seen);
    let mut answer = Response::new(full(""));
    match path {
        "/gzip" => {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
            gzip.write_all(text.as_bytes()).unwrap();
            *answer.body_mut() = full(gzip.finish().unwrap());
            answer
                .headers_mut()
                .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        "/br" => {
            *answer.body_mut() = full("whatever");
            answer
                .headers_mut()
                .insert(CONTENT_ENCODING, HeaderValue::from_static("br"));
        }
        // Byte by byte, with trailers, of no known length.
        "/bytes" => {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-last", seen.headers.get("authorization").cloned().unwrap());
            let bytes: Vec<_> = text
                .into_bytes()
                .into_iter()
                .map(|byte| Frame::data(Bytes::from(vec![byte])))
                .collect();
            let frames = bytes.into_iter().chain([Frame::trailers(trailers)]).map(Ok);
            *answer.body_mut() = StreamBody::new(futures::stream::iter(frames).boxed()).boxed_unsync();
            answer
                .headers_mut()
                .insert("trailer", HeaderValue::from_static("x-last"));
        }
        "/git/info/refs" if !seen.headers.contains_key("authorization") => {
            *answer.status_mut() = StatusCode::UNAUTHORIZED;
            let asks = HeaderValue::from_static("Basic realm=\"far\"");
            answer.headers_mut().insert("www-authenticate", asks);
        }
        "/git/info/refs" => {
            let packet = |line: &str| format!("{:04x}{line}", line.len() + 4);
            let refs = packet(&format!("{} refs/heads/main\0agent=far\n", "1".repeat(40)));
            *answer.body_mut() = full(format!("{}0000{refs}0000", packet("# service=git-upload-pack\n")));
            let kind = HeaderValue::from_static("application/x-git-upload-pack-advertisement");
            answer.headers_mut().insert("content-type", kind);
        }
        "/thing" => {
            let version = r#"{"name":"thing","version":"1.0.0"}"#;
            let package =
                format!(r#"{{"name":"thing","dist-tags":{{"latest":"1.0.0"}},"versions":{{"1.0.0":{version}}}}}"#);
            *answer.body_mut() = full(package);
            answer
                .headers_mut()
                .insert("content-type", HeaderValue::from_static("application/json"));
        }
        "/close" => {
            answer
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        _ => {
            for (name, value) in &seen.headers {
                if let Ok(name) = format!("x-echo-{name}").parse::<HeaderName>() {
                    answer.headers_mut().append(name, value.clone());
                }
            }
            *answer.body_mut() = full(text);
        }
    }
    answer
}
