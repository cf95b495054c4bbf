//! A job and a command as they travel: JSON, signed by the engine, so that whoever relays them can change nothing.
//!
//! What is signed is the RFC 8785 form of the whole job but `lease_expires_at` and `signature`. A command is signed together
//! with the worker and the attempt it is for; those two do not travel with it, the worker puts in its own.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{BundleOffer, CredentialRequest, Job, JobModel};
use crate::artifacts::ArtifactName;
use crate::body::{Faults, Object};
use crate::clock::Timestamp;
use crate::config::HarnessFile;
use crate::egress::{Ruled, SealedRule};
use crate::id::{JobId, ProjectId, RunId, WorkerId};
use crate::pool::{ClaimToken, EngineKey, EnginePublic};
use crate::runs::executors::{Parse, SandboxBlock, Shape};
use crate::sealing::{BoxPlace, SealedBox};
use crate::secret::Secret;
use crate::usage::{Price, Prices};
use crate::workflow::Budget;

/// The fields that the signature does not cover.
const UNSIGNED: [&str; 2] = ["lease_expires_at", "signature"];

/// A job or command that is not to be started or obeyed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JobInvalid(pub String);

impl JobInvalid {
    fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

/// A job with the engine's signature.
#[derive(Debug, Clone)]
pub struct SignedJob {
    /// The job as it travels.
    pub json: Value,
    /// SHA-256 of what is signed: sealed boxes are bound to it.
    pub digest: [u8; 32],
}

impl SignedJob {
    /// Signs a job.
    ///
    /// # Errors
    /// When it holds a number that JSON cannot carry exactly.
    pub fn sign(job: &Job, key: &EngineKey) -> Result<Self, JobInvalid> {
        let wire = Wire::of(job);
        let mut json = serde_json::to_value(wire).map_err(|error| JobInvalid::new(error.to_string()))?;
        let bytes = signed_bytes(&json)?;
        if let Value::Object(fields) = &mut json {
            fields.insert("signature".into(), signature(key, &bytes));
        }
        let digest = Sha256::digest(&bytes).into();
        Ok(Self { json, digest })
    }

    /// Reads a job that came from afar: signed by the pinned key and for this worker.
    ///
    /// # Errors
    /// What is wrong with it; then nothing of it may be started.
    pub fn open(json: &Value, pinned: &EnginePublic, worker: WorkerId) -> Result<(Job, [u8; 32]), JobInvalid> {
        let bytes = signed_bytes(json)?;
        verify(json, pinned, &bytes)?;
        let mut fields = json.as_object().cloned().unwrap_or_default();
        fields.remove("signature");
        let wire: Wire = serde_json::from_value(Value::Object(fields))
            .map_err(|error| JobInvalid::new(format!("the job does not read: {error}")))?;
        if wire.worker_id != worker {
            return Err(JobInvalid::new("the job is for another worker"));
        }
        Ok((wire.job()?, Sha256::digest(&bytes).into()))
    }
}

/// A command for a running job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCommand {
    /// The job.
    pub job: JobId,
    /// Number of the command, from 1 with each attempt.
    pub n: u64,
    /// What it is.
    pub kind: String,
    /// What it says.
    pub body: Value,
}

impl SignedCommand {
    /// The command with the engine's signature, for one attempt at one worker.
    ///
    /// # Errors
    /// When its body holds a number that JSON cannot carry exactly.
    pub fn sign(&self, worker: WorkerId, attempt: u32, key: &EngineKey) -> Result<Value, JobInvalid> {
        let bytes = self.signed_bytes(worker, attempt)?;
        let Self { job, n, kind, body } = self;
        Ok(json!({"job_id": job, "n": n, "kind": kind, "body": body, "signature": signature(key, &bytes)}))
    }

    /// Reads a command that came from afar, for the attempt that this worker runs.
    ///
    /// # Errors
    /// What is wrong with it; then it is not to be obeyed.
    pub fn open(json: &Value, pinned: &EnginePublic, worker: WorkerId, attempt: u32) -> Result<Self, JobInvalid> {
        #[derive(Deserialize)]
        struct Wire {
            job_id: JobId,
            n: u64,
            kind: String,
            #[serde(default)]
            body: Value,
        }
        let read =
            Wire::deserialize(json).map_err(|error| JobInvalid::new(format!("the command does not read: {error}")));
        let Wire {
            job_id: job,
            n,
            kind,
            body,
        } = read?;
        let command = Self { job, n, kind, body };
        verify(json, pinned, &command.signed_bytes(worker, attempt)?)?;
        Ok(command)
    }

