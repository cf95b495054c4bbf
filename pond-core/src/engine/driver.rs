//! Follows one live run to its end: starts what its plan says, runs engine stages, and writes what they find.
//!
//! One driver per run, in the engine that owns it. An attempt that may be replayed is not written when it starts: if it ends
//! soon, start and end are one commit; if not, the start is written with what it has found by then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Parts;
use super::advance::{cancel_live_jobs, fail_fetch, settle};
use super::fetch::{Fetched, bundle_key, fetch};
use super::ledger::{Cell, Loaded, Seen};
use super::placing::{UnfitCheck, enqueue, give_up, waiting};
use super::report::{StageReport, cancel_attempts, orphans, write, write_fetched};
use crate::artifacts::{Artifact, BlobError, BlobStore, ByteStream};
use crate::clock::Timestamp;
use crate::config::Effective;
use crate::error::{Error, Result};
use crate::id::RunId;
use crate::logs::{LogLine, LogSource};
use crate::pool::needs_of;
use crate::runs::executors::{Findings, OpenBundle, StageContext, StageSink, Work};
use crate::runs::{BundleRef, Failure, FailureCode, StageOutcome, StagePhase, Transition};
use crate::sources::BundleKey;

/// An attempt that ends within this is written in one commit.
const FOLD: Duration = Duration::from_millis(50);
/// How often a running attempt's findings are written.
const FLUSH: Duration = Duration::from_millis(250);
/// How often a stage that cannot be placed is looked at again.
const RETRY: Duration = Duration::from_secs(5);
/// A run is read anew after this, whatever was heard of it: hints of other servers can be lost.
const LOOK: Duration = Duration::from_secs(30);
/// How long a driver waits when the store does not answer.
const BACKOFF: Duration = Duration::from_secs(1);

/// An attempt of an engine stage that runs here.
struct Attempt {
    started: Timestamp,
    sink: StageSink,
    recorded: bool,
    stop: CancellationToken,
}

/// What ended here.
enum Ended {
    Stage(usize, Timestamp, StageOutcome),
    Fetch(Box<Result<Fetched, Failure>>),
}

/// What is to be done after a change.
enum Step {
    /// The run is over, or another engine's.
    Over,
    /// Engine stages to start (new, or again after a crash), whether to fetch, and what could not be placed.
    Go {
        start: Vec<usize>,
        resume: Vec<(usize, Timestamp)>,
        fetch: bool,
        unplaced: Vec<usize>,
    },
}

struct Driver {
    parts: Arc<Parts>,
    id: RunId,
    seen: watch::Receiver<Seen>,
    attempts: BTreeMap<usize, Attempt>,
    work: FuturesUnordered<BoxFuture<'static, Ended>>,
    fetching: bool,
    fetched: Option<Result<Fetched, Failure>>,
    pending: Vec<StageReport>,
    /// Stages that wait for a worker, or for their harness.
    unplaced: Vec<usize>,
    /// Those of them that nothing which is online fits, and since when.
    waits: BTreeMap<usize, Timestamp>,
    /// When the store was last looked at, whatever was heard.
    looked: Timestamp,
}

/// Follows a run until it is over or another engine's.
pub(crate) async fn drive(parts: Arc<Parts>, id: RunId, cell: Arc<Cell>) {
    let driver = Driver {
        parts: parts.clone(),
        id,
        seen: cell.follow(),
        attempts: BTreeMap::new(),
        work: FuturesUnordered::new(),
        fetching: false,
        fetched: None,
        pending: Vec::new(),
        unplaced: Vec::new(),
        waits: BTreeMap::new(),
        looked: parts.clock.now(),
    };
    driver.run().await;
    parts.ledger.forget(id, &cell);
}

