//! The worker's port in process: the engine itself.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use super::{Claim, ClaimRequest, ClaimToken, ClaimedJob, JobEnd, JobPhase, JobRow, Needs, Renewal, Renewed, resolve};
use crate::artifacts::{Artifact, ByteStream};
use crate::config::{Owner, Resolution};
use crate::dispatch::{
    Beat, BeatAnswer, Chunk, Grant, Job, JobModel, Poll, Polled, Report, Telemetry, Upload, WorkerInfo, WorkerLink,
};
use crate::engine::{
    Limits, Parts, blob_key, end, limits, parsed, prompt, reclaim_or_tell, settle, stale_claim, take_back,
};
use crate::error::{Conflict, Error, Result};
use crate::id::{JobId, RunId};
use crate::logs::LogLine;
use crate::runs::executors::{SandboxBlock, Work};
use crate::runs::{Append, Appended, BundleRef, Guard, StageEvent, StageOutcome, StagePhase, Transition, Unit};
use crate::scope::Scope;
use crate::usage::{ModelCall, Prices, UsageEntry, UsageTotals};

/// Jobs handed out in one poll.
const MAX_CLAIMS: u32 = 64;
/// The longest a poll is held.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// A held poll looks for work again after this, whatever it heard.
const SWEEP: Duration = Duration::from_secs(5);

/// The link of one worker in this process.
pub struct InProcessLink {
    parts: Arc<Parts>,
    info: WorkerInfo,
    held: Mutex<HashMap<JobId, Held>>,
    greeted: tokio::sync::OnceCell<()>,
}

/// What the engine keeps at hand of a job while it runs.
#[derive(Debug, Clone)]
struct Held {
    /// Hash of the claim's token.
    token: [u8; 32],
    run: RunId,
    unit: Unit,
    stage_key: String,
    prices: BTreeMap<String, Prices>,
    /// Whose the credential is, its name, and the provider that it was for at dispatch.
    credential: Option<(Owner, String, String)>,
}

impl InProcessLink {
    pub(crate) fn new(parts: Arc<Parts>, info: WorkerInfo) -> Self {
        parts.presence.seen(&info, parts.clock.now());
        Self {
            parts,
            info,
            held: Mutex::default(),
            greeted: tokio::sync::OnceCell::new(),
        }
    }

    /// Gives back what an earlier life of this worker held.
    async fn greet(&self) -> Result<()> {
        let greet = async || -> Result<()> {
            for job in self
                .parts
                .store
                .jobs_of_worker(self.info.id, Some(self.info.boot))
                .await?
            {
                reclaim_or_tell(&self.parts, &job).await;
            }
            Ok(())
        };
        self.greeted.get_or_try_init(greet).await.copied()
    }

    /// Claims what fits and starts it.
    async fn claim(&self, free: u32) -> Result<Vec<Job>> {
        let waiting = self.parts.store.waiting_needs().await?;
        let fits = |needs: &&Needs| needs.fit(&self.info.tags, &self.info.capabilities);
        let fits: Vec<_> = waiting.iter().filter(fits).map(Needs::key).collect();
        if fits.is_empty() {
            return Ok(Vec::new());
        }
        let tokens = (0..free.min(MAX_CLAIMS))
            .map(|_| ClaimToken::draw(&*self.parts.entropy))
            .collect();
        let lease_until = self.parts.clock.now().plus(self.parts.settings.lease);
        let (worker, boot) = (self.info.id, self.info.boot);
        let request = ClaimRequest {
            worker,
            boot,
            fits,
            tokens,
            lease_until,
        };
        let mut jobs = Vec::new();
        for claimed in self.parts.store.claim_jobs(request).await? {
            let id = claimed.job.id;
            match self.start(claimed).await {
                Ok(job) => jobs.extend(job),
                // It was cancelled, or taken back, in between.
                Err(Error::Conflict { .. } | Error::NotFound(_)) => {}
                // It stays claimed, and is taken back when its lease ends.
                Err(error) => tracing::warn!(job = %id, %error, "a claimed job could not be started"),
            }
        }
        Ok(jobs)
    }

