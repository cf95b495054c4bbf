//! Group commit: facts of concurrent callers gather while a batch is in flight, and go together in the next one. With
//! nothing in flight a fact goes at once, so an idle system adds no delay.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use pond_core::store::StoreError;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::closed;
use crate::fact::{Answer, Backend, Fact, Subject};

/// Facts that wait; a caller beyond waits for a place.
const LINE: usize = 16_384;
/// Facts of one batch.
const BATCH_FACTS: usize = 512;
/// Bytes of one batch, but for a single fact that is larger.
const BATCH_BYTES: usize = 4 << 20;
/// Facts taken from the line but not yet in a batch; mostly such as wait for a batch with their subject.
const TAKEN: usize = 3 * BATCH_FACTS;

/// A fact in line.
pub(crate) struct Waiting<I> {
    subject: Option<Subject>,
    item: I,
    reply: oneshot::Sender<Answer>,
}

/// The line in front of a backend.
pub(crate) enum Line<B: Backend> {
    /// None: each fact is applied by its caller. For the memory store, whose facts cost less than a hand-over.
    Direct(Arc<B>),
    /// Facts gather in front of one task.
    Queue {
        backend: Arc<B>,
        entrance: mpsc::Sender<Waiting<B::Item>>,
        closing: CancellationToken,
        batcher: TaskTracker,
    },
}

impl<B: Backend> Line<B> {
    /// A line whose callers apply their facts themselves.
    pub(crate) fn direct(backend: Arc<B>) -> Self {
        Self::Direct(backend)
    }

    /// A line with a task of its own, that keeps up to `in_flight` batches under way. The task ends with the line.
    pub(crate) fn queue(backend: Arc<B>, in_flight: usize) -> Self {
        let (entrance, exit) = mpsc::channel(LINE);
        let (closing, batcher) = (CancellationToken::new(), TaskTracker::new());
        batcher.spawn(Batcher::new(backend.clone(), exit, in_flight).run(closing.clone()));
        batcher.close();
        Self::Queue {
            backend,
            entrance,
            closing,
            batcher,
        }
    }

    /// Has a fact written, and waits until its outcome is durable.
    pub(crate) async fn submit(&self, fact: Fact) -> Answer {
        match self {
            Self::Direct(backend) => {
                let item = backend.prepare(fact);
                backend.apply(vec![item]).await.pop().unwrap_or_else(|| Err(closed()))
            }
            Self::Queue { backend, entrance, .. } => {
                let subject = fact.subject();
                let item = backend.prepare(fact);
                let (reply, answer) = oneshot::channel();
                let waiting = Waiting { subject, item, reply };
                entrance.send(waiting).await.map_err(|_| closed())?;
                answer.await.map_err(|_| closed())?
            }
        }
    }

    /// Whether callers apply their facts themselves.
    pub(crate) fn is_direct(&self) -> bool {
        matches!(self, Self::Direct(_))
    }

    /// Lets no more facts in, and waits for those that are.
    pub(crate) async fn close(&self) {
        if let Self::Queue { closing, batcher, .. } = self {
            closing.cancel();
            batcher.wait().await;
        }
    }
}

/// What a batch leaves when it is done: its subjects are free again.
type Done = Vec<Subject>;

struct Batcher<B: Backend> {
    backend: Arc<B>,
    exit: mpsc::Receiver<Waiting<B::Item>>,
    /// Facts out of the line, in its order.
    waiting: VecDeque<Waiting<B::Item>>,
    /// Subjects of the batches in flight.
    busy: HashSet<Subject>,
    in_flight: usize,
}

impl<B: Backend> Batcher<B> {
    fn new(backend: Arc<B>, exit: mpsc::Receiver<Waiting<B::Item>>, in_flight: usize) -> Self {
        Self {
            backend,
            exit,
            waiting: VecDeque::new(),
            busy: HashSet::new(),
            in_flight,
        }
    }

    async fn run(mut self, closing: CancellationToken) {
        let mut flying: FuturesUnordered<BoxFuture<'static, Done>> = FuturesUnordered::new();
        loop {
            let closed = self.exit.is_closed();
            self.fill();
            while flying.len() < self.in_flight {
                let batch = self.next_batch();
                if batch.is_empty() {
                    break;
                }
                flying.push(Box::pin(fly(self.backend.clone(), batch)));
            }
            if flying.is_empty() && closed && self.exit.is_empty() {
                return;
            }
            let room = flying.len() < self.in_flight && self.waiting.len() < TAKEN;
            tokio::select! {
                biased;
                Some(done) = flying.next(), if !flying.is_empty() => {
                    for subject in done {
                        self.busy.remove(&subject);
                    }
                }
                waiting = self.exit.recv(), if room && !closed => self.waiting.extend(waiting),
                // Those who wait for a place in line are sent away; what is in line is still written.
                () = closing.cancelled(), if !closed => self.exit.close(),
            }
        }
    }

    /// Takes from the line what is there, within bounds.
    fn fill(&mut self) {
        while self.waiting.len() < TAKEN {
            match self.exit.try_recv() {
                Ok(waiting) => self.waiting.push_back(waiting),
                Err(_) => return,
            }
        }
    }

    /// The next facts in order, of which no two share a subject with each other or with a batch in flight.
    fn next_batch(&mut self) -> Vec<Waiting<B::Item>> {
        let mut batch = Vec::new();
        let mut kept = VecDeque::new();
        let mut passed = HashSet::new();
        let mut bytes = 0;
        while let Some(next) = self.waiting.pop_front() {
            let weight = B::weight(&next.item);
            if batch.len() >= BATCH_FACTS || (bytes + weight > BATCH_BYTES && !batch.is_empty()) {
                self.waiting.push_front(next);
                break;
            }
            if let Some(subject) = next.subject {
                // One that was passed over holds back all later ones of its subject: their order stays.
                if self.busy.contains(&subject) || passed.contains(&subject) {
                    passed.insert(subject);
                    kept.push_back(next);
                    continue;
                }
                self.busy.insert(subject);
            }
            bytes += weight;
            batch.push(next);
        }
        while let Some(back) = kept.pop_back() {
            self.waiting.push_front(back);
        }
        batch
    }
}

async fn fly<B: Backend>(backend: Arc<B>, batch: Vec<Waiting<B::Item>>) -> Done {
    let mut subjects = Vec::with_capacity(batch.len());
    let mut replies = Vec::with_capacity(batch.len());
    let mut items = Vec::with_capacity(batch.len());
    for waiting in batch {
        subjects.extend(waiting.subject);
        replies.push(waiting.reply);
        items.push(waiting.item);
    }
    let answers = backend.apply(items).await;
    debug_assert_eq!(answers.len(), replies.len(), "one answer for each fact");
    for (reply, answer) in replies.into_iter().zip(answers) {
        // A caller that went away has its fact written all the same.
        let _gone = reply.send(answer);
    }
    subjects
}

/// What stands for a batch that as a whole could not be written.
pub(crate) fn all_failed(count: usize, error: &dyn std::fmt::Display) -> Vec<Answer> {
    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct BatchFailed(String);
    let text = error.to_string();
    let failed = || Err(StoreError::Unavailable(Box::new(BatchFailed(text.clone()))));
    std::iter::repeat_with(failed).take(count).collect()
}