impl Driver {
    async fn run(mut self) {
        loop {
            // Marked before the change: a change by another that comes after it wakes us again.
            self.seen.borrow_and_update();
            match self.advance().await {
                Ok(Step::Over) => {
                    self.drop_unused_bundle().await;
                    break;
                }
                Ok(Step::Go {
                    start,
                    resume,
                    fetch,
                    unplaced,
                }) => {
                    self.pending.clear();
                    self.fetched = None;
                    if let Err(error) = self.begin(start, resume, fetch).await {
                        tracing::warn!(run = %self.id, %error, "a run could not be looked at");
                        self.parts.clock.sleep(BACKOFF).await;
                    }
                    if let Err(error) = self.note_waits(unplaced).await {
                        tracing::warn!(run = %self.id, %error, "it is not known who could take a stage");
                    }
                }
                Err(Error::NotFound(_)) => break,
                Err(error) => {
                    tracing::warn!(run = %self.id, %error, "a run could not be advanced; trying again");
                    self.parts.clock.sleep(BACKOFF).await;
                    continue;
                }
            }
            self.wait().await;
        }
        self.clean_up().await;
    }

    /// Writes what ended and was found, and brings the run as far as it goes.
    async fn advance(&mut self) -> Result<Step> {
        let effective = self.effective().await?;
        let parts = self.parts.clone();
        let live: BTreeSet<usize> = self.attempts.keys().copied().collect();
        let (pending, fetched) = (&self.pending, &self.fetched);
        let fetching = self.fetching;
        let unfit = self.unfit(effective.as_ref());
        let step = parts.ledger.change(self.id, |draft| {
            if draft.state().phase.status().is_terminal() || draft.head.owner != parts.id {
                return Ok(Step::Over);
            }
            match fetched {
                Some(Ok(found)) => write_fetched(draft, found)?,
                Some(Err(failure)) => {
                    let text = failure.message.clone();
                    draft.log(draft.now, LogLine::system(LogSource::Fetch, None, text));
                    fail_fetch(draft, failure)?;
                    return Ok(Step::Over);
                }
                None => {}
            }
            for report in pending {
                write(draft, report)?;
            }
            if draft.state().cancel_requested_at.is_some() {
                cancel_attempts(draft, &live)?;
                cancel_live_jobs(draft)?;
            }
            for (index, failure) in &unfit {
                give_up(draft, *index, failure)?;
            }
            let resume = orphans(draft, &live);
            let active = live
                .iter()
                .copied()
                .filter(|&i| !draft.state().stages[i].phase.status().is_terminal());
            let plan = settle(draft, &active.collect(), &parts.settings)?;
            if draft.state().phase.status().is_terminal() {
                return Ok(Step::Over);
            }
            if plan.fetch && !fetching {
                draft.apply(Transition::FetchStarted { at: draft.now })?;
            }
            let mut unplaced = waiting(draft);
            let mut start = Vec::new();
            for index in plan.start {
                match draft.definition.stages[index].executor.clone().work() {
                    Work::Engine(_) => start.push(index),
                    Work::Pool(swarm) => {
                        unplaced.push(index);
                        enqueue(draft, &parts, index, swarm, effective.as_ref())?;
                    }
                }
            }
            Ok(Step::Go {
                start,
                resume,
                fetch: plan.fetch && !fetching,
                unplaced,
            })
        });
        let step = step.await?;
        self.drop_ended();
        Ok(step)
    }

    /// Config as the run's project sees it, when a stage is still to be placed.
    async fn effective(&mut self) -> Result<Option<Effective>> {
        let look = self.parts.ledger.look(self.id, |loaded| {
            let stages = loaded.definition.stages.iter().zip(&loaded.head.state.stages);
            let mut unplaced = stages.filter(|(stage, state)| {
                matches!(stage.executor.work(), Work::Pool(_)) && matches!(state.phase, StagePhase::Queued { .. })
            });
            unplaced.next().is_some().then_some(loaded.head.project)
        });
        match look.await? {
            Some(project) => self.parts.config.effective(project).await.map(Some),
            None => Ok(None),
        }
    }

