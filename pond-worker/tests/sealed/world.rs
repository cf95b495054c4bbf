//! Jobs with secrets: their proxies, and clients as they stand in a sandbox.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::HeaderMap;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pond_core::clock::SystemClock;
use pond_core::config::{EgressAction, EgressRule};
use pond_core::egress::{EgressDecision, EgressPolicy, Origin, Place, Ruled, SealedRule};
use pond_core::entropy::SystemEntropy;
use pond_core::outbound::{AllowPrivate, HostPattern, Purpose};
use pond_core::secret::Secret;
use pond_worker::egress::{Opener, Parts, Proxy, ProxyHandle, SandboxCa, SealedSecret, SealedSecrets};
use pond_worker::net::testing::ScriptedResolver;
use pond_worker::net::{Dialer, DialerSettings};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::task::AbortOnDropHandle;

use super::far::Authority;

/// The names that lead to loopback.
pub(crate) const NAMES: [&str; 6] = [
    "x.test",
    "y.test",
    "a.b.x.test",
    "registry.test",
    "other.test",
    "git.test",
];

/// A secret of a job: its name, its value, its hosts and its places.
pub(crate) type Told<'a> = (&'a str, &'a str, Vec<String>, &'a [&'a str]);

pub(crate) fn rule(name: &str, hosts: &[String], places: &[&str]) -> SealedRule {
    SealedRule {
        name: name.into(),
        hosts: hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect(),
        places: places.iter().map(|place| Place::parse(place).unwrap()).collect(),
    }
}

pub(crate) fn hosts(list: &[String]) -> Vec<HostPattern> {
    list.iter().map(|host| HostPattern::parse(host).unwrap()).collect()
}

pub(crate) fn ruled(action: EgressAction, host: &str, upgrade: bool) -> Ruled {
    let host = HostPattern::parse(host).unwrap();
    let rule = EgressRule { host, action, upgrade };
    let from = Origin::Org;
    Ruled { rule, from }
}

/// A job with a proxy.
pub(crate) struct Job {
    pub(crate) secrets: Arc<SealedSecrets>,
    pub(crate) decisions: mpsc::Receiver<EgressDecision>,
    pub(crate) ca: String,
    pub(crate) socket: PathBuf,
    pub(crate) dialer: Dialer,
    _proxy: ProxyHandle,
    _folder: tempfile::TempDir,
}

impl Job {
    /// One that trusts `authority` for the far sides on these ports, under this policy, with these secrets.
    pub(crate) fn start(authority: &Authority, ports: &[u16], policy: EgressPolicy, secrets: &[Told<'_>]) -> Self {
        Self::with_named(authority, ports, policy, secrets, &[])
    }

    /// One whose own authority names these hosts as the only ones it signs for.
    pub(crate) fn with_named(
        authority: &Authority,
        ports: &[u16],
        policy: EgressPolicy,
        secrets: &[Told<'_>],
        named: &[HostPattern],
    ) -> Self {
        let allow: Vec<_> = ports
            .iter()
            .flat_map(|port| {
                NAMES
                    .map(|name| format!("{name}:{port}"))
                    .into_iter()
                    .chain([format!("127.0.0.1:{port}")])
            })
            .collect();
        let resolver = NAMES
            .iter()
            .fold(ScriptedResolver::new(), |told, name| told.answer(name, &["127.0.0.1"]));
        let settings = DialerSettings {
            resolver: None,
            extra_ca: vec![authority.der()],
            allow: AllowPrivate::parse_for(Purpose::Egress, &allow.join(",")).unwrap(),
        };
        let dialer = Dialer::with_resolver(settings, Arc::new(resolver)).unwrap();
        let seal = |(name, value, hosts, places): &Told<'_>| {
            SealedSecret::seal(&SystemEntropy, rule(name, hosts, places), Secret::new(*value))
        };
        let secrets = Arc::new(SealedSecrets::new(secrets.iter().map(seal)));
        let hour = Duration::from_secs(3600);
        let ca = SandboxCa::mint(Arc::new(SystemClock), Arc::new(SystemEntropy), hour, named).unwrap();
        let pem = ca.pem().to_owned();
        let opener = Opener::new(Arc::clone(&secrets), policy.clone(), ca, dialer.trust());
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("proxy");
        let (told, decisions) = mpsc::channel(64);
        let parts = Parts {
            dialer: dialer.clone(),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            intercept: Some(Arc::new(opener)),
        };
        let proxy = Proxy::start(UnixListener::bind(&socket).unwrap(), policy, parts, told);
        Self {
            secrets,
            decisions,
            ca: pem,
            socket,
            dialer,
            _proxy: proxy,
            _folder: folder,
        }
    }

    /// The token of a secret.
    pub(crate) fn token(&self, name: &str) -> String {
        let tokens = self.secrets.tokens();
        let found = tokens.iter().find(|(own, _)| own == name);
        found.expect("a secret of the job").1.as_str().to_owned()
    }

    /// A tunnel, before any TLS; or the status with which it was refused.
    pub(crate) async fn tunnel(&self, host: &str, port: u16) -> Result<UnixStream, u16> {
        let mut stream = UnixStream::connect(&self.socket).await.unwrap();
        let asked = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
        stream.write_all(asked.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let status = String::from_utf8_lossy(&head)[9..12].parse().unwrap();
        match status {
            200 => Ok(stream),
            other => Err(other),
        }
    }

    /// TLS through a tunnel, as a client that trusts this authority, saying this name.
    pub(crate) async fn tls(
        &self,
        trusted: CertificateDer<'static>,
        (host, port): (&str, u16),
        name: &str,
        alpn: &[&str],
    ) -> std::io::Result<TlsStream<UnixStream>> {
        let stream = self.tunnel(host, port).await.expect("a tunnel");
        let mut roots = RootCertStore::empty();
        roots.add(trusted).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// What its sandbox trusts beside the system's.
    pub(crate) fn trusted(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.ca.as_bytes()).unwrap()
    }

    /// A client in its sandbox.
    pub(crate) async fn client(&self, host: &str, port: u16, alpn: &str) -> Client {
        let tls = self
            .tls(self.trusted(), (host, port), host, &[alpn])
            .await
            .expect("trusted");
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(alpn.as_bytes()));
        Client::over(tls, format!("{host}:{port}"), alpn).await
    }

    /// The reasons of what was refused, from now on until nothing more comes.
    pub(crate) async fn refused(&mut self) -> String {
        let mut reasons = String::new();
        let patience = Duration::from_millis(300);
        while let Ok(Some(decision)) = tokio::time::timeout(patience, self.decisions.recv()).await {
            reasons.push_str(decision.reason.as_deref().unwrap_or(""));
            reasons.push('\n');
        }
        reasons
    }
}

pub(crate) type Sending = UnsyncBoxBody<Bytes, std::io::Error>;

pub(crate) fn full(text: impl Into<Bytes>) -> Sending {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}

enum Sender {
    One(http1::SendRequest<Sending>),
    Two(http2::SendRequest<Sending>),
}

/// A connection of a client.
pub(crate) struct Client {
    sender: Sender,
    authority: String,
    _task: AbortOnDropHandle<()>,
}

/// An answer that has come whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Client {
    async fn over(tls: TlsStream<UnixStream>, authority: String, alpn: &str) -> Self {
        let io = TokioIo::new(tls);
        let (sender, task) = match alpn {
            "h2" => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
                let task = tokio::spawn(async move { drop(connection.await) });
                (Sender::Two(sender), task)
            }
            _ => {
                let (sender, connection) = http1::handshake(io).await.unwrap();
                let task = tokio::spawn(async move { drop(connection.with_upgrades().await) });
                (Sender::One(sender), task)
            }
        };
        Self {
            sender,
            authority,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Sends a request whose target is a path, to the connection's own host unless it names another.
    pub(crate) async fn send(&mut self, mut request: Request<Sending>) -> hyper::Result<Response<Incoming>> {
        match &mut self.sender {
            Sender::One(sender) => {
                if !request.headers().contains_key("host") {
                    request.headers_mut().insert("host", self.authority.parse().unwrap());
                }
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::Two(sender) => {
                if request.uri().authority().is_none() {
                    *request.uri_mut() = format!("https://{}{}", self.authority, request.uri()).parse().unwrap();
                }
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    /// Sends one and waits for all of the answer.
    pub(crate) async fn ask(&mut self, request: Request<Sending>) -> hyper::Result<Answer> {
        let (head, body) = self.send(request).await?.into_parts();
        let body = body.collect().await?;
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            trailers: body.trailers().cloned(),
            body: String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        })
    }

    /// Gets a path with these headers.
    pub(crate) async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask(request("GET", path, headers, "")).await.expect("an answer")
    }
}

pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Request<Sending> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(full(body.to_owned())).unwrap()
}
