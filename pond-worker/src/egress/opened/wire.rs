//! The two connections of a tunnel, of the same version of HTTP, driven side by side until either ends.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn as client;
use hyper::server::conn as server;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::client::TlsStream;

use super::super::BoxedIo;
use super::body::Passing;
use super::exchange::Exchange;
use super::executor::Tasks;
use super::request::Protocol;

/// How long a client may take to send a request's head, or leave a connection idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);
/// Bytes of a head, of a request and of an answer.
const MAX_HEAD: u32 = 256 << 10;
/// Requests at the same time on one connection.
const MAX_STREAMS: u32 = 128;

/// The way to the far side.
pub(super) enum Far {
    /// One request after the other.
    Http1(Mutex<client::http1::SendRequest<Passing>>),
    /// Side by side.
    Http2(client::http2::SendRequest<Passing>),
}

impl Far {
    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(&self, request: Request<Passing>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => {
                let mut sender = sender.lock().await;
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::Http2(sender) => {
                let mut sender = sender.clone();
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }
}

/// Serves a connection whose far side is there.
pub(super) async fn serve(
    near: BoxedIo,
    far: TlsStream<TcpStream>,
    protocol: Protocol,
    exchange: Exchange,
) -> io::Result<()> {
    let tasks = Tasks::new();
    match protocol {
        Protocol::Http1 => {
            let (sender, far) = client::http1::Builder::new()
                .max_buf_size(MAX_HEAD as usize)
                .handshake(TokioIo::new(far))
                .await
                .map_err(io::Error::other)?;
            let exchange = Arc::new(exchange.toward(Far::Http1(Mutex::new(sender))));
            http1(near, &exchange, far.with_upgrades()).await?;
            // Both connections have let go of what they carried.
            let changed = exchange.changed();
            match changed {
                Some((near, far)) => changed_over(near, far).await,
                None => Ok(()),
            }
        }
        Protocol::Http2 => {
            let (sender, far) = client::http2::Builder::new(tasks.executor())
                .timer(TokioTimer::new())
                .adaptive_window(true)
                .max_header_list_size(MAX_HEAD)
                .handshake(TokioIo::new(far))
                .await
                .map_err(io::Error::other)?;
            http2(near, &Arc::new(exchange.toward(Far::Http2(sender))), &tasks, far).await
        }
    }
}

/// Answers every request with the reason why there is no far side.
pub(super) async fn refuse(near: BoxedIo, protocol: Protocol, exchange: Exchange) -> io::Result<()> {
    let exchange = Arc::new(exchange);
    let tasks = Tasks::new();
    let never = std::future::pending::<Result<(), Infallible>>();
    match protocol {
        Protocol::Http1 => http1(near, &exchange, never).await,
        Protocol::Http2 => http2(near, &exchange, &tasks, never).await,
    }
}

/// Drives both connections. When the far one ends, the near one is given up as soon as its answers are out.
macro_rules! drive {
    ($near:expr, $far:expr, $exchange:expr) => {{
        let (mut near, mut far) = (pin!($near), pin!($far));
        let (mut over, mut leaving) = (false, false);
        loop {
            let leave = tokio::select! {
                biased;
                ended = near.as_mut() => break ended.map_err(io::Error::other),
                _ = far.as_mut(), if !over => {
                    over = true;
                    // It may have ended as HTTP alone.
                    !$exchange.is_changing()
                }
                () = $exchange.cut.cancelled(), if !leaving => true,
            };
            if leave && !leaving {
                leaving = true;
                near.as_mut().graceful_shutdown();
            }
        }
    }};
}

async fn http1<E>(near: BoxedIo, exchange: &Arc<Exchange>, far: impl Future<Output = Result<(), E>>) -> io::Result<()> {
    let mut http = server::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD as usize);
    let service = service_fn(|request| Arc::clone(exchange).answer(request));
    let near = http.serve_connection(TokioIo::new(near), service).with_upgrades();
    drive!(near, far, exchange)
}

async fn http2<E>(
    near: BoxedIo,
    exchange: &Arc<Exchange>,
    tasks: &Tasks,
    far: impl Future<Output = Result<(), E>>,
) -> io::Result<()> {
    let mut http = server::http2::Builder::new(tasks.executor());
    http.timer(TokioTimer::new())
        .adaptive_window(true)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD);
    let service = service_fn(|request| Arc::clone(exchange).answer(request));
    let near = http.serve_connection(TokioIo::new(near), service);
    drive!(near, far, exchange)
}

/// Passes everything, each way until its end: what is spoken now is no HTTP, and nothing of it is looked at.
async fn changed_over(near: OnUpgrade, far: OnUpgrade) -> io::Result<()> {
    let near = near.await.map_err(io::Error::other)?;
    let far = far.await.map_err(io::Error::other)?;
    copy_bidirectional(&mut TokioIo::new(near), &mut TokioIo::new(far))
        .await
        .map(drop)
}