    /// Notes since when nothing fits the stages that wait. Behind a worker that fits and is busy a stage waits on.
    async fn note_waits(&mut self, unplaced: Vec<usize>) -> Result<()> {
        self.waits.retain(|index, _| unplaced.contains(index));
        self.unplaced = unplaced;
        if self.unplaced.is_empty() {
            return Ok(());
        }
        let look = self
            .parts
            .ledger
            .look(self.id, |loaded| (loaded.definition.clone(), loaded.head.project));
        let (definition, project) = look.await?;
        let effective = self.parts.config.effective(project).await?;
        let (now, settings) = (self.parts.clock.now(), &self.parts.settings);
        for &index in &self.unplaced {
            let Work::Pool(swarm) = definition.stages[index].executor.work() else {
                continue;
            };
            let needs = needs_of(swarm, project, &effective, settings);
            let presence = &self.parts.presence;
            if needs.is_ok_and(|needs| {
                presence
                    .missing(&needs, project, now, settings.worker_offline)
                    .is_none()
            }) {
                self.waits.remove(&index);
            } else {
                self.waits.entry(index).or_insert(now);
            }
        }
        Ok(())
    }

    /// Stages for which no worker that fits has been online for the grace.
    fn unfit(&self, effective: Option<&Effective>) -> Vec<(usize, UnfitCheck)> {
        let (now, grace) = (self.parts.clock.now(), self.parts.settings.no_worker_grace);
        let due = self.waits.iter().filter(|(_, since)| now.since(**since) >= grace);
        due.filter_map(|(index, _)| {
            Some((
                *index,
                UnfitCheck {
                    effective: effective?.clone(),
                    parts: self.parts.clone(),
                },
            ))
        })
        .collect()
    }

    /// Ends of attempts that were written are forgotten; attempts that a cancel ended are stopped.
    fn drop_ended(&mut self) {
        for report in &self.pending {
            match (&report.end, self.attempts.get_mut(&report.index)) {
                (Some(_), _) => {
                    self.attempts.remove(&report.index);
                }
                (None, Some(attempt)) => attempt.recorded = true,
                (None, None) => {}
            }
        }
    }

    async fn begin(&mut self, start: Vec<usize>, resume: Vec<(usize, Timestamp)>, fetch: bool) -> Result<()> {
        let now = self.parts.clock.now();
        for index in start {
            self.start(index, now, false).await?;
        }
        for (index, since) in resume {
            self.start(index, since, true).await?;
        }
        if fetch {
            self.start_fetch().await?;
        }
        Ok(())
    }

    async fn start(&mut self, index: usize, started: Timestamp, recorded: bool) -> Result<()> {
        let look = self.parts.ledger.look(self.id, |loaded| {
            let stage = &loaded.definition.stages[index];
            (stage.executor.clone(), stage.timeout, loaded.head.state.bundle.clone())
        });
        let (executor, timeout, bundle) = look.await?;
        let timeout = timeout.unwrap_or(self.parts.settings.stage_timeout);
        let (sink, stop) = (StageSink::default(), CancellationToken::new());
        let open = |bundle: BundleRef| -> Result<Box<dyn OpenBundle>> {
            Ok(Box::new(BlobBundle {
                blobs: self.parts.blobs.clone(),
                opens: bundle_key(&self.parts, self.id, &bundle)?,
                key: bundle.key,
            }))
        };
        let context = StageContext {
            bundle: bundle.map(open).transpose()?,
            clock: self.parts.clock.clone(),
            sink: sink.clone(),
            artifact_cap: self.parts.settings.artifact_cap,
        };
        self.attempts.insert(
            index,
            Attempt {
                started,
                sink,
                recorded,
                stop: stop.clone(),
            },
        );
        let clock = self.parts.clock.clone();
        let left = started.plus(timeout).since(clock.now());
        let work = async move {
            let Work::Engine(work) = executor.work() else {
                let failure = Failure::new(FailureCode::Internal, "a pool stage was started in the engine");
                return Ended::Stage(index, clock.now(), StageOutcome::Failed(failure));
            };
            let outcome = tokio::select! {
                biased;
                () = stop.cancelled() => StageOutcome::Cancelled,
                outcome = work.run(&context) => outcome,
                () = clock.sleep(left) => {
                    let message = format!("longer than its {} s", timeout.as_secs());
                    StageOutcome::Failed(Failure::new(FailureCode::Timeout, message))
                }
            };
            Ended::Stage(index, clock.now(), outcome)
        };
        self.work.push(work.boxed());
        Ok(())
    }

