//! The scripted model: an HTTP server on loopback that plays a script on every wire, and its bill.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::script::{Counts, Fault, Script, Turn};
use super::toolbox;
use super::wire::{self, Wire};

/// Requests that are kept; the oldest go first.
const MAX_RECORDED: usize = 1000;
/// Bytes of a request.
const MAX_BODY: usize = 32 << 20;
/// The key that opens every scripted model. It opens nothing else.
const KEY: &str = "sk-scripted-model-key-5d1f0c77e2b94a86";

/// A request as it came in.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Method and path with query.
    pub target: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body; null where that was no JSON.
    pub body: Value,
}

/// What the provider would charge for: its own counts, kept apart from whatever the engine reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bill {
    /// Answers given.
    pub calls: u64,
    /// Uncached input.
    pub input: u64,
    /// Output.
    pub output: u64,
    /// Input read from the cache.
    pub cache_read: u64,
    /// Input written to the cache.
    pub cache_write: u64,
}

impl Bill {
    fn add(&mut self, counts: &Counts) {
        self.calls += 1;
        self.input += counts.input;
        self.output += counts.output;
        self.cache_read += counts.cache_read;
        self.cache_write += counts.cache_write;
    }
}

#[derive(Default)]
struct Book {
    bills: BTreeMap<String, Bill>,
    requests: Vec<Recorded>,
    struck: BTreeMap<usize, usize>,
}

struct Model {
    script: Script,
    book: Mutex<Book>,
}

impl Model {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("no holder of this lock panics")
    }
}

/// A running scripted model. It ends when dropped.
pub struct ScriptedModel {
    /// Where it listens.
    pub addr: SocketAddr,
    model: Arc<Model>,
    server: JoinHandle<()>,
}

impl ScriptedModel {
    /// Starts on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When no port can be bound.
    ///
    /// # Panics
    /// When the script has no turn.
    pub async fn start(script: Script) -> std::io::Result<Self> {
        assert!(!script.turns.is_empty(), "a script has at least one turn");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let model = Arc::new(Model {
            script,
            book: Mutex::default(),
        });
        let app = Router::new().fallback(answer).with_state(model.clone());
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                tracing::warn!(%error, "the scripted model ended");
            }
        });
        Ok(Self { addr, model, server })
    }

    /// The base URL, without a version path.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The one key it takes.
    pub fn key(&self) -> &'static str {
        KEY
    }

    /// What it would charge for in all.
    pub fn bill(&self) -> Bill {
        let mut total = Bill::default();
        for bill in self.model.book().bills.values() {
            total.calls += bill.calls;
            total.input += bill.input;
            total.output += bill.output;
            total.cache_read += bill.cache_read;
            total.cache_write += bill.cache_write;
        }
        total
    }

    /// What it would charge for by model.
    pub fn bills(&self) -> BTreeMap<String, Bill> {
        self.model.book().bills.clone()
    }

    /// The last requests, oldest first; those with a wrong key too.
    pub fn requests(&self) -> Vec<Recorded> {
        self.model.book().requests.clone()
    }
}

