//! Reading a sealed bundle: from where it broke off when the connection is cut, and checked against what the job says of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONTENT_RANGE, RANGE};
use hyper::{Method, StatusCode};
use pond_core::artifacts::{BlobError, ByteStream};
use pond_core::clock::Clock;
use pond_core::pool::ClaimToken;
use sha2::{Digest, Sha256};

use super::peer::{CLAIM_TOKEN, Peer, PeerError, claim_header};

/// How long the head of an answer, and each further piece, may take.
const WITHIN: Duration = Duration::from_secs(30);
/// Connections in a row that may bring nothing.
const TRIES: u32 = 8;
const PAUSE: Duration = Duration::from_millis(200);

/// A bundle to be read.
pub(super) struct Reading {
    pub(super) peer: Peer,
    pub(super) path: String,
    pub(super) claim: ClaimToken,
    /// SHA-256 of the sealed file in hex, and its size: as the engine signed them.
    pub(super) sha256: String,
    pub(super) size: u64,
    pub(super) clock: Arc<dyn Clock>,
}

/// The bytes do not have the digest that the job was signed with.
#[derive(Debug, thiserror::Error)]
#[error("the sources are not those that the engine signed")]
pub(super) struct OtherBundle;

struct State {
    reading: Reading,
    body: Option<Incoming>,
    at: u64,
    digest: Sha256,
    tries: u32,
}

impl Reading {
    /// The sealed bytes. The end comes after the digest was found right, and is an error else.
    pub(super) fn stream(self) -> ByteStream {
        let state = State {
            reading: self,
            body: None,
            at: 0,
            digest: Sha256::new(),
            tries: 0,
        };
        let pieces: std::pin::Pin<Box<dyn Stream<Item = Result<Bytes, BlobError>> + Send>> =
            Box::pin(stream::try_unfold(state, State::next));
        pieces.boxed()
    }
}

impl State {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, BlobError> {
        loop {
            if self.at == self.reading.size {
                return match hex::encode(self.digest.finalize()).eq_ignore_ascii_case(&self.reading.sha256) {
                    true => Ok(None),
                    false => Err(BlobError::Unavailable(Box::new(OtherBundle))),
                };
            }
            match self.piece().await {
                Ok(piece) => {
                    self.at += piece.len() as u64;
                    if self.at > self.reading.size {
                        return Err(BlobError::Unavailable(Box::new(OtherBundle)));
                    }
                    self.digest.update(&piece);
                    self.tries = 0;
                    return Ok(Some((piece, self)));
                }
                Err(error) => {
                    self.body = None;
                    self.tries += 1;
                    if self.tries >= TRIES || !may_pass(&error) {
                        return Err(BlobError::Unavailable(Box::new(error)));
                    }
                    tracing::debug!(at = self.at, error = %error.told(), "the sources are read on from here");
                    self.reading.clock.sleep(PAUSE * self.tries).await;
                }
            }
        }
    }

    /// The next bytes, over a new connection where there is none.
    async fn piece(&mut self) -> Result<Bytes, PeerError> {
        let mut body = match self.body.take() {
            Some(body) => body,
            None => self.open().await?,
        };
        loop {
            let frame = tokio::time::timeout(WITHIN, body.frame()).await;
            let frame = frame.map_err(|late| PeerError::Unreachable(Box::new(late)))?;
            match frame {
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data()
                        && !bytes.is_empty()
                    {
                        self.body = Some(body);
                        return Ok(bytes);
                    }
                }
                Some(Err(error)) => return Err(PeerError::Unreachable(Box::new(error))),
                None => return Err(PeerError::Unreachable("the sources end early".into())),
            }
        }
    }

    async fn open(&self) -> Result<Incoming, PeerError> {
        let Reading { peer, path, claim, .. } = &self.reading;
        let mut builder = peer
            .request(Method::GET, path)
            .header(CLAIM_TOKEN, claim_header(claim)?);
        if self.at > 0 {
            builder = builder.header(RANGE, format!("bytes={}-", self.at));
        }
        let request = builder.body(crate::net::empty_body());
        let request = request.map_err(|error| PeerError::Malformed(error.to_string()))?;
        let response = peer.send(request, WITHIN).await?;
        if self.at > 0 {
            let from = format!("bytes {}-", self.at);
            let range = response
                .headers()
                .get(CONTENT_RANGE)
                .and_then(|value| value.to_str().ok());
            if response.status() != StatusCode::PARTIAL_CONTENT || !range.is_some_and(|range| range.starts_with(&from))
            {
                return Err(PeerError::Malformed("another range than was asked for".into()));
            }
        }
        Ok(response.into_body())
    }
}

/// Whether the same request may have another answer soon.
fn may_pass(error: &PeerError) -> bool {
    match error {
        PeerError::Unreachable(_) => true,
        PeerError::Refused(refusal) => matches!(refusal.status, 408 | 429 | 500..=599),
        PeerError::Malformed(_) => false,
    }
}
