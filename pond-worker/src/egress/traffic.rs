//! Bytes that pass, counted, and connections on which none do.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pond_core::clock::Clock;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How long nothing may pass, either way, at least; a connection is cut within twice that.
pub(super) const IDLE: Duration = Duration::from_secs(300);

/// What passed.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    up: AtomicU64,
    down: AtomicU64,
}

impl Traffic {
    /// Bytes from the job to the place.
    pub(super) fn up(&self) -> u64 {
        self.up.load(Ordering::Relaxed)
    }

    /// Bytes from the place to the job.
    pub(super) fn down(&self) -> u64 {
        self.down.load(Ordering::Relaxed)
    }

    /// Waits until nothing has passed for [`IDLE`].
    pub(super) async fn idle(&self, clock: &dyn Clock) {
        let mut seen = (self.up(), self.down());
        loop {
            clock.sleep(IDLE).await;
            let now = (self.up(), self.down());
            if now == seen {
                return;
            }
            seen = now;
        }
    }
}

/// Which end of the way is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The job's: what is read goes up.
    Job,
    /// The place's: what is written goes up.
    Place,
}

/// A connection whose bytes are counted.
pub(super) struct Counted<T> {
    inner: T,
    end: End,
    traffic: Arc<Traffic>,
}

impl<T> Counted<T> {
    pub(super) fn new(inner: T, end: End, traffic: &Arc<Traffic>) -> Self {
        Self {
            inner,
            end,
            traffic: Arc::clone(traffic),
        }
    }

    fn count(&self, read: bool, bytes: usize) {
        let up = read == (self.end == End::Job);
        let counter = if up { &self.traffic.up } else { &self.traffic.down };
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.count(true, buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, buf))?;
        self.count(false, written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, bufs))?;
        self.count(false, written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