    /// The job that a command is for, before anything of it is believed.
    pub fn names(json: &Value) -> Option<JobId> {
        json.get("job_id")?.as_str()?.parse().ok()
    }

    fn signed_bytes(&self, worker: WorkerId, attempt: u32) -> Result<Vec<u8>, JobInvalid> {
        let Self { job, n, kind, body } = self;
        let whole = json!({
            "attempt": attempt, "body": body, "job_id": job, "kind": kind, "n": n, "worker_id": worker,
        });
        canonical(&whole)
    }
}

/// The engine's signature on a sealed box: without it whoever relays the box could seal one of its own to the worker's public
/// key. It covers the associated data, the encapsulated key and the ciphertext, joined by one zero byte.
pub fn sign_box(sealed: &SealedBox, place: &BoxPlace, key: &EngineKey) -> Value {
    signature(key, &box_bytes(sealed, place))
}

/// Checks that the engine sealed a box for this place. `signature` is the object that came with it.
///
/// # Errors
/// When it did not; then the box is not to be opened.
pub fn verify_box(
    sealed: &SealedBox,
    place: &BoxPlace,
    signature: &Value,
    pinned: &EnginePublic,
) -> Result<(), JobInvalid> {
    verify(&json!({"signature": signature}), pinned, &box_bytes(sealed, place))
}

fn box_bytes(sealed: &SealedBox, place: &BoxPlace) -> Vec<u8> {
    [&place.associated_data()[..], &sealed.enc, &sealed.ciphertext].join(&0)
}

fn canonical(value: &Value) -> Result<Vec<u8>, JobInvalid> {
    serde_json_canonicalizer::to_vec(value).map_err(|error| JobInvalid::new(format!("has no RFC 8785 form: {error}")))
}

