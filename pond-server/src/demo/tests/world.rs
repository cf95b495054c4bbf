//! One scripted model, one broker before it, and clients of that broker.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::http::Request;
use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use pond_core::clock::{Clock, SystemClock, Timestamp};
use pond_core::outbound::{AllowPrivate, Purpose};
use pond_core::secret::Secret;
use pond_core::testing::SeededEntropy;
use pond_core::usage::{Price, Prices};
use pond_worker::broker::{Broker, BrokerHandle, Grant, ModelCall, Parts, Unlimited, dialled, provider};
use pond_worker::mini::{LogSink, Mini, MiniEnd, MiniError, MiniLimits, MiniWire, Tool};
use pond_worker::net::{Dialer, DialerSettings};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc;

use super::host::Host;
use crate::demo::{Script, ScriptedModel};

pub(super) const MODEL: &str = "scripted-1";
const PATIENCE: Duration = Duration::from_secs(20);

/// A provider, and how it is talked to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wire {
    pub(super) provider: &'static str,
    key: &'static str,
    base: &'static str,
    mini: MiniWire,
}

pub(super) const WIRES: [Wire; 4] = [
    Wire {
        provider: "anthropic",
        key: "ANTHROPIC_API_KEY",
        base: "ANTHROPIC_BASE_URL",
        mini: MiniWire::Anthropic,
    },
    Wire {
        provider: "openai",
        key: "OPENAI_API_KEY",
        base: "OPENAI_BASE_URL",
        mini: MiniWire::Responses,
    },
    Wire {
        provider: "openai_compatible",
        key: "OPENAI_API_KEY",
        base: "OPENAI_BASE_URL",
        mini: MiniWire::Chat,
    },
    Wire {
        provider: "gemini",
        key: "GEMINI_API_KEY",
        base: "GOOGLE_GEMINI_BASE_URL",
        mini: MiniWire::Gemini,
    },
];

impl Wire {
    pub(super) fn named(name: &str) -> Self {
        let router = Self {
            provider: "openrouter",
            key: "OPENROUTER_API_KEY",
            base: "OPENROUTER_BASE_URL",
            ..WIRES[2]
        };
        *WIRES.iter().find(|wire| wire.provider == name).unwrap_or(&router)
    }

    /// Where a request goes.
    pub(super) fn path(&self, stream: bool) -> &'static str {
        match self.mini {
            MiniWire::Anthropic => "/v1/messages",
            MiniWire::Responses => "/v1/responses",
            MiniWire::Chat => "/v1/chat/completions",
            MiniWire::Gemini if stream => "/v1beta/models/scripted-1:streamGenerateContent?alt=sse",
            MiniWire::Gemini => "/v1beta/models/scripted-1:generateContent",
        }
    }

    fn conversation(&self, said: &[(&str, &str)], stream: bool) -> Value {
        if self.mini == MiniWire::Gemini {
            let content = |(role, text): &(&str, &str)| {
                let role = if *role == "assistant" { "model" } else { role };
                json!({"role": role, "parts": [{"text": text}]})
            };
            return json!({"contents": said.iter().map(content).collect::<Vec<_>>()});
        }
        let message = |(role, text): &(&str, &str)| json!({"role": role, "content": text});
        let messages: Vec<Value> = said.iter().map(message).collect();
        let list = if self.mini == MiniWire::Responses {
            "input"
        } else {
            "messages"
        };
        json!({"model": MODEL, "max_tokens": 100, list: messages, "stream": stream})
    }

    /// The first request of a conversation.
    pub(super) fn asking(&self, text: &str, stream: bool) -> Value {
        self.conversation(&[("user", text)], stream)
    }

    /// The second one.
    pub(super) fn asking_again(&self, stream: bool) -> Value {
        self.conversation(&[("user", "a"), ("assistant", "b"), ("user", "c")], stream)
    }
}

/// What a client got.
pub(super) struct Answer {
    pub(super) status: u16,
    kind: String,
    pub(super) body: Vec<u8>,
    /// The connection broke before the answer's end.
    pub(super) broken: bool,
}

impl Answer {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    pub(super) fn is_stream(&self) -> bool {
        self.kind.starts_with("text/event-stream")
    }
}

#[derive(Default)]
struct Log(Mutex<Vec<String>>);

#[async_trait]
impl LogSink for Log {
    async fn line(&self, line: &str) {
        self.0.lock().expect("unpoisoned").push(line.to_owned());
    }
}

/// Real time, ten times as fast: waits between tries would only slow the tests down.
struct Hasty;

impl Clock for Hasty {
    fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        // The shortest tool timeout is a second too, and has to be a real one: a tenth will do for both.
        SystemClock.sleep(span / 10)
    }
}

pub(super) struct World {
    pub(super) model: ScriptedModel,
    wire: Wire,
    broker: Option<BrokerHandle>,
    socket: PathBuf,
    calls: mpsc::Receiver<ModelCall>,
    log: Log,
    _folder: tempfile::TempDir,
}

