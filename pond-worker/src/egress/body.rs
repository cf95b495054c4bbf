//! The body of a request to the proxy: taken off the client's connection exactly as it was announced, and made anew for the
//! other side.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::AsyncRead;
use tokio::sync::mpsc;

use super::client::more;
use super::head::Framing;

/// The longest line that tells a chunk's size, and the most bytes of trailers, which are dropped.
const MAX_LINE: usize = 1024;
const MAX_TRAILERS: usize = 8 << 10;

/// What a request is sent on with.
pub(super) struct Passed {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    /// What is still to come of a body of a known length.
    left: Option<u64>,
    /// Whether a body in chunks has come to its end, which an empty piece tells: a client that only goes away must not seem to
    /// have said all.
    ended: bool,
}

/// A body, and where its pieces go in.
pub(super) fn passed(framing: Framing) -> (mpsc::Sender<io::Result<Bytes>>, Passed) {
    let (into, pieces) = mpsc::channel(1);
    let left = match framing {
        Framing::Length(length) => Some(length),
        Framing::Chunked => None,
    };
    let body = Passed {
        pieces,
        left,
        ended: false,
    };
    (into, body)
}

impl Body for Passed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.is_end_stream() {
            return Poll::Ready(None);
        }
        let piece = self.pieces.poll_recv(cx);
        piece.map(|piece| match piece {
            // Whoever put the pieces in has gone before the end.
            None => Some(Err(io::ErrorKind::UnexpectedEof.into())),
            Some(Err(error)) => Some(Err(error)),
            Some(Ok(bytes)) if bytes.is_empty() => {
                self.ended = true;
                None
            }
            Some(Ok(bytes)) => {
                if let Some(left) = &mut self.left {
                    *left = left.saturating_sub(bytes.len() as u64);
                }
                Some(Ok(Frame::data(bytes)))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Takes a body off the connection; on return the next byte is the next request's.
///
/// # Errors
/// When the client goes, or the body is not what it was announced to be; the other side hears of that too.
pub(super) async fn pump(
    reader: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    framing: Framing,
    into: mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    let done = match framing {
        Framing::Length(length) => exactly(reader, buffer, length, &into).await,
        Framing::Chunked => chunks(reader, buffer, &into).await,
    };
    if let Err(error) = &done {
        let _ = into.send(Err(error.kind().into())).await;
    }
    done
}

async fn exactly(
    reader: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    mut left: u64,
    into: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    while left > 0 {
        if buffer.is_empty() {
            buffer.reserve(16 << 10);
            more(reader, buffer).await?;
        }
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        left -= take as u64;
        let sent = into.send(Ok(buffer.split_to(take).freeze())).await;
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
    }
    Ok(())
}

async fn chunks(
    reader: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    into: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    loop {
        let size = chunk_size(&line(reader, buffer, MAX_LINE).await?)?;
        if size == 0 {
            break;
        }
        exactly(reader, buffer, size, into).await?;
        if !line(reader, buffer, 0).await?.is_empty() {
            return Err(malformed());
        }
    }
    let mut room = MAX_TRAILERS;
    loop {
        match line(reader, buffer, room).await?.len() {
            0 => {
                return into
                    .send(Ok(Bytes::new()))
                    .await
                    .map_err(|_| io::ErrorKind::BrokenPipe.into());
            }
            length => room = room.saturating_sub(length + 2),
        }
    }
}

/// Hex digits and nothing else: what follows them could be read otherwise by others.
fn chunk_size(line: &[u8]) -> io::Result<u64> {
    let text = str::from_utf8(line).map_err(|_| malformed())?;
    let digits = (1..=15).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let size = u64::from_str_radix(text, 16).ok().filter(|_| digits);
    size.ok_or_else(malformed)
}

/// A line of at most so many bytes, without its end, which is CR LF.
async fn line(reader: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut, most: usize) -> io::Result<Bytes> {
    loop {
        if let Some(at) = buffer.iter().take(most + 2).position(|byte| *byte == b'\n') {
            let line = buffer.split_to(at + 1).freeze();
            let line = line.strip_suffix(b"\r\n").ok_or_else(malformed)?;
            if line.contains(&b'\r') {
                return Err(malformed());
            }
            return Ok(Bytes::copy_from_slice(line));
        }
        if buffer.len() >= most + 2 {
            return Err(malformed());
        }
        more(reader, buffer).await?;
    }
}

fn malformed() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// What a body's bytes come to: its content and what is left for the next request, or nothing when it is refused.
    fn read(framing: Framing, bytes: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        let (into, mut pieces) = mpsc::channel(64);
        let (mut reader, mut buffer) = (bytes, BytesMut::new());
        let pumped = pump(&mut reader, &mut buffer, framing, into).now_or_never();
        pumped.expect("never waits").ok()?;
        let mut content = Vec::new();
        while let Ok(piece) = pieces.try_recv() {
            content.extend_from_slice(&piece.ok()?);
        }
        buffer.extend_from_slice(reader);
        Some((content, buffer.to_vec()))
    }

    #[test]
    fn a_body_ends_where_it_says_and_the_next_request_begins_there() {
        let whole = |content: &str, rest: &str| Some((content.as_bytes().to_vec(), rest.as_bytes().to_vec()));
        assert_eq!(read(Framing::Length(3), b"abcGET"), whole("abc", "GET"));
        assert_eq!(read(Framing::Length(0), b"GET"), whole("", "GET"));
        assert_eq!(read(Framing::Length(4), b"abc"), None);
        assert_eq!(
            read(Framing::Chunked, b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\nGET"),
            whole("abc0123456789", "GET")
        );
        assert_eq!(read(Framing::Chunked, b"0\r\nx: y\r\n\r\nGET"), whole("", "GET"));
    }

    #[test]
    fn chunks_that_could_be_read_in_two_ways_are_refused() {
        for bytes in [
            "3;x=y\r\nabc\r\n0\r\n\r\n",
            "3\nabc\n0\n\n",
            "3\r\nabc\n0\r\n\r\n",
            "3\r\nabcd\r\n0\r\n\r\n",
            "+3\r\nabc\r\n0\r\n\r\n",
            "0x3\r\nabc\r\n0\r\n\r\n",
            " 3\r\nabc\r\n0\r\n\r\n",
            "3 \r\nabc\r\n0\r\n\r\n",
            "\r\n\r\n",
            "fffffffffffffffff\r\n",
            "3\r\nabc\r\n",
            "0\r\nx: y\n\r\n",
        ] {
            assert_eq!(read(Framing::Chunked, bytes.as_bytes()), None, "{bytes:?}");
        }
    }
}
