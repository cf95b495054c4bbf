//! One request through the broker: judged, sent with the real key, answered.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use pond_core::usage::Amounts;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::headers;
use super::provider::{Found, Route};
use super::refusal::Refusal;
use super::relay::{self, Billed, Phase, Relay};
use super::serve::Shared;
use super::upstream::UpstreamError;
use super::wire::{Asked, Json, Meter, Wire, json};

/// Bytes of a request's body.
const MAX_BODY: usize = 32 << 20;
/// Bodies above this are parsed on a thread where that may take its time.
const LARGE_BODY: usize = 256 << 10;
/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a provider may be silent while it answers.
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a call may take in all.
const CALL_TIMEOUT: Duration = Duration::from_secs(1800);
/// Bytes of a provider's error that pass.
const MAX_ERROR: usize = 64 << 10;

type Answer = Response<Either<Full<Bytes>, Relay>>;

/// Answers one request, with the provider's answer or a refusal in its shape.
pub(super) async fn answer(broker: Arc<Shared>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let provider = broker.grant.provider;
    Ok(match forward(broker, request).await {
        Ok(answer) => answer,
        Err(refusal) => {
            tracing::debug!(code = refusal.code, "the broker refused a request");
            refused(&refusal, (provider.error)(&refusal).to_string())
        }
    })
}

fn refused(refusal: &Refusal, body: String) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(Bytes::from(body))));
    *answer.status_mut() = refusal.status;
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // The providers' client libraries heed it. A provider that could not be reached may be there again.
    let again = HeaderValue::from_static(if refusal.status.is_client_error() {
        "false"
    } else {
        "true"
    });
    answer.headers_mut().insert("x-should-retry", again);
    answer
}

async fn forward(broker: Arc<Shared>, request: Request<Incoming>) -> Result<Answer, Refusal> {
    let asked_path = request.uri().path().to_owned();
    let Found { route, model } = found(&broker, request.method(), &asked_path)?;
    let target = target(&broker, route, model, request.uri())?;
    let headers = headers::request(&broker.grant, request.headers(), route.wire.is_some())?;
    let deadline = relay::deadline(CALL_TIMEOUT);
    let slot = take(&broker.slots, 1).await?;
    let (body, asked, share) = match route.wire {
        None => (Bytes::new(), None, None),
        Some(wire) => {
            let (body, asked, share) = judged(&broker, wire, model, request).await?;
            (body, Some((wire, asked)), Some(share))
        }
    };
    let hide_usage = asked.as_ref().is_some_and(|(_, asked)| asked.hide_usage);
    let mut billed = match asked {
        Some((wire, asked)) if route.billed => Some(bill(&broker, wire, asked, body.len()).await?),
        _ => None,
    };
    let sent = send(&broker, outward(route, target, headers, body)?, deadline).await;
    // The body is in memory until there is an answer.
    drop(share);
    let answer = match sent {
        Ok(answer) => answer,
        Err((refusal, phase)) => {
            mark(&mut billed, phase);
            return Err(refusal);
        }
    };
    let status = answer.status();
    if !status.is_success() {
        mark(&mut billed, Phase::Unbilled(status.as_u16()));
        return failed(&broker, answer, deadline).await;
    }
    mark(&mut billed, Phase::Answering(status.as_u16()));
    relayed(&broker, answer, billed, hide_usage, slot, deadline)
}

fn mark(billed: &mut Option<Billed>, phase: Phase) {
    if let Some(billed) = billed {
        billed.phase = phase;
    }
}

/// The route by method and exact path. Host, scheme and authority of the request are not looked at.
fn found<'p>(broker: &Shared, method: &Method, path: &'p str) -> Result<Found<'p>, Refusal> {
    let provider = broker.grant.provider;
    provider.route(method, path).ok_or_else(|| {
        let text = format!(
            "this job's broker speaks to provider `{}`: {}",
            provider.name,
            provider.paths()
        );
        Refusal::forbidden("path_not_allowed", text)
    })
}

