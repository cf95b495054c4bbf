//! What the engine does for a worker, wherever it runs: hands jobs out, and takes in what comes of them. The link in process
//! and the link through an orchestrator differ in how they name the worker and carry secrets, and in nothing else.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::budget::{self, Binding};
use super::claims::{Decided, Held, Started};
use super::handout::{base, job_model, sealed};
use super::{
    Claim, ClaimRequest, ClaimToken, ClaimedJob, JobChange, JobEnd, JobPhase, JobRow, JobStatus, Needs, Renewal,
    Renewed, Serves,
};
use super::{bundle_token, resolve};
use crate::artifacts::{Artifact, ByteStream};
use crate::clock::Timestamp;
use crate::config::{Model, Resolution};
use crate::dispatch::{
    Beat, BeatAnswer, BundleOffer, Chunk, CredentialRequest, Grant, Job, Report, SignedJob, Telemetry, Upload,
};
use crate::egress::{EgressDecision, Ruled, RunReach, StageReach, Ways};
use crate::engine::{
    Draft, Limits, Loaded, Parts, blob_key, bundle_key, end, parsed, prompt, settle, stale_claim, take_back,
};
use crate::error::{Conflict, Error, Result};
use crate::event::{Event, EventBody, StageDecision};
use crate::id::{BootId, ProjectId, WorkerId};
use crate::logs::LogLine;
use crate::outbound::HostPattern;
use crate::runs::executors::{SandboxBlock, Swarm, Work};
use crate::runs::{Append, Appended, BundleRef, Guard, StageEvent, StageOutcome, StagePhase, Transition, Unit};
use crate::sandbox::Profile;
use crate::scope::Scope;
use crate::sources::BundleKey;
use crate::usage::{Amounts, Granted, ModelCall, UsageEntry, UsageTotals};

/// Who takes jobs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taker<'a> {
    pub(crate) worker: WorkerId,
    pub(crate) boot: BootId,
    pub(crate) tags: &'a BTreeSet<String>,
    pub(crate) capabilities: &'a BTreeSet<String>,
    /// What its jobs may reach by default.
    pub(crate) defaults: &'a [HostPattern],
    pub(crate) place: Place,
}

/// Where a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the engine's process.
    Here,
    /// Behind an orchestrator: its jobs are signed.
    Away,
}

/// A claim that is live now.
pub(crate) struct Live {
    pub(crate) held: Arc<Held>,
    /// Whose job it is.
    pub(crate) project: ProjectId,
    /// When its lease ends.
    pub(crate) until: Timestamp,
}

/// A job that has just ended by a report; a report that came again ends nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// Whose job it was.
    pub project: ProjectId,
}

/// The desk.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) parts: Arc<Parts>,
}

impl Desk {
    /// Claims what fits and starts it: at most `free` jobs.
    pub(crate) async fn claim(&self, taker: Taker<'_>, waiting: &[Needs], free: u32) -> Result<Vec<Started>> {
        let fits = |needs: &&Needs| needs.fit(taker.tags, taker.capabilities);
        let fits: Vec<_> = waiting.iter().filter(fits).map(Needs::key).collect();
        if fits.is_empty() || free == 0 {
            return Ok(Vec::new());
        }
        let only = match Serves::of(taker.tags) {
            Serves::All => None,
            Serves::Only(project) => Some(project),
            Serves::Nobody => return Ok(Vec::new()),
        };
        let tokens = (0..free).map(|_| ClaimToken::draw(&*self.parts.entropy)).collect();
        let request = ClaimRequest {
            worker: taker.worker,
            boot: taker.boot,
            fits,
            only,
            tokens,
            lease_until: self.parts.clock.now().plus(self.parts.settings.lease),
        };
        let claimed = self.parts.store.claim_jobs(request).await?;
        // Together, so that their starts gather in batches.
        let started = claimed.into_iter().map(|claimed| async {
            let id = claimed.job.id;
            match self.start(taker, claimed).await {
                Ok(job) => job,
                // It was cancelled, or taken back, in between.
                Err(Error::Conflict { .. } | Error::NotFound(_)) => None,
                // It stays claimed, and is taken back when its lease ends.
                Err(error) => {
                    tracing::warn!(job = %id, %error, "a claimed job could not be started");
                    None
                }
            }
        });
        Ok(futures::future::join_all(started).await.into_iter().flatten().collect())
    }

