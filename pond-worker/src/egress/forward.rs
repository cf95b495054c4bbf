//! Plain requests: each is judged, sent on over a connection of its own, and its answer brought back.
//!
//! A connection to the other side serves one request, so that nothing of one request can pass for the beginning of the next.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use super::body::{Passed, passed, pump};
use super::client::{Client, more};
use super::head::{Framing, Head, MAX_HEAD, Place, Target, listed};
use super::judge::{Judged, Way};
use super::record::Record;
use super::serve::Shared;
use super::traffic::{Counted, End, Traffic};

/// The most that the head of an answer may take, and its headers.
const MAX_ANSWER_HEAD: usize = 256 << 10;
const MAX_ANSWER_HEADERS: usize = 200;
const BROKEN: &str = "the other side broke off before it answered, or answers no HTTP";
const BAD_BODY: &str = "the body of the request is not what it was announced to be";

/// Serves one request. What becomes of it is left in `record`; the client comes back when it may ask again.
pub(super) async fn forward(
    shared: &Arc<Shared>,
    mut client: Client,
    head: Head,
    record: &mut Record,
    traffic: &Arc<Traffic>,
) -> Option<Client> {
    let upgrade = head.upgrade().is_some();
    match shared
        .judge
        .judge(&head.place, Way::Plain { upgrade }, shared.parts.clock.now())
    {
        Judged::Denied { rule, reason } => {
            record.rule = rule;
            client.refuse(StatusCode::FORBIDDEN, &reason).await;
            record.deny(reason);
            return None;
        }
        Judged::Allowed { rule, .. } => record.allow(rule),
    }
    let upstream = match shared.dial(&head.place, record).await {
        Ok(upstream) => upstream,
        Err((status, line)) => {
            client.refuse(status, &line).await;
            return None;
        }
    };
    let exchanged = exchange(client, head, upstream, traffic, record);
    let silent = tokio::select! {
        biased;
        next = exchanged => return next,
        () = traffic.idle(&*shared.parts.clock) => "cut: nothing passed for a long time",
    };
    record.note(silent);
    None
}

/// What came of an exchange.
enum Answered {
    /// The answer was brought, and its end is known to the client without the end of the connection.
    Whole,
    /// It was brought, and ends with the connection; or the client has gone.
    Last,
    /// The other side changes the protocol.
    Upgraded(Box<Response<Incoming>>),
    /// There is none.
    None,
    /// The body of the request is not what it was announced to be.
    BadBody,
}

async fn exchange(
    mut client: Client,
    head: Head,
    upstream: TcpStream,
    traffic: &Arc<Traffic>,
    record: &mut Record,
) -> Option<Client> {
    let io = TokioIo::new(Counted::new(upstream, End::Place, traffic));
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_ANSWER_HEAD)
        .max_headers(MAX_ANSWER_HEADERS)
        .handshake::<_, Passed>(io)
        .await
        .ok()?;
    let _driven = AbortOnDropHandle::new(tokio::spawn(connection.with_upgrades()));
    let (into, body) = passed(head.framing);
    let request = request(&head, body);
    if head.expects_continue() && head.framing != Framing::Length(0) {
        client.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
    }
    let answered = {
        let (mut reader, mut writer) = client.stream.split();
        let buffer = &mut client.buffer;
        let mut whole = false;
        let mut answer = std::pin::pin!(async {
            match sender.send_request(request).await {
                Ok(response) => bring(response, &head, &mut writer).await,
                Err(error) => {
                    tracing::debug!(%error, "a plain request got no answer");
                    Answered::None
                }
            }
        });
        let taken = async {
            let pumped = pump(&mut reader, buffer, head.framing, into).await;
            whole = pumped.is_ok();
            if whole {
                // A client that goes away while it waits is noticed; one that asks on is not read without bound.
                while more(&mut reader, buffer).await.is_ok() {
                    if buffer.len() >= MAX_HEAD {
                        return std::future::pending().await;
                    }
                }
            }
            pumped
        };
        let gone = tokio::select! {
            biased;
            answered = &mut answer => Ok(answered),
            taken = taken => Err(taken),
        };
        match gone {
            Ok(Answered::Whole) if !whole => Answered::Last,
            Ok(answered) => answered,
            // It went away.
            Err(Ok(())) => Answered::Last,
            Err(Err(_)) => Answered::BadBody,
        }
    };
    match answered {
        Answered::Whole if head.keeps_alive() => Some(client),
        Answered::Whole | Answered::Last => None,
        Answered::Upgraded(response) => {
            upgraded(client, *response).await;
            None
        }
        Answered::BadBody => {
            record.deny(BAD_BODY);
            client.refuse(StatusCode::BAD_REQUEST, BAD_BODY).await;
            None
        }
        Answered::None => {
            record.note(BROKEN);
            client.refuse(StatusCode::BAD_GATEWAY, BROKEN).await;
            None
        }
    }
}

