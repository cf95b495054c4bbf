//! A recording upstream that says exactly what a test wants, byte by byte, and a broker before it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pond_core::clock::SystemClock;
use pond_core::outbound::{AllowPrivate, Purpose};
use pond_core::secret::Secret;
use pond_core::testing::SeededEntropy;
use pond_core::usage::{Price, Prices};
use pond_worker::broker::{
    Broker, BrokerHandle, Feature, Grant, ModelCall, Parts, Spend, Unlimited, dialled, provider,
};
use pond_worker::net::{Dialer, DialerSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub(crate) const KEY: &str = "sk-real-key-never-seen-inside-93d1";
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What the upstream says: bytes as they come in, then the end of the connection.
pub(crate) type Script = mpsc::UnboundedReceiver<Vec<u8>>;

/// A TCP server that records requests and answers each with the next script.
pub(crate) struct Upstream {
    pub(crate) addr: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Upstream {
    pub(crate) async fn start(scripts: Vec<Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("bound");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let record = requests.clone();
        let task = tokio::spawn(async move {
            for script in scripts {
                let (stream, _) = listener.accept().await.expect("a connection");
                tokio::spawn(serve(stream, script, record.clone()));
            }
        });
        Self { addr, requests, task }
    }

    /// One that gives these whole answers.
    pub(crate) async fn answering(answers: &[&str]) -> Self {
        let script = |answer: &&str| {
            let (sender, script) = mpsc::unbounded_channel();
            sender.send(answer.as_bytes().to_vec()).expect("open");
            script
        };
        Self::start(answers.iter().map(script).collect()).await
    }

    /// The requests so far, heads in lower case.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("unpoisoned").clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, mut script: Script, record: Arc<Mutex<Vec<String>>>) {
    let request = read_request(&mut stream).await;
    record.lock().expect("unpoisoned").push(request);
    while let Some(bytes) = script.recv().await {
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
    let _ = stream.shutdown().await;
}

async fn read_request(stream: &mut TcpStream) -> String {
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 65536]);
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return format!("{head}\r\n\r\n{body}");
            }
        }
        match stream.read(&mut buffer).await {
            Ok(length @ 1..) => bytes.extend_from_slice(&buffer[..length]),
            _ => return text,
        }
    }
}

/// A whole answer with its length.
pub(crate) fn http(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

pub(crate) fn ok(body: &str) -> String {
    http("200 OK", "content-type: application/json\r\n", body)
}

/// How the broker of a test differs from the usual one.
pub(crate) struct Setting {
    pub(crate) provider: &'static str,
    pub(crate) credential: Vec<(&'static str, String)>,
    pub(crate) features: Vec<Feature>,
    pub(crate) spend: Arc<dyn Spend>,
    /// What of the private network may be dialled.
    pub(crate) allow: Option<String>,
}

impl Setting {
    pub(crate) fn new(provider: &'static str, upstream: SocketAddr) -> Self {
        let (key, base) = match provider {
            "anthropic" => ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"),
            "gemini" => ("GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL"),
            _ => ("OPENAI_API_KEY", "OPENAI_BASE_URL"),
        };
        Self {
            provider,
            credential: vec![(key, KEY.to_owned()), (base, format!("http://{upstream}"))],
            features: Vec::new(),
            spend: Arc::new(Unlimited),
            allow: Some(upstream.to_string()),
        }
    }
}

pub(crate) struct World {
    pub(crate) socket: PathBuf,
    pub(crate) broker: BrokerHandle,
    pub(crate) calls: mpsc::Receiver<ModelCall>,
    _folder: tempfile::TempDir,
}

impl World {
    pub(crate) fn start(setting: Setting) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("b.sock");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let allow = setting.allow.as_deref().map_or_else(AllowPrivate::default, |text| {
            AllowPrivate::parse_for(Purpose::Model, text).expect("an exception")
        });
        let dialer = Dialer::new(DialerSettings {
            allow,
            ..DialerSettings::default()
        })
        .expect("a dialer");
        let credential = setting
            .credential
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Secret::new(value.clone())));
        let price = |price| Price::parse(price).ok();
        let prices = Prices {
            input: price("3"),
            output: price("15"),
            cache_read: None,
            cache_write: None,
        };
        let models = BTreeMap::from([("m".to_owned(), prices)]);
        let features: BTreeSet<Feature> = setting.features.iter().copied().collect();
        let provider = provider(setting.provider).expect("known");
        let grant = Grant::new(provider, &credential.collect(), models, features).expect("a grant");
        let parts = Parts {
            upstream: dialled(dialer),
            spend: setting.spend,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SeededEntropy::new(1)),
        };
        let (sender, calls) = mpsc::channel(16);
        let broker = Broker::start(listener, grant, parts, sender);
        Self {
            socket,
            broker,
            calls,
            _folder: folder,
        }
    }

    pub(crate) async fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.socket).await.expect("the broker listens")
    }

    /// Sends raw bytes and reads until the broker closes, which each request asks for.
    pub(crate) async fn raw(&self, request: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        // A refusal may come, and the connection close, before all is sent.
        let _ = stream.write_all(request.as_ref()).await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .expect("in time");
        let _ = read;
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub(crate) async fn post(&self, target: &str, headers: &str, body: &str) -> String {
        self.raw(post(target, headers, body)).await
    }

    pub(crate) async fn call(&mut self) -> ModelCall {
        tokio::time::timeout(PATIENCE, self.calls.recv())
            .await
            .expect("in time")
            .expect("the broker runs")
    }
}

pub(crate) fn post(target: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    )
}