/// The absolute URL at the credential's upstream, with those query parameters that are known to be harmless.
fn target(broker: &Shared, route: &Route, model: Option<&str>, asked: &Uri) -> Result<Uri, Refusal> {
    let mut url = format!("{}{}", broker.grant.base, route.path(model));
    let pairs = asked.query().unwrap_or("").split('&');
    let plain = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    for (name, value) in pairs.filter_map(|pair| pair.split_once('=')) {
        if route.passes(name, value) && plain(value) {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(&format!("{name}={value}"));
        }
    }
    url.parse()
        .map_err(|_| Refusal::upstream("the credential's base URL cannot be dialled"))
}

/// Waits for its share of a bound.
async fn take(bound: &Arc<Semaphore>, share: usize) -> Result<OwnedSemaphorePermit, Refusal> {
    let share = u32::try_from(share).unwrap_or(u32::MAX);
    bound
        .clone()
        .acquire_many_owned(share)
        .await
        .map_err(|_| Refusal::upstream("the broker ends"))
}

/// Reads and judges a body, and edits it where that is needed.
async fn judged(
    broker: &Arc<Shared>,
    wire: &'static dyn Wire,
    model: Option<&str>,
    request: Request<Incoming>,
) -> Result<(Bytes, Asked, OwnedSemaphorePermit), Refusal> {
    if request.headers().contains_key(header::CONTENT_ENCODING) {
        let text = "a compressed body cannot be checked: send it plain";
        return Err(Refusal::with_status(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "invalid_request_error",
            text,
        ));
    }
    let body = request.into_body();
    let expected = usize::try_from(body.size_hint().upper().unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    let share = take(&broker.bodies, expected.min(MAX_BODY)).await?;
    let body = read(body).await?;
    let judge = {
        let (broker, model) = (broker.clone(), model.map(str::to_owned));
        move || judge(&broker, wire, model.as_deref(), body)
    };
    let (body, asked) = match expected <= LARGE_BODY {
        true => judge()?,
        false => tokio::task::spawn_blocking(judge)
            .await
            .map_err(|_| Refusal::malformed("the body cannot be read"))??,
    };
    Ok((body, asked, share))
}

fn judge(broker: &Shared, wire: &dyn Wire, model: Option<&str>, body: Bytes) -> Result<(Bytes, Asked), Refusal> {
    let malformed = |error: json::BadJson| Refusal::malformed(error.to_string());
    let parsed = Json::parse(&body).map_err(malformed)?;
    if !matches!(parsed, Json::Object(_)) {
        return Err(Refusal::malformed("the body is no JSON object"));
    }
    let asked = wire.judge(model, &parsed, &broker.grant)?;
    drop(parsed);
    match asked.edits.is_empty() {
        true => Ok((body, asked)),
        false => Ok((json::edit(&body, &asked.edits).map_err(malformed)?.into(), asked)),
    }
}

async fn read(body: Incoming) -> Result<Bytes, Refusal> {
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await;
    match collected {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::with_status(
            StatusCode::PAYLOAD_TOO_LARGE,
            "request_too_large",
            format!("a request may have {MAX_BODY} bytes"),
        )),
        Ok(Err(_)) => Err(Refusal::malformed("the body broke off")),
        Err(_) => {
            let text = "the body did not come in time";
            Err(Refusal::with_status(
                StatusCode::REQUEST_TIMEOUT,
                "invalid_request_error",
                text,
            ))
        }
    }
}

/// Draws the call from the budget, and takes the place for its record.
async fn bill(broker: &Arc<Shared>, wire: &'static dyn Wire, asked: Asked, bytes: usize) -> Result<Billed, Refusal> {
    let ends = |_| Refusal::upstream("the job ends");
    let place = broker.calls.clone().reserve_owned().await.map_err(ends)?;
    let (id, meter) = (broker.call_id(), Meter::new(wire, bytes));
    // Behind this there is no waiting: what has begun is told of when it is dropped.
    let expected = expected(broker, &asked.model, &meter);
    let begun = broker.spend.begin(id, expected).await;
    begun.map_err(|exceeded| Refusal::spent(&exceeded))?;
    Ok(Billed {
        broker: broker.clone(),
        id,
        place: Some(place),
        model: asked.model,
        started: broker.clock.now(),
        meter,
        phase: Phase::Asked,
    })
}