    /// Writes the start of a claimed job, or its end when what it names cannot be resolved any more.
    async fn start(&self, taker: Taker<'_>, claimed: ClaimedJob) -> Result<Option<Started>> {
        let ClaimedJob { job: row, token } = claimed;
        let unit = Unit::of(&row);
        let (parts, settings) = (&self.parts, &self.parts.settings);
        let effective = parts.config.effective(row.project).await?;
        let look = |loaded: &Loaded| {
            let executor = loaded.definition.stages[unit.stage].executor.clone();
            (executor, Binding::of(loaded, unit.stage, settings))
        };
        let (executor, binding) = parts.ledger.look(row.run, look).await?;
        let Work::Pool(swarm) = executor.work() else {
            return Err(Error::internal("a job of an engine stage"));
        };
        let resolved = resolve(swarm, &effective, settings).and_then(|(sandbox, resolution)| {
            budget::enforceable(&binding.tighter(), resolution.model.as_ref().map(|found| &found.record))?;
            Ok((sandbox, resolution))
        });
        let resolved = match resolved {
            Ok((sandbox, resolution)) => prompt(parts, row.run, unit)
                .await?
                .map(|prompt| (sandbox, resolution, prompt)),
            Err(failure) => Err(failure),
        };
        let models: Vec<Model> = effective.models().map(|model| model.record.clone()).collect();
        let variables = effective.variables();
        let egress: Vec<Ruled> = match &resolved {
            Ok((sandbox, ..)) if sandbox.profile == Profile::UntrustedCodeWrite => {
                effective.egress().iter().map(Ruled::from).collect()
            }
            _ => Vec::new(),
        };
        let guard = Guard {
            job: row.id,
            token: token.hash(),
            now: None,
        };
        let started = parts.ledger.change(row.run, |draft| {
            draft.guard = Some(guard.clone());
            let (sandbox, resolution, prompt) = match &resolved {
                Ok(resolved) => resolved,
                Err(failure) => {
                    end(draft, row.id, unit, StageOutcome::Failed(failure.clone()))?;
                    settle(draft, &Default::default(), settings)?;
                    return Ok(None);
                }
            };
            let event = StageEvent::Start {
                at: draft.now,
                worker: Some(taker.worker),
            };
            draft.apply(Transition::unit(unit, event))?;
            let making = Making {
                row: &row,
                token: &token,
                taker,
                swarm,
                prompt,
                sandbox,
                resolution,
                models: &models,
                egress: &egress,
                variables: &variables,
            };
            let job = self.job(draft, unit, making)?;
            let reach = RunReach::of_stage(Ways {
                sandbox,
                resolution: Some(resolution),
                rules: &job.egress,
                defaults: taker.defaults,
                sealed: &job.sealed,
            });
            let stage = job.stage.clone();
            draft.reaches(StageReach { stage, reach });
            let (started, held) = self.decide(&row, &token, job, resolution, taker.place)?;
            let record = serde_json::to_string(&held.decided).map_err(|error| Error::internal(error.to_string()))?;
            draft.job(JobChange::Dispatch(row.id, record));
            Ok(Some((started, held)))
        });
        Ok(started.await?.map(|(started, held)| {
            parts.claims.keep(held);
            started
        }))
    }

