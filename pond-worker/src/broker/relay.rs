//! The answer on its way back: passed as it comes, metered, bounded in time, and recorded however it ends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use pond_core::clock::Timestamp;
use pond_core::usage::Amounts;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::OwnedPermit;
use tokio::time::{Instant, Sleep, sleep_until};
use uuid::Uuid;

use super::call::{Exceeded, ModelCall};
use super::refusal::Refusal;
use super::serve::Shared;
use super::wire::{Meter, Metered};

/// A billed call under way. Dropping it, in whatever state, records it: the place in the queue was taken before the
/// request was sent, so no record can be lost.
pub(super) struct Billed {
    pub(super) broker: Arc<Shared>,
    pub(super) id: Uuid,
    pub(super) place: Option<OwnedPermit<ModelCall>>,
    pub(super) model: String,
    pub(super) started: Timestamp,
    pub(super) meter: Meter,
    pub(super) phase: Phase,
}

/// How far a billed call has come, and so what its record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Sent, or being sent; the provider may be at work.
    Asked,
    /// The provider was not reached, or refused: nothing is billed.
    Unbilled(u16),
    /// The provider was lost before it answered, having perhaps worked.
    Lost(u16),
    /// The answer is on its way, or has passed.
    Answering(u16),
}

/// What a client that hung up is said to have seen, after a wide-spread custom.
const HUNG_UP: u16 = 499;

impl Billed {
    fn record(&self) -> ModelCall {
        let nothing = Metered {
            tokens: Default::default(),
            estimated: false,
        };
        let (status, metered) = match self.phase {
            Phase::Asked => (HUNG_UP, self.meter.read()),
            Phase::Unbilled(status) => (status, nothing),
            Phase::Lost(status) | Phase::Answering(status) => (status, self.meter.read()),
        };
        let broker = &self.broker;
        let latency = broker.clock.now().since(self.started);
        ModelCall {
            id: self.id,
            ts: self.started,
            provider: broker.grant.provider.name,
            cost: broker.grant.cost(&self.model, &metered.tokens),
            model: self.model.clone(),
            status,
            latency_ms: u64::try_from(latency.as_millis()).unwrap_or(u64::MAX),
            tokens: metered.tokens,
            estimated: metered.estimated,
        }
    }
}

impl Billed {
    /// Whether what the answer is known to have used is paid for.
    fn is_covered(&self) -> bool {
        // Between events nothing new is known, and there is no place to cut at.
        let Some(tokens) = self.meter.boundary().and_then(|_| self.meter.so_far()) else {
            return true;
        };
        let used = Amounts {
            usd: self.broker.grant.cost(&self.model, &tokens).unwrap_or_default(),
            tokens: tokens.total(),
            calls: 1,
        };
        self.broker.spend.covers(self.id, used)
    }

    /// Asks for more.
    fn more(&self) -> BoxFuture<'static, Result<(), Exceeded>> {
        let (broker, id) = (self.broker.clone(), self.id);
        Box::pin(async move { broker.spend.more(id).await })
    }
}

impl Drop for Billed {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else { return };
        let call = self.record();
        self.broker.spend.end(&call);
        place.send(call);
    }
}

/// Why an answer was cut off. The client sees a broken connection, as it would of the provider.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cut {
    #[error("the provider broke off its answer")]
    Upstream(#[source] hyper::Error),
    #[error("the provider fell silent")]
    Idle,
    #[error("the call took too long")]
    Deadline,
}

/// An answer's body.
pub(super) struct Relay {
    inner: Incoming,
    billed: Option<Billed>,
    /// Held until the answer has passed.
    _slot: OwnedSemaphorePermit,
    idle: Duration,
    silence: Pin<Box<Sleep>>,
    deadline: Pin<Box<Sleep>>,
    /// Asks whether more is paid for; the chunk waits for the answer.
    asking: Option<Asking>,
    ended: bool,
}

struct Asking {
    answer: BoxFuture<'static, Result<(), Exceeded>>,
    chunk: Bytes,
}