/// What a call is expected to use before anything is known of its answer: its input, by its bytes.
fn expected(broker: &Shared, model: &str, meter: &Meter) -> Amounts {
    let tokens = meter.read().tokens;
    Amounts {
        usd: broker.grant.cost(model, &tokens).unwrap_or_default(),
        tokens: tokens.total(),
        calls: 1,
    }
}

fn outward(route: &Route, target: Uri, headers: HeaderMap, body: Bytes) -> Result<Request<Full<Bytes>>, Refusal> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::clone(&route.method);
    *request.uri_mut() = target;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Sends the request; a redirect is no answer, since following it would carry the key elsewhere.
async fn send(
    broker: &Shared,
    request: Request<Full<Bytes>>,
    deadline: Instant,
) -> Result<Response<Incoming>, (Refusal, Phase)> {
    const BAD_GATEWAY: u16 = StatusCode::BAD_GATEWAY.as_u16();
    let lost = |text: &str| (Refusal::upstream(text), Phase::Lost(BAD_GATEWAY));
    let unbilled = |text: &str| (Refusal::upstream(text), Phase::Unbilled(BAD_GATEWAY));
    let answer = match relay::until(deadline, broker.upstream.send(request)).await {
        None => return Err(lost("the model provider did not answer in time")),
        Some(Err(error)) => {
            tracing::warn!(error = %chain(&error), provider = broker.grant.provider.name, "a model call failed");
            return Err(match error {
                UpstreamError::Unreachable(_) => unbilled("the model provider cannot be reached"),
                UpstreamError::Broken(_) => lost("the model provider broke the connection"),
            });
        }
        Some(Ok(answer)) => answer,
    };
    if answer.status().is_redirection() || answer.status().is_informational() {
        return Err(unbilled(
            "the model provider answered with a redirect, which is not followed",
        ));
    }
    let encoding = answer.headers().get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| encoding.as_bytes() != b"identity") {
        return Err(lost("the model provider compressed its answer unasked"));
    }
    Ok(answer)
}

/// An error with its causes, for the worker's own log.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Passes a provider's own error on, cut to a bound, without the key if it should tell it back.
async fn failed(broker: &Shared, answer: Response<Incoming>, deadline: Instant) -> Result<Answer, Refusal> {
    let (head, mut body) = answer.into_parts();
    let mut text = Vec::new();
    while text.len() < MAX_ERROR {
        match relay::until(deadline, body.frame()).await {
            Some(Some(Ok(frame))) => text.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
            Some(None) => break,
            _ => return Err(Refusal::upstream("the model provider broke off its answer")),
        }
    }
    text.truncate(MAX_ERROR);
    let key = broker.grant.key.expose();
    if headers::contains(&text, key.as_bytes()) {
        text = String::from_utf8_lossy(&text).replace(key, "[redacted]").into_bytes();
    }
    let mut answer = Response::new(Either::Left(Full::new(Bytes::from(text))));
    *answer.status_mut() = head.status;
    *answer.headers_mut() = headers::answer(&broker.grant, &head.headers);
    Ok(answer)
}

fn relayed(
    broker: &Shared,
    answer: Response<Incoming>,
    mut billed: Option<Billed>,
    hide_usage: bool,
    slot: OwnedSemaphorePermit,
    deadline: Instant,
) -> Result<Answer, Refusal> {
    let (head, body) = answer.into_parts();
    let kind = head
        .headers
        .get(header::CONTENT_TYPE)
        .map_or(&b""[..], HeaderValue::as_bytes);
    if let Some(billed) = &mut billed {
        match kind.to_ascii_lowercase().starts_with(b"text/event-stream") {
            true => billed.meter.expect_events(hide_usage),
            false => billed.meter.expect_json(),
        }
    }
    let mut answer = Response::new(Either::Right(Relay::new(body, billed, slot, IDLE_TIMEOUT, deadline)));
    *answer.status_mut() = head.status;
    *answer.headers_mut() = headers::answer(&broker.grant, &head.headers);
    Ok(answer)
}