    fn job(&self, draft: &Draft<'_>, unit: Unit, making: Making<'_>) -> Result<Job> {
        let Making {
            row,
            token,
            taker,
            swarm,
            prompt,
            sandbox,
            resolution,
            models,
            egress,
            variables,
        } = making;
        let settings = &self.parts.settings;
        let Limits { timeout, budget } = draft.limits(unit, settings);
        let state = draft.state();
        let JobPhase::Claimed { lease_until, .. } = row.phase else {
            return Err(Error::internal("a claimed job that is not"));
        };
        let credential = resolution.credential.as_ref();
        Ok(Job {
            id: row.id,
            run: row.run,
            project: row.project,
            stage: draft.definition.key(unit.stage).to_owned(),
            substage: unit.substage(),
            attempt: state.phase_of(unit).map_or(0, StagePhase::attempt),
            claim: token.clone(),
            lease_until,
            worker: taker.worker,
            harness: resolution.harness.record.key.clone(),
            command: resolution.harness.record.command_template.clone(),
            prompt: prompt.to_owned(),
            files: resolution.harness.record.files.clone(),
            env: variables.clone(),
            sandbox: sandbox.clone(),
            egress: egress.to_vec(),
            sealed: sealed(sandbox, resolution),
            model: job_model(resolution, models),
            cred_request: credential.map(|found| CredentialRequest::new(found.owner, found.record.name.clone())),
            source_bundle: state
                .bundle
                .as_ref()
                .map(|bundle| self.offer(row, token, bundle, taker.place)),
            base: state.bundle.as_ref().map(base),
            budget,
            parse: swarm.parse.clone(),
            writes_artifact: swarm.writes_artifact.clone(),
            timeout,
            cancel_grace: settings.cancel_grace,
            artifact_cap: settings.artifact_cap,
        })
    }

    fn offer(&self, row: &JobRow, token: &ClaimToken, bundle: &BundleRef, place: Place) -> BundleOffer {
        match place {
            Place::Here => BundleOffer::here(bundle.sha256.clone(), bundle.size),
            Place::Away => BundleOffer {
                token: bundle_token::make(&self.parts.keys.bundle_tokens, row.id, token.hash()),
                sha256: bundle.sha256.clone(),
                size: bundle.size,
            },
        }
    }

    /// What is to be remembered of a job that starts.
    fn decide(
        &self,
        row: &JobRow,
        token: &ClaimToken,
        job: Job,
        resolution: &Resolution,
        place: Place,
    ) -> Result<(Started, Held)> {
        let signed = match place {
            Place::Here => None,
            Place::Away => Some(
                SignedJob::sign(&job, &self.parts.keys.signing).map_err(|error| Error::internal(error.to_string()))?,
            ),
        };
        let provider = resolution
            .credential
            .as_ref()
            .map(|found| found.record.provider.clone());
        let decided = Decided {
            attempt: job.attempt,
            stage_key: job.stage.clone(),
            substage: job.substage.clone(),
            digest: signed.as_ref().map(|signed| hex::encode(signed.digest)),
            prices: job.model.as_ref().map(|model| model.models.clone()).unwrap_or_default(),
            credential: job.cred_request.clone().zip(provider),
        };
        let held = Held {
            job: row.id,
            token: token.hash(),
            worker: job.worker,
            run: row.run,
            stage: usize::try_from(row.stage).unwrap_or(usize::MAX),
            area: row.area,
            decided,
        };
        let signed = signed.map(|signed| signed.json);
        Ok((Started { job, signed }, held))
    }

    /// What is known of a claim; stale when it is not the job's live one.
    pub(crate) async fn held(&self, claim: &Claim) -> Result<Arc<Held>> {
        if let Some(held) = self.parts.claims.get(claim) {
            return Ok(held);
        }
        let row = self.parts.store.job(claim.job).await?;
        let held = row.as_ref().and_then(Held::of);
        let held = held
            .filter(|held| held.token == claim.token.hash())
            .ok_or_else(stale_claim)?;
        Ok(self.parts.claims.keep(held))
    }

