//! The only server that git talks to: a relay on loopback that passes its requests on, through the dialer, to the one
//! repository. The credential is added on the way out, so git never holds it: not as an argument, not in its environment, not
//! on disk. What git holds is a word that opens this relay for as long as it lives.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use pond_core::outbound::{OutboundUrl, Purpose};
use pond_core::secret::Secret;
use pond_core::sources::{GitKey, SourceError};
use sha2::{Digest, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::super::{Body, Dialer, HttpClient, Protocols, SendError, client, empty_body};

/// The header that opens the relay.
const WORD: &str = "pond-relay";

/// How long the server may think before its answer begins: packing a large repository takes time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);

/// Headers that are of one connection alone, or none of git's to send.
const NOT_PASSED: [&str; 13] = [
    "connection",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "location",
    "proxy-authenticate",
    "proxy-authorization",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A relay to one repository; gone when dropped, with every connection through it.
pub(super) struct Relay {
    address: SocketAddr,
    word: Secret,
    passage: Arc<Passage>,
    task: JoinHandle<()>,
}

/// What every request goes through.
struct Passage {
    client: HttpClient,
    upstream: OutboundUrl,
    word: [u8; 32],
    authorization: Option<HeaderValue>,
    /// Why the last request did not get through; git itself is not told, since it would repeat it in words of its own.
    trouble: Mutex<Option<String>>,
}

impl Relay {
    /// Listens. Nothing is dialled until git asks.
    pub(super) async fn start(dialer: &Dialer, upstream: &OutboundUrl, key: Option<&GitKey>) -> io::Result<Self> {
        let mut random = [0u8; 32];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let word = hex::encode(random);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let passage = Arc::new(Passage {
            client: client(dialer.clone(), Purpose::Git, Protocols::Http1),
            upstream: upstream.clone(),
            word: Sha256::digest(&word).into(),
            authorization: key.map(basic).transpose()?,
            trouble: Mutex::default(),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&passage)));
        Ok(Self {
            address,
            word: Secret::new(word),
            passage,
            task,
        })
    }

    /// The repository as git is to name it.
    pub(super) fn url(&self) -> String {
        let mut url = self.passage.upstream.url().clone();
        url.set_fragment(None);
        let path = &url[url::Position::BeforePath..];
        format!("http://{}{path}", self.address)
    }

    /// The header that git is to send.
    pub(super) fn header(&self) -> Secret {
        Secret::new(format!("{WORD}: {}", self.word.expose()))
    }

    /// Why the last request did not get through, if it did not.
    pub(super) fn trouble(&self) -> Option<SourceError> {
        let trouble = self.passage.trouble.lock().expect("no holder of this lock panics");
        trouble.clone().map(SourceError::Failed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn basic(key: &GitKey) -> io::Result<HeaderValue> {
    let pair = Secret::new(format!("{}:{}", key.username, key.token.expose()));
    let text = Secret::new(format!("Basic {}", STANDARD.encode(pair.expose())));
    let mut value = HeaderValue::from_str(text.expose()).map_err(io::Error::other)?;
    value.set_sensitive(true);
    Ok(value)
}

/// The connections end with the task that holds them.
async fn accept(listener: TcpListener, passage: Arc<Passage>) {
    let mut connections = JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(serve(tcp, Arc::clone(&passage)));
    }
}

async fn serve(tcp: TcpStream, passage: Arc<Passage>) {
    let service = service_fn(move |request| {
        let passage = Arc::clone(&passage);
        async move { Ok::<_, Infallible>(passage.answer(request).await) }
    });
    // Git that hangs up has its own reasons.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(tcp), service)
        .await;
}

fn plain(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(empty_body());
    *response.status_mut() = status;
    response
}

impl Passage {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        if !self.admits(&request) {
            return plain(StatusCode::FORBIDDEN);
        }
        let Some(request) = self.outward(request) else {
            return plain(StatusCode::BAD_REQUEST);
        };
        match self.client.send(request, HEAD_TIMEOUT).await {
            Ok(response) => {
                let (head, body) = response.into_parts();
                if self.authorization.is_some() && matches!(head.status.as_u16(), 401 | 403) {
                    self.note("the repository refuses the credential".into());
                }
                let mut answer = Response::new(body.map_err(Into::into).boxed_unsync());
                *answer.status_mut() = head.status;
                *answer.headers_mut() = passed(&head.headers);
                answer
            }
            Err(error) => {
                let trouble = match error {
                    SendError::Dial(error) => error.to_string(),
                    SendError::Timeout | SendError::Broken(_) => format!("the repository's host: {error}"),
                };
                self.note(trouble);
                plain(StatusCode::BAD_GATEWAY)
            }
        }
    }

    fn note(&self, trouble: String) {
        *self.trouble.lock().expect("no holder of this lock panics") = Some(trouble);
    }

    /// Whether it is git who asks, for this repository, and only to read it.
    fn admits(&self, request: &Request<Incoming>) -> bool {
        let word = request.headers().get(WORD).map(|word| Sha256::digest(word.as_bytes()));
        let path = request.uri().path();
        let own = self.upstream.url().path().trim_end_matches('/');
        let below = path.strip_prefix(own).unwrap_or_default();
        let reads = match *request.method() {
            Method::GET => below.starts_with('/') && !below.contains("..") && !below.contains('%'),
            Method::POST => below == "/git-upload-pack",
            _ => false,
        };
        // Compared as digests, so that time tells nothing of the word.
        reads && word.is_some_and(|word| word[..] == self.word)
    }

    fn outward(&self, request: Request<Incoming>) -> Option<Request<Body>> {
        let (head, body) = request.into_parts();
        let place = self.upstream.url();
        let path = head.uri.path_and_query()?.as_str();
        let uri = format!("{}{path}", &place[..url::Position::BeforePath]);
        let mut outward = Request::builder()
            .method(head.method)
            .uri(uri)
            .body(body.map_err(Into::into).boxed_unsync())
            .ok()?;
        *outward.headers_mut() = passed(&head.headers);
        if let Some(authorization) = &self.authorization {
            outward.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        Some(outward)
    }
}

/// The headers that are passed on, either way.
fn passed(headers: &HeaderMap) -> HeaderMap {
    let keep =
        |name: &HeaderName| !NOT_PASSED.contains(&name.as_str()) && name != AUTHORIZATION && name.as_str() != WORD;
    let kept = headers.iter().filter(|(name, _)| keep(name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}
