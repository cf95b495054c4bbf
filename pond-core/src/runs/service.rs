//! Runs, as callers see them: submit, watch, cancel, read.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use serde_json::Value;

use super::follow::{EVENTS_AT_ONCE, Follower, LOOK_AGAIN};
use super::submission::{self, Reading, Submission};
use super::{FIRST_REVISION, Inputs, NewRun, Run, RunCursor, RunFilter, RunHead, RunState, RunStatus, Transition};
use crate::artifacts::{Artifact, ArtifactName, ByteStream};
use crate::engine::{Loaded, Parts, cancel_live_jobs, drive, settle};
use crate::error::{Conflict, Error, Result};
use crate::event::{Event, EventBody, EventKind, EventNumber, NumberedEvent, StatusChange};
use crate::id::{ProjectId, RunId};
use crate::logs::{LogLine, LogSource};
use crate::page::{Page, PageRequest};
use crate::preflight::{self, Dial, Problem, Reachability, Severity, Subject, definition_problems};
use crate::scope::Scope;
use crate::sources::FolderScope;
use crate::usage::UsageReport;

/// Bytes that [`Runs::text`] reads.
const MAX_TEXT: u64 = 16 << 20;

/// What expires of a run.
pub(super) const LOG: &str = "the run's log";
const ARTIFACTS: &str = "the run's artifacts";

/// Whether preflight may dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// It checks whether sources can be reached.
    Dial,
    /// It sends nothing.
    Offline,
}

/// Runs.
#[derive(Clone)]
pub struct Runs {
    pub(super) parts: Arc<Parts>,
    reachability: Arc<Reachability>,
    /// What those who submit here may name as folder sources.
    folders: FolderScope,
}

impl Runs {
    pub(crate) fn new(parts: Arc<Parts>) -> Self {
        Self {
            parts,
            reachability: Arc::default(),
            folders: FolderScope::Root,
        }
    }

    /// The same runs for a caller who may name only these folders as sources. Without this it is all beneath the root.
    #[must_use]
    pub fn with_folders(&self, folders: FolderScope) -> Self {
        Self {
            folders,
            ..self.clone()
        }
    }

    /// The project that a body names, if any.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it names one that is no UUID.
    pub fn named_project(body: &Value) -> Result<Option<ProjectId>> {
        submission::named_project(body)
    }

    /// Creates a run of `project` from a request body in JSON, and starts it. Durable on return.
    ///
    /// # Errors
    /// [`Error::Unreadable`] when it is no JSON; [`Error::Preflight`] or [`Error::Invalid`] with all that is wrong;
    /// [`Error::QueueFull`] when too many runs of the project wait.
    pub async fn submit(&self, project: ProjectId, body: &str) -> Result<Run> {
        let value = parse(body)?;
        let submission = self.admit(body, &value).await?;
        let problems = self.problems(project, &submission, Reach::Offline).await?;
        if problems.iter().any(|problem| problem.severity == Severity::Error) {
            return Err(Error::Preflight {
                problems,
                faults: Vec::new(),
            });
        }
        self.create(project, submission, &problems).await
    }

    /// What would stop a submission, without creating anything.
    ///
    /// # Errors
    /// When the body cannot be read far enough to be checked.
    pub async fn preflight(&self, project: ProjectId, body: &str, reach: Reach) -> Result<Vec<Problem>> {
        let value = parse(body)?;
        match self.admit(body, &value).await {
            Ok(submission) => self.problems(project, &submission, reach).await,
            Err(Error::Preflight { problems, faults }) if faults.len() == problems.len() => Ok(problems),
            Err(error) => Err(error),
        }
    }