    /// A claim that must be live for a read.
    pub(crate) async fn live(&self, claim: &Claim) -> Result<Live> {
        let held = self.held(claim).await?;
        let now = self.parts.clock.now();
        let row = self.parts.store.job(claim.job).await?.ok_or_else(stale_claim)?;
        match row.phase {
            JobPhase::Claimed { token, lease_until, .. } if token == held.token && lease_until > now => Ok(Live {
                held,
                project: row.project,
                until: lease_until,
            }),
            _ => Err(stale_claim()),
        }
    }

    fn guard(&self, claim: &Claim) -> Guard {
        Guard {
            job: claim.job,
            token: claim.token.hash(),
            now: Some(self.parts.clock.now()),
        }
    }

    fn append(&self, held: &Held, claim: &Claim, piece: Option<(String, u64)>) -> Append {
        Append {
            run: held.run,
            events: Vec::new(),
            log_bytes: 0,
            guard: Some(self.guard(claim)),
            piece,
            ids: Vec::new(),
            artifacts: Vec::new(),
            usage: Vec::new(),
        }
    }

    /// Renews a lease.
    pub(crate) async fn beat(&self, beat: Beat) -> Result<BeatAnswer> {
        let now = self.parts.clock.now();
        let renewal = Renewal {
            job: beat.claim.job,
            token: beat.claim.token.hash(),
            now,
            lease_until: now.plus(self.parts.settings.lease),
        };
        Ok(match self.parts.store.renew_lease(renewal).await? {
            Renewed::Until { lease_until, cancel } => BeatAnswer::Until { lease_until, cancel },
            Renewed::Stale | Renewed::Unknown => {
                self.forget(&beat.claim);
                BeatAnswer::Stale
            }
        })
    }

    /// What it means that a claim which is over reports: the same again is known; another report comes too late. None when it
    /// was not this claim that the job ended under.
    async fn finished_before(&self, claim: &Claim, report: &Report) -> Option<Result<()>> {
        let row = self.parts.store.job(claim.job).await.ok()??;
        let before = row.dispatch.filter(|_| row.phase.status() == JobStatus::Ended)?;
        if !before.starts_with(&hex::encode(claim.token.hash())) {
            return None;
        }
        Some(match before == told(claim, report) {
            true => Ok(()),
            false => Err(Error::conflict(
                Conflict::AlreadyTerminal,
                "the job ended in another way",
            )),
        })
    }

    /// Forgets a claim that is over.
    pub(crate) fn forget(&self, claim: &Claim) {
        self.parts.claims.forget(claim.job, claim.token.hash());
    }

    /// Adds log lines.
    pub(crate) async fn chunk(&self, claim: &Claim, chunk: Chunk) -> Result<()> {
        let held = self.held(claim).await?;
        let stream = format!("{}/{}", chunk.source.as_str(), chunk.stream.as_str());
        let append = self.append(&held, claim, Some((stream, chunk.seq)));
        let appended = self.parts.ledger.append(append, |meter, events| {
            for (at, line) in chunk.lines {
                let line = LogLine {
                    stage: Some(held.decided.stage_key.clone()),
                    substage: held.decided.substage.clone(),
                    stream: chunk.stream,
                    source: chunk.source,
                    line,
                };
                meter.push(events, at, line);
            }
        });
        accepted(&appended.await?)
    }

    /// Adds model calls, each once however often it is told.
    pub(crate) async fn telemetry(&self, claim: &Claim, telemetry: Telemetry) -> Result<()> {
        let held = self.held(claim).await?;
        if telemetry.len() > Telemetry::MOST {
            let most = Telemetry::MOST;
            return Err(Error::invalid("/events", format!("expected {most} events at most")));
        }
        let Telemetry {
            mut calls,
            mut decisions,
        } = telemetry;
        let mut seen = HashSet::new();
        calls.retain(|call| seen.insert(call.id));
        decisions.retain(|decision| seen.insert(decision.id));
        // Told again are those that an earlier call brought, of which there are ever fewer.
        while !(calls.is_empty() && decisions.is_empty()) {
            let mut append = self.append(&held, claim, None);
            let told = calls.iter().map(|call| call.id);
            append.ids = told.chain(decisions.iter().map(|decision| decision.id)).collect();
            append.usage = usage(&held, &calls);
            append.events = decisions.iter().map(|decision| reached(&held, decision)).collect();
            match self.parts.ledger.append(append, |_, _| {}).await? {
                Appended::Told(ids) => {
                    calls.retain(|call| !ids.contains(&call.id));
                    decisions.retain(|decision| !ids.contains(&decision.id));
                }
                appended => return accepted(&appended),
            }
        }
        Ok(())
    }