impl World {
    pub(super) async fn start(wire: Wire, script: Script) -> Self {
        let model = ScriptedModel::start(script).await.expect("a port");
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("broker.sock");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let allow = AllowPrivate::parse_for(Purpose::Model, &model.addr.to_string()).expect("an exception");
        let dialer = Dialer::new(DialerSettings {
            allow,
            ..DialerSettings::default()
        })
        .expect("a dialer");
        let parts = Parts {
            upstream: dialled(dialer),
            spend: Arc::new(Unlimited),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SeededEntropy::new(7)),
        };
        let (sender, calls) = mpsc::channel(100);
        let broker = Some(Broker::start(listener, grant(wire, &model), parts, sender));
        Self {
            model,
            wire,
            broker,
            socket,
            calls,
            log: Log::default(),
            _folder: folder,
        }
    }

    /// The next calls that the broker tells.
    pub(super) async fn calls(&mut self, count: usize) -> Vec<ModelCall> {
        let mut calls = Vec::new();
        for _ in 0..count {
            let call = tokio::time::timeout(PATIENCE, self.calls.recv())
                .await
                .expect("a call in time");
            calls.push(call.expect("the broker runs"));
        }
        calls
    }

    /// Ends the broker and gives the calls not yet taken.
    pub(super) async fn close(&mut self) -> Vec<ModelCall> {
        self.broker.take().expect("a broker").close().await;
        let mut calls = Vec::new();
        while let Ok(call) = self.calls.try_recv() {
            calls.push(call);
        }
        calls
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_with(path, &[], body).await
    }

    pub(super) async fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let mut request = Request::post(path)
            .header("host", "broker")
            .header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(
            request
                .body(Full::new(Bytes::from(body.to_string())))
                .expect("a request"),
        )
        .await
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        let request = Request::get(path).header("host", "broker");
        self.send(request.body(Full::default()).expect("a request")).await
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let stream = UnixStream::connect(&self.socket).await.expect("the broker listens");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .expect("http");
        let connection = tokio::spawn(connection);
        let answer = sender.send_request(request).await.expect("an answer");
        let (head, mut body) = answer.into_parts();
        let kind = head
            .headers
            .get("content-type")
            .and_then(|kind| kind.to_str().ok())
            .unwrap_or("")
            .to_owned();
        let mut got = Answer {
            status: head.status.as_u16(),
            kind,
            body: Vec::new(),
            broken: false,
        };
        while let Some(frame) = tokio::time::timeout(PATIENCE, body.frame()).await.expect("in time") {
            match frame {
                Ok(frame) => got.body.extend_from_slice(frame.data_ref().expect("data")),
                Err(_) => {
                    got.broken = true;
                    break;
                }
            }
        }
        connection.abort();
        got
    }

    /// Sends a request, reads so many bytes of the answer and goes away.
    pub(super) async fn hang_up_after(&self, path: &str, body: &Value, bytes: usize) {
        let mut stream = self.sent(path, body).await;
        let mut buffer = vec![0; bytes];
        tokio::time::timeout(PATIENCE, stream.read_exact(&mut buffer))
            .await
            .expect("in time")
            .expect("bytes");
    }

    /// Sends a request and goes away when the model has it.
    pub(super) async fn hang_up_once_asked(&self, path: &str, body: &Value) {
        let stream = self.sent(path, body).await;
        let asked = async {
            while self.model.requests().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, asked).await.expect("the model is asked");
        drop(stream);
    }

    async fn sent(&self, path: &str, body: &Value) -> UnixStream {
        let body = body.to_string();
        let mut stream = UnixStream::connect(&self.socket).await.expect("the broker listens");
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.expect("sent");
        stream
    }

    pub(super) fn log(&self) -> Vec<String> {
        self.log.0.lock().expect("unpoisoned").clone()
    }

    /// An agent that has yet to be given its sandbox.
    pub(super) fn agent(&self, tools: &[Tool]) -> Agent {
        let tools = tools.iter().copied().collect();
        Agent {
            model: MODEL.into(),
            tools,
            limits: MiniLimits::default(),
        }
    }

    pub(super) async fn mini(&self, folder: &Path, tools: &[Tool], prompt: &str) -> Result<MiniEnd, MiniError> {
        self.run(self.agent(tools), folder, prompt).await
    }

    pub(super) async fn run(&self, agent: Agent, folder: &Path, prompt: &str) -> Result<MiniEnd, MiniError> {
        let host = Host {
            folder: folder.to_owned(),
        };
        let mini = Mini {
            wire: self.wire.mini,
            model: agent.model,
            broker: self.socket.clone(),
            sandbox: &host,
            env: BTreeMap::new(),
            tools: agent.tools,
            system: None,
            limits: agent.limits,
            clock: Arc::new(Hasty),
            log: &self.log,
        };
        mini.run(prompt).await
    }
}

pub(super) struct Agent {
    pub(super) model: String,
    pub(super) tools: BTreeSet<Tool>,
    pub(super) limits: MiniLimits,
}

fn grant(wire: Wire, model: &ScriptedModel) -> Grant {
    let value = |name: &str, value: String| (name.to_owned(), Secret::new(value));
    let credential = [value(wire.key, model.key().into()), value(wire.base, model.base_url())].into();
    let price = |price| Price::parse(price).ok();
    let prices = Prices {
        input: price("3"),
        output: price("15"),
        cache_read: price("0.3"),
        cache_write: price("3.75"),
    };
    let models = BTreeMap::from([(MODEL.to_owned(), prices)]);
    let provider = provider(wire.provider).expect("a known provider");
    Grant::new(provider, &credential, models, BTreeSet::new()).expect("a grant")
}

/// A bare POST; gives the status.
pub(super) async fn post_tcp(addr: SocketAddr, path: &str, headers: &[(&str, &str)], body: &str) -> u16 {
    let stream = TcpStream::connect(addr).await.expect("it listens");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .expect("http");
    let connection = tokio::spawn(connection);
    let mut request = Request::post(path).header("host", addr.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request
        .body(Full::new(Bytes::from(body.to_owned())))
        .expect("a request");
    let status = sender.send_request(request).await.expect("an answer").status().as_u16();
    connection.abort();
    status
}
