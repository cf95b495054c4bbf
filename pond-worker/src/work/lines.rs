//! What a job says: bytes become lines without secrets, lines become chunks, chunks are sent in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pond_core::clock::{Clock, Timestamp};
use pond_core::dispatch::Chunk;
use pond_core::logs::{LogSource, LogStream, Marks, Redacting, Redactor, split_lines};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::{Claimed, Refused};
use crate::collect::Listener;

/// How long lines are gathered before they are sent.
const GATHER: Duration = Duration::from_millis(100);
/// Bytes that are sent without gathering more; a chunk has 256 KiB at most.
const FULL: usize = 128 << 10;
/// Turns between streams that are sent without gathering more: each is a chunk of its own.
const TURNS: usize = 32;
const MAX_CHUNK: usize = 256 << 10;
/// What a line takes beside its text.
const PER_LINE: usize = 32;
/// Batches that wait to be sent; each is what one read of a program's output gave.
const WAITING: usize = 16;

/// Lines of one stream, and when they were read.
struct Batch {
    source: LogSource,
    stream: LogStream,
    lines: Vec<(Timestamp, String)>,
}

/// Takes lines to be sent. When they cannot be sent as fast as they come, it waits, and with it whoever writes them.
#[derive(Clone)]
pub(crate) struct Lines {
    sender: mpsc::Sender<Batch>,
    clock: Arc<dyn Clock>,
}

/// Sends what [`Lines`] takes; ends when the last of them is dropped.
pub(crate) type Shipping = AbortOnDropHandle<()>;

impl Lines {
    /// Starts to send.
    pub(crate) fn ship(claimed: Claimed) -> (Self, Shipping) {
        let (sender, batches) = mpsc::channel(WAITING);
        let clock = Arc::clone(&claimed.clock);
        let shipping = AbortOnDropHandle::new(tokio::spawn(ship(batches, claimed)));
        (Self { sender, clock }, shipping)
    }

    /// Sends lines.
    pub(crate) async fn send(&self, source: LogSource, stream: LogStream, lines: Vec<String>) {
        if lines.is_empty() {
            return;
        }
        let now = self.clock.now();
        let lines = lines.into_iter().map(|line| (now, line)).collect();
        // Without a receiver the lease is lost, and nobody wants to hear.
        let _ = self.sender.send(Batch { source, stream, lines }).await;
    }

    /// Sends a line of the worker's own about the job.
    pub(crate) async fn note(&self, text: impl Into<String>) {
        self.send(LogSource::Agent, LogStream::System, vec![text.into()]).await;
    }
}

/// Turns the bytes of one stream into lines.
pub(crate) struct Writer {
    lines: Lines,
    stream: LogStream,
    redacting: Redacting,
    buffer: Vec<u8>,
    /// Who hears the same bytes.
    listener: Option<Listener>,
}

impl Writer {
    pub(crate) fn new(lines: Lines, stream: LogStream, redactor: &Redactor) -> Self {
        Self {
            lines,
            stream,
            redacting: redactor.stream(Marks::Named),
            buffer: Vec::new(),
            listener: None,
        }
    }

    /// Has somebody hear all that is written.
    pub(crate) fn heard_by(self, listener: Option<&Listener>) -> Self {
        let listener = listener.cloned();
        Self { listener, ..self }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        if let Some(listener) = &self.listener {
            listener.push(bytes);
        }
        self.redacting.push(bytes, &mut self.buffer);
        self.send(false).await;
    }

    /// The stream has ended.
    pub(crate) async fn finish(mut self) {
        self.redacting.finish(&mut self.buffer);
        self.send(true).await;
    }

    async fn send(&mut self, last: bool) {
        let lines = split_lines(&mut self.buffer, last);
        self.lines.send(LogSource::Agent, self.stream, lines).await;
    }
}

/// Lines that wait to be sent, in the order in which they came: a run of lines of one stream is one batch.
#[derive(Default)]
struct Gathered {
    batches: Vec<Batch>,
    bytes: usize,
}