    async fn start_fetch(&mut self) -> Result<()> {
        let look = |loaded: &Loaded| (loaded.head.project, loaded.head.inputs.clone());
        let (project, inputs) = self.parts.ledger.look(self.id, look).await?;
        let (parts, id) = (self.parts.clone(), self.id);
        self.fetching = true;
        self.work
            .push(async move { Ended::Fetch(Box::new(fetch(&parts, id, project, &inputs).await)) }.boxed());
        Ok(())
    }

    /// Waits until something ended, another changed the run, or it is time to write or to look again.
    async fn wait(&mut self) {
        let timer = self.parts.clock.sleep(self.next_look());
        let mut ended = Vec::new();
        tokio::select! {
            biased;
            Some(first) = self.work.next(), if !self.work.is_empty() => {
                ended.push(first);
                while let Some(Some(more)) = self.work.next().now_or_never() {
                    ended.push(more);
                }
            }
            changed = self.seen.changed() => drop(changed),
            () = timer => {}
        }
        let now = self.parts.clock.now();
        if now.since(self.looked) >= LOOK {
            self.looked = now;
            self.parts.ledger.outdate(self.id);
        }
        self.stop_if_cancelled().await;
        self.gather(ended).await;
    }

    /// A cancel stops what runs here, whatever it is.
    async fn stop_if_cancelled(&mut self) {
        let cancelled = self
            .parts
            .ledger
            .look(self.id, |loaded| loaded.head.state.cancel_requested_at.is_some());
        if matches!(cancelled.await, Ok(true)) {
            for attempt in self.attempts.values() {
                attempt.stop.cancel();
            }
            if self.fetching {
                // What is fetching is dropped with its temporary folder.
                self.work.clear();
                self.fetching = false;
            }
        }
    }

    fn next_look(&self) -> Duration {
        let now = self.parts.clock.now();
        let flush = self.attempts.values().map(|attempt| {
            if attempt.recorded {
                FLUSH
            } else {
                attempt.started.plus(FOLD).since(now).max(Duration::from_millis(1))
            }
        });
        let grace = self.parts.settings.no_worker_grace;
        let due = self.waits.values().map(|since| since.plus(grace).since(now).max(FOLD));
        let place = (!self.unplaced.is_empty()).then_some(RETRY);
        let look = self.looked.plus(LOOK).since(now).max(FOLD);
        flush.chain(due).chain(place).chain([look]).min().unwrap_or(look)
    }

    /// Takes what attempts have found, to be written with the next change.
    async fn gather(&mut self, ended: Vec<Ended>) {
        let now = self.parts.clock.now();
        let mut ends = BTreeMap::new();
        for end in ended {
            match end {
                Ended::Stage(index, at, outcome) => {
                    ends.insert(index, (at, outcome));
                }
                Ended::Fetch(result) => {
                    self.fetching = false;
                    self.fetched = Some(*result);
                }
            }
        }
        let mut taken = Vec::new();
        for (index, attempt) in &self.attempts {
            let end = ends.remove(index);
            let findings = attempt.sink.take();
            let due = attempt.recorded || now.since(attempt.started) >= FOLD;
            if end.is_some() || (due && (!attempt.recorded || !findings.is_empty())) {
                taken.push((*index, attempt.started, findings, end));
            } else {
                attempt.sink.put_back(findings);
            }
        }
        for (index, started, findings, end) in taken {
            let report = self.report(index, started, findings, end).await;
            self.pending.push(report);
        }
    }