impl Drop for ScriptedModel {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(State(model): State<Arc<Model>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    record(&model, format!("{} {}", head.method, head.uri), &head.headers, &body);
    let path = head.uri.path();
    let query = head.uri.query().unwrap_or("");
    let Some(wire::Asked { wire, model: named }) = wire::at(&head.method, path, query) else {
        let text = json!({"error": {"type": "not_found_error", "message": "no such path"}});
        return (StatusCode::NOT_FOUND, axum::Json(text)).into_response();
    };
    if !has_key(&head.headers) {
        return error(wire, StatusCode::UNAUTHORIZED, "authentication_error");
    }
    let Some(name) = named.or_else(|| body["model"].as_str().map(str::to_owned)) else {
        return match wire {
            Wire::Models => axum::Json(json!({"object": "list", "data": []})).into_response(),
            _ => error(wire, StatusCode::BAD_REQUEST, "invalid_request_error"),
        };
    };
    if !wire.knows_roles(&body, &head.headers) {
        return error(wire, StatusCode::BAD_REQUEST, "invalid_request_error");
    }
    match wire {
        Wire::Models => axum::Json(json!({"object": "list", "data": []})).into_response(),
        Wire::CountTokens => axum::Json(json!({"input_tokens": body.to_string().len() / 4})).into_response(),
        Wire::GeminiTokens => axum::Json(json!({"totalTokens": body.to_string().len() / 4})).into_response(),
        Wire::Embeddings => embed(&model, &name, &body),
        Wire::Talk(wire) => talk(&model, wire, name, &body).await,
    }
}

fn record(model: &Model, target: String, headers: &HeaderMap, body: &Value) {
    let mut book = model.book();
    if book.requests.len() == MAX_RECORDED {
        book.requests.remove(0);
    }
    book.requests.push(Recorded {
        target,
        headers: headers.clone(),
        body: body.clone(),
    });
}

fn has_key(headers: &HeaderMap) -> bool {
    let bare = ["x-api-key", "x-goog-api-key"]
        .iter()
        .find_map(|name| headers.get(*name)?.to_str().ok());
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    bare.or(bearer) == Some(KEY)
}

fn error(wire: Wire, status: StatusCode, kind: &str) -> Response {
    (status, axum::Json(wire.error(kind, "the scripted model refuses this"))).into_response()
}

fn embed(model: &Model, name: &str, body: &Value) -> Response {
    let counts = Counts {
        input: body["input"].to_string().len() as u64,
        output: 0,
        cache_read: 0,
        cache_write: 0,
    };
    model.book().bills.entry(name.to_owned()).or_default().add(&counts);
    axum::Json(json!({
        "object": "list", "model": name,
        "data": [{"object": "embedding", "index": 0, "embedding": [0.0, 0.5, -0.5]}],
        "usage": {"prompt_tokens": counts.input, "total_tokens": counts.input},
    }))
    .into_response()
}

async fn talk(model: &Model, wire: wire::Talk, name: String, body: &Value) -> Response {
    let (index, turn) = model.script.turn(wire.turns_so_far(body));
    match turn.fault {
        Some(Fault::Status { status, times }) => {
            let mut book = model.book();
            let struck = book.struck.entry(index).or_default();
            if *struck < times {
                *struck += 1;
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                return error(Wire::Talk(wire), status, "scripted_error");
            }
        }
        Some(Fault::Delay(delay)) => tokio::time::sleep(delay).await,
        _ => {}
    }
    let counts = wire.told(turn.counts);
    model.book().bills.entry(name.clone()).or_default().add(&counts);
    let turn = toolbox::fitted(turn, body);
    let answer = wire::Answer {
        model: &name,
        id: index,
        turn: &turn,
        usage_asked: wire::usage_asked(body),
    };
    if wire.streams(body) {
        streamed(wire, &answer)
    } else {
        whole(wire, &answer)
    }
}

fn whole(wire: wire::Talk, answer: &wire::Answer<'_>) -> Response {
    let text = wire.whole(answer).to_string();
    let body = match answer.turn.fault {
        Some(Fault::Malformed) => Body::from("{\"content\": [<"),
        Some(Fault::Cut { .. } | Fault::Endless) => broken(vec![text[..text.len() / 2].to_owned()]),
        _ => Body::from(text),
    };
    (
        [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))],
        body,
    )
        .into_response()
}

fn streamed(wire: wire::Talk, answer: &wire::Answer<'_>) -> Response {
    let mut events = wire.events(answer);
    let body = match &answer.turn.fault {
        Some(Fault::Malformed) => Body::from("data: {\"type\": <\n\n"),
        Some(Fault::Cut { events: kept }) => {
            events.truncate(*kept);
            broken(events)
        }
        Some(Fault::Endless) => {
            let more = Turn {
                text: "and so on ".into(),
                ..answer.turn.clone()
            };
            let more = wire.deltas(&wire::Answer { turn: &more, ..*answer }).concat();
            let first = wire.events(answer).into_iter().take(1);
            let endless = stream::iter(first.chain(std::iter::repeat(more)));
            Body::from_stream(endless.map(Bytes::from).map(Ok::<_, Infallible>))
        }
        _ => Body::from_stream(stream::iter(events).map(Bytes::from).map(Ok::<_, Infallible>)),
    };
    (
        [(header::CONTENT_TYPE, HeaderValue::from_static(wire.stream_type()))],
        body,
    )
        .into_response()
}

/// A body that breaks off behind these parts, without the end that HTTP asks for.
fn broken(parts: Vec<String>) -> Body {
    let cut = stream::once(async {
        // What was sent before has to get out before the connection is dropped.
        tokio::task::yield_now().await;
        Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))
    });
    Body::from_stream(stream::iter(parts).map(|part| Ok(Bytes::from(part))).chain(cut))
}
