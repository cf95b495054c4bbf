//! The audit log, as callers see it: record, read, verify; and the task that tells signed heads.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, Notify, oneshot};

use super::chain::{START, link};
use super::{AuditFilter, AuditRow, Checked, Entry, Flaw, SignedHead, Walk};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::page::{Page, PageRequest};
use crate::secret::SecretBytes;
use crate::store::SharedStore;

/// Rows of one append.
const BATCH: usize = 256;
/// How often an append is tried again when another server was faster.
const TRIES: usize = 64;
/// Rows of one step of a check.
const STEP: u32 = 500;
/// A head is signed after so many rows of this server, and after so long.
const ROWS_PER_HEAD: i64 = 1000;
const HEAD_EVERY: Duration = Duration::from_secs(600);

type Waiting = (Entry, oneshot::Sender<bool>);

/// The audit log.
#[derive(Clone)]
pub struct Audit {
    parts: Arc<Parts>,
}

struct Parts {
    store: SharedStore,
    clock: Arc<dyn Clock>,
    key: SecretBytes,
    /// Entries that wait for the one who writes.
    waiting: std::sync::Mutex<Vec<Waiting>>,
    writer: Mutex<()>,
    /// The last row that a signed head told of.
    told: AtomicI64,
    many: Notify,
    head_file: Option<PathBuf>,
}

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verification {
    /// The last good row; number 0 for an empty log.
    pub head: SignedHead,
    /// The first flaw, with the number of its row.
    pub flaw: Option<(i64, Flaw)>,
}

impl Audit {
    pub(crate) fn new(store: SharedStore, clock: Arc<dyn Clock>, key: SecretBytes, head_file: Option<PathBuf>) -> Self {
        let parts = Parts {
            store,
            clock,
            key,
            waiting: std::sync::Mutex::default(),
            writer: Mutex::default(),
            told: AtomicI64::new(0),
            many: Notify::new(),
            head_file,
        };
        Self { parts: Arc::new(parts) }
    }

    /// Writes down what happened; durable on return. Entries that wait go together.
    ///
    /// # Errors
    /// When the store does not answer, or other servers were faster all the time.
    pub async fn record(&self, entry: Entry) -> Result<()> {
        let (told, mut written) = oneshot::channel();
        self.waiting().push((entry, told));
        loop {
            let _writing = self.parts.writer.lock().await;
            // Whoever had the pen before may have written it.
            match written.try_recv() {
                Ok(true) => return Ok(()),
                Ok(false) | Err(oneshot::error::TryRecvError::Closed) => return Err(unwritten(None)),
                Err(oneshot::error::TryRecvError::Empty) => self.write_waiting().await?,
            }
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Waiting>> {
        self.parts.waiting.lock().expect("no holder of this lock panics")
    }

    async fn write_waiting(&self) -> Result<()> {
        let batch: Vec<Waiting> = {
            let mut waiting = self.waiting();
            let count = waiting.len().min(BATCH);
            waiting.drain(..count).collect()
        };
        let (entries, told): (Vec<Entry>, Vec<_>) = batch.into_iter().unzip();
        let written = self.append(&entries).await;
        for told in told {
            // Who went away has its entry written all the same.
            let _gone = told.send(written.is_ok());
        }
        written
    }

    async fn append(&self, entries: &[Entry]) -> Result<()> {
        for _ in 0..TRIES {
            let head = self.parts.store.audit_head().await?;
            let rows = link(
                &self.parts.key,
                head.unwrap_or(START),
                self.parts.clock.now(),
                entries.to_vec(),
            );
            let last = rows.last().map_or(0, |row| row.id);
            if self.parts.store.append_audit(head, rows).await? {
                if last - self.parts.told.load(Ordering::Acquire) >= ROWS_PER_HEAD {
                    self.parts.many.notify_one();
                }
                return Ok(());
            }
        }
        Err(unwritten(Some("other servers were faster all the time".into())))
    }

    /// Rows, newest first.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn list(&self, filter: &AuditFilter, page: PageRequest<i64>) -> Result<Page<AuditRow, i64>> {
        Ok(self.parts.store.audit_rows(filter, page).await?)
    }

    /// Checks the whole chain, and that it leads past `head`, which was told before.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn verify(&self, head: Option<SignedHead>) -> Result<Verification> {
        let forged = head.filter(|head| !head.is_by(&self.parts.key));
        let mut walk = Walk::new(&self.parts.key, head.map(|head| head.head));
        loop {
            let rows = self.parts.store.audit_chain(walk.head().id, STEP).await?;
            let last = rows.len() < STEP as usize;
            if !walk.over(&rows) || last {
                break;
            }
        }
        let Checked { head, flaw } = walk.end();
        Ok(Verification {
            head: SignedHead::sign(&self.parts.key, head, self.parts.clock.now()),
            flaw: forged.map(|head| (head.head.id, Flaw::HeadForged)).or(flaw),
        })
    }

    /// Tells signed heads of a growing chain, until the engine stops. Of a chain that does not grow nothing is told.
    pub(crate) async fn tell_heads(self) {
        loop {
            if let Err(error) = self.tell_head().await {
                tracing::error!(%error, "no head of the audit log could be told");
            }
            tokio::select! {
                biased;
                () = self.parts.many.notified() => {}
                () = self.parts.clock.sleep(HEAD_EVERY) => {}
            }
        }
    }

    /// Signs the head that the chain has now, unless it was told already.
    pub(crate) async fn tell_head(&self) -> Result<()> {
        let head = self.parts.store.audit_head().await?;
        let Some(head) = head.filter(|head| head.id > self.parts.told.load(Ordering::Acquire)) else {
            return Ok(());
        };
        let signed = SignedHead::sign(&self.parts.key, head, self.parts.clock.now());
        tracing::info!(target: "pond::audit", head = %signed, "signed head of the audit log");
        if let Some(path) = self.parts.head_file.clone() {
            let appended = tokio::task::spawn_blocking(move || append_line(&path, &signed));
            let appended = appended.await.map_err(|error| Error::internal(error.to_string()))?;
            appended.map_err(|error| Error::Internal("the file of signed heads".into(), Some(Box::new(error))))?;
        }
        self.parts.told.fetch_max(head.id, Ordering::AcqRel);
        Ok(())
    }
}

fn append_line(path: &Path, head: &SignedHead) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.append(true).create(true).mode(0o600).open(path)?;
    // One write, so that lines of several servers do not mix.
    file.write_all(format!("{head}\n").as_bytes())?;
    file.sync_data()
}

fn unwritten(why: Option<String>) -> Error {
    let why = why.unwrap_or_else(|| "its writer failed".into());
    Error::Unavailable("the audit log", Some(why.into()))
}