    async fn report(
        &mut self,
        index: usize,
        started: Timestamp,
        findings: Findings,
        mut end: Option<(Timestamp, StageOutcome)>,
    ) -> StageReport {
        let mut artifacts = Vec::new();
        for (name, bytes) in findings.artifacts {
            match self.keep(index, name, bytes).await {
                Ok(artifact) => artifacts.push(artifact),
                Err(error) => {
                    let failure = Failure::new(FailureCode::Internal, format!("an artifact was not stored: {error}"));
                    end = Some((self.parts.clock.now(), StageOutcome::Failed(failure)));
                }
            }
        }
        StageReport {
            index,
            started,
            lines: findings.lines,
            progress: findings.progress,
            artifacts,
            end,
        }
    }

    async fn keep(&mut self, index: usize, name: crate::artifacts::ArtifactName, bytes: Vec<u8>) -> Result<Artifact> {
        let key = self
            .parts
            .ledger
            .look(self.id, |loaded| loaded.definition.key(index).to_owned())
            .await?;
        let blob = blob_key(&self.parts, self.id);
        let stream: ByteStream = futures::stream::once(async move { Ok(bytes::Bytes::from(bytes)) }).boxed();
        let (size, sha256) = self
            .parts
            .blobs
            .put(&blob, stream, self.parts.settings.artifact_cap)
            .await?;
        Ok(Artifact {
            stage: u32::try_from(index).unwrap_or(u32::MAX),
            stage_key: key,
            substage: None,
            name,
            size,
            sha256,
            redacted: false,
            created_at: self.parts.clock.now(),
            blob,
        })
    }

    /// A bundle that was fetched and is not the run's, because the run ended or was handed on meanwhile, is deleted.
    async fn drop_unused_bundle(&mut self) {
        let Some(Ok(found)) = self.fetched.take() else { return };
        let kept = self
            .parts
            .ledger
            .look(self.id, |loaded| loaded.head.state.bundle.clone())
            .await;
        if kept.is_ok_and(|kept| kept.as_ref() != Some(&found.bundle))
            && let Err(error) = self.parts.blobs.delete(&found.bundle.key).await
        {
            tracing::warn!(run = %self.id, %error, "a bundle was not deleted");
        }
    }

    /// The bundle of an ended run is deleted.
    async fn clean_up(&mut self) {
        let bundle = self.parts.ledger.look(self.id, |loaded| {
            let ended = loaded.head.state.phase.status().is_terminal();
            loaded.head.state.bundle.clone().filter(|_| ended)
        });
        if let Ok(Some(bundle)) = bundle.await
            && let Err(error) = self.parts.blobs.delete(&bundle.key).await
        {
            tracing::warn!(run = %self.id, %error, "a bundle was not deleted");
        }
    }
}

/// A key for an artifact's bytes.
pub(crate) fn blob_key(parts: &Parts, run: RunId) -> String {
    format!("artifacts/{run}/{}", hex::encode(parts.entropy.draw::<16>()))
}

struct BlobBundle {
    blobs: Arc<dyn BlobStore>,
    key: String,
    opens: BundleKey,
}

#[async_trait]
impl OpenBundle for BlobBundle {
    async fn open(&self) -> Result<ByteStream, BlobError> {
        Ok(self.opens.open(self.blobs.get(&self.key, None).await?))
    }
}

impl From<BlobError> for Error {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::NotFound => Self::Expired("the content"),
            BlobError::TooLarge(cap) => Self::TooLarge(cap),
            BlobError::Unavailable(source) => Self::Unavailable("the blob store", Some(source)),
        }
    }
}