impl Gathered {
    fn add(&mut self, batch: Batch) {
        self.bytes += batch.lines.iter().map(cost).sum::<usize>();
        match self.batches.last_mut() {
            Some(last) if (last.source, last.stream) == (batch.source, batch.stream) => last.lines.extend(batch.lines),
            _ => self.batches.push(batch),
        }
    }

    /// Whether to send without gathering more.
    fn is_full(&self) -> bool {
        self.bytes >= FULL || self.batches.len() >= TURNS
    }
}

fn cost((_, line): &(Timestamp, String)) -> usize {
    line.len() + PER_LINE
}

async fn ship(mut batches: mpsc::Receiver<Batch>, claimed: Claimed) {
    let mut numbers = BTreeMap::new();
    while let Some(first) = batches.recv().await {
        let mut gathered = Gathered::default();
        gathered.add(first);
        let mut until = claimed.clock.sleep(GATHER);
        while !gathered.is_full() {
            tokio::select! {
                biased;
                batch = batches.recv() => match batch {
                    Some(batch) => gathered.add(batch),
                    None => break,
                },
                () = &mut until => break,
            }
        }
        for Batch { source, stream, lines } in gathered.batches {
            let seq: &mut u64 = numbers.entry((source, stream)).or_default();
            for lines in pieces(lines) {
                let chunk = Chunk {
                    stream,
                    source,
                    seq: *seq,
                    lines,
                };
                match send(&claimed, chunk).await {
                    Ok(()) => *seq += 1,
                    Err(Refused::Gone) => return,
                    Err(Refused::Error(error)) => {
                        // Its number is not used up, so that what follows is not taken for a gap.
                        tracing::error!(job = %claimed.claim.job, %error, "log lines are refused and lost");
                    }
                }
            }
        }
    }
}

async fn send(claimed: &Claimed, chunk: Chunk) -> Result<(), Refused> {
    claimed
        .call(|link, claim| {
            let chunk = chunk.clone();
            async move { link.chunk(&claim, chunk).await }
        })
        .await
}

/// Cuts lines into chunks.
fn pieces(lines: Vec<(Timestamp, String)>) -> Vec<Vec<(Timestamp, String)>> {
    let (mut pieces, mut piece, mut bytes) = (Vec::new(), Vec::new(), 0);
    for line in lines {
        let more = cost(&line);
        if bytes + more > MAX_CHUNK && !piece.is_empty() {
            pieces.push(std::mem::take(&mut piece));
            bytes = 0;
        }
        bytes += more;
        piece.push(line);
    }
    pieces.push(piece);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_in_the_order_in_which_they_came() {
        let mut gathered = Gathered::default();
        let streams = [
            LogStream::Stdout,
            LogStream::Stdout,
            LogStream::Stderr,
            LogStream::Stdout,
        ];
        for (n, stream) in (0..).zip(streams) {
            let lines = vec![(Timestamp::from_millis(n), n.to_string())];
            let source = LogSource::Agent;
            gathered.add(Batch { source, stream, lines });
        }
        let texts: Vec<Vec<String>> = gathered
            .batches
            .into_iter()
            .map(|batch| batch.lines.into_iter().map(|(_, line)| line).collect())
            .collect();
        assert_eq!(texts, [vec!["0", "1"], vec!["2"], vec!["3"]]);
    }

    #[test]
    fn a_chunk_stays_below_its_bound_and_no_line_is_lost() {
        let lines: Vec<(Timestamp, String)> = (0..40)
            .map(|n| (Timestamp::from_millis(n), "x".repeat(64 << 10)))
            .collect();
        let pieces = pieces(lines.clone());
        assert!(
            pieces
                .iter()
                .all(|piece| piece.iter().map(cost).sum::<usize>() <= MAX_CHUNK)
        );
        assert_eq!(pieces.concat(), lines);
    }
}
