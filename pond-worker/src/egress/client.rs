//! The job's end of a connection: heads read out of a buffer, answers of the proxy's own, and an end that lets them arrive.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::head::{BadHead, Head, MAX_HEAD};

/// How long a client may take to send a request's head, or leave a connection idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long, and how much of, what a refused client still sends is read, so that it gets to read its answer.
const LINGER: Duration = Duration::from_secs(1);
const MAX_LINGER: usize = 256 << 10;

/// A connection from the job.
pub(super) struct Client {
    pub(super) stream: UnixStream,
    /// Read, and not yet used.
    pub(super) buffer: BytesMut,
}

impl Client {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            buffer: BytesMut::with_capacity(4096),
        }
    }

    /// The next request's head; none when the client has gone, or is silent for too long.
    pub(super) async fn head(&mut self) -> Option<Result<Head, BadHead>> {
        let head = timeout(HEAD_TIMEOUT, self.head_bytes()).await.ok()??;
        Some(head.and_then(|head| Head::parse(&head)))
    }

    async fn head_bytes(&mut self) -> Option<Result<Bytes, BadHead>> {
        const END: &[u8] = b"\r\n\r\n";
        let mut looked = 0usize;
        loop {
            // SOCKS, TLS and other protocols show at once, and would wait for an answer that never comes.
            if self.buffer.first().is_some_and(|first| !first.is_ascii_uppercase()) {
                return Some(Err(BadHead::Request("this proxy speaks HTTP alone")));
            }
            if let Some(at) = self.buffer[looked..].windows(END.len()).position(|found| found == END) {
                return Some(Ok(self.buffer.split_to(looked + at + END.len()).freeze()));
            }
            looked = self.buffer.len().saturating_sub(END.len() - 1);
            if self.buffer.len() >= MAX_HEAD {
                return Some(Err(BadHead::Request("the head of the request is too long")));
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return None,
            }
        }
    }

    /// Answers with one line and lets the client read it.
    pub(super) async fn refuse(&mut self, status: StatusCode, line: &str) {
        let reason = status.canonical_reason().unwrap_or("Refused");
        let answer = format!(
            "HTTP/1.1 {} {reason}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{line}\n",
            status.as_u16(),
            line.len() + 1,
        );
        let _ = timeout(LINGER, self.last_words(answer.as_bytes())).await;
    }

    async fn last_words(&mut self, answer: &[u8]) -> io::Result<()> {
        self.stream.write_all(answer).await?;
        self.stream.shutdown().await?;
        let mut scrap = [0; 4096];
        let mut left = MAX_LINGER;
        while left > 0 {
            match self.stream.read(&mut scrap).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        Ok(())
    }
}

/// Reads more into a buffer; an end is an error.
pub(super) async fn more(reader: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut) -> io::Result<()> {
    match reader.read_buf(buffer).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
