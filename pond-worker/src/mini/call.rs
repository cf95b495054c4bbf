//! Model calls to the broker's socket, with bounded patience.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use pond_core::clock::Clock;
use serde_json::Value;
use tokio::net::UnixStream;

use super::wire::MiniWire;

/// How often a call is tried in all.
const TRIES: u32 = 5;
/// The first wait; each next one is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait, also when the provider asks for more.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How long one try may take.
const TRY_TIMEOUT: Duration = Duration::from_secs(1800);
/// Bytes of an answer.
const MAX_ANSWER: usize = 32 << 20;
/// Characters of a provider's message that are told on.
const MAX_MESSAGE: usize = 500;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum CallError {
    Refused { status: u16, code: String, message: String },
    Unreachable(String),
    BadAnswer(String),
}

/// Calls the model.
pub(super) struct Caller<'a> {
    pub(super) socket: &'a Path,
    pub(super) model: &'a str,
    pub(super) clock: &'a dyn Clock,
}

enum Tried {
    Answer(Value),
    /// Worth another try, after a wait that the provider may have named.
    Again(CallError, Option<Duration>),
    Never(CallError),
}

impl Caller<'_> {
    /// Calls until there is an answer, a refusal for good, or no patience left.
    pub(super) async fn call(&self, wire: MiniWire, request: &Value) -> Result<Value, CallError> {
        let body = Bytes::from(request.to_string());
        let mut wait = FIRST_WAIT;
        for left in (0..TRIES).rev() {
            match self.attempt(wire, body.clone()).await {
                Tried::Answer(answer) => return Ok(answer),
                Tried::Never(error) => return Err(error),
                Tried::Again(error, _) if left == 0 => return Err(error),
                Tried::Again(_, asked) => {
                    self.clock.sleep(asked.unwrap_or(wait).min(LONGEST_WAIT)).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        }
        Err(CallError::Unreachable("no try left".into()))
    }

    async fn attempt(&self, wire: MiniWire, body: Bytes) -> Tried {
        let path = wire.path(self.model);
        let sent = tokio::time::timeout(TRY_TIMEOUT, send(self.socket, wire, &path, body)).await;
        let unreachable = |why: String| Tried::Again(CallError::Unreachable(why), None);
        let (status, headers, body) = match sent {
            Ok(Ok(answer)) => answer,
            Ok(Err(why)) => return unreachable(why),
            Err(_) => return unreachable("no answer in time".into()),
        };
        if !status.is_success() {
            return refused(status, &headers, &body);
        }
        match serde_json::from_slice(&body) {
            Ok(answer) => Tried::Answer(answer),
            Err(_) => Tried::Again(CallError::BadAnswer("it is no JSON".into()), None),
        }
    }
}

async fn send(
    socket: &Path,
    wire: MiniWire,
    path: &str,
    body: Bytes,
) -> Result<(StatusCode, HeaderMap, Bytes), String> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|error| format!("the broker: {error}"))?;
    let broke = |error: hyper::Error| format!("the broker's connection: {error}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broke)?;
    let mut request = Request::post(path)
        .body(Full::new(body))
        .map_err(|error| error.to_string())?;
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::from_static("broker"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static("pond-mini"));
    for (name, value) in wire.headers() {
        headers.insert(*name, HeaderValue::from_static(value));
    }
    let answer = async {
        let (head, body) = sender.send_request(request).await.map_err(broke)?.into_parts();
        let body = Limited::new(body, MAX_ANSWER)
            .collect()
            .await
            .map_err(|error| format!("the answer: {error}"))?;
        Ok((head.status, head.headers, body.to_bytes()))
    };
    // The connection is driven here and not in a task of its own, so that nothing outlives this call.
    tokio::pin!(connection, answer);
    tokio::select! {
        biased;
        done = &mut answer => done,
        ended = &mut connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(broke(error)),
        },
    }
}

fn refused(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Tried {
    let error = serde_json::from_slice::<Value>(body).unwrap_or_default();
    let text = |name: &str| {
        error["error"][name]
            .as_str()
            .unwrap_or("")
            .chars()
            .take(MAX_MESSAGE)
            .collect::<String>()
    };
    let (mut code, message) = (text("type"), text("message"));
    if code.is_empty() {
        code = format!("status {}", status.as_u16());
    }
    let error = CallError::Refused {
        status: status.as_u16(),
        code,
        message,
    };
    let said_no = headers.get("x-should-retry").is_some_and(|value| value == "false");
    let passing = matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504 | 529);
    match passing && !said_no {
        true => Tried::Again(error, retry_after(headers)),
        false => Tried::Never(error),
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: f64 = headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}