impl Relay {
    pub(super) fn new(
        inner: Incoming,
        billed: Option<Billed>,
        slot: OwnedSemaphorePermit,
        idle: Duration,
        deadline: Instant,
    ) -> Self {
        let silence = Box::pin(sleep_until(Instant::now() + idle));
        Self {
            inner,
            billed,
            _slot: slot,
            idle,
            silence,
            deadline: Box::pin(sleep_until(deadline)),
            asking: None,
            ended: false,
        }
    }

    fn timed_out(&mut self, cx: &mut Context<'_>) -> Option<Cut> {
        if self.deadline.as_mut().poll(cx).is_ready() {
            return Some(Cut::Deadline);
        }
        self.silence.as_mut().poll(cx).is_ready().then_some(Cut::Idle)
    }

    fn pass(&mut self, chunk: Bytes) -> Bytes {
        match &mut self.billed {
            Some(billed) => billed.meter.pass(chunk),
            None => chunk,
        }
    }

    /// Waits until it is known whether more is paid for: then the chunk passes, or what of it is whole, and why no more comes.
    fn poll_asking(&mut self, cx: &mut Context<'_>) -> Option<Poll<Bytes>> {
        let asking = self.asking.as_mut()?;
        let Poll::Ready(answer) = asking.answer.as_mut().poll(cx) else {
            return Some(Poll::Pending);
        };
        let chunk = self.asking.take()?.chunk;
        let Err(exceeded) = answer else {
            return Some(Poll::Ready(chunk));
        };
        let mut last = BytesMut::new();
        if let Some(billed) = self.billed.take() {
            let whole = billed.meter.boundary().unwrap_or(0).min(chunk.len());
            last.extend_from_slice(&chunk[..whole]);
            last.extend_from_slice(&billed.meter.cut(&Refusal::spent(&exceeded)));
        }
        self.ended = true;
        Some(Poll::Ready(last.freeze()))
    }

    /// The provider has ended: what was held back, if anything. The call is recorded here, before the client can see the
    /// end, so that what follows an answer finds it counted.
    fn end(&mut self) -> Option<Bytes> {
        self.ended = true;
        let held = self.billed.as_mut().map(|billed| billed.meter.end());
        self.billed = None;
        held.filter(|bytes| !bytes.is_empty())
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            match self.poll_asking(cx) {
                Some(Poll::Ready(chunk)) if chunk.is_empty() => continue,
                Some(Poll::Ready(chunk)) => return Poll::Ready(Some(Ok(Frame::data(chunk)))),
                Some(Poll::Pending) => {
                    let cut = self.timed_out(cx);
                    return cut.map_or(Poll::Pending, |cut| Poll::Ready(Some(Err(cut))));
                }
                None => {}
            }
            let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) else {
                let cut = self.timed_out(cx);
                return cut.map_or(Poll::Pending, |cut| Poll::Ready(Some(Err(cut))));
            };
            let next = Instant::now() + self.idle;
            self.silence.as_mut().reset(next);
            match frame {
                None => return Poll::Ready(self.end().map(|held| Ok(Frame::data(held)))),
                Some(Err(error)) => return Poll::Ready(Some(Err(Cut::Upstream(error)))),
                Some(Ok(frame)) => {
                    let Ok(chunk) = frame.into_data() else { continue };
                    let chunk = self.pass(chunk);
                    let last = self.inner.is_end_stream();
                    if last && self.billed.as_ref().is_none_or(|billed| !billed.meter.alters()) {
                        self.end();
                    }
                    if let Some(billed) = self.billed.as_ref().filter(|billed| !billed.is_covered()) {
                        let answer = billed.more();
                        self.asking = Some(Asking { answer, chunk });
                        continue;
                    }
                    if !chunk.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(chunk))));
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        match &self.billed {
            // It may be cut off, behind other last words than the provider's.
            Some(billed) if billed.meter.alters() || billed.meter.so_far().is_some() => SizeHint::default(),
            _ if self.ended => SizeHint::with_exact(0),
            _ => self.inner.size_hint(),
        }
    }
}

/// Where a deadline lies, for the two parts of a call that share it.
pub(super) fn deadline(total: Duration) -> Instant {
    Instant::now() + total
}

/// Completes with the answer, or with nothing once the deadline has passed.
pub(super) async fn until<F: Future>(deadline: Instant, answer: F) -> Option<F::Output> {
    tokio::time::timeout_at(deadline, answer).await.ok()
}
