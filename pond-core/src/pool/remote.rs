//! The engine's side of an orchestrator: work for the workers behind it, and what they tell.
//!
//! An orchestrator relays. It sees jobs, but each is signed; it carries secrets, but each is sealed to one worker's pinned key.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::bindings::{Behind, Binding, CANCEL, Workers};
use super::bundle_token::{self, Judged};
use super::claims::Held;
use super::desk::{Desk, Finished, Live, Place, Taker};
use super::roster::Roster;
use super::{Claim, EnrolledWorker, MAX_CLAIMS, MAX_WAIT, Orchestrator, SWEEP, WorkerSeen};
use crate::artifacts::ByteStream;
use crate::clock::Timestamp;
use crate::dispatch::{Beat, BeatAnswer, Chunk, Report, SignedCommand, Telemetry, Upload, sign_box};
use crate::engine::{Parts, Takeover, reclaim_or_tell, stale_claim};
use crate::error::{Conflict, Denial, Error, Result};
use crate::id::{BootId, JobId, OrchestratorId, ProjectId, WorkerId};
use crate::sealing::{BoxPlace, Purpose, SealedBox};
use crate::secret::Secret;
use crate::usage::{Amounts, Granted};

/// What was heard is written down this often, where other servers want to know.
const NOTE_EVERY: Duration = Duration::from_secs(15);

/// A worker with room.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// The worker.
    pub worker: WorkerId,
    /// This life of it.
    pub boot: BootId,
    /// Jobs it can take now.
    pub free: u32,
}

/// What an orchestrator asks.
#[derive(Debug, Clone, Default)]
pub struct RemotePoll {
    /// Jobs to get at most.
    pub max: u32,
    /// How long the answer may take when there is nothing.
    pub wait: Duration,
    /// The generation that `workers` changes; none or 0 with a list that is whole, or its first part.
    pub generation: Option<u64>,
    /// Workers that changed.
    pub workers: Option<Vec<Room>>,
    /// Leases to renew.
    pub beats: Vec<RemoteBeat>,
}

/// A lease to renew, and what was carried out for it.
#[derive(Debug, Clone)]
pub struct RemoteBeat {
    /// The claim.
    pub claim: Claim,
    /// Number of the last command that was carried out.
    pub ack: Option<u64>,
}

/// What became of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteLease {
    /// As a worker here would be told.
    Of(BeatAnswer),
    /// The job is another orchestrator's.
    Foreign,
}

/// What an orchestrator gets.
#[derive(Debug, Default)]
pub struct RemotePolled {
    /// The generation of its list now.
    pub generation: u64,
    /// Signed jobs.
    pub jobs: Vec<Value>,
    /// Signed commands.
    pub commands: Vec<Value>,
    /// What became of the leases, in the order of the beats.
    pub leases: Vec<(JobId, RemoteLease)>,
}

/// Changes in which workers an orchestrator has.
#[derive(Debug, Clone, Default)]
pub struct RemoteSnapshot {
    /// The generation that this changes; 0: all that is known follows from here.
    pub generation: u64,
    /// Workers that changed.
    pub workers: Vec<(WorkerId, WorkerSeen)>,
    /// Workers that are connected no more.
    pub gone: Vec<WorkerId>,
}

/// What an orchestrator is to know of its workers.
#[derive(Debug, Default)]
pub struct SnapshotAnswer {
    /// The generation now.
    pub generation: u64,
    /// Workers whose tokens are to be refused.
    pub revoked: Vec<WorkerId>,
    /// Workers that get no new jobs.
    pub draining: Vec<WorkerId>,
}

/// A box with the engine's signature.
#[derive(Debug)]
pub struct SignedBox {
    /// The box.
    pub sealed: SealedBox,
    /// The signature, as it travels.
    pub signature: Value,
}

/// The secrets of a job, and what is known of them beside their values.
#[derive(Debug)]
pub struct SealedCredential {
    /// The secrets, sealed to the worker.
    pub sealed: SignedBox,
    /// The worker.
    pub worker: WorkerId,
    /// Whose job it is for.
    pub project: ProjectId,
    /// The credential; none for a job without one.
    pub credential: Option<String>,
    /// The secrets in the box, by name.
    pub secrets: Vec<String>,
}

/// A bundle for one claim.
#[derive(Debug)]
pub struct RedeemedBundle {
    /// Its key, sealed to the worker.
    pub key: SignedBox,
    /// Whose job it is for.
    pub project: ProjectId,
    /// When the lease ends, and with it the access.
    pub until: Timestamp,
}

