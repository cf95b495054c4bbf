//! Bodies on their way through: changed chunk by chunk, or as a whole where their length must be told first.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::HeaderMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::super::secrets::Scrub;
use super::super::swap::Swapping;
use super::decode::Decoding;

/// Whatever breaks a body.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A body on its way.
pub(super) type Passing = UnsyncBoxBody<Bytes, BoxError>;

/// A longer body of known length is passed on as it comes, without its length.
const MAX_WHOLE: u64 = 4 << 20;
/// Bytes of whole bodies of one sandbox in memory at the same time; more are passed on as they come.
const MAX_ROOM: usize = 32 << 20;
/// How long a body waits for a word of the far side: many never say one.
const PATIENCE: Duration = Duration::from_secs(1);

/// Room for whole bodies.
pub(super) fn room() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_ROOM))
}

/// Changes a stream of bytes.
pub(super) trait Alter: Send + Unpin + 'static {
    /// How much of its input it takes at a time.
    const STEP: usize;
    /// Takes the next bytes and gives what can be told now.
    fn push(&mut self, chunk: Bytes) -> io::Result<Bytes>;
    /// The stream has ended: the rest.
    fn finish(&mut self) -> io::Result<Bytes>;
    /// What follows the stream.
    fn trailers(&self, trailers: HeaderMap) -> HeaderMap;
}

impl Alter for Swapping {
    const STEP: usize = usize::MAX;

    fn push(&mut self, chunk: Bytes) -> io::Result<Bytes> {
        Ok(Self::push(self, chunk))
    }

    fn finish(&mut self) -> io::Result<Bytes> {
        Ok(Self::finish(self))
    }

    fn trailers(&self, trailers: HeaderMap) -> HeaderMap {
        trailers
    }
}

/// Takes values out of an answer, decoded first where it is compressed.
pub(super) struct Cleaning {
    scrub: Scrub,
    stream: pond_core::logs::Redacting,
    decoding: Option<Decoding>,
}

impl Cleaning {
    pub(super) fn new(scrub: &Scrub, decoding: Option<Decoding>) -> Self {
        Self {
            stream: scrub.stream(),
            scrub: scrub.clone(),
            decoding,
        }
    }
}

impl Alter for Cleaning {
    /// What is compressed may become a thousand times as much.
    const STEP: usize = 16 << 10;

    fn push(&mut self, chunk: Bytes) -> io::Result<Bytes> {
        let mut out = Vec::with_capacity(chunk.len());
        match &mut self.decoding {
            Some(decoding) => self.stream.push(&decoding.push(&chunk)?, &mut out),
            None => self.stream.push(&chunk, &mut out),
        }
        Ok(out.into())
    }

    fn finish(&mut self) -> io::Result<Bytes> {
        let mut out = Vec::new();
        if let Some(decoding) = self.decoding.take() {
            self.stream.push(&decoding.finish()?, &mut out);
        }
        self.stream.finish(&mut out);
        Ok(out.into())
    }

    fn trailers(&self, trailers: HeaderMap) -> HeaderMap {
        self.scrub.headers(&trailers)
    }
}

/// A body that is changed as it comes.
struct Altered<A> {
    inner: Incoming,
    alter: A,
    /// Came, and was not taken yet.
    waiting: Bytes,
    /// What follows the last bytes, once those have come.
    last: Option<Option<HeaderMap>>,
    ended: bool,
}

impl<A: Alter> Altered<A> {
    fn new(inner: Incoming, alter: A) -> Self {
        Self {
            inner,
            alter,
            waiting: Bytes::new(),
            last: None,
            ended: false,
        }
    }
}

impl<A: Alter> Body for Altered<A> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            if let Some(trailers) = self.last.take() {
                self.ended = true;
                let trailers = trailers.map(|trailers| Frame::trailers(self.alter.trailers(trailers)));
                return Poll::Ready(trailers.map(Ok));
            }
            if self.waiting.is_empty() {
                let trailers = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(chunk) => {
                            self.waiting = chunk;
                            continue;
                        }
                        Err(frame) => frame.into_trailers().ok(),
                    },
                    Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                    None => None,
                };
                self.last = Some(trailers);
                let rest = self.alter.finish()?;
                if !rest.is_empty() {
                    return Poll::Ready(Some(Ok(Frame::data(rest))));
                }
                continue;
            }
            let step = self.waiting.len().min(A::STEP);
            let chunk = self.waiting.split_to(step);
            let told = self.alter.push(chunk)?;
            if !told.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(told))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

/// A whole body in memory.
struct Whole {
    full: Full<Bytes>,
    trailers: Option<HeaderMap>,
    _room: OwnedSemaphorePermit,
}

impl Body for Whole {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(Ok(frame)) = ready!(Pin::new(&mut self.full).poll_frame(cx)) {
            return Poll::Ready(Some(Ok(frame)));
        }
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.full.is_end_stream() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.full.size_hint()
    }
}

/// A body as it came.
pub(super) fn untouched(body: Incoming) -> Passing {
    body.map_err(Into::into).boxed_unsync()
}

/// A body that is asked for only when the far side wants it, or has been silent for a while.
pub(super) fn awaited(body: Passing, wanted: CancellationToken) -> Passing {
    let wanted = Box::pin(async move {
        let _ = timeout(PATIENCE, wanted.cancelled()).await;
    });
    Awaited {
        inner: body,
        wanted: Some(wanted),
    }
    .boxed_unsync()
}

struct Awaited {
    inner: Passing,
    wanted: Option<BoxFuture<'static, ()>>,
}

impl Body for Awaited {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(wanted) = &mut self.wanted {
            ready!(wanted.as_mut().poll(cx));
            self.wanted = None;
        }
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A body of Pond's own.
pub(super) fn told(text: String) -> Passing {
    Full::from(text).map_err(|never| match never {}).boxed_unsync()
}

/// A changed body, and its length where that is known ahead: one that told its length and is not too long is read first.
pub(super) async fn altered<A: Alter>(
    body: Incoming,
    mut alter: A,
    room: &Arc<Semaphore>,
) -> Result<(Passing, Option<u64>), BoxError> {
    let Some(length) = body.size_hint().exact().filter(|length| *length <= MAX_WHOLE) else {
        return Ok((Altered::new(body, alter).boxed_unsync(), None));
    };
    // Waiting could be for a body that its reader takes after this one.
    let taken = Arc::clone(room).try_acquire_many_owned(u32::try_from(length).unwrap_or(u32::MAX));
    let Ok(taken) = taken else {
        return Ok((Altered::new(body, alter).boxed_unsync(), None));
    };
    let whole = body.collect().await?;
    let trailers = whole.trailers().cloned().map(|trailers| alter.trailers(trailers));
    let mut out = BytesMut::new();
    let mut rest = whole.to_bytes();
    while !rest.is_empty() {
        let chunk = rest.split_to(rest.len().min(A::STEP));
        out.extend_from_slice(&alter.push(chunk)?);
        if u64::try_from(out.len()).unwrap_or(u64::MAX) > MAX_WHOLE * 16 {
            return Err("a compressed body is too long".into());
        }
    }
    out.extend_from_slice(&alter.finish()?);
    let out = out.freeze();
    let length = u64::try_from(out.len()).ok();
    let whole = Whole {
        full: Full::from(out),
        trailers,
        _room: taken,
    };
    Ok((whole.boxed_unsync(), length))
}
