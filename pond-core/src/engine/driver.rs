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

use super::advance::{cancel_live_jobs, fail_fetch, lose, settle_knowing};
use super::areas::{Gathered, fan_out, gather, has_waiting_area, read_map, write_gathered};
use super::fetch::{Fetched, bundle_key, fetch};
use super::ledger::{Cell, Loaded, Seen};
use super::left::left;
use super::placing::{UnfitCheck, enqueue, give_up, waiting};
use super::report::{StageReport, cancel_attempts, orphans, write, write_fetched};
use super::{Draft, Parts};
use crate::artifacts::{Artifact, BlobError, BlobStore, ByteStream};
use crate::clock::Timestamp;
use crate::config::Effective;
use crate::error::{Error, Result};
use crate::id::RunId;
use crate::logs::{LogLine, LogSource};
use crate::pool::needs_of;
use crate::runs::executors::{Findings, OpenBundle, Replay, StageContext, StageSink, Work};
use crate::runs::{
    AreaMap, BundleRef, Failure, FailureCode, KnownArtifacts, StageEvent, StageOutcome, StagePhase, Transition, Unit,
};
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
/// Work that ends its programs itself is cut off only this long after it should have.
const LATE: Duration = Duration::from_secs(5);

/// An attempt of an engine stage that runs here.
struct Attempt {
    /// Its number.
    number: u32,
    started: Timestamp,
    sink: StageSink,
    recorded: bool,
    stop: CancellationToken,
}

/// What ended here.
enum Ended {
    Stage(usize, Timestamp, StageOutcome),
    Fetch(Box<Result<Fetched, Failure>>),
    Map(usize, Result<Result<AreaMap, Failure>>),
    Gather(usize, Result<Gathered>),
}

/// What ended here and is to be written with the next change.
#[derive(Default)]
struct Pending {
    reports: Vec<StageReport>,
    fetched: Option<Result<Fetched, Failure>>,
    maps: Vec<(usize, Result<AreaMap, Failure>)>,
    gathered: Vec<(usize, Gathered)>,
}

impl Pending {
    /// Writes all but what was fetched.
    fn write(&self, draft: &mut Draft<'_>) -> Result<()> {
        for report in &self.reports {
            write(draft, report)?;
        }
        for (index, map) in &self.maps {
            fan_out(draft, *index, map)?;
        }
        for (index, gathered) in &self.gathered {
            write_gathered(draft, *index, gathered)?;
        }
        Ok(())
    }
}

/// What is to be done after a change.
enum Step {
    /// The run is over, or another engine's.
    Over,
    /// This.
    Go(Box<Next>),
}

/// What is to be done here next.
#[derive(Default)]
struct Next {
    /// Engine stages to start, and whether their start is written.
    start: Vec<(usize, bool)>,
    /// Engine stages to start again after a crash.
    resume: Vec<(usize, Timestamp)>,
    /// Whether to fetch.
    fetch: bool,
    /// Stages whose list of areas is to be read.
    fan_out: Vec<usize>,
    /// Stages whose areas have all ended.
    gather: Vec<usize>,
    /// What waits for a worker, or for its harness.
    unplaced: Vec<Unit>,
    /// When to look again, whatever happens.
    wake: Option<Timestamp>,
    /// A condition asks for artifacts.
    ask: bool,
}

impl Next {
    /// Puts a stage or an area in line, or notes that it is to be started here.
    fn start(&mut self, draft: &mut Draft<'_>, parts: &Parts, unit: Unit, effective: Option<&Effective>) -> Result<()> {
        match draft.definition.stages[unit.stage].executor.clone().work() {
            Work::Engine(work) => {
                let once = work.replay() == Replay::Once;
                if once {
                    // Durable with this change, before anything happens.
                    let (at, worker) = (draft.now, None);
                    draft.apply(Transition::unit(unit, StageEvent::Start { at, worker }))?;
                }
                self.start.push((unit.stage, once));
                Ok(())
            }
            Work::Pool(swarm) => {
                self.unplaced.push(unit);
                enqueue(draft, parts, unit, swarm, effective)
            }
        }
    }
}