/// What an offered bundle is.
#[derive(Debug)]
pub struct OfferedBundle {
    /// The token of the live claim.
    pub token: Secret,
    /// SHA-256 of the sealed bundle, in hex.
    pub sha256: String,
    /// Its size in bytes.
    pub size: u64,
}

/// One orchestrator's way into the engine. Every call about a job carries its claim; one of another orchestrator's is not found.
#[derive(Clone)]
pub struct Remote {
    desk: Desk,
    id: OrchestratorId,
    binding: Arc<Binding>,
}

impl Remote {
    pub(super) fn new(parts: Arc<Parts>, id: OrchestratorId) -> Self {
        let binding = parts.bindings.of(id);
        Self {
            desk: Desk { parts },
            id,
            binding,
        }
    }

    fn parts(&self) -> &Parts {
        &self.desk.parts
    }

    /// The orchestrator itself.
    ///
    /// # Errors
    /// When it was revoked meanwhile.
    pub async fn own(&self) -> Result<Orchestrator> {
        let roster = self.parts().roster().await?;
        roster
            .orchestrators
            .get(&self.id)
            .cloned()
            .ok_or(Error::NotFound("orchestrator"))
    }

    /// A number that tells this life of the server from others, as the first generation of a list.
    fn first_generation(&self) -> u64 {
        let id = self.parts().id.uuid().as_u128();
        // 40 bits of chance; the counter has the rest to rise in, and JSON carries both exactly.
        u64::try_from(id & 0xff_ffff_ffff).unwrap_or(1).max(1)
    }

    /// Waits for work and commands. A newer poll of the same orchestrator ends this one at once.
    ///
    /// # Errors
    /// [`Conflict::Resync`]; [`Denial::ForeignWorker`] when the list names a worker of another orchestrator.
    pub async fn poll(&self, poll: RemotePoll) -> Result<RemotePolled> {
        let parts = self.parts();
        let RemotePoll {
            max,
            wait,
            generation,
            workers,
            beats,
        } = poll;
        let roster = parts.roster().await?;
        let number = self.binding.supersede();
        self.binding.heard(parts.clock.now());
        let generation = self.take_rooms(&roster, generation, workers)?;
        self.greet(&roster).await?;
        let leases = self.heartbeats(beats).await?;
        self.note(&roster).await;
        let until = parts.clock.now().plus(wait.min(MAX_WAIT));
        let waited = Waited {
            until,
            number,
            max: max.min(MAX_CLAIMS),
        };
        let (jobs, commands) = self.wait(waited).await?;
        self.binding.heard(parts.clock.now());
        Ok(RemotePolled {
            generation,
            jobs,
            commands,
            leases,
        })
    }

    async fn wait(&self, waited: Waited) -> Result<(Vec<Value>, Vec<Value>)> {
        let parts = self.parts();
        loop {
            // Registered before looking, so that nothing that comes meanwhile is missed.
            let (work, woken) = (parts.watches.work(), self.binding.woken());
            tokio::pin!(work, woken);
            work.as_mut().enable();
            woken.as_mut().enable();
            let superseded = self.binding.is_superseded(waited.number);
            let jobs = match superseded {
                true => Vec::new(),
                false => self.claim(waited.max).await?,
            };
            let commands = match superseded {
                true => Vec::new(),
                false => self.commands()?,
            };
            let left = waited.until.since(parts.clock.now());
            let nothing = jobs.is_empty() && commands.is_empty();
            if !nothing || superseded || left.is_zero() || parts.tasks.stopping() {
                return Ok((jobs, commands));
            }
            tokio::select! {
                biased;
                () = woken => {}
                () = work => {}
                () = parts.clock.sleep(left.min(SWEEP)) => {}
            }
        }
    }

