//! The one way to change a run: a compare-and-set on its revision, tried again on what another made of it.
//!
//! Live runs are kept in memory as they were last committed, so that a change costs one write and no read.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use tokio::sync::watch;

use super::Draft;
use super::draft::LogMeter;
use crate::body::Faults;
use crate::clock::Clock;
use crate::error::{Conflict, Error, Result};
use crate::event::{Event, EventBody};
use crate::id::RunId;
use crate::runs::{Append, Appended, Committed, Illegal, Run, RunHead, RunStatus, StoredDefinition};
use crate::scope::Scope;
use crate::store::SharedStore;
use crate::usage::{UsageReport, UsageTotals};
use crate::workflow::{self, Definition};

/// How often a change is tried when others change the run meanwhile.
const TRIES: usize = 32;
/// Dead entries are swept when the map has grown to this.
const SWEEP_AT: usize = 4096;

/// A run in memory, as it was last committed.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// Its row.
    pub(crate) head: RunHead,
    /// Its workflow, read.
    pub(crate) definition: Arc<Definition>,
    /// Its workflow, as it is stored.
    pub(crate) stored: StoredDefinition,
    /// Its usage so far, once it has been asked for.
    pub(crate) usage: Option<UsageTotals>,
}

/// What is known of a live run by those who watch it here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The revision last committed here.
    pub(crate) revision: i64,
    /// The run's state then.
    pub(crate) status: RunStatus,
}

/// A live run, shared by all who change it in this process.
#[derive(Debug)]
pub(crate) struct Cell {
    slot: tokio::sync::Mutex<Option<Loaded>>,
    /// Set when another server changed the run: what is in the slot is out of date.
    stale: AtomicBool,
    seen: watch::Sender<Seen>,
}

/// Tells those who follow a run to look, unless the change came to an end that they were told of: the caller may let go of a
/// change whose commit still lands.
struct Unsettled<'a>(Option<&'a Cell>);

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        if let Some(cell) = self.0 {
            cell.outdate();
        }
    }
}

impl Cell {
    /// Waits until the run has ended here, and gives it without a look at the store; none when it is not followed here to
    /// its end.
    pub(crate) async fn ended(&self) -> Option<Run> {
        let mut seen = self.seen.subscribe();
        seen.wait_for(|seen| seen.status.is_terminal()).await.ok()?;
        let slot = self.slot.lock().await;
        let loaded = slot.as_ref()?;
        Some(Run {
            head: loaded.head.clone(),
            definition: loaded.stored.clone(),
        })
    }

    fn new(loaded: Option<Loaded>, seen: Seen) -> Self {
        Self {
            slot: tokio::sync::Mutex::new(loaded),
            stale: AtomicBool::new(false),
            seen: watch::Sender::new(seen),
        }
    }

    /// Forgets what is in memory, without waiting for whoever works on it, and wakes those who follow the run.
    fn outdate(&self) {
        self.stale.store(true, Ordering::Release);
        self.seen.send_modify(|seen| seen.revision = -1);
    }

    /// Takes what is in memory, unless it is out of date.
    fn take(&self, slot: &mut Option<Loaded>) -> Option<Loaded> {
        let loaded = slot.take();
        if self.stale.swap(false, Ordering::AcqRel) {
            return None;
        }
        loaded
    }

    /// Follows the run's changes made in this process.
    pub(crate) fn follow(&self) -> watch::Receiver<Seen> {
        self.seen.subscribe()
    }
}

/// All live runs of this process.
pub(crate) struct Ledger {
    store: SharedStore,
    clock: Arc<dyn Clock>,
    log_cap: u64,
    cells: Mutex<HashMap<RunId, Weak<Cell>>>,
    ended: Ended,
}

/// How many runs ended here, by how.
#[derive(Debug, Default)]
struct Ended {
    done: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
}

impl Ended {
    fn of(&self, status: RunStatus) -> Option<&AtomicU64> {
        match status {
            RunStatus::Queued | RunStatus::Running => None,
            RunStatus::Done => Some(&self.done),
            RunStatus::Failed => Some(&self.failed),
            RunStatus::Cancelled => Some(&self.cancelled),
        }
    }
}