struct Driver {
    parts: Arc<Parts>,
    id: RunId,
    seen: watch::Receiver<Seen>,
    attempts: BTreeMap<usize, Attempt>,
    work: FuturesUnordered<BoxFuture<'static, Ended>>,
    fetching: bool,
    /// Stages whose list of areas is being read, or whose areas are being gathered.
    reading: BTreeSet<usize>,
    pending: Pending,
    /// Artifacts that conditions asked for.
    known: Option<KnownArtifacts>,
    /// What waits for a worker, or for its harness.
    unplaced: Vec<Unit>,
    /// Those of them that nothing which is online fits, and since when.
    waits: BTreeMap<Unit, Timestamp>,
    /// When to look again, whatever happens.
    wake: Option<Timestamp>,
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
        reading: BTreeSet::new(),
        pending: Pending::default(),
        known: None,
        unplaced: Vec::new(),
        waits: BTreeMap::new(),
        wake: None,
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
                Ok(Step::Go(next)) => {
                    self.pending = Pending::default();
                    let ask = next.ask;
                    if let Err(error) = self.begin(*next).await {
                        tracing::warn!(run = %self.id, %error, "a run could not be looked at");
                        self.parts.clock.sleep(BACKOFF).await;
                    }
                    if ask {
                        continue;
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
        let live = self.live();
        let (pending, known) = (&self.pending, &self.known);
        let (fetching, reading) = (self.fetching, &self.reading);
        let unfit = self.unfit(effective.as_ref());
        let step = parts.ledger.change(self.id, |draft| {
            if draft.state().phase.status().is_terminal() || draft.head.owner != parts.id {
                return Ok(Step::Over);
            }
            match &pending.fetched {
                Some(Ok(found)) => write_fetched(draft, found)?,
                Some(Err(failure)) => {
                    let text = failure.message.clone();
                    draft.log(draft.now, LogLine::system(LogSource::Fetch, None, text));
                    fail_fetch(draft, failure)?;
                    return Ok(Step::Over);
                }
                None => {}
            }
            pending.write(draft)?;
            if draft.state().cancel_requested_at.is_some() {
                cancel_attempts(draft, &live)?;
                cancel_live_jobs(draft)?;
            }
            for (unit, check) in &unfit {
                give_up(draft, *unit, check)?;
            }
            let mut next = Next::default();
            for (index, since) in orphans(draft, &live) {
                match replay(draft, index) {
                    Replay::Safe => next.resume.push((index, since)),
                    Replay::Once => lose(draft, index, &parts.settings)?,
                }
            }
            let active = live
                .iter()
                .copied()
                .filter(|&i| !draft.state().stages[i].phase.status().is_terminal());
            let plan = settle_knowing(draft, &active.collect(), &parts.settings, known.as_ref())?;
            if draft.state().phase.status().is_terminal() {
                return Ok(Step::Over);
            }
            next.fetch = plan.fetch && !fetching;
            if next.fetch {
                draft.apply(Transition::FetchStarted { at: draft.now })?;
            }
            next.unplaced = waiting(draft);
            for unit in plan.start {
                next.start(draft, &parts, unit, effective.as_ref())?;
            }
            let idle = |index: &usize| !reading.contains(index);
            next.fan_out = plan.fan_out.into_iter().filter(idle).collect();
            next.gather = plan.gather.into_iter().filter(idle).collect();
            (next.wake, next.ask) = (plan.wake, plan.ask);
            Ok(Step::Go(Box::new(next)))
        });
        let step = step.await?;
        self.drop_ended();
        Ok(step)
    }

    /// Attempts that run here; one whose end is about to be written makes room for the next.
    fn live(&self) -> BTreeSet<usize> {
        let reports = self.pending.reports.iter();
        let ended: BTreeSet<usize> = reports.filter(|r| r.end.is_some()).map(|r| r.index).collect();
        self.attempts
            .keys()
            .copied()
            .filter(|index| !ended.contains(index))
            .collect()
    }

    /// Config as the run's project sees it, when a stage is still to be placed.
    async fn effective(&mut self) -> Result<Option<Effective>> {
        let look = self.parts.ledger.look(self.id, |loaded| {
            let stages = loaded.definition.stages.iter().zip(&loaded.head.state.stages);
            let mut unplaced = stages.filter(|(stage, state)| {
                let waits = matches!(state.phase, StagePhase::Queued { .. }) || has_waiting_area(state);
                waits && matches!(stage.executor.work(), Work::Pool(_))
            });
            unplaced.next().is_some().then_some(loaded.head.project)
        });
        match look.await? {
            Some(project) => self.parts.config.effective(project).await.map(Some),
            None => Ok(None),
        }
    }

    /// Notes since when nothing fits the stages that wait. Behind a worker that fits and is busy a stage waits on.
    async fn note_waits(&mut self, unplaced: Vec<Unit>) -> Result<()> {
        self.waits.retain(|unit, _| unplaced.contains(unit));
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
        self.parts.know_workers().await?;
        let (now, settings) = (self.parts.clock.now(), &self.parts.settings);
        for &unit in &self.unplaced {
            let Work::Pool(swarm) = definition.stages[unit.stage].executor.work() else {
                continue;
            };
            let needs = needs_of(swarm, project, &effective, settings);
            let presence = &self.parts.presence;
            if needs.is_ok_and(|needs| {
                presence
                    .missing(&needs, project, now, settings.worker_offline)
                    .is_none()
            }) {
                self.waits.remove(&unit);
            } else {
                self.waits.entry(unit).or_insert(now);
            }
        }
        Ok(())
    }

    /// Stages and areas for which no worker that fits has been online for the grace.
    fn unfit(&self, effective: Option<&Effective>) -> Vec<(Unit, UnfitCheck)> {
        let (now, grace) = (self.parts.clock.now(), self.parts.settings.no_worker_grace);
        let due = self.waits.iter().filter(|(_, since)| now.since(**since) >= grace);
        due.filter_map(|(unit, _)| {
            Some((
                *unit,
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
        for report in &self.pending.reports {
            match (&report.end, self.attempts.get_mut(&report.index)) {
                (Some(_), _) => {
                    self.attempts.remove(&report.index);
                }
                (None, Some(attempt)) => attempt.recorded = true,
                (None, None) => {}
            }
        }
    }

    async fn begin(&mut self, next: Next) -> Result<()> {
        let now = self.parts.clock.now();
        for (index, recorded) in next.start {
            self.start(index, now, recorded).await?;
        }
        for (index, since) in next.resume {
            self.start(index, since, true).await?;
        }
        if next.fetch {
            self.start_fetch().await?;
        }
        for index in next.fan_out {
            self.start_map(index).await?;
        }
        for index in next.gather {
            self.start_gather(index).await?;
        }
        self.wake = next.wake;
        if next.ask {
            self.known = Some(self.learn().await?);
        }
        if let Err(error) = self.note_waits(next.unplaced).await {
            tracing::warn!(run = %self.id, %error, "it is not known who could take a stage");
        }
        Ok(())
    }

    /// Reads which artifacts there are. The state is looked at first: of a stage that had ended by then, all are there.
    async fn learn(&mut self) -> Result<KnownArtifacts> {
        let look = self.parts.ledger.look(self.id, |loaded| {
            let stages = loaded.head.state.stages.iter().enumerate();
            let ended = stages.filter(|(_, stage)| stage.phase.status().is_terminal());
            ended.map(|(index, _)| index).collect()
        });
        let ended = look.await?;
        let own = left(&self.parts, self.id).await?.into_iter();
        let own = own.filter(|artifact| artifact.substage.is_none());
        let names = own.filter_map(|artifact| Some((usize::try_from(artifact.stage).ok()?, artifact.name)));
        Ok(KnownArtifacts {
            ended,
            names: names.collect(),
        })
    }

    async fn start_map(&mut self, index: usize) -> Result<()> {
        let look = self.parts.ledger.look(self.id, |loaded| loaded.definition.clone());
        let (definition, parts, id) = (look.await?, self.parts.clone(), self.id);
        self.reading.insert(index);
        let work = async move {
            let read = read_map(&parts, id, &definition, index).await;
            if read.is_err() {
                parts.clock.sleep(BACKOFF).await;
            }
            Ended::Map(index, read)
        };
        self.work.push(work.boxed());
        Ok(())
    }

    async fn start_gather(&mut self, index: usize) -> Result<()> {
        let look = self.parts.ledger.look(self.id, |loaded| {
            (loaded.definition.clone(), loaded.head.state.bundle.clone())
        });
        let ((definition, bundle), parts, id) = (look.await?, self.parts.clone(), self.id);
        self.reading.insert(index);
        let work = async move {
            let gathered = gather(&parts, id, &definition, index, bundle).await;
            if gathered.is_err() {
                parts.clock.sleep(BACKOFF).await;
            }
            Ended::Gather(index, gathered)
        };
        self.work.push(work.boxed());
        Ok(())
    }

    async fn start(&mut self, index: usize, started: Timestamp, recorded: bool) -> Result<()> {
        let (settings, clock) = (&self.parts.settings, self.parts.clock.clone());
        let look = self.parts.ledger.look(self.id, |loaded| {
            let limits = loaded.limits(Unit::stage(index), settings, started);
            let executor = loaded.definition.stages[index].executor.clone();
            let number = match loaded.head.state.stages[index].phase {
                StagePhase::Queued { attempts, .. } => attempts.saturating_add(1),
                StagePhase::Running { attempt, .. } | StagePhase::Ended { attempt, .. } => attempt,
            };
            (executor, limits.timeout, loaded.head.state.bundle.clone(), number)
        });
        let (executor, timeout, bundle, number) = look.await?;
        let Work::Engine(work) = executor.work() else {
            return Err(Error::internal("a pool stage was started in the engine"));
        };
        let timeout = work.timeout().map_or(timeout, |own| own.min(timeout));
        let left = started.plus(timeout).since(clock.now());
        let cut_off = match work.replay() {
            Replay::Safe => left,
            // A program is asked to end first, and what it left is kept.
            Replay::Once => left + settings.cancel_grace + LATE,
        };
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
            clock: clock.clone(),
            sink: sink.clone(),
            host: self.parts.host.clone().filter(|_| settings.allow_shell),
            timeout: left,
            grace: settings.cancel_grace,
            artifact_cap: settings.artifact_cap,
        };
        self.attempts.insert(
            index,
            Attempt {
                number,
                started,
                sink,
                recorded,
                stop: stop.clone(),
            },
        );
        let work = async move {
            let Work::Engine(work) = executor.work() else {
                let failure = Failure::new(FailureCode::Internal, "a pool stage was started in the engine");
                return Ended::Stage(index, clock.now(), StageOutcome::Failed(failure));
            };
            let outcome = tokio::select! {
                biased;
                () = stop.cancelled() => StageOutcome::Cancelled,
                outcome = work.run(&context) => outcome,
                () = clock.sleep(cut_off) => {
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
                // What is fetching is dropped with its temporary folder; nothing else runs before it.
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
        let wake = self.wake.map(|wake| wake.since(now).max(Duration::from_millis(1)));
        flush
            .chain(due)
            .chain(place)
            .chain(wake)
            .chain([look])
            .min()
            .unwrap_or(look)
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
                    self.pending.fetched = Some(*result);
                }
                Ended::Map(index, Ok(map)) => {
                    self.reading.remove(&index);
                    self.pending.maps.push((index, map));
                }
                Ended::Gather(index, Ok(gathered)) => {
                    self.reading.remove(&index);
                    self.pending.gathered.push((index, gathered));
                }
                Ended::Map(index, Err(error)) | Ended::Gather(index, Err(error)) => {
                    self.reading.remove(&index);
                    tracing::warn!(run = %self.id, index, %error, "areas of a stage could not be read; trying again");
                }
            }
        }
        let mut taken = Vec::new();
        for (index, attempt) in &self.attempts {
            let end = ends.remove(index);
            let findings = attempt.sink.take();
            let due = attempt.recorded || now.since(attempt.started) >= FOLD;
            if end.is_some() || (due && (!attempt.recorded || !findings.is_empty())) {
                taken.push((*index, (attempt.number, attempt.started), findings, end));
            } else {
                attempt.sink.put_back(findings);
            }
        }
        for (index, attempt, findings, end) in taken {
            let report = self.report(index, attempt, findings, end).await;
            self.pending.reports.push(report);
        }
    }

    async fn report(
        &mut self,
        index: usize,
        (attempt, started): (u32, Timestamp),
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
            attempt,
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
        let Some(Ok(found)) = self.pending.fetched.take() else {
            return;
        };
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

/// The fetched sources of a run: a plain tar.
pub(super) async fn open_bundle(parts: &Parts, run: RunId, bundle: &BundleRef) -> Result<ByteStream> {
    let opens = bundle_key(parts, run, bundle)?;
    Ok(opens.open(parts.blobs.get(&bundle.key, None).await?))
}

/// Whether an engine stage may be run again after a crash.
fn replay(draft: &Draft<'_>, index: usize) -> Replay {
    match draft.definition.stages[index].executor.work() {
        Work::Engine(work) => work.replay(),
        Work::Pool(_) => Replay::Once,
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