    /// Claims for the workers with room, one after another, as long as there is something that fits.
    async fn claim(&self, max: u32) -> Result<Vec<Value>> {
        let parts = self.parts();
        let waiting = parts.store.waiting_needs().await?;
        let mut jobs = Vec::new();
        if waiting.is_empty() {
            return Ok(jobs);
        }
        let roster = parts.roster().await?;
        // Workers like one that got less than it asked for get nothing either.
        let mut dry: Vec<(&EnrolledWorker, std::collections::BTreeSet<String>)> = Vec::new();
        for (id, behind) in self.binding.workers() {
            let left = max.saturating_sub(u32::try_from(jobs.len()).unwrap_or(u32::MAX));
            let Some((worker, boot)) = roster.workers.get(&id).zip(behind.boot) else {
                continue;
            };
            let free = behind.free.min(left);
            let shown = worker.shown();
            let known_dry = dry
                .iter()
                .any(|(other, caps)| other.tags == worker.tags && *caps == shown);
            if free == 0 || worker.draining || known_dry {
                continue;
            }
            let taker = Taker {
                worker: id,
                boot,
                tags: &worker.tags,
                capabilities: &shown,
                defaults: &worker.seen.egress_defaults,
                place: Place::Away,
            };
            let started = self.desk.claim(taker, &waiting, free).await?;
            let got = u32::try_from(started.len()).unwrap_or(u32::MAX);
            self.binding.fill(id, got);
            jobs.extend(started.into_iter().filter_map(|started| started.signed));
            if got < free {
                dry.push((worker, shown));
            }
        }
        Ok(jobs)
    }

    fn commands(&self) -> Result<Vec<Value>> {
        let parts = self.parts();
        let cancels = self.binding.take_cancels(parts.clock.now());
        let sign = |held: Arc<Held>| {
            let command = SignedCommand {
                job: held.job,
                n: CANCEL,
                kind: "cancel".into(),
                body: json!({}),
            };
            let signed = command.sign(held.worker, held.decided.attempt, &parts.keys.signing);
            signed.map_err(|error| Error::internal(error.to_string()))
        };
        cancels.into_iter().map(sign).collect()
    }