    /// Writes the start of a claimed job, or its end when what it names cannot be resolved any more.
    async fn start(&self, claimed: ClaimedJob) -> Result<Option<Job>> {
        let ClaimedJob { job: row, token } = claimed;
        let unit = Unit::of(&row);
        let (parts, settings) = (&self.parts, &self.parts.settings);
        let effective = parts.config.effective(row.project).await?;
        let executor = parts
            .ledger
            .look(row.run, |loaded| loaded.definition.stages[unit.stage].executor.clone())
            .await?;
        let Work::Pool(swarm) = executor.work() else {
            return Err(Error::internal("a job of an engine stage"));
        };
        let resolved = match resolve(swarm, &effective, settings) {
            Ok((sandbox, resolution)) => prompt(parts, row.run, unit)
                .await?
                .map(|prompt| (sandbox, resolution, prompt)),
            Err(failure) => Err(failure),
        };
        let guard = Guard {
            job: row.id,
            token: token.hash(),
            now: None,
        };
        let worker = self.info.id;
        parts
            .ledger
            .change(row.run, |draft| {
                draft.guard = Some(guard.clone());
                if let Err(failure) = &resolved {
                    end(draft, row.id, unit, StageOutcome::Failed(failure.clone()))?;
                    settle(draft, &Default::default(), settings)?;
                    return Ok(());
                }
                let event = StageEvent::Start {
                    at: draft.now,
                    worker: Some(worker),
                };
                draft.apply(Transition::unit(unit, event))?;
                Ok(())
            })
            .await?;
        let Ok((sandbox, resolution, prompt)) = resolved else {
            return Ok(None);
        };
        let models: Vec<_> = effective.models().map(|model| model.record.clone()).collect();
        let job = self.job(&row, token, prompt, sandbox, &resolution, &models).await?;
        let job = Job {
            env: effective.variables(),
            parse: swarm.parse.clone(),
            writes_artifact: swarm.writes_artifact.clone(),
            ..job
        };
        let held = Held {
            token: guard.token,
            run: row.run,
            unit,
            stage_key: job.stage.clone(),
            prices: prices(&resolution, &models),
            credential: resolution
                .credential
                .map(|c| (c.owner, c.record.name, c.record.provider)),
        };
        self.lock().insert(row.id, held);
        Ok(Some(job))
    }

    async fn job(
        &self,
        row: &JobRow,
        claim: ClaimToken,
        prompt: String,
        sandbox: SandboxBlock,
        resolution: &Resolution,
        models: &[crate::config::Model],
    ) -> Result<Job> {
        let settings = &self.parts.settings;
        let (unit, now) = (Unit::of(row), self.parts.clock.now());
        let look = self.parts.ledger.look(row.run, |loaded| {
            let state = &loaded.head.state;
            (
                loaded.definition.key(unit.stage).to_owned(),
                limits(loaded, unit, settings, now),
                state.phase_of(unit).map_or(0, StagePhase::attempt),
                state.bundle.as_ref().map(base),
            )
        });
        let (stage, Limits { timeout, budget }, attempt, base) = look.await?;
        let JobPhase::Claimed { lease_until, .. } = row.phase else {
            return Err(Error::internal("a claimed job that is not"));
        };
        Ok(Job {
            id: row.id,
            run: row.run,
            project: row.project,
            stage,
            substage: unit.substage(),
            attempt,
            claim,
            lease_until,
            worker: self.info.id,
            harness: resolution.harness.record.key.clone(),
            command: resolution.harness.record.command_template.clone(),
            prompt,
            files: resolution.harness.record.files.clone(),
            env: BTreeMap::new(),
            sandbox,
            model: job_model(resolution, models),
            sealed: resolution.credential.is_some(),
            bundle: base.is_some(),
            base,
            budget,
            parse: None,
            writes_artifact: None,
            timeout,
            cancel_grace: settings.cancel_grace,
            artifact_cap: settings.artifact_cap,
        })
    }

    fn guard(&self, claim: &Claim) -> Guard {
        Guard {
            job: claim.job,
            token: claim.token.hash(),
            now: Some(self.parts.clock.now()),
        }
    }

    fn held(&self, claim: &Claim) -> Result<Held> {
        let held = self.lock().get(&claim.job).cloned();
        held.filter(|held| held.token == claim.token.hash())
            .ok_or_else(stale_claim)
    }

    /// A claim that must be live for a read.
    async fn live(&self, claim: &Claim) -> Result<Held> {
        let held = self.held(claim)?;
        let now = self.parts.clock.now();
        match self.parts.store.job(claim.job).await?.map(|job| job.phase) {
            Some(JobPhase::Claimed { token, lease_until, .. }) if token == claim.token.hash() && lease_until > now => {
                Ok(held)
            }
            _ => Err(stale_claim()),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<JobId, Held>> {
        self.held.lock().expect("no holder of this lock panics")
    }

    fn append(&self, held: &Held, claim: &Claim, piece: Option<(String, u64)>) -> Append {
        Append {
            run: held.run,
            events: Vec::new(),
            log_bytes: 0,
            guard: Some(self.guard(claim)),
            piece,
            artifacts: Vec::new(),
            usage: Vec::new(),
        }
    }

    async fn beat(&self, beat: Beat) -> Result<BeatAnswer> {
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

    /// Forgets a claim that is over; another claim of the same job stays.
    fn forget(&self, claim: &Claim) {
        let token = claim.token.hash();
        let mut held = self.lock();
        if held.get(&claim.job).is_some_and(|held| held.token == token) {
            held.remove(&claim.job);
        }
    }
}

/// A held poll keeps its worker online.
struct Polling<'a>(&'a InProcessLink);

impl<'a> Polling<'a> {
    fn new(link: &'a InProcessLink) -> Self {
        link.parts.presence.polling(link.info.id, link.parts.clock.now(), true);
        Self(link)
    }
}

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        self.0
            .parts
            .presence
            .polling(self.0.info.id, self.0.parts.clock.now(), false);
    }
}