fn signed_bytes(json: &Value) -> Result<Vec<u8>, JobInvalid> {
    let fields = json
        .as_object()
        .ok_or_else(|| JobInvalid::new("the job is no object"))?;
    let signed: Map<String, Value> = fields
        .iter()
        .filter(|(name, _)| !UNSIGNED.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    canonical(&Value::Object(signed))
}

fn signature(key: &EngineKey, bytes: &[u8]) -> Value {
    json!({"kid": key.public().digest(), "sig": STANDARD.encode(key.sign(bytes))})
}

fn verify(json: &Value, pinned: &EnginePublic, bytes: &[u8]) -> Result<(), JobInvalid> {
    let sig = json.pointer("/signature/sig").and_then(Value::as_str);
    let sig = sig.and_then(|text| STANDARD.decode(text).ok());
    let sig = sig.ok_or_else(|| JobInvalid::new("has no signature"))?;
    pinned
        .verify(bytes, &sig)
        .map_err(|_| JobInvalid::new("the signature is not that of the pinned engine key"))
}

/// A job's fields as they travel.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    job_id: JobId,
    run_id: RunId,
    project_id: ProjectId,
    stage: String,
    substage: Option<String>,
    attempt: u32,
    claim_token: String,
    lease_expires_at: String,
    worker_id: WorkerId,
    harness: String,
    command: Vec<String>,
    prompt: String,
    files: Vec<HarnessFile>,
    env: BTreeMap<String, String>,
    sandbox: Value,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    egress: Vec<Ruled>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sealed: Vec<SealedRule>,
    model: Option<WireModel>,
    cred_request: Option<CredentialRequest>,
    source_bundle: Option<WireBundle>,
    base: Option<String>,
    budget: Budget,
    parse: Option<WireParse>,
    writes_artifact: Option<String>,
    timeout_sec: u64,
    cancel_grace_ms: u64,
    artifact_max_bytes: u64,
    traceparent: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct WireModel {
    provider: String,
    model_id: String,
    /// Prices are micro-USD per million tokens.
    models: BTreeMap<String, WirePrices>,
    remote_features: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct WirePrices {
    input: Option<Price>,
    output: Option<Price>,
    cache_read: Option<Price>,
    cache_write: Option<Price>,
}

#[derive(Serialize, Deserialize)]
struct WireBundle {
    token: String,
    sha256: String,
    size: u64,
}

#[derive(Serialize, Deserialize)]
struct WireParse {
    fence: String,
    output: String,
    shape: String,
}

impl Wire {
    fn of(job: &Job) -> Self {
        Self {
            job_id: job.id,
            run_id: job.run,
            project_id: job.project,
            stage: job.stage.clone(),
            substage: job.substage.clone(),
            attempt: job.attempt,
            claim_token: job.claim.expose().to_owned(),
            lease_expires_at: job.lease_until.to_string(),
            worker_id: job.worker,
            harness: job.harness.clone(),
            command: job.command.clone(),
            prompt: job.prompt.clone(),
            files: job.files.clone(),
            env: job.env.clone(),
            sandbox: job.sandbox.to_json(),
            egress: job.egress.clone(),
            sealed: job.sealed.clone(),
            model: job.model.as_ref().map(WireModel::of),
            cred_request: job.cred_request.clone(),
            source_bundle: job.source_bundle.as_ref().map(WireBundle::of),
            base: job.base.clone(),
            budget: job.budget,
            parse: job.parse.as_ref().map(WireParse::of),
            writes_artifact: job.writes_artifact.as_ref().map(ToString::to_string),
            timeout_sec: job.timeout.as_secs(),
            cancel_grace_ms: u64::try_from(job.cancel_grace.as_millis()).unwrap_or(u64::MAX),
            artifact_max_bytes: job.artifact_cap,
            traceparent: None,
        }
    }

    fn job(self) -> Result<Job, JobInvalid> {
        let name = |text: String| ArtifactName::new(text).map_err(|_| JobInvalid::new("an artifact name that is none"));
        let lease_until = Timestamp::parse(&self.lease_expires_at);
        Ok(Job {
            id: self.job_id,
            run: self.run_id,
            project: self.project_id,
            stage: self.stage,
            substage: self.substage,
            attempt: self.attempt,
            claim: ClaimToken::from_text(self.claim_token),
            lease_until: lease_until.map_err(|_| JobInvalid::new("lease_expires_at is no time"))?,
            worker: self.worker_id,
            harness: self.harness,
            command: self.command,
            prompt: self.prompt,
            files: self.files,
            env: self.env,
            sandbox: sandbox(&self.sandbox)?,
            egress: self.egress,
            sealed: self.sealed,
            model: self.model.map(WireModel::model),
            cred_request: self.cred_request,
            source_bundle: self.source_bundle.map(WireBundle::offer),
            base: self.base,
            budget: self.budget,
            parse: self.parse.map(WireParse::parse).transpose()?,
            writes_artifact: self.writes_artifact.map(name).transpose()?,
            timeout: Duration::from_secs(self.timeout_sec),
            cancel_grace: Duration::from_millis(self.cancel_grace_ms),
            artifact_cap: self.artifact_max_bytes,
        })
    }
}

fn sandbox(json: &Value) -> Result<SandboxBlock, JobInvalid> {
    let faults = Faults::new();
    let block = Object::read(json, "/sandbox", &faults).and_then(SandboxBlock::read);
    match (block, faults.take().into_iter().next()) {
        (Some(block), None) => Ok(block),
        (_, Some(fault)) => Err(JobInvalid::new(format!("{} {}", fault.pointer, fault.message))),
        (None, None) => Err(JobInvalid::new("/sandbox names no profile")),
    }
}

impl WireModel {
    fn of(model: &JobModel) -> Self {
        let prices = |prices: &Prices| WirePrices {
            input: prices.input,
            output: prices.output,
            cache_read: prices.cache_read,
            cache_write: prices.cache_write,
        };
        Self {
            provider: model.provider.clone(),
            model_id: model.model_id.clone(),
            models: model
                .models
                .iter()
                .map(|(name, found)| (name.clone(), prices(found)))
                .collect(),
            remote_features: model.remote_features.clone(),
        }
    }

    fn model(self) -> JobModel {
        let prices = |prices: WirePrices| Prices {
            input: prices.input,
            output: prices.output,
            cache_read: prices.cache_read,
            cache_write: prices.cache_write,
        };
        JobModel {
            provider: self.provider,
            model_id: self.model_id,
            models: self
                .models
                .into_iter()
                .map(|(name, found)| (name, prices(found)))
                .collect(),
            remote_features: self.remote_features,
        }
    }
}

impl WireBundle {
    fn of(offer: &BundleOffer) -> Self {
        Self {
            token: offer.token.expose().to_owned(),
            sha256: offer.sha256.clone(),
            size: offer.size,
        }
    }

    fn offer(self) -> BundleOffer {
        BundleOffer {
            token: Secret::new(self.token),
            sha256: self.sha256,
            size: self.size,
        }
    }
}

impl WireParse {
    fn of(parse: &Parse) -> Self {
        let shape = Shape::ALL.iter().find(|(_, shape)| *shape == parse.shape);
        Self {
            fence: parse.fence.clone(),
            output: parse.output.to_string(),
            shape: shape.map_or("", |(name, _)| name).to_owned(),
        }
    }

    fn parse(self) -> Result<Parse, JobInvalid> {
        let shape = Shape::ALL.iter().find(|(name, _)| *name == self.shape);
        let output = ArtifactName::new(self.output).map_err(|_| JobInvalid::new("parse.output is no artifact name"))?;
        Ok(Parse {
            fence: self.fence,
            output,
            shape: shape
                .ok_or_else(|| JobInvalid::new("parse.shape is none that this worker knows"))?
                .1,
        })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::config::{EgressAction, EgressRule};
    use crate::egress::{Origin, Place};
    use crate::runs::executors::Tier;
    use crate::sandbox::{BackendKind, Limits, Profile};
    use crate::sealing::Purpose;
    use crate::secret::SecretBytes;
    use crate::usage::Pico;

    fn key(seed: u8) -> EngineKey {
        EngineKey::new(&SecretBytes::new(vec![seed; 32])).unwrap()
    }

    fn job() -> Job {
        let id = Uuid::from_u128(7);
        Job {
            id: id.into(),
            run: id.into(),
            project: id.into(),
            stage: "fix".into(),
            substage: Some("area-001".into()),
            attempt: 2,
            claim: ClaimToken::from_text("claim"),
            lease_until: Timestamp::from_millis(1_700_000_000_123),
            worker: Uuid::from_u128(8).into(),
            harness: "codex".into(),
            command: vec!["codex".into(), "{{MODEL}}".into()],
            prompt: "fix ü".into(),
            files: vec![HarnessFile {
                path: "a/b".into(),
                content: "c".into(),
            }],
            env: BTreeMap::from([("A".into(), "b".into())]),
            sandbox: SandboxBlock {
                profile: Profile::UntrustedCodeWrite,
                tier: Tier::Byo,
                backend: Some(BackendKind::Docker),
                allow_hosts: vec![crate::outbound::HostPattern::parse("example.com").unwrap()],
                limits: Limits {
                    millicpus: 1500,
                    ..Limits::default()
                },
                image: Some("img".into()),
            },
            egress: vec![Ruled {
                rule: EgressRule {
                    host: crate::outbound::HostPattern::parse(".example.org:8443").unwrap(),
                    action: EgressAction::Deny,
                    upgrade: true,
                },
                from: Origin::Project,
            }],
            sealed: vec![SealedRule {
                name: "TOKEN".into(),
                hosts: vec![crate::outbound::HostPattern::parse("api.example.com").unwrap()],
                places: vec![Place::Header, Place::HeaderNamed("x-own".into()), Place::Body],
            }],
            model: Some(JobModel {
                provider: "anthropic".into(),
                model_id: "m".into(),
                models: BTreeMap::from([(
                    "m".into(),
                    Prices {
                        input: Some(Price(3)),
                        ..Prices::default()
                    },
                )]),
                remote_features: vec!["mcp".into()],
            }),
            cred_request: Some(CredentialRequest {
                name: "c".into(),
                project_id: None,
            }),
            source_bundle: Some(BundleOffer {
                token: Secret::new("t"),
                sha256: "ab".into(),
                size: 9,
            }),
            base: Some("abc".into()),
            budget: Budget {
                usd: Some(Pico(5)),
                ..Budget::default()
            },
            parse: Some(Parse {
                fence: "out".into(),
                output: ArtifactName::new("o.json").unwrap(),
                shape: Shape::Json,
            }),
            writes_artifact: Some(ArtifactName::new("r.json").unwrap()),
            timeout: Duration::from_secs(60),
            cancel_grace: Duration::from_millis(2500),
            artifact_cap: 1 << 20,
        }
    }

    #[test]
    fn a_signed_job_reads_back_as_it_was() {
        let (job, key) = (job(), key(1));
        let signed = SignedJob::sign(&job, &key).unwrap();
        let text = serde_json::to_string(&signed.json).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        let (read, digest) = SignedJob::open(&json, &key.public(), job.worker).unwrap();
        assert_eq!(format!("{read:?}"), format!("{job:?}"));
        assert_eq!(digest, signed.digest);
    }

    #[test]
    fn c17_58_a_job_that_was_changed_in_any_place_is_refused() {
        let (job, key) = (job(), key(1));
        let signed = SignedJob::sign(&job, &key).unwrap();
        let fields: Vec<String> = signed.json.as_object().unwrap().keys().cloned().collect();
        for field in fields {
            let mut changed = signed.json.clone();
            changed[&field] = match &changed[&field] {
                Value::String(text) => Value::String(format!("{text}x")),
                Value::Number(number) => json!(number.as_u64().unwrap_or(0) + 1),
                Value::Array(_) => json!(["x"]),
                Value::Object(_) | Value::Null | Value::Bool(_) => json!({"x": "y"}),
            };
            let opened = SignedJob::open(&changed, &key.public(), job.worker);
            assert!(opened.is_err(), "{field}");
            let mut without = signed.json.clone();
            without.as_object_mut().unwrap().remove(&field);
            assert!(
                SignedJob::open(&without, &key.public(), job.worker).is_err(),
                "{field} left out"
            );
        }
        let mut added = signed.json.clone();
        added["extra"] = json!(1);
        assert!(SignedJob::open(&added, &key.public(), job.worker).is_err());
        assert!(
            SignedJob::open(
                &signed.json,
                &EngineKey::new(&SecretBytes::new(vec![2; 32])).unwrap().public(),
                job.worker
            )
            .is_err()
        );
        assert!(SignedJob::open(&signed.json, &key.public(), job.run.uuid().into()).is_err());
        // The lease alone may be renewed on the way.
        let mut renewed = signed.json.clone();
        renewed["lease_expires_at"] = json!(Timestamp::from_millis(5).to_string());
        assert!(SignedJob::open(&renewed, &key.public(), job.worker).is_ok());
    }

    #[test]
    fn c17_58_a_box_that_a_relay_sealed_itself_is_refused() {
        let (job, key) = (job(), key(1));
        let place = |purpose| BoxPlace {
            job: [3; 32],
            worker: job.worker,
            attempt: 2,
            purpose,
        };
        let (own, other) = (place(Purpose::Credential), place(Purpose::Bundle));
        let entropy = crate::testing::SeededEntropy::new(1);
        let to = crate::sealing::x25519_public(&[9; 32]).unwrap();
        let sealed = SealedBox::seal(&to, &own, b"clear", &entropy).unwrap();
        let forged = SealedBox::seal(&to, &own, b"forged", &entropy).unwrap();
        let told = sign_box(&sealed, &own, &key);
        let verified = |sealed: &SealedBox, place: &BoxPlace| verify_box(sealed, place, &told, &key.public());
        assert_eq!(verified(&sealed, &own), Ok(()));
        assert!(verified(&sealed, &other).is_err());
        assert!(verified(&forged, &own).is_err());
        assert!(forged.open(&[9; 32], &own).is_ok(), "the seal alone does not tell");
        let none = verify_box(&sealed, &own, &Value::Null, &key.public());
        assert!(none.is_err());
    }

    #[test]
    fn c17_58_a_command_is_for_one_attempt_at_one_worker() {
        let (job, key) = (job(), key(1));
        let command = SignedCommand {
            job: job.id,
            n: 1,
            kind: "cancel".into(),
            body: json!({"a": 1.5}),
        };
        let json = command.sign(job.worker, 2, &key).unwrap();
        assert_eq!(SignedCommand::names(&json), Some(job.id));
        let open = |json: &Value, worker, attempt| SignedCommand::open(json, &key.public(), worker, attempt);
        assert_eq!(open(&json, job.worker, 2), Ok(command));
        assert!(open(&json, job.worker, 1).is_err());
        assert!(open(&json, job.run.uuid().into(), 2).is_err());
        for (field, value) in [
            ("n", json!(2)),
            ("kind", json!("prompt")),
            ("body", json!({})),
            ("job_id", json!(job.worker)),
        ] {
            let mut changed = json.clone();
            changed[field] = value;
            assert!(open(&changed, job.worker, 2).is_err(), "{field}");
        }
    }
}