    /// Takes in which workers have room.
    fn take_rooms(&self, roster: &Roster, base: Option<u64>, rooms: Option<Vec<Room>>) -> Result<u64> {
        let first = self.first_generation();
        let Some(rooms) = rooms else {
            // Without a list, a generation that is not known still means that the list is not.
            return match base.filter(|base| *base != 0) {
                Some(_) => self.binding.update(base, first, |_| {}),
                None => Ok(self.binding.generation(first)),
            };
        };
        self.check_own(roster, rooms.iter().map(|room| room.worker))?;
        self.binding.update(base, first, |workers: &mut Workers<'_>| {
            for room in rooms.iter().filter(|room| roster.workers.contains_key(&room.worker)) {
                let behind = workers.of(room.worker);
                behind.boot = Some(room.boot);
                behind.free = room.free;
                behind.seen.connected = true;
            }
        })
    }

    /// A worker of another orchestrator is an attempt on it; one that is nobody's was revoked, and is passed over.
    fn check_own(&self, roster: &Roster, workers: impl Iterator<Item = WorkerId>) -> Result<()> {
        let foreign = |id: WorkerId| {
            roster
                .workers
                .get(&id)
                .is_some_and(|worker| worker.orchestrator != self.id)
        };
        match workers.into_iter().any(foreign) {
            true => Err(Error::Forbidden(Denial::ForeignWorker)),
            false => Ok(()),
        }
    }

    /// Gives back what earlier lives of its workers held, and says that the workers are there.
    async fn greet(&self, roster: &Roster) -> Result<()> {
        let (parts, now) = (self.parts(), self.parts().clock.now());
        for (id, behind) in self.binding.workers() {
            let (Some(worker), Some(boot)) = (roster.workers.get(&id), behind.boot) else {
                continue;
            };
            let is_new = parts.presence.seen(&worker.info(boot), now);
            parts.presence.drain(id, worker.draining);
            if is_new {
                for job in parts.store.jobs_of_worker(id, Some(boot)).await? {
                    reclaim_or_tell(parts, &job).await;
                }
            }
        }
        Ok(())
    }

    /// Renews leases, and hears what was carried out. A job that this server did not know of is known from then on.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn heartbeats(&self, beats: Vec<RemoteBeat>) -> Result<Vec<(JobId, RemoteLease)>> {
        let roster = self.parts().roster().await?;
        let renewed = beats.into_iter().map(|beat| self.beat(&roster, beat));
        futures::future::try_join_all(renewed).await
    }

    async fn beat(&self, roster: &Roster, beat: RemoteBeat) -> Result<(JobId, RemoteLease)> {
        let RemoteBeat { claim, ack } = beat;
        let job = claim.job;
        let held = match self.desk.held(&claim).await {
            Ok(held) => held,
            Err(Error::Conflict { .. }) => return Ok((job, RemoteLease::Of(BeatAnswer::Stale))),
            Err(error) => return Err(error),
        };
        match roster.workers.get(&held.worker) {
            Some(worker) if worker.orchestrator == self.id => {}
            Some(_) => return Ok((job, RemoteLease::Foreign)),
            // Revoked meanwhile.
            None => return Ok((job, RemoteLease::Of(BeatAnswer::Stale))),
        }
        if let Some(n) = ack {
            self.binding.acknowledged(job, n);
        }
        let answer = self.desk.beat(Beat { claim }).await?;
        match answer {
            BeatAnswer::Until { cancel: true, .. } if ack.is_none_or(|n| n < CANCEL) => self.binding.cancel(held),
            BeatAnswer::Until { .. } => {}
            BeatAnswer::Stale => self.binding.over(job),
        }
        Ok((job, RemoteLease::Of(answer)))
    }

    /// Takes in which workers are connected, and how they do.
    ///
    /// # Errors
    /// As [`Remote::poll`].
    pub async fn snapshot(&self, snapshot: RemoteSnapshot) -> Result<SnapshotAnswer> {
        let RemoteSnapshot {
            generation,
            workers,
            gone,
        } = snapshot;
        let parts = self.parts();
        let (roster, now) = (parts.roster().await?, parts.clock.now());
        self.binding.heard(now);
        self.check_own(&roster, workers.iter().map(|(id, _)| *id).chain(gone.iter().copied()))?;
        let told: Vec<WorkerId> = workers.iter().map(|(id, _)| *id).collect();
        let seen: Vec<(WorkerId, WorkerSeen)> = workers
            .into_iter()
            .map(|(id, seen)| (id, WorkerSeen { at: Some(now), ..seen }))
            .collect();
        let generation = self.binding.update(Some(generation), self.first_generation(), |list| {
            for (id, seen) in seen.iter().filter(|(id, _)| roster.workers.contains_key(id)) {
                let behind = list.of(*id);
                behind.seen = seen.clone();
                if !seen.connected {
                    behind.free = 0;
                }
            }
            gone.iter().for_each(|id| list.gone(*id));
        })?;
        let mut written = seen;
        for id in &gone {
            let Some(worker) = roster.workers.get(id) else { continue };
            parts.presence.remove(*id);
            written.push((
                *id,
                WorkerSeen {
                    connected: false,
                    ..worker.seen.clone()
                },
            ));
        }
        parts.store.note_seen(Vec::new(), written).await?;
        // What they can do may have changed with it.
        parts.rosters.outdate();
        Ok(SnapshotAnswer {
            generation,
            revoked: told.into_iter().filter(|id| !roster.workers.contains_key(id)).collect(),
            draining: roster
                .behind(self.id)
                .filter(|worker| worker.draining)
                .map(|worker| worker.id)
                .collect(),
        })
    }

    /// Writes down coarsely who was heard, for other servers on the same store.
    async fn note(&self, roster: &Roster) {
        let (parts, now) = (self.parts(), self.parts().clock.now());
        let shared = matches!(parts.settings.takeover, Takeover::Silent(_));
        if !shared || !self.binding.is_to_be_noted(now, NOTE_EVERY) {
            return;
        }
        let connected = self
            .binding
            .workers()
            .into_iter()
            .filter(|(_, behind)| behind.seen.connected);
        let seen = |(id, behind): (WorkerId, Behind)| {
            let known = roster.workers.get(&id)?.seen.clone();
            let told = if behind.seen.version.is_empty() {
                known
            } else {
                behind.seen
            };
            Some((
                id,
                WorkerSeen {
                    at: Some(now),
                    connected: true,
                    ..told
                },
            ))
        };
        let workers = connected.filter_map(seen).collect();
        if let Err(error) = parts.store.note_seen(vec![(self.id, now)], workers).await {
            tracing::warn!(%error, "it could not be written who was heard");
        }
    }

    /// A claim of this orchestrator's.
    async fn held(&self, claim: &Claim) -> Result<Arc<Held>> {
        let held = self.desk.held(claim).await;
        self.own_claim(claim, held).await
    }

    async fn live(&self, claim: &Claim) -> Result<Live> {
        self.held(claim).await?;
        self.desk.live(claim).await
    }

    /// A job of another orchestrator's is not found, whatever its claim; one of a worker that was revoked is stale.
    async fn own_claim(&self, claim: &Claim, held: Result<Arc<Held>>) -> Result<Arc<Held>> {
        let roster = self.parts().roster().await?;
        let worker = match &held {
            Ok(held) => Some(held.worker),
            Err(_) => self.parts().store.job(claim.job).await?.and_then(|row| row.worker()),
        };
        match worker.map(|id| roster.workers.get(&id)) {
            Some(Some(worker)) if worker.orchestrator == self.id => held,
            Some(None) => Err(stale_claim()),
            Some(Some(_)) => Err(Error::NotFound("job")),
            None => held,
        }
    }

    /// Says that a job has begun, which the engine knows by its claim.
    ///
    /// # Errors
    /// [`Conflict::StaleClaim`].
    pub async fn running(&self, claim: &Claim) -> Result<()> {
        self.held(claim).await.map(drop)
    }

    /// Adds log lines.
    ///
    /// # Errors
    /// [`Conflict::StaleClaim`], [`Conflict::ChunkGap`].
    pub async fn chunk(&self, claim: &Claim, chunk: Chunk) -> Result<()> {
        self.held(claim).await?;
        self.desk.chunk(claim, chunk).await
    }

    /// Adds model calls.
    ///
    /// # Errors
    /// [`Conflict::StaleClaim`].
    pub async fn telemetry(&self, claim: &Claim, telemetry: Telemetry) -> Result<()> {
        self.held(claim).await?;
        self.desk.telemetry(claim, telemetry).await
    }

    /// Draws a slice of the budgets of the job's run and stage.
    ///
    /// # Errors
    /// [`Conflict::StaleClaim`].
    pub async fn draw(&self, claim: &Claim, want: Amounts) -> Result<Granted> {
        self.held(claim).await?;
        self.desk.draw(claim, want).await
    }

    /// Keeps a file.
    ///
    /// # Errors
    /// [`Conflict::StaleClaim`]; [`Error::DigestMismatch`]; [`Error::TooLarge`].
    pub async fn artifact(&self, claim: &Claim, upload: Upload, bytes: ByteStream) -> Result<()> {
        self.held(claim).await?;
        self.desk.artifact(claim, upload, bytes).await
    }

    /// The job is over; none when it was before, by the same report.
    ///
    /// # Errors
    /// [`Conflict::StaleClaim`]; [`Conflict::AlreadyTerminal`] when it ended in another way.
    pub async fn finish(&self, claim: &Claim, report: &Report) -> Result<Option<Finished>> {
        let held = self.desk.held(claim).await;
        let is_over = held.is_err();
        match self.own_claim(claim, held).await {
            Ok(_) => {}
            // It may be over by this very report, which is known when it comes again.
            Err(Error::Conflict { .. }) if is_over => {}
            Err(error) => return Err(error),
        }
        let finished = self.desk.finish(claim, report).await;
        self.binding.over(claim.job);
        finished
    }

    /// The secrets of a job, sealed to its worker.
    ///
    /// # Errors
    /// [`Conflict::StaleClaim`]; [`Conflict::WorkerNotPinned`].
    pub async fn seal(&self, claim: &Claim) -> Result<SealedCredential> {
        let Live { held, project, .. } = self.live(claim).await?;
        let grant = self.desk.grant(&held).await?;
        let names: Vec<String> = grant.secrets.keys().cloned().collect();
        let mut env: BTreeMap<&str, &str> = grant.env.iter().map(|(name, value)| (&**name, &**value)).collect();
        env.extend(grant.secrets.iter().map(|(name, secret)| (&**name, secret.expose())));
        let clear = zeroize::Zeroizing::new(json!({"env": env, "secrets": names}).to_string());
        let sealed = self.seal_for(&held, Purpose::Credential, clear.as_bytes()).await?;
        let asked = held.decided.credential.as_ref();
        Ok(SealedCredential {
            sealed,
            worker: held.worker,
            project,
            credential: asked.map(|(asked, _)| asked.name.clone()),
            secrets: names,
        })
    }

    async fn seal_for(&self, held: &Held, purpose: Purpose, clear: &[u8]) -> Result<SignedBox> {
        let not_pinned = || {
            Error::conflict(
                Conflict::WorkerNotPinned,
                "the worker has no pinned key, or was revoked",
            )
        };
        let roster = self.parts().roster().await?;
        let worker = roster.workers.get(&held.worker).ok_or_else(not_pinned)?;
        let digest = held.decided.digest.as_deref().and_then(|text| hex::decode(text).ok());
        let job = digest.and_then(|bytes| bytes.try_into().ok()).ok_or_else(not_pinned)?;
        let place = BoxPlace {
            job,
            worker: held.worker,
            attempt: held.decided.attempt,
            purpose,
        };
        let sealed = SealedBox::seal(&worker.keys.x25519, &place, clear, &*self.parts().entropy);
        let sealed = sealed.map_err(|_| not_pinned())?;
        let signature = sign_box(&sealed, &place, &self.parts().keys.signing);
        Ok(SignedBox { sealed, signature })
    }

    /// A token for the sources of a job.
    ///
    /// # Errors
    /// [`Conflict::StaleClaim`]; [`Error::NotFound`] when it has none.
    pub async fn bundle_token(&self, claim: &Claim) -> Result<OfferedBundle> {
        let Live { held, .. } = self.live(claim).await?;
        let (bundle, _) = self.desk.bundle(&held).await?;
        Ok(OfferedBundle {
            token: bundle_token::make(&self.parts().keys.bundle_tokens, held.job, held.token),
            sha256: bundle.sha256,
            size: bundle.size,
        })
    }

    /// The key of a job's sources, sealed to its worker; as often as asked while the lease lives.
    ///
    /// # Errors
    /// [`Conflict::TokenUsed`] when the token is of another claim; [`Conflict::StaleClaim`].
    pub async fn redeem(&self, claim: &Claim, token: &Secret, worker: WorkerId) -> Result<RedeemedBundle> {
        let Live { held, project, until } = self.live(claim).await?;
        if worker != held.worker {
            return Err(Error::Forbidden(Denial::ForeignWorker));
        }
        match bundle_token::judge(&self.parts().keys.bundle_tokens, token, held.job, held.token) {
            Judged::Good => {}
            Judged::OfAnother => {
                return Err(Error::conflict(
                    Conflict::TokenUsed,
                    "the token was given to another claim",
                ));
            }
            Judged::Unknown => return Err(Error::NotFound("bundle token")),
        }
        let (_, key) = self.desk.bundle(&held).await?;
        let key = self.seal_for(&held, Purpose::Bundle, key.expose()).await?;
        Ok(RedeemedBundle { key, project, until })
    }

    /// The sealed sources of a job: its size, and the bytes of a range.
    ///
    /// # Errors
    /// [`Conflict::StaleClaim`].
    pub async fn bundle_size(&self, claim: &Claim) -> Result<(u64, String)> {
        let Live { held, .. } = self.live(claim).await?;
        let (bundle, _) = self.desk.bundle(&held).await?;
        Ok((bundle.size, bundle.sha256))
    }

    /// The bytes of the sealed sources of a job.
    ///
    /// # Errors
    /// [`Conflict::StaleClaim`].
    pub async fn bundle_bytes(&self, claim: &Claim, range: Option<std::ops::Range<u64>>) -> Result<ByteStream> {
        let Live { held, .. } = self.live(claim).await?;
        let (bundle, _) = self.desk.bundle(&held).await?;
        Ok(self.parts().blobs.get(&bundle.key, range).await?)
    }

    /// The orchestrator's id.
    pub fn id(&self) -> OrchestratorId {
        self.id
    }
}