/// The request as the other side gets it.
fn request(head: &Head, body: Passed) -> Request<Passed> {
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    if let Target::Path(path) = &head.target {
        *request.uri_mut() = path.clone().into();
    }
    let upgrade = head.upgrade().cloned();
    let mut headers = passing(&head.headers);
    for own in [&HOST, &CONTENT_LENGTH, &EXPECT] {
        headers.remove(own);
    }
    headers.insert(HOST, host_header(&head.place));
    let connection = match upgrade {
        Some(protocol) => {
            headers.insert(UPGRADE, protocol);
            "upgrade"
        }
        None => "close",
    };
    headers.insert(CONNECTION, HeaderValue::from_static(connection));
    *request.headers_mut() = headers;
    request
}

fn host_header(place: &Place) -> HeaderValue {
    let text = match place.port {
        80 => place.host.to_string(),
        port => format!("{}:{port}", place.host),
    };
    HeaderValue::try_from(text).expect("a host is letters, digits, dots, dashes, colons and brackets")
}

/// What is not for this hop alone.
fn passing(headers: &HeaderMap) -> HeaderMap {
    const HOP: [HeaderName; 7] = [
        CONNECTION,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    const HOP_TOO: [&str; 2] = ["keep-alive", "proxy-connection"];
    let named: Vec<String> = listed(headers, &CONNECTION).collect();
    let hop = |name: &HeaderName| {
        HOP.contains(name) || HOP_TOO.contains(&name.as_str()) || named.iter().any(|own| own == name.as_str())
    };
    let kept = headers.iter().filter(|(name, _)| !hop(name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Brings an answer to the client.
async fn bring(response: Response<Incoming>, head: &Head, client: &mut (impl AsyncWrite + Unpin)) -> Answered {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return match head.upgrade() {
            Some(_) => Answered::Upgraded(Box::new(response)),
            None => Answered::None,
        };
    }
    let (parts, body) = response.into_parts();
    let bodyless = head.method == Method::HEAD || matches!(parts.status.as_u16(), 204 | 304);
    let length = body.size_hint().exact();
    let chunked = !bodyless && length.is_none() && head.version == Version::HTTP_11;
    let mut headers = passing(&parts.headers);
    if !bodyless {
        headers.remove(CONTENT_LENGTH);
        if let Some(length) = length {
            headers.insert(CONTENT_LENGTH, length.into());
        } else if chunked {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
    if !head.keeps_alive() || (!bodyless && length.is_none() && !chunked) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let brought = async {
        client.write_all(&written(parts.status, &headers)).await?;
        if !bodyless {
            bring_body(body, chunked, client).await?;
        }
        client.flush().await
    };
    match brought.await {
        Ok(()) if bodyless || length.is_some() || chunked => Answered::Whole,
        // Cut short, the client must see that it is: it gets no last chunk, or too few bytes.
        Ok(()) | Err(_) => Answered::Last,
    }
}

async fn bring_body(mut body: Incoming, chunked: bool, client: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    while let Some(frame) = body.frame().await {
        let Ok(bytes) = frame.map_err(io::Error::other)?.into_data() else {
            continue;
        };
        if bytes.is_empty() {
            continue;
        }
        if chunked {
            let mut piece = BytesMut::with_capacity(bytes.len() + 20);
            piece.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
            piece.extend_from_slice(&bytes);
            piece.extend_from_slice(b"\r\n");
            client.write_all(&piece).await?;
        } else {
            client.write_all(&bytes).await?;
        }
    }
    if chunked {
        client.write_all(b"0\r\n\r\n").await?;
    }
    Ok(())
}

/// The head of an answer in bytes.
fn written(status: StatusCode, headers: &HeaderMap) -> Vec<u8> {
    let reason = status.canonical_reason().unwrap_or_default();
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).into_bytes();
    for (name, value) in headers {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Passes everything from here on, in the protocol that both sides changed to.
async fn upgraded(mut client: Client, mut response: Response<Incoming>) {
    let on = hyper::upgrade::on(&mut response);
    let mut headers = passing(response.headers());
    for name in [&CONNECTION, &UPGRADE] {
        if let Some(value) = response.headers().get(name) {
            headers.insert(name, value.clone());
        }
    }
    let passed = async {
        client.stream.write_all(&written(response.status(), &headers)).await?;
        let mut other = TokioIo::new(on.await.map_err(io::Error::other)?);
        other.write_all(&client.buffer).await?;
        tokio::io::copy_bidirectional(&mut client.stream, &mut other).await
    };
    if let Err(error) = passed.await {
        tracing::debug!(%error, "a changed connection broke");
    }
}
