//! Answers on a listener until told to stop, then drains.
//!
//! Connections are counted, and one on which nothing is asked is closed: strangers who only connect do not keep others out.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::peer::Connection;

/// What connections are held to.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// Connections at once; more wait to be accepted.
    connections: usize,
    /// Until the head of the next request is there.
    head: Duration,
    /// Without a request, on a connection that had one.
    idle: Duration,
    /// Requests at once on one connection of HTTP/2.
    streams: u32,
}

const BOUNDS: Bounds = Bounds {
    connections: 4096,
    head: Duration::from_secs(10),
    idle: Duration::from_secs(60),
    streams: 128,
};
/// How long a connection that is asked to close may take, and how long is waited after the host had no socket left.
const LINGER: Duration = Duration::from_secs(1);

/// Serves `app` until `shutdown` completes; requests under way are answered to their end.
///
/// Live streams follow runs that may take hours: call [`crate::AppState::close_streams`] when `shutdown` completes.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    serve_within(listener, app, shutdown, BOUNDS).await
}

async fn serve_within(
    listener: TcpListener,
    app: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
    bounds: Bounds,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(bounds.connections));
    let stop = CancellationToken::new();
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &places) => accepted,
        };
        if let Some((stream, place)) = accepted {
            connections.spawn(answer(stream, app.clone(), bounds, stop.clone(), place));
        }
    }
    drop(listener);
    stop.cancel();
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// A connection and where it comes from.
struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
}

/// The next connection, once there is a place for it.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<(Accepted, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((Accepted { stream, peer }, place)),
        Err(error) => {
            use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
            // Those are of the one connection; others, such as no descriptor left, of the host.
            if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
                tracing::error!(%error, "no connection can be accepted");
                tokio::time::sleep(LINGER).await;
            }
            None
        }
    }
}

/// Answers the requests of one connection.
async fn answer(
    accepted: Accepted,
    app: Router,
    bounds: Bounds,
    stop: CancellationToken,
    _place: OwnedSemaphorePermit,
) {
    let Accepted { stream, peer } = accepted;
    let (work, seen) = watch::channel(Work::default());
    let work = Arc::new(work);
    let service = service_fn(move |request: Request<Incoming>| {
        let (app, busy) = (app.clone(), Busy::begin(&work));
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(Connection(peer));
            let answer: Response<Body> = app.oneshot(request).await?;
            Ok::<_, std::convert::Infallible>(answer.map(|body| Answering { body, _busy: busy }))
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(bounds.streams)
        .keep_alive_interval(Duration::from_secs(20));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // An error is the client's, and there is nobody to be told.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
        // It is also what ends a connection that never says which protocol it speaks.
        () = unused(seen, bounds) => {
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(LINGER, connection).await;
        }
    }
}

/// Completes when nothing is asked for too long.
async fn unused(mut seen: watch::Receiver<Work>, bounds: Bounds) {
    loop {
        let work = *seen.borrow_and_update();
        let wait = if work.begun { bounds.idle } else { bounds.head };
        if work.requests > 0 {
            // An error says that the connection is gone, and this with it.
            let _ = seen.changed().await;
        } else if tokio::time::timeout(wait, seen.changed()).await.is_err() {
            return;
        }
    }
}

/// What happens on a connection.
#[derive(Debug, Default, Clone, Copy)]
struct Work {
    requests: usize,
    begun: bool,
}

/// A request under way.
struct Busy(Arc<watch::Sender<Work>>);

impl Busy {
    fn begin(work: &Arc<watch::Sender<Work>>) -> Self {
        work.send_modify(|work| {
            work.requests += 1;
            work.begun = true;
        });
        Self(work.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.send_modify(|work| work.requests -= 1);
    }
}

/// An answer that is still under way while its body is.
struct Answering {
    body: Body,
    _busy: Busy,
}

impl http_body::Body for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);
    const SHORT: Bounds = Bounds {
        connections: 4,
        head: Duration::from_millis(200),
        idle: Duration::from_millis(200),
        streams: 2,
    };

    async fn start(app: Router, bounds: Bounds) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<io::Result<()>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async { drop(stopped.await) };
        (addr, stop, tokio::spawn(serve_within(listener, app, stopped, bounds)))
    }

    fn app() -> Router {
        Router::new().route("/", get(async || "well"))
    }

    async fn say(addr: SocketAddr, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    /// All that comes until the other side closes.
    async fn heard(mut stream: TcpStream) -> String {
        let mut text = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut text)).await;
        // A reset is an end too.
        let _ = read.expect("the server closes it");
        String::from_utf8_lossy(&text).into_owned()
    }

    #[tokio::test]
    async fn what_says_nothing_or_half_a_head_is_closed() {
        let (addr, _stop, _serving) = start(app(), SHORT).await;
        for half in [
            "",
            "P",
            "PRI * HTTP/2.0\r\n",
            "GET / HTTP/1.1\r\nhost: x\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        ] {
            let told = heard(say(addr, half).await).await;
            assert!(!told.contains("well"), "{half:?}: {told:?}");
        }
        let told = heard(say(addr, "GET / HTTP/1.1\r\nhost: x\r\n\r\nGET /").await).await;
        assert!(
            told.starts_with("HTTP/1.1 200") && told.contains("content-length: 4"),
            "{told}"
        );
    }

    #[tokio::test]
    async fn many_who_are_idle_keep_nobody_out() {
        let (addr, _stop, _serving) = start(app(), SHORT).await;
        let mut idle = Vec::new();
        for text in ["", "GET", "PRI", ""].iter().cycle().take(40) {
            idle.push(say(addr, text).await);
        }
        let told = heard(say(addr, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await).await;
        assert!(told.ends_with("well"), "{told}");
    }

    #[tokio::test]
    async fn a_slow_answer_is_no_idleness_and_is_waited_for() {
        let (go, gone) = oneshot::channel::<()>();
        let gone = Arc::new(tokio::sync::Mutex::new(Some(gone)));
        let (asked, mut asking) = tokio::sync::mpsc::channel(1);
        let slow = get(async move || {
            asked.send(()).await.unwrap();
            let gone = gone.lock().await.take().unwrap();
            gone.await.unwrap();
            "done"
        });
        let (addr, stop, serving) = start(Router::new().route("/", slow), SHORT).await;
        let stream = say(addr, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        asking.recv().await.unwrap();
        // Longer than an idle connection would live.
        tokio::time::sleep(3 * SHORT.idle).await;
        stop.send(()).unwrap();
        // Told to stop, it listens no more, but has not ended.
        let refused = async { while TcpStream::connect(addr).await.is_ok() {} };
        tokio::time::timeout(PATIENCE, refused)
            .await
            .expect("it stops listening");
        assert!(!serving.is_finished());
        go.send(()).unwrap();
        assert!(heard(stream).await.ends_with("done"));
        let ended = tokio::time::timeout(PATIENCE, serving).await.expect("in time");
        ended.unwrap().unwrap();
    }
}