struct Waited {
    until: Timestamp,
    number: u64,
    max: u32,
}

impl Parts {
    /// Tells a worker to stop a job, wherever it is.
    pub(crate) async fn tell_cancel(&self, worker: WorkerId, job: JobId) {
        if self.presence.command(worker, crate::dispatch::Command::Cancel(job)) {
            return;
        }
        let roster = match self.roster().await {
            Ok(roster) => roster,
            Err(error) => {
                tracing::warn!(%job, %error, "a cancel travels with the next heartbeat");
                return;
            }
        };
        let held = self.store.job(job).await.ok().flatten().and_then(|row| Held::of(&row));
        if let (Some(known), Some(held)) = (roster.workers.get(&worker), held) {
            self.bindings.of(known.orchestrator).cancel(Arc::new(held));
        }
    }

    /// Another server changed a run: jobs of it that are held through this one may be to be stopped.
    pub(crate) async fn hear_cancel(&self, run: crate::id::RunId) {
        for job in self.claims.of_run(run) {
            match self.store.job(job).await {
                Ok(Some(row)) if row.cancelled => {
                    if let Some(worker) = row.worker() {
                        self.tell_cancel(worker, job).await;
                    }
                }
                Ok(Some(row)) if row.worker().is_some() => {}
                Ok(_) => self.claims.drop_job(job),
                Err(error) => tracing::warn!(%job, %error, "a cancel travels with the next heartbeat"),
            }
        }
    }
}