impl Drop for InProcessLink {
    fn drop(&mut self) {
        self.parts.presence.gone(&self.info);
    }
}

#[async_trait]
impl WorkerLink for InProcessLink {
    async fn poll(&self, poll: Poll) -> Result<Polled> {
        self.parts.presence.seen(&self.info, self.parts.clock.now());
        self.greet().await?;
        let _polling = Polling::new(self);
        let until = self.parts.clock.now().plus(poll.wait.min(MAX_WAIT));
        let wake = self.parts.presence.wake(self.info.id);
        loop {
            // Registered before looking, so that work which comes meanwhile is not missed.
            let work = self.parts.watches.work();
            tokio::pin!(work);
            work.as_mut().enable();
            let jobs = if poll.free > 0 {
                self.claim(poll.free).await?
            } else {
                Vec::new()
            };
            // Taken last: what is taken is answered.
            let commands = self.parts.presence.take_commands(self.info.id);
            let left = until.since(self.parts.clock.now());
            if !jobs.is_empty() || !commands.is_empty() || left.is_zero() || self.parts.tasks.stopping() {
                return Ok(Polled { jobs, commands });
            }
            tokio::select! {
                biased;
                () = wake.notified() => {}
                () = work, if poll.free > 0 => {}
                () = self.parts.clock.sleep(left.min(SWEEP)) => {}
            }
        }
    }

    async fn heartbeat(&self, beats: Vec<Beat>) -> Result<Vec<BeatAnswer>> {
        self.parts.presence.seen(&self.info, self.parts.clock.now());
        futures::future::try_join_all(beats.into_iter().map(|beat| self.beat(beat))).await
    }

    async fn chunk(&self, claim: &Claim, chunk: Chunk) -> Result<()> {
        let held = self.held(claim)?;
        let piece = (
            format!("{}/{}", chunk.source.as_str(), chunk.stream.as_str()),
            chunk.seq,
        );
        let append = self.append(&held, claim, Some(piece));
        let appended = self.parts.ledger.append(append, |meter, events| {
            for (at, line) in chunk.lines {
                let stage = Some(held.stage_key.clone());
                let (stream, source) = (chunk.stream, chunk.source);
                meter.push(
                    events,
                    at,
                    LogLine {
                        stage,
                        substage: held.unit.substage(),
                        stream,
                        source,
                        line,
                    },
                );
            }
        });
        accepted(appended.await?)
    }

    async fn telemetry(&self, claim: &Claim, telemetry: Telemetry) -> Result<()> {
        let held = self.held(claim)?;
        let mut append = self.append(&held, claim, Some(("telemetry".into(), telemetry.seq)));
        append.usage = usage(&held, &telemetry.calls);
        accepted(self.parts.ledger.append(append, |_, _| {}).await?)
    }

    async fn artifact(&self, claim: &Claim, upload: Upload, bytes: ByteStream) -> Result<()> {
        let held = self.live(claim).await?;
        let stage = u32::try_from(held.unit.stage).unwrap_or(u32::MAX);
        let substage = held.unit.substage();
        let there = self.parts.store.artifacts(Scope::Org, held.run).await?;
        let others = there
            .iter()
            .filter(|other| other.stage == stage && !(other.name == upload.name && other.substage == substage));
        let used: u64 = others.map(|artifact| artifact.size).sum();
        let cap = self.parts.settings.artifact_cap;
        let blob = blob_key(&self.parts, held.run);
        let (size, sha256) = self.parts.blobs.put(&blob, bytes, cap.saturating_sub(used)).await?;
        let mut append = self.append(&held, claim, None);
        append.artifacts.push(Artifact {
            stage,
            stage_key: held.stage_key.clone(),
            substage,
            name: upload.name,
            size,
            sha256,
            redacted: upload.redacted,
            created_at: self.parts.clock.now(),
            blob: blob.clone(),
        });
        let appended = accepted(self.parts.ledger.append(append, |_, _| {}).await?);
        if appended.is_err() {
            self.parts.blobs.delete(&blob).await?;
        }
        appended
    }

