//! The pool, as callers see it: codes that let orchestrators and workers in, who is there, and who is to leave.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::{
    Admits, Code, Enrolled, EnrolledWorker, InProcessLink, Orchestrator, Remote, WorkerKeys, WorkerSeen, WorkerView,
};
use crate::body::{Faults, Object};
use crate::clock::Timestamp;
use crate::dispatch::WorkerInfo;
use crate::engine::{Parts, reclaim_or_tell};
use crate::error::{Conflict, Denial, Error, Result};
use crate::id::{OrchestratorId, ProjectId, WorkerId};
use crate::secret::Secret;
use crate::token;

/// How long a pairing code may be used.
const PAIRING: Duration = Duration::from_secs(15 * 60);
/// How long an enrolment code may be used.
const ENROLMENT: Duration = Duration::from_secs(60 * 60);
/// Tags or capabilities of one worker.
const MAX_FLAGS: usize = 64;

/// The pool.
#[derive(Clone)]
pub struct Pool {
    parts: Arc<Parts>,
}

/// A code, told once.
#[derive(Debug)]
pub struct NewCode {
    /// The code.
    pub code: Secret,
    /// Until when it may be used.
    pub expires_at: Timestamp,
}

/// An orchestrator as lists show it.
#[derive(Debug, Clone)]
pub struct OrchestratorView {
    /// The orchestrator.
    pub id: OrchestratorId,
    /// Its name for people.
    pub name: String,
    /// When it was paired; the embedded pool never was.
    pub paired_at: Option<Timestamp>,
    /// When it last gave a word.
    pub last_seen: Option<Timestamp>,
    /// Whether that is recent.
    pub online: bool,
    /// Whether it is the pool of this process.
    pub embedded: bool,
}

/// A worker that asks to be let in.
#[derive(Debug, Clone)]
pub struct Enrolment {
    /// The code, just as it was sent.
    pub code: Secret,
    /// Its name for people.
    pub name: String,
    /// Its keys.
    pub keys: WorkerKeys,
    /// Ed25519 signature that proves them.
    pub proof: Vec<u8>,
    /// The tags that it wants; those of the code when absent.
    pub tags: Option<BTreeSet<String>>,
    /// What it says that it can do; what the code says when absent.
    pub capabilities: Option<BTreeSet<String>>,
}

impl Pool {
    pub(crate) fn new(parts: Arc<Parts>) -> Self {
        Self { parts }
    }

    /// Attaches a worker that runs in this process; it is there as long as its link is.
    pub fn attach(&self, info: WorkerInfo) -> InProcessLink {
        InProcessLink::new(self.parts.clone(), info)
    }

    /// The key that signs jobs, for those who pin it.
    pub fn engine_key(&self) -> [u8; 32] {
        *self.parts.keys.signing.public().as_bytes()
    }

