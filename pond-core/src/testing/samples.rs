//! Sample records, made from a clock and entropy by hand: each one differs, and the same seed makes the same ones.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{ManualClock, SeededEntropy};
use crate::artifacts::{Artifact, ArtifactName};
use crate::clock::{Clock, Timestamp};
use crate::egress::{EgressDecision, Verdict};
use crate::event::{Event, EventBody, StageDecision};
use crate::id::{BootId, EngineId, JobId, ProjectId, RunId, WorkerId};
use crate::keys::{ApiKey, Area, KeyScope, KeyScopes};
use crate::logs::{LogLine, LogSource};
use crate::pool::{ClaimRequest, ClaimToken, ClaimedJob, JobChange, Needs, NewJob};
use crate::projects::{Project, Slug};
use crate::runs::{
    Append, Commit, Guard, Inputs, NewRun, RunOutcome, RunState, StageEvent, StageOutcome, StoredDefinition, Transition,
};
use crate::store::Store;
use crate::usage::{Pico, Tokens, UsageEntry, UsageTotals};

/// A maker of sample records.
#[derive(Debug)]
pub struct Samples {
    /// The time that records are made at.
    pub clock: Arc<ManualClock>,
    entropy: SeededEntropy,
    /// The engine that drives the runs.
    pub engine: EngineId,
    /// The project that they are of.
    pub project: ProjectId,
}

impl Samples {
    /// The samples of this seed.
    pub fn new(seed: u64) -> Self {
        let (clock, entropy) = (ManualClock::new(), SeededEntropy::new(seed));
        let engine = EngineId::mint(&*clock, &entropy);
        let project = ProjectId::mint(&*clock, &entropy);
        Self {
            clock,
            entropy,
            engine,
            project,
        }
    }

    /// The time now, a millisecond after the last one asked for.
    pub fn now(&self) -> Timestamp {
        self.clock.advance(Duration::from_millis(1));
        self.clock.now()
    }

    /// An id of any kind.
    pub fn id<I: From<uuid::Uuid>>(&self) -> I {
        RunId::mint(&*self.clock, &self.entropy).uuid().into()
    }

    /// A claim token.
    pub fn token(&self) -> ClaimToken {
        ClaimToken::draw(&self.entropy)
    }

    /// A definition; the same text gives the same one.
    pub fn definition(&self, text: &str) -> StoredDefinition {
        let json = serde_json::json!({ "stages": [{ "key": text }] }).to_string();
        StoredDefinition {
            digest: Sha256::digest(json.as_bytes()).into(),
            json: json.into(),
        }
    }

    /// A new run of one stage with one event.
    pub fn new_run(&self) -> NewRun {
        NewRun {
            id: self.id(),
            project: self.project,
            trigger: "api".into(),
            created_at: self.now(),
            owner: self.engine,
            definition: self.definition("build"),
            inputs: Arc::new(Inputs::default()),
            state: RunState::new(1),
            events: vec![self.line("created")],
            log_bytes: 7,
        }
    }

    /// A log line.
    pub fn line(&self, text: &str) -> Event {
        Event {
            at: self.now(),
            body: EventBody::Log(LogLine::system(LogSource::Engine, Some("build"), text)),
        }
    }

    /// A decision of an egress proxy.
    pub fn decision(&self, host: &str) -> Event {
        let at = self.now();
        let decision = EgressDecision {
            id: self.id(),
            at,
            host: host.into(),
            port: 443,
            ip: Some([192, 0, 2, 1].into()),
            verdict: Verdict::Denied,
            rule: Some(host.into()),
            reason: Some("a rule denies it".into()),
            bytes_up: 1,
            bytes_down: 2,
        };
        Event {
            at,
            body: EventBody::Egress(Box::new(StageDecision {
                stage: "build".into(),
                substage: None,
                decision,
            })),
        }
    }

    /// A commit that starts the first stage of a fresh run.
    pub fn start(&self, run: &NewRun) -> Commit {
        let mut state = run.state.clone();
        let event = StageEvent::Start {
            at: self.now(),
            worker: None,
        };
        let events = state.apply(Transition::Stage { index: 0, event }, |_| "build");
        Commit {
            state,
            events: events.expect("a queued stage can start"),
            ..self.commit(run, 1)
        }
    }

    /// A commit that starts and ends a fresh run of one stage.
    pub fn finish(&self, run: &NewRun) -> Commit {
        let mut commit = self.start(run);
        let at = self.now();
        let outcome = StageOutcome::Done;
        let event = StageEvent::End { at, outcome };
        let ended = commit.state.apply(Transition::Stage { index: 0, event }, |_| "build");
        commit.events.extend(ended.expect("a running stage can end"));
        let outcome = RunOutcome::Done;
        let ended = commit.state.apply(Transition::Ended { at, outcome }, |_| "build");
        commit.events.extend(ended.expect("a running run can end"));
        commit
    }