    /// Draws a slice of the budgets of the job's run and stage.
    pub(crate) async fn draw(&self, claim: &Claim, want: Amounts) -> Result<Granted> {
        let held = self.held(claim).await?;
        budget::draw(&self.parts, held.run, held.stage, self.guard(claim), want).await
    }

    /// Keeps a file.
    pub(crate) async fn artifact(&self, claim: &Claim, upload: Upload, bytes: ByteStream) -> Result<()> {
        let Live { held, .. } = self.live(claim).await?;
        let stage = u32::try_from(held.stage).unwrap_or(u32::MAX);
        let substage = &held.decided.substage;
        let there = self.parts.store.artifacts(Scope::Org, held.run).await?;
        let others = there
            .iter()
            .filter(|other| other.stage == stage && other.substage == *substage && other.name != upload.name);
        let used: u64 = others.map(|artifact| artifact.size).sum();
        let cap = self.parts.settings.artifact_cap;
        let blob = blob_key(&self.parts, held.run);
        let (size, sha256) = self.parts.blobs.put(&blob, bytes, cap.saturating_sub(used)).await?;
        if upload.sha256.is_some_and(|told| told != sha256) {
            self.parts.blobs.delete(&blob).await?;
            return Err(Error::DigestMismatch);
        }
        let mut append = self.append(&held, claim, None);
        append.artifacts.push(Artifact {
            stage,
            stage_key: held.decided.stage_key.clone(),
            substage: substage.clone(),
            name: upload.name,
            size,
            sha256,
            redacted: upload.redacted,
            created_at: self.parts.clock.now(),
            blob: blob.clone(),
        });
        let appended = accepted(&self.parts.ledger.append(append, |_, _| {}).await?);
        if appended.is_err() {
            self.parts.blobs.delete(&blob).await?;
        }
        appended
    }

    /// The secrets of a job.
    pub(crate) async fn grant(&self, held: &Held) -> Result<Grant> {
        let Some((asked, provider)) = &held.decided.credential else {
            return Ok(Grant::default());
        };
        // Settings and secrets from one reading: a key that was moved to another address goes to that one alone.
        let (credential, secrets) = self.parts.config.opened(asked.owner(), &asked.name).await?;
        if credential.provider != *provider {
            let message = format!(
                "credential '{}' was for provider '{provider}' when the job was handed out",
                asked.name
            );
            return Err(Error::conflict(Conflict::InUse, message));
        }
        Ok(Grant {
            env: credential.env,
            secrets,
        })
    }

    /// The sources of a job, and the key that opens them.
    pub(crate) async fn bundle(&self, held: &Held) -> Result<(BundleRef, BundleKey)> {
        let bundle = self
            .parts
            .ledger
            .look(held.run, |loaded| loaded.head.state.bundle.clone());
        let bundle = bundle.await?.ok_or(Error::NotFound("bundle"))?;
        let key = bundle_key(&self.parts, held.run, &bundle)?;
        Ok((bundle, key))
    }