    /// All workers that are known: those of this process, and those behind orchestrators.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn workers(&self) -> Result<Vec<WorkerView>> {
        self.parts.know_workers().await?;
        let (roster, now) = (self.parts.roster().await?, self.parts.clock.now());
        let present = self.parts.presence.list(now, self.parts.settings.worker_offline);
        let mut views: Vec<WorkerView> = present
            .into_iter()
            .filter(|view| !roster.workers.contains_key(&view.info.id) && view.here)
            .map(|view| WorkerView {
                running: self.parts.claims.of_worker(view.info.id),
                ..view
            })
            .collect();
        for worker in roster.workers.values() {
            views.push(self.view(worker, now));
        }
        views.sort_by_key(|view| view.info.id);
        Ok(views)
    }

    fn view(&self, worker: &EnrolledWorker, now: Timestamp) -> WorkerView {
        let heard = self
            .parts
            .presence
            .heard_of(worker.id, now, self.parts.settings.worker_offline);
        let (last_seen, online) = heard.map_or((worker.seen.at, false), |(at, online)| (Some(at), online));
        let told = worker
            .seen
            .at
            .is_some_and(|at| now.since(at) < self.parts.settings.worker_offline);
        WorkerView {
            info: worker.info(uuid::Uuid::nil().into()),
            here: false,
            orchestrator: Some(worker.orchestrator),
            fingerprint: Some(worker.keys.fingerprint()),
            last_seen,
            online: online || (worker.seen.connected && told),
            draining: worker.draining,
            running: worker.seen.running,
            version: worker.seen.version.clone(),
        }
    }

    /// A worker behind an orchestrator.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn worker(&self, id: WorkerId) -> Result<WorkerView> {
        let (roster, now) = (self.parts.roster().await?, self.parts.clock.now());
        let worker = roster.workers.get(&id).ok_or(Error::NotFound("worker"))?;
        Ok(self.view(worker, now))
    }

    /// All orchestrators, by id; the embedded pool is one while it has workers.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn orchestrators(&self) -> Result<Vec<OrchestratorView>> {
        let (roster, now) = (self.parts.roster().await?, self.parts.clock.now());
        let offline = self.parts.settings.worker_offline;
        let mut views: Vec<OrchestratorView> = roster
            .orchestrators
            .values()
            .map(|known| {
                let heard = self.parts.bindings.last_heard(known.id).max(known.last_seen_at);
                OrchestratorView {
                    id: known.id,
                    name: known.name.clone(),
                    paired_at: Some(known.paired_at),
                    last_seen: heard,
                    online: heard.is_some_and(|at| now.since(at) < offline),
                    embedded: false,
                }
            })
            .collect();
        let here = self
            .parts
            .presence
            .list(now, offline)
            .into_iter()
            .filter(|view| view.here);
        if let Some(last_seen) = here.map(|view| view.last_seen).max().flatten() {
            views.push(OrchestratorView {
                id: self.embedded(),
                name: "embedded".into(),
                paired_at: None,
                last_seen: Some(last_seen),
                online: true,
                embedded: true,
            });
        }
        Ok(views)
    }

    /// The id under which the pool of this process is shown.
    pub fn embedded(&self) -> OrchestratorId {
        OrchestratorId::from(self.parts.id.uuid())
    }

    /// Mints a pairing code from a request body.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub async fn pairing_code(&self, body: &Value) -> Result<NewCode> {
        let faults = Faults::new();
        let name = Object::read(body, "", &faults).map(|mut object| {
            let name = read_name(&mut object, "name");
            object.close();
            name
        });
        refuse(faults)?;
        self.mint("pond_pc_", Admits::Pairing { name: name.flatten() }, PAIRING)
            .await
    }

    /// Mints an enrolment code from a request body.
    ///
    /// # Errors
    /// [`Error::Invalid`]; [`Error::NotFound`] for an orchestrator that is none.
    pub async fn enrolment_code(&self, body: &Value) -> Result<NewCode> {
        let faults = Faults::new();
        let admits = Object::read(body, "", &faults).and_then(read_enrolment);
        refuse(faults)?;
        let Some(admits @ Admits::Enrolment { orchestrator, .. }) = admits else {
            return Err(Error::invalid("/orch_id", "expected a UUID"));
        };
        // Looked up anew: the code of an orchestrator that was just removed would never work.
        self.parts.rosters.outdate();
        if !self.parts.roster().await?.orchestrators.contains_key(&orchestrator) {
            return Err(Error::NotFound("orchestrator"));
        }
        let NewCode { code, expires_at } = self.mint("pond_ec_", admits, ENROLMENT).await?;
        let digest = self.parts.keys.signing.public().digest();
        let code = Secret::new(format!("{}.{digest}", code.expose()));
        Ok(NewCode { code, expires_at })
    }

    async fn mint(&self, prefix: &str, admits: Admits, lives: Duration) -> Result<NewCode> {
        let code = token::make(prefix, &*self.parts.entropy);
        let now = self.parts.clock.now();
        let expires_at = now.plus(lives);
        let record = Code {
            hash: token::hash(&code),
            admits,
            expires_at,
        };
        self.parts.store.add_code(record, now).await?;
        Ok(NewCode { code, expires_at })
    }

    /// Pairs an orchestrator, and gives its token, told once.
    ///
    /// # Errors
    /// [`Denial::CodeInvalid`].
    pub async fn pair(&self, code: &Secret, name: Option<String>) -> Result<(Orchestrator, Secret)> {
        let (now, hash) = (self.parts.clock.now(), token::hash(code));
        let known = self.parts.store.code(hash).await?.filter(|code| code.expires_at > now);
        let Some(Admits::Pairing { name: suggested }) = known.map(|code| code.admits) else {
            return Err(Error::Forbidden(Denial::CodeInvalid));
        };
        let name = name.or(suggested).filter(|name| is_name(name));
        let token = token::make("pond_ok_", &*self.parts.entropy);
        let id = OrchestratorId::mint(&*self.parts.clock, &*self.parts.entropy);
        let orchestrator = Orchestrator {
            id,
            name: name.unwrap_or_else(|| format!("orchestrator-{}", &id.to_string()[28..])),
            token: token::hash(&token),
            paired_at: now,
            last_seen_at: None,
        };
        match self.parts.store.pair(hash, now, orchestrator.clone()).await? {
            Enrolled::Done => {
                self.parts.rosters.outdate();
                Ok((orchestrator, token))
            }
            Enrolled::Refused => Err(Error::Forbidden(Denial::CodeInvalid)),
        }
    }

    /// The way in of the orchestrator with this token; none when nobody has it.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn remote(&self, token: &Secret) -> Result<Option<Remote>> {
        let roster = self.parts.roster().await?;
        let known = roster.of_token(token::hash(token));
        Ok(known.map(|known| Remote::new(self.parts.clone(), known.id)))
    }

    /// Lets a worker in behind an orchestrator: its keys are pinned from then on.
    ///
    /// # Errors
    /// [`Denial::CodeInvalid`]; [`Denial::ProofInvalid`]; [`Conflict::FingerprintMismatch`]; [`Error::Invalid`] when it asks
    /// for more than the code admits. Nothing is pinned then.
    pub async fn enrol(&self, behind: OrchestratorId, enrolment: Enrolment) -> Result<EnrolledWorker> {
        let now = self.parts.clock.now();
        let secret = enrolment.code.expose();
        // The second half is for the worker alone.
        let code = Secret::new(secret.split('.').next().unwrap_or_default());
        let hash = token::hash(&code);
        let known = self.parts.store.code(hash).await?.filter(|code| code.expires_at > now);
        let invalid = || Error::Forbidden(Denial::CodeInvalid);
        let Some(Admits::Enrolment {
            orchestrator,
            name,
            tags,
            capabilities,
            fingerprint,
        }) = known.map(|code| code.admits)
        else {
            return Err(invalid());
        };
        if orchestrator != behind {
            return Err(invalid());
        }
        if !enrolment.keys.proves(secret, &enrolment.proof) {
            return Err(Error::Forbidden(Denial::ProofInvalid));
        }
        if fingerprint.is_some_and(|expected| expected != enrolment.keys.fingerprint()) {
            tracing::warn!(orchestrator = %behind, "a worker came with other keys than its code expects");
            return Err(Error::conflict(
                Conflict::FingerprintMismatch,
                "the worker's keys are not those that the code expects",
            ));
        }
        let tags = within("/tags", enrolment.tags, tags)?;
        let capabilities = within("/capabilities", enrolment.capabilities, capabilities)?;
        let id = WorkerId::mint(&*self.parts.clock, &*self.parts.entropy);
        let worker = EnrolledWorker {
            id,
            orchestrator: behind,
            name: Some(enrolment.name)
                .filter(|name| is_name(name))
                .or(name)
                .unwrap_or_else(|| id.to_string()),
            keys: enrolment.keys,
            tags,
            capabilities,
            enrolled_at: now,
            draining: false,
            seen: WorkerSeen::default(),
        };
        match self.parts.store.enrol(hash, now, worker.clone()).await? {
            Enrolled::Done => {
                self.parts.rosters.outdate();
                Ok(worker)
            }
            Enrolled::Refused => Err(invalid()),
        }
    }

    /// Sets whether a worker gets no new jobs; those that it has go on.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn drain(&self, id: WorkerId, draining: bool) -> Result<WorkerView> {
        if !self.parts.store.set_draining(id, draining).await? {
            return Err(Error::NotFound("worker"));
        }
        self.parts.rosters.outdate();
        self.parts.presence.drain(id, draining);
        self.worker(id).await
    }

    /// Takes a worker out: its token is refused, its jobs wait again at once.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn remove_worker(&self, id: WorkerId) -> Result<()> {
        if !self.parts.store.remove_worker(id).await? {
            return Err(Error::NotFound("worker"));
        }
        self.let_go(&[id]).await
    }

    /// Takes an orchestrator out with all workers behind it.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn remove_orchestrator(&self, id: OrchestratorId) -> Result<()> {
        let removed = self.parts.store.remove_orchestrator(id).await?;
        let workers = removed.ok_or(Error::NotFound("orchestrator"))?;
        self.parts.bindings.forget(id);
        self.let_go(&workers).await
    }

    /// Takes back what workers held that are no more.
    async fn let_go(&self, workers: &[WorkerId]) -> Result<()> {
        self.parts.rosters.outdate();
        for &id in workers {
            self.parts.presence.remove(id);
            for job in self.parts.store.jobs_of_worker(id, None).await? {
                self.parts.claims.drop_job(job.id);
                reclaim_or_tell(&self.parts, &job).await;
            }
        }
        Ok(())
    }
}