    /// A commit that changes nothing but the revision.
    pub fn commit(&self, run: &NewRun, expected_revision: i64) -> Commit {
        Commit {
            run: run.id,
            expected_revision,
            state: run.state.clone(),
            owner: run.owner,
            events: Vec::new(),
            log_bytes: 0,
            guard: None,
            jobs: Vec::new(),
            artifacts: Vec::new(),
            usage: Vec::new(),
        }
    }

    /// An append of log lines.
    pub fn append(&self, run: RunId, lines: &[&str]) -> Append {
        Append {
            run,
            events: lines.iter().map(|line| self.line(line)).collect(),
            log_bytes: lines.iter().map(|line| line.len() as u64).sum(),
            guard: None,
            piece: None,
            ids: Vec::new(),
            artifacts: Vec::new(),
            usage: Vec::new(),
        }
    }

    /// What a job needs that any worker with this tag can do.
    pub fn needs(&self, tag: &str) -> Needs {
        Needs {
            tags: BTreeSet::from([tag.to_owned()]),
            ..Needs::default()
        }
    }

    /// A job of the first stage of a run; its project may have a thousand in line.
    pub fn job(&self, run: &NewRun, tag: &str) -> NewJob {
        NewJob {
            id: self.id(),
            run: run.id,
            project: run.project,
            stage: 0,
            area: None,
            needs: self.needs(tag),
            enqueued_at: self.now(),
            project_limit: 1000,
        }
    }

    /// Creates a run with a job in line, at revision 2.
    ///
    /// # Panics
    /// When the store refuses.
    pub async fn enqueue(&self, store: &dyn Store, tag: &str) -> (NewRun, JobId) {
        self.enqueue_within(store, self.project, tag, 1000).await
    }

    /// The same, of a project that may have `limit` jobs in line and claimed.
    ///
    /// # Panics
    /// When the store refuses.
    pub async fn enqueue_within(
        &self,
        store: &dyn Store,
        project: ProjectId,
        tag: &str,
        limit: u32,
    ) -> (NewRun, JobId) {
        let run = NewRun {
            project,
            ..self.new_run()
        };
        store.create_run(run.clone()).await.expect("the store answers");
        let job = NewJob {
            project_limit: limit,
            ..self.job(&run, tag)
        };
        let id = job.id;
        let mut commit = self.commit(&run, 1);
        commit.jobs.push(JobChange::Enqueue(job));
        store.commit_run(commit).await.expect("the store answers");
        (run, id)
    }

    /// A worker that asks for up to `most` jobs of a tag, for a minute.
    pub fn claim(&self, tag: &str, most: usize) -> ClaimRequest {
        ClaimRequest {
            worker: self.id::<WorkerId>(),
            boot: self.id::<BootId>(),
            fits: vec![self.needs(tag).key()],
            only: None,
            tokens: (0..most).map(|_| self.token()).collect(),
            lease_until: self.clock.now().plus(Duration::from_secs(60)),
        }
    }

    /// The guard of a claim, now.
    pub fn guard(&self, claimed: &ClaimedJob) -> Guard {
        Guard {
            job: claimed.job.id,
            token: claimed.token.hash(),
            now: Some(self.clock.now()),
        }
    }

    /// An artifact.
    pub fn artifact(&self, name: &str) -> Artifact {
        Artifact {
            stage: 0,
            stage_key: "build".into(),
            substage: None,
            name: ArtifactName::new(name).expect("samples have proper names"),
            size: 12,
            sha256: Sha256::digest(name).into(),
            redacted: false,
            created_at: self.now(),
            blob: format!("artifacts/{name}"),
        }
    }

    /// The usage of one call.
    pub fn usage(&self, model: &str) -> UsageEntry {
        UsageEntry {
            stage: "build".into(),
            substage: None,
            model: model.into(),
            totals: UsageTotals {
                calls: 1,
                tokens: Tokens {
                    input: 100,
                    output: 20,
                    cache_read: 3,
                    cache_write: 4,
                },
                cost: Pico(1_000_001),
                unpriced_calls: 0,
                estimated_calls: 1,
            },
        }
    }

    /// A project.
    pub fn project(&self, slug: &str) -> Project {
        Project {
            id: self.id(),
            slug: Slug::new(slug).expect("samples have proper slugs"),
            name: format!("Project {slug}"),
            created_at: self.now(),
        }
    }

    /// A key of this project; nobody has its token.
    pub fn key(&self, project: ProjectId) -> ApiKey {
        let id = self.id();
        ApiKey {
            id,
            project,
            name: format!("Key {id}"),
            prefix: "pond_pk_00000000".into(),
            hash: Sha256::digest(id.as_bytes()).into(),
            scopes: KeyScopes::new([KeyScope::Read(Area::Runs), KeyScope::ReadRunners]).expect("two scopes"),
            created_at: self.now(),
            expires_at: Some(self.now()),
            last_used_at: None,
        }
    }
}