    /// A run.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, scope: Scope, id: RunId) -> Result<Run> {
        self.parts.store.run(scope, id).await?.ok_or(Error::NotFound("run"))
    }

    /// Runs, newest first.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn list(
        &self,
        scope: Scope,
        filter: &RunFilter,
        page: PageRequest<RunCursor>,
    ) -> Result<Page<RunHead, RunCursor>> {
        Ok(self.parts.store.runs(scope, filter, page).await?)
    }

    /// How many runs ended in this engine since it started, by terminal status.
    pub fn ended_here(&self) -> Vec<(RunStatus, u64)> {
        self.parts.ledger.ended()
    }

    /// Waits until a run has ended.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn wait(&self, scope: Scope, id: RunId) -> Result<Run> {
        let mut watch = self.parts.watches.run(id);
        if let Some(cell) = self.parts.ledger.live_cell(id) {
            // Followed here: its end is known without a look at the store. A run that is handed to another engine meanwhile
            // never ends here, so its news are listened to as well.
            tokio::select! {
                biased;
                run = cell.ended() => {
                    if let Some(run) = run.filter(|run| scope.admits(run.head.project)) {
                        return Ok(run);
                    }
                }
                () = self.parts.clock.sleep(LOOK_AGAIN) => {}
            }
        }
        loop {
            let run = self.get(scope, id).await?;
            if run.head.state.phase.status().is_terminal() {
                return Ok(run);
            }
            tokio::select! {
                biased;
                () = watch.changed() => {}
                () = self.parts.clock.sleep(LOOK_AGAIN) => {}
            }
        }
    }

    /// Asks for a run's cancel. A second call changes nothing; an ended run stays as it is.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn cancel(&self, scope: Scope, id: RunId) -> Result<Run> {
        self.get(scope, id).await?;
        let parts = &self.parts;
        let told = parts.ledger.change(id, |draft| {
            let state = draft.state();
            if state.phase.status().is_terminal() || state.cancel_requested_at.is_some() {
                return Ok(Vec::new());
            }
            draft.apply(Transition::CancelRequested { at: draft.now })?;
            let told = cancel_live_jobs(draft)?;
            settle(draft, &Default::default(), &parts.settings)?;
            Ok(told)
        });
        for (worker, job) in told.await? {
            parts.tell_cancel(worker, job).await;
        }
        self.get(scope, id).await
    }

    /// A new run with the definition, context and resolved sources of an ended one.
    ///
    /// # Errors
    /// [`Conflict::NotTerminal`] while the run lives; as [`Runs::submit`].
    pub async fn retry(&self, scope: Scope, id: RunId) -> Result<Run> {
        let run = self.get(scope, id).await?;
        if !run.head.state.phase.status().is_terminal() {
            return Err(Error::conflict(
                Conflict::NotTerminal,
                "the run has not ended; cancel it first",
            ));
        }
        let mut body = serde_json::Map::new();
        let definition = serde_json::from_str(&run.definition.json);
        body.insert(
            "definition".into(),
            definition.map_err(|_| Error::internal("a stored definition"))?,
        );
        body.insert("trigger".into(), "retry".into());
        let body = Value::Object(body);
        let mut submission = self.admit(&body.to_string(), &body).await?;
        let sources = run
            .head
            .inputs
            .sources
            .as_deref()
            .map(|raw| serde_json::from_str::<Value>(raw.get()));
        if let Some(Ok(sources)) = sources {
            submission.sources =
                crate::sources::parse(&sources, "/sources", &self.parts.settings.outbound).map_err(Error::Invalid)?;
        }
        let pins = run.head.state.bundle.map(|bundle| bundle.resolved).unwrap_or_default();
        submission.inputs = Inputs {
            pins,
            retry_of: Some(id),
            ..(*run.head.inputs).clone()
        };
        let problems = self.problems(run.head.project, &submission, Reach::Offline).await?;
        if problems.iter().any(|problem| problem.severity == Severity::Error) {
            return Err(Error::Preflight {
                problems,
                faults: Vec::new(),
            });
        }
        self.create(run.head.project, submission, &problems).await
    }

    /// Events of a run with a number above `after`, at most `limit`.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Expired`] when they were kept long enough.
    pub async fn events(&self, scope: Scope, id: RunId, after: EventNumber, limit: u32) -> Result<Vec<NumberedEvent>> {
        let run = self.kept(scope, id, LOG).await?;
        let events = self.parts.store.events(scope, id, after, limit).await?;
        if events.is_empty() && after.saturating_add(1) < run.next_event {
            return Err(Error::Expired(LOG));
        }
        Ok(events)
    }

    /// Log lines of a run with a number above `since`, of one stage if given, at most `limit`.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn logs(
        &self,
        scope: Scope,
        id: RunId,
        since: EventNumber,
        limit: u32,
        stage: Option<&str>,
    ) -> Result<Vec<NumberedEvent>> {
        let run = self.kept(scope, id, LOG).await?;
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        let (mut lines, mut after) = (Vec::new(), since);
        loop {
            let store = &self.parts.store;
            let events = store
                .events_of(scope, id, EventKind::Log, after, EVENTS_AT_ONCE)
                .await?;
            let last = events.len() < EVENTS_AT_ONCE as usize;
            for event in events {
                after = event.id;
                if is_line_of(&event, stage) {
                    lines.push(event);
                }
                if lines.len() == wanted {
                    return Ok(lines);
                }
            }
            if last && lines.is_empty() {
                // Nothing where something was: the log is gone.
                let gone = since.saturating_add(1) < run.next_event
                    && self.parts.store.events(scope, id, since, 1).await?.is_empty();
                return if gone { Err(Error::Expired(LOG)) } else { Ok(lines) };
            }
            if last {
                return Ok(lines);
            }
        }
    }

    /// Events of a run with a number above `after`, and further ones as they come; ends with the run.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn follow(
        &self,
        scope: Scope,
        id: RunId,
        after: EventNumber,
    ) -> Result<BoxStream<'static, Result<NumberedEvent>>> {
        self.kept(scope, id, LOG).await?;
        let (parts, watch) = (self.parts.clone(), self.parts.watches.run(id));
        let follower = Follower {
            parts,
            watch,
            scope,
            id,
            after,
            over: false,
        };
        Ok(stream::try_unfold(follower, Follower::next)
            .map_ok(stream::iter)
            .map_ok(|s| s.map(Ok))
            .try_flatten()
            .boxed())
    }

    /// Usage of a run.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn usage(&self, scope: Scope, id: RunId) -> Result<UsageReport> {
        self.get(scope, id).await?;
        Ok(UsageReport {
            entries: self.parts.store.usage(scope, id).await?,
        })
    }

    /// Artifacts of a run, of one stage and substage if given.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn artifacts(
        &self,
        scope: Scope,
        id: RunId,
        stage: Option<&str>,
        substage: Option<&str>,
    ) -> Result<Vec<Artifact>> {
        self.kept(scope, id, ARTIFACTS).await?;
        let mut artifacts = self.parts.store.artifacts(scope, id).await?;
        if artifacts.is_empty() && self.parts.store.events(scope, id, 0, 1).await?.is_empty() {
            return Err(Error::Expired(ARTIFACTS));
        }
        artifacts.retain(|artifact| {
            stage.is_none_or(|stage| artifact.stage_key == stage)
                && substage.is_none_or(|substage| artifact.substage.as_deref() == Some(substage))
        });
        Ok(artifacts)
    }

    /// One artifact. Without a stage: the stage-level one of the last stage, in topological and then array order, that has
    /// one of this name.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn artifact(
        &self,
        scope: Scope,
        id: RunId,
        stage: Option<&str>,
        substage: Option<&str>,
        name: &ArtifactName,
    ) -> Result<Artifact> {
        let mut found = self.artifacts(scope, id, stage, substage).await?;
        found.retain(|artifact| artifact.name == *name && artifact.substage.as_deref() == substage);
        let order = self
            .parts
            .ledger
            .look(id, |loaded| loaded.definition.topological())
            .await?;
        let place = |artifact: &Artifact| {
            order
                .iter()
                .position(|&index| index as u64 == u64::from(artifact.stage))
        };
        found.into_iter().max_by_key(place).ok_or(Error::NotFound("artifact"))
    }

    /// The bytes of an artifact, or a part of them.
    ///
    /// # Errors
    /// [`Error::Expired`] when they are gone.
    pub async fn artifact_bytes(&self, artifact: &Artifact, range: Option<Range<u64>>) -> Result<ByteStream> {
        Ok(self.parts.blobs.get(&artifact.blob, range).await?)
    }

    /// The text of an artifact of at most 16 MiB; bad UTF-8 becomes U+FFFD.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::TooLarge`].
    pub async fn text(&self, scope: Scope, id: RunId, name: &str) -> Result<String> {
        let name = ArtifactName::new(name).map_err(|_| Error::NotFound("artifact"))?;
        let artifact = self.artifact(scope, id, None, None, &name).await?;
        if artifact.size > MAX_TEXT {
            return Err(Error::TooLarge(MAX_TEXT));
        }
        let pieces: Vec<bytes::Bytes> = self.artifact_bytes(&artifact, None).await?.try_collect().await?;
        Ok(String::from_utf8_lossy(&pieces.concat()).into_owned())
    }

    /// A run whose log and artifacts are still to be had. What is due answers so before it is deleted; and what was deleted
    /// under a shorter time than today's is told by the store, where every run that was not emptied has events.
    pub(super) async fn kept(&self, scope: Scope, id: RunId, what: &'static str) -> Result<RunHead> {
        let head = self.get(scope, id).await?.head;
        let parts = &self.parts;
        match parts.settings.retention.is_over(&head.state.phase, parts.clock.now()) {
            true => Err(Error::Expired(what)),
            false => Ok(head),
        }
    }

    /// Reads a body, and checks what needs this host but no network.
    async fn admit(&self, text: &str, value: &Value) -> Result<Submission> {
        let Reading {
            submission,
            definition,
            mut other,
        } = submission::read(text, value, &self.parts.settings.outbound);
        if let Some(mut submission) = submission {
            submission.inputs.folders = (!submission.sources.is_empty()).then(|| self.folders.clone());
            match self.folder_faults(&submission).await {
                faults if faults.is_empty() => return Ok(submission),
                faults => other.extend(faults),
            }
        }
        if definition.is_empty() {
            return Err(Error::Invalid(other));
        }
        let problems = definition_problems(&definition);
        Err(Error::Preflight {
            problems,
            faults: definition.into_iter().chain(other).collect(),
        })
    }

    async fn folder_faults(&self, submission: &Submission) -> Vec<crate::error::Fault> {
        let mut faults = Vec::new();
        for (index, source) in submission.sources.iter().enumerate() {
            let admitted = match &self.parts.sources {
                Some(fetch) => fetch.admit(source, &self.folders).await,
                None => Err(crate::error::Fault::new("", "this engine was built without sources")),
            };
            if let Err(fault) = admitted {
                let pointer = format!("/sources/{index}{}", fault.pointer);
                faults.push(crate::error::Fault { pointer, ..fault });
            }
        }
        faults
    }

    async fn problems(&self, project: ProjectId, submission: &Submission, reach: Reach) -> Result<Vec<Problem>> {
        let dials = reach == Reach::Dial && !submission.sources.is_empty();
        let keyed = submission.sources.iter().any(|source| source.credential().is_some());
        if !dials && !keyed && !submission.definition.stages.iter().any(preflight::looks_at) {
            // Nothing that a check looks at: no read for the smallest runs.
            return Ok(Vec::new());
        }
        let effective = self.parts.config.effective(project).await?;
        self.parts.know_workers().await?;
        let dial = self.parts.sources.as_deref().filter(|_| dials).map(|fetch| Dial {
            fetch,
            reachability: &self.reachability,
            config: &self.parts.config,
            scope: self.folders.clone(),
        });
        let subject = Subject {
            project,
            definition: &submission.definition,
            sources: &submission.sources,
            effective: &effective,
            settings: &self.parts.settings,
            presence: &self.parts.presence,
            now: self.parts.clock.now(),
            budget: submission.inputs.budget(self.parts.settings.default_budget_usd),
            sent_budget_usd: submission.inputs.budget(None).usd.is_some(),
            context: submission.inputs.context.as_deref(),
            digest: submission.stored.digest,
            store: &self.parts.store,
            has_host: self.parts.host.is_some(),
            dial,
        };
        Ok(preflight::check(&subject).await)
    }

    async fn create(&self, project: ProjectId, submission: Submission, problems: &[Problem]) -> Result<Run> {
        let parts = &self.parts;
        self.refuse_when_full(project).await?;
        parts.give_word().await?;
        let now = parts.clock.now();
        let mut events = vec![Event {
            at: now,
            body: EventBody::Status(queued()),
        }];
        let lines = problems.iter().map(|problem| {
            let text = format!("{} {}: {}", problem.severity.as_str(), problem.code, problem.message);
            LogLine::system(LogSource::Preflight, problem.stage.as_deref(), text)
        });
        let lines: Vec<LogLine> = lines.collect();
        let log_bytes = lines.iter().map(|line| line.line.len() as u64 + 1).sum();
        events.extend(lines.into_iter().map(|line| Event {
            at: now,
            body: EventBody::Log(line),
        }));
        let head = RunHead {
            id: RunId::mint(&*parts.clock, &*parts.entropy),
            project,
            trigger: submission.trigger,
            created_at: now,
            definition_digest: submission.stored.digest,
            inputs: Arc::new(submission.inputs),
            state: RunState::new(submission.definition.stages.len()),
            revision: FIRST_REVISION,
            next_event: 1 + i64::try_from(events.len()).unwrap_or(i64::MAX),
            log_bytes,
            owner: parts.id,
        };
        let new = NewRun {
            id: head.id,
            project,
            trigger: head.trigger.clone(),
            created_at: now,
            owner: parts.id,
            definition: submission.stored.clone(),
            inputs: head.inputs.clone(),
            state: head.state.clone(),
            events,
            log_bytes,
        };
        let run = Run {
            head: head.clone(),
            definition: submission.stored,
        };
        let loaded = Loaded {
            head,
            definition: submission.definition,
            stored: run.definition.clone(),
            usage: None,
        };
        self.start(new, loaded).await?;
        Ok(run)
    }

    /// Writes a run and follows it, in a task of its own: a caller that goes away in between must not leave a run that nobody
    /// drives.
    async fn start(&self, new: NewRun, loaded: Loaded) -> Result<()> {
        let parts = self.parts.clone();
        let (told, done) = tokio::sync::oneshot::channel();
        self.parts.tasks.spawn(async move {
            let created = parts.store.create_run(new).await;
            if created.is_ok() {
                let id = loaded.head.id;
                let cell = parts.ledger.insert(loaded);
                parts.follow(id, drive(parts.clone(), id, cell));
            }
            // A caller that is gone need not be told.
            let _gone = told.send(created);
        });
        done.await.map_err(|_| Error::Unavailable("the engine", None))??;
        Ok(())
    }

    async fn refuse_when_full(&self, project: ProjectId) -> Result<()> {
        let limit = self.parts.settings.project_max_queued;
        // As long as few runs are followed here, the store need not be asked. The count and the create are two steps: submits
        // that are under way together may go over the limit by as many as they are, and several servers by half of it each.
        if self.parts.driven_here() < u64::from(limit) / 2 {
            return Ok(());
        }
        if self.parts.store.live_run_count(project, limit).await? < limit {
            return Ok(());
        }
        let message = format!("{limit} runs of the project have not ended yet");
        Err(Error::QueueFull {
            message,
            retry_after: Duration::from_secs(5),
        })
    }
}

fn parse(body: &str) -> Result<Value> {
    serde_json::from_str(body).map_err(|error| {
        // The position helps, the offending text might be a secret.
        Error::Unreadable(format!("line {} column {}", error.line(), error.column()))
    })
}

fn queued() -> StatusChange {
    StatusChange {
        stage: None,
        area: None,
        from: "none".into(),
        to: "queued".into(),
        error: None,
    }
}

fn is_line_of(event: &NumberedEvent, stage: Option<&str>) -> bool {
    match &event.event.body {
        EventBody::Log(line) => stage.is_none_or(|stage| line.stage.as_deref() == Some(stage)),
        _ => false,
    }
}