impl Ledger {
    pub(crate) fn new(store: SharedStore, clock: Arc<dyn Clock>, log_cap: u64) -> Self {
        Self {
            store,
            clock,
            log_cap,
            cells: Mutex::default(),
            ended: Ended::default(),
        }
    }

    /// How many runs ended here since the start, by terminal status.
    pub(crate) fn ended(&self) -> Vec<(RunStatus, u64)> {
        let count = |status| Some((status, self.ended.of(status)?.load(Ordering::Relaxed)));
        RunStatus::ALL.into_iter().filter_map(count).collect()
    }

    /// Takes in a run that was just created. It is kept as long as the cell is.
    pub(crate) fn insert(&self, loaded: Loaded) -> Arc<Cell> {
        let seen = Seen {
            revision: loaded.head.revision,
            status: loaded.head.state.phase.status(),
        };
        let id = loaded.head.id;
        let cell = Arc::new(Cell::new(Some(loaded), seen));
        self.lock().insert(id, Arc::downgrade(&cell));
        cell
    }

    /// The run's cell; made when there is none.
    pub(crate) fn cell(&self, id: RunId) -> Arc<Cell> {
        let mut cells = self.lock();
        if let Some(cell) = cells.get(&id).and_then(Weak::upgrade) {
            return cell;
        }
        if cells.len() >= SWEEP_AT {
            cells.retain(|_, cell| cell.strong_count() > 0);
        }
        let seen = Seen {
            revision: -1,
            status: RunStatus::Queued,
        };
        let cell = Arc::new(Cell::new(None, seen));
        cells.insert(id, Arc::downgrade(&cell));
        cell
    }

    /// The run's cell, when someone holds it here.
    pub(crate) fn live_cell(&self, id: RunId) -> Option<Arc<Cell>> {
        self.lock().get(&id).and_then(Weak::upgrade)
    }

    /// Forgets a run, if this is the cell that it is known by.
    pub(crate) fn forget(&self, id: RunId, own: &Arc<Cell>) {
        let mut cells = self.lock();
        if cells
            .get(&id)
            .is_some_and(|cell| std::ptr::eq(cell.as_ptr(), Arc::as_ptr(own)))
        {
            cells.remove(&id);
        }
    }

    /// Another server changed a run: its next change here starts from the store, and those who follow it look.
    pub(crate) fn outdate(&self, id: RunId) {
        if let Some(cell) = self.live_cell(id) {
            cell.outdate();
        }
    }

    /// Other servers may have changed any run.
    pub(crate) fn outdate_all(&self) {
        let live: Vec<Arc<Cell>> = self.lock().values().filter_map(Weak::upgrade).collect();
        for cell in live {
            cell.outdate();
        }
    }