fn refuse(faults: Faults) -> Result<()> {
    let faults = faults.take();
    match faults.is_empty() {
        true => Ok(()),
        false => Err(Error::Invalid(faults)),
    }
}

/// What a worker gets of what it asks for: never more than its code admits.
fn within(pointer: &str, asked: Option<BTreeSet<String>>, admitted: BTreeSet<String>) -> Result<BTreeSet<String>> {
    let Some(asked) = asked else { return Ok(admitted) };
    let beyond: Vec<&str> = asked.difference(&admitted).map(String::as_str).collect();
    match beyond.is_empty() {
        true => Ok(asked),
        false => Err(Error::invalid(
            pointer,
            format!(
                "the code does not admit {}; it admits {}",
                beyond.join(", "),
                listed(&admitted)
            ),
        )),
    }
}

fn listed(flags: &BTreeSet<String>) -> String {
    match flags.is_empty() {
        true => "none".into(),
        false => flags.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
    }
}

fn read_enrolment(mut object: Object<'_>) -> Option<Admits> {
    let orchestrator = object.required_text("orch_id").map(str::parse::<OrchestratorId>);
    if matches!(orchestrator, Some(Err(_))) {
        object.fault("orch_id", "expected a UUID");
    }
    let name = read_name(&mut object, "suggested_name");
    let tags = read_flags(&mut object, "tags");
    let capabilities = read_flags(&mut object, "capabilities");
    let fingerprint = object.text("expected_fingerprint").map(ToOwned::to_owned);
    if fingerprint
        .as_ref()
        .is_some_and(|print| !print.starts_with("SHA256:") || print.len() != 50)
    {
        object.fault(
            "expected_fingerprint",
            "expected SHA256: and 43 characters, as the worker prints it",
        );
    }
    if tags.contains("pool:byo") && !tags.iter().any(|tag| is_tenant(tag)) {
        object.fault(
            "tags",
            "pool:byo needs tenant:<project id> beside it, the only project that it will serve",
        );
    }
    object.close();
    Some(Admits::Enrolment {
        orchestrator: orchestrator?.ok()?,
        name,
        tags,
        capabilities,
        fingerprint,
    })
}

fn is_tenant(tag: &str) -> bool {
    tag.strip_prefix("tenant:")
        .is_some_and(|id| id.parse::<ProjectId>().is_ok())
}

fn read_name(object: &mut Object<'_>, field: &'static str) -> Option<String> {
    let name = object.text(field)?;
    if !is_name(name) {
        object.fault(field, "expected 1 to 100 characters, none of them a control character");
    }
    Some(name.to_owned())
}

fn is_name(name: &str) -> bool {
    (1..=100).contains(&name.chars().count()) && !name.chars().any(char::is_control)
}

fn read_flags(object: &mut Object<'_>, field: &'static str) -> BTreeSet<String> {
    let flags = object.text_list(field).unwrap_or_default();
    if flags.len() > MAX_FLAGS || !flags.iter().all(|flag| is_flag(flag)) {
        object.fault(
            field,
            format!("expected at most {MAX_FLAGS} of A-Z a-z 0-9 . _ : - each of 1 to 128 characters"),
        );
    }
    flags.into_iter().map(ToOwned::to_owned).collect()
}

fn is_flag(flag: &str) -> bool {
    (1..=128).contains(&flag.len())
        && flag
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-'))
}