    /// The job is over; none when it was before, by the same report.
    pub(crate) async fn finish(&self, claim: &Claim, report: &Report) -> Result<Option<Finished>> {
        let held = match self.held(claim).await {
            Ok(held) => held,
            Err(stale @ Error::Conflict { .. }) => {
                let before = self.finished_before(claim, report).await.unwrap_or(Err(stale));
                return before.map(|()| None);
            }
            Err(error) => return Err(error),
        };
        let row = self.parts.store.job(claim.job).await?.ok_or_else(stale_claim)?;
        let told = told(claim, report);
        let settings = &self.parts.settings;
        let ended = budget::judged(&self.parts, held.run, held.stage, report.end.clone()).await?;
        let finished = self.parts.ledger.change(held.run, |draft| {
            draft.guard = Some(self.guard(claim));
            let cancelled = draft.state().cancel_requested_at.is_some();
            let outcome = match &ended {
                JobEnd::Done => StageOutcome::Done,
                JobEnd::Failed(failure) => StageOutcome::Failed(failure.clone()),
                JobEnd::Cancelled if cancelled => StageOutcome::Cancelled,
                // The worker leaves: another one takes the job on.
                JobEnd::Cancelled => return take_back(draft, &row, settings),
            };
            end(draft, claim.job, held.unit(), outcome)?;
            parsed(draft, held.unit(), report.parse)?;
            draft.job(JobChange::Reported(claim.job, told.clone()));
            settle(draft, &Default::default(), settings)?;
            Ok(())
        });
        let finished = finished.await;
        let over = matches!(
            finished,
            Ok(())
                | Err(Error::Conflict {
                    kind: Conflict::StaleClaim,
                    ..
                })
        );
        if over {
            self.forget(claim);
        }
        finished.map(|()| Some(Finished { project: row.project }))
    }
}

/// A report under its claim, so that the same one is told from another.
fn told(claim: &Claim, report: &Report) -> String {
    let digest = Sha256::digest(format!("{report:?}"));
    format!("{}:{}", hex::encode(claim.token.hash()), hex::encode(digest))
}

/// What a job is made from.
#[derive(Clone, Copy)]
struct Making<'a> {
    row: &'a JobRow,
    token: &'a ClaimToken,
    taker: Taker<'a>,
    swarm: &'a Swarm,
    prompt: &'a str,
    sandbox: &'a SandboxBlock,
    resolution: &'a Resolution,
    models: &'a [Model],
    egress: &'a [Ruled],
    variables: &'a BTreeMap<String, String>,
}

/// The event that tells of a decision.
fn reached(held: &Held, decision: &EgressDecision) -> Event {
    let stage = held.decided.stage_key.clone();
    let substage = held.decided.substage.clone();
    let decision = decision.clone();
    Event {
        at: decision.at,
        body: EventBody::Egress(Box::new(StageDecision {
            stage,
            substage,
            decision,
        })),
    }
}

fn usage(held: &Held, calls: &[ModelCall]) -> Vec<UsageEntry> {
    let mut entries: BTreeMap<&str, UsageTotals> = BTreeMap::new();
    for call in calls {
        let cost = held
            .decided
            .prices
            .get(&call.model)
            .and_then(|prices| prices.cost(&call.tokens));
        let totals = UsageTotals {
            calls: 1,
            tokens: call.tokens,
            cost: cost.unwrap_or_default(),
            unpriced_calls: u64::from(cost.is_none()),
            estimated_calls: u64::from(call.estimated),
        };
        *entries.entry(&call.model).or_default() += totals;
    }
    let entry = |(model, totals): (&str, UsageTotals)| UsageEntry {
        stage: held.decided.stage_key.clone(),
        substage: held.decided.substage.clone(),
        model: model.to_owned(),
        totals,
    };
    entries.into_iter().map(entry).collect()
}

fn accepted(appended: &Appended) -> Result<()> {
    match appended {
        Appended::At { .. } | Appended::Known | Appended::Told(_) => Ok(()),
        Appended::Gap { expected } => Err(Error::conflict(
            Conflict::ChunkGap { expected: *expected },
            format!("expected piece {expected}"),
        )),
        Appended::StaleClaim => Err(stale_claim()),
        Appended::Unknown => Err(Error::NotFound("run")),
    }
}