    /// Changes a run: `make` works on a draft, and is called again on a fresh one when another was faster. A draft that
    /// changes nothing is not written.
    pub(crate) async fn change<T>(&self, id: RunId, mut make: impl FnMut(&mut Draft<'_>) -> Result<T>) -> Result<T> {
        let cell = self.cell(id);
        let mut slot = cell.slot.lock().await;
        for _ in 0..TRIES {
            let (loaded, from_memory) = match cell.take(&mut slot) {
                Some(loaded) => (loaded, true),
                None => (self.load(id).await?, false),
            };
            let mut draft = Draft::new(&loaded, self.clock.now(), self.log_cap);
            let made = match make(&mut draft) {
                Ok(made) if !draft.is_empty() => made,
                // What is in memory may be behind: what another server did is not this caller's fault.
                Err(Error::Conflict { .. }) if from_memory => continue,
                unchanged => {
                    drop(draft);
                    *slot = Some(loaded);
                    return unchanged;
                }
            };
            let mut unsettled = Unsettled(Some(&cell));
            let commit = draft.commit();
            let (state, owner) = (commit.state.clone(), commit.owner);
            match self.store.commit_run(commit).await? {
                Committed::At {
                    revision,
                    next_event,
                    log_bytes,
                } => {
                    let status = state.phase.status();
                    if let Some(count) = self
                        .ended
                        .of(status)
                        .filter(|_| !loaded.head.state.phase.status().is_terminal())
                    {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    let Loaded {
                        head,
                        definition,
                        stored,
                        usage,
                    } = loaded;
                    let head = RunHead {
                        state,
                        revision,
                        next_event,
                        log_bytes,
                        owner,
                        ..head
                    };
                    *slot = Some(Loaded {
                        head,
                        definition,
                        stored,
                        usage,
                    });
                    cell.seen.send_replace(Seen { revision, status });
                    unsettled.0 = None;
                    return Ok(made);
                }
                Committed::Stale => unsettled.0 = None,
                // What is in memory may be as stale as the claim: the next change starts from the store.
                Committed::StaleClaim => return Err(stale_claim()),
                Committed::Unknown => return Err(Error::NotFound("run")),
            }
        }
        Err(Error::Busy {
            message: "the run is being changed by others".into(),
            retry_after: RETRY_AFTER,
        })
    }

    /// Adds events that do not change the run's state; `append.events` holds all but log lines, which `lines` gives.
    pub(crate) async fn append(
        &self,
        mut append: Append,
        lines: impl FnOnce(&mut LogMeter, &mut Vec<Event>),
    ) -> Result<Appended> {
        let cell = self.cell(append.run);
        let mut slot = cell.slot.lock().await;
        let mut loaded = match cell.take(&mut slot) {
            Some(loaded) => loaded,
            None => self.load(append.run).await?,
        };
        let mut meter = LogMeter::new(loaded.head.log_bytes, self.log_cap);
        lines(&mut meter, &mut append.events);
        append.log_bytes = meter.added;
        let totals = self.totals(&loaded, &append).await?;
        if let Some(totals) = totals {
            append.events.push(Event {
                at: self.clock.now(),
                body: EventBody::Usage(totals),
            });
        }
        let appended = self.store.append_events(append).await?;
        if let Appended::At { next_event, log_bytes } = appended {
            loaded.head.next_event = next_event;
            loaded.head.log_bytes = log_bytes;
            loaded.usage = totals.or(loaded.usage);
        }
        *slot = Some(loaded);
        Ok(appended)
    }

    /// The run's usage with what is appended, when that is any.
    async fn totals(&self, loaded: &Loaded, append: &Append) -> Result<Option<UsageTotals>> {
        if append.usage.is_empty() {
            return Ok(None);
        }
        let mut totals = match loaded.usage {
            Some(totals) => totals,
            None => {
                let entries = self.store.usage(Scope::Org, append.run).await?;
                UsageReport { entries }.totals()
            }
        };
        for entry in &append.usage {
            totals += entry.totals;
        }
        Ok(Some(totals))
    }

    /// Looks at a run as it is in memory, or in the store.
    pub(crate) async fn look<T>(&self, id: RunId, look: impl FnOnce(&Loaded) -> T) -> Result<T> {
        let cell = self.cell(id);
        let mut slot = cell.slot.lock().await;
        let loaded = match cell.take(&mut slot) {
            Some(loaded) => loaded,
            None => self.load(id).await?,
        };
        let looked = look(&loaded);
        *slot = Some(loaded);
        Ok(looked)
    }

    async fn load(&self, id: RunId) -> Result<Loaded> {
        // The engine works on every project's runs.
        let run = self.store.run(Scope::Org, id).await?.ok_or(Error::NotFound("run"))?;
        load(run)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, Weak<Cell>>> {
        self.cells.lock().expect("no holder of this lock panics")
    }
}

const RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

/// Reads a stored run; what was checked at submit reads again.
pub(crate) fn load(run: Run) -> Result<Loaded> {
    let id = run.head.id;
    let corrupt = || Error::internal(format!("the stored definition of run {id} does not read"));
    let json = serde_json::from_str(&run.definition.json).map_err(|_| corrupt())?;
    let definition = workflow::read(&json, &Faults::new()).ok_or_else(corrupt)?;
    Ok(Loaded {
        head: run.head,
        definition: Arc::new(definition),
        stored: run.definition,
        usage: None,
    })
}

/// The claim is not live.
pub(crate) fn stale_claim() -> Error {
    Error::conflict(Conflict::StaleClaim, "the claim was superseded or has expired")
}

/// A transition that the table does not have was asked for from outside.
impl From<Illegal> for Error {
    fn from(illegal: Illegal) -> Self {
        Self::conflict(Conflict::AlreadyTerminal, illegal.to_string())
    }
}