    async fn seal(&self, claim: &Claim) -> Result<Grant> {
        let held = self.live(claim).await?;
        let Some((owner, name, provider)) = held.credential else {
            return Ok(Grant::default());
        };
        // Settings and secrets from one reading: a key that was moved to another address goes to that one alone.
        let (credential, secrets) = self.parts.config.opened(owner, &name).await?;
        if credential.provider != provider {
            let message = format!("credential '{name}' was for provider '{provider}' when the job was handed out");
            return Err(Error::conflict(Conflict::InUse, message));
        }
        Ok(Grant {
            env: credential.env,
            secrets,
        })
    }

    async fn bundle(&self, claim: &Claim) -> Result<ByteStream> {
        let held = self.live(claim).await?;
        let bundle = self
            .parts
            .ledger
            .look(held.run, |loaded| loaded.head.state.bundle.clone())
            .await?;
        let bundle = bundle.ok_or(Error::NotFound("bundle"))?;
        Ok(self.parts.blobs.get(&bundle.key, None).await?)
    }

    async fn finish(&self, claim: &Claim, report: Report) -> Result<()> {
        let held = self.held(claim)?;
        let row = self.parts.store.job(claim.job).await?.ok_or_else(stale_claim)?;
        let settings = &self.parts.settings;
        let finished = self.parts.ledger.change(held.run, |draft| {
            draft.guard = Some(self.guard(claim));
            let cancelled = draft.state().cancel_requested_at.is_some();
            let outcome = match &report.end {
                JobEnd::Done => StageOutcome::Done,
                JobEnd::Failed(failure) => StageOutcome::Failed(failure.clone()),
                JobEnd::Cancelled if cancelled => StageOutcome::Cancelled,
                // The worker leaves: another one takes the job on.
                JobEnd::Cancelled => return take_back(draft, &row, settings),
            };
            end(draft, claim.job, held.unit, outcome)?;
            parsed(draft, held.unit, report.parse)?;
            settle(draft, &Default::default(), settings)?;
            Ok(())
        });
        let finished = finished.await;
        if matches!(
            finished,
            Ok(())
                | Err(Error::Conflict {
                    kind: Conflict::StaleClaim,
                    ..
                })
        ) {
            self.forget(claim);
        }
        finished
    }
}

/// What the sources were: what the only one resolved to, or the digest of all together.
fn base(bundle: &BundleRef) -> String {
    match &bundle.resolved[..] {
        [only] => only.as_str().to_owned(),
        _ => bundle.sha256.clone(),
    }
}

fn job_model(resolution: &Resolution, models: &[crate::config::Model]) -> Option<JobModel> {
    let model = &resolution.model.as_ref()?.record;
    let credential = resolution.credential.as_ref();
    Some(JobModel {
        provider: credential.map_or_else(|| model.provider.clone(), |found| found.record.provider.clone()),
        model_id: model.model_id.clone(),
        models: prices(resolution, models),
        remote_features: credential
            .into_iter()
            .flat_map(|c| c.record.remote_features.clone())
            .collect(),
    })
}

/// What the models of the job's credential cost. Two entries may stand for one model of the provider: the stage's own counts.
fn prices(resolution: &Resolution, models: &[crate::config::Model]) -> BTreeMap<String, Prices> {
    let Some(own) = resolution.model.as_ref().map(|model| &model.record) else {
        return BTreeMap::new();
    };
    let same = models
        .iter()
        .filter(|model| model.credential_name == own.credential_name);
    let price = |model: &crate::config::Model| (model.model_id.clone(), model.prices);
    same.map(price).chain([price(own)]).collect()
}

fn usage(held: &Held, calls: &[ModelCall]) -> Vec<UsageEntry> {
    let mut entries: BTreeMap<&str, UsageTotals> = BTreeMap::new();
    for call in calls {
        let cost = held
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
        stage: held.stage_key.clone(),
        substage: held.unit.substage(),
        model: model.to_owned(),
        totals,
    };
    entries.into_iter().map(entry).collect()
}

fn accepted(appended: Appended) -> Result<()> {
    match appended {
        Appended::At { .. } | Appended::Known => Ok(()),
        Appended::Gap { expected } => Err(Error::conflict(
            Conflict::ChunkGap,
            format!("expected piece {expected}"),
        )),
        Appended::StaleClaim => Err(stale_claim()),
        Appended::Unknown => Err(Error::NotFound("run")),
    }
}
