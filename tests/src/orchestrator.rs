//! An orchestrator and its workers, played by hand and written from the wire description alone: nothing here calls what the
//! engine itself uses to sign, seal or spell, so that both sides agree on the description and not on a shared mistake.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};
use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, Serializable};
use pond_core::clock::SystemClock;
use pond_core::entropy::SystemEntropy;
use pond_core::id::BootId;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::server::{Server, TOKEN};

/// A paired orchestrator.
pub struct PlayedOrchestrator {
    /// The server that it is paired with.
    pub url: String,
    /// Plain HTTP.
    pub http: reqwest::Client,
    /// Its id.
    pub id: String,
    /// Its token.
    pub token: String,
}

/// A worker behind it.
pub struct RemoteWorker {
    /// Its id.
    pub id: String,
    /// This life of it.
    pub boot: String,
    /// The engine's key, pinned by the code.
    pub engine_key: [u8; 32],
    x25519: [u8; 32],
}

/// An answer: status and body.
pub type Answer = (u16, Value);

/// The keys of a worker, from a seed.
pub struct Keys {
    x25519: [u8; 32],
    signing: SigningKey,
}

impl Keys {
    /// The keys of a seed.
    pub fn new(seed: u8) -> Self {
        Self {
            x25519: [seed; 32],
            signing: SigningKey::from_bytes(&[seed ^ 0x55; 32]),
        }
    }

    fn x25519_public(&self) -> [u8; 32] {
        let secret = <X25519HkdfSha256 as Kem>::PrivateKey::from_bytes(&self.x25519).expect("32 bytes are a key");
        let public = <X25519HkdfSha256 as Kem>::sk_to_pk(&secret).to_bytes();
        public.as_slice().try_into().expect("a public key has 32 bytes")
    }

    /// Both keys as people compare them.
    pub fn fingerprint(&self) -> String {
        let both = [self.x25519_public(), self.signing.verifying_key().to_bytes()].concat();
        let digest = STANDARD.encode(Sha256::digest(both));
        format!("SHA256:{}", digest.trim_end_matches('='))
    }

    /// The body that enrols with a code.
    pub fn enrolment(&self, code: &str) -> Value {
        let message = [
            b"pond-enroll-v1",
            &Sha256::digest(code.as_bytes())[..],
            &self.x25519_public(),
        ]
        .concat();
        json!({
            "code": code, "name": "w",
            "public_keys": {
                "x25519": STANDARD.encode(self.x25519_public()),
                "ed25519": STANDARD.encode(self.signing.verifying_key().to_bytes()),
            },
            "proof": STANDARD.encode(self.signing.sign(&message).to_bytes()),
        })
    }
}

impl PlayedOrchestrator {
    /// Mints a code and pairs with it.
    pub async fn pair(server: &Server) -> Self {
        let code = admin(server, "pairing-codes", &json!({})).await;
        let sent = json!({"code": code["code"]});
        let (status, paired) = call(&server.http, &server.url, "/v1/orch/pair", None, None, &sent).await;
        assert_eq!(status, 201, "{paired}");
        Self {
            url: server.url.clone(),
            http: server.http.clone(),
            id: text(&paired["orch_id"]),
            token: text(&paired["token"]),
        }
    }

    /// Mints an enrolment code; `more` are further fields.
    pub async fn code(&self, server: &Server, more: Value) -> String {
        let mut body = json!({"orch_id": self.id});
        for (name, value) in more.as_object().cloned().unwrap_or_default() {
            body[name] = value;
        }
        text(&admin(server, "enrollment-codes", &body).await["code"])
    }

    /// Lets a worker in that does what the shell harness needs.
    pub async fn enroll(&self, server: &Server, seed: u8) -> RemoteWorker {
        let flags = json!({"tags": ["pool:trusted"], "capabilities": ["harness.shell", "harness.mini", "sandbox.none", "sandbox.bubblewrap"]});
        self.enroll_as(server, seed, flags).await
    }

    /// Lets a worker in with these flags.
    pub async fn enroll_as(&self, server: &Server, seed: u8, flags: Value) -> RemoteWorker {
        let code = self.code(server, flags).await;
        let (status, enrolled) = self
            .post("/v1/orch/enrollment/consume", &Keys::new(seed).enrolment(&code))
            .await;
        assert_eq!(status, 200, "{enrolled}");
        let engine_key: [u8; 32] = decode(&enrolled["engine_key"]).try_into().expect("an Ed25519 key");
        // The second half of the code pins the key, whatever the relay says.
        assert_eq!(
            code.split('.').nth(1).expect("a digest"),
            hex::encode(Sha256::digest(engine_key))
        );
        RemoteWorker {
            id: text(&enrolled["worker_id"]),
            boot: fresh_id(),
            engine_key,
            x25519: [seed; 32],
        }
    }

    /// Calls with its token.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        call(&self.http, &self.url, path, Some(&self.token), None, body).await
    }

    /// Calls about a job, with its claim.
    pub async fn of_job(&self, job: &Value, path: &str, body: &Value) -> Answer {
        let claim = text(&job["claim_token"]);
        let path = path.replace("{id}", &text(&job["job_id"]));
        call(&self.http, &self.url, &path, Some(&self.token), Some(&claim), body).await
    }

    /// Polls for one worker with room.
    pub async fn poll(&self, worker: &RemoteWorker, free: u32, wait_ms: u32) -> Value {
        let body = json!({"max": 64, "wait_ms": wait_ms, "generation": 0,
            "workers": [{"worker_id": worker.id, "boot_id": worker.boot, "free_slots": free}]});
        let (status, polled) = self.post("/v1/orch/poll", &body).await;
        assert_eq!(status, 200, "{polled}");
        polled
    }

    /// Polls until a job is there, at most half a minute.
    pub async fn job(&self, worker: &RemoteWorker) -> Value {
        let polled = self.poll(worker, 1, 30_000).await;
        let job = polled["jobs"][0].clone();
        assert!(job.is_object(), "{polled}");
        worker.check(&job);
        job
    }

    /// Renews the lease of a job.
    pub async fn beat(&self, job: &Value, ack: Option<u64>) -> Value {
        let body = json!({"jobs": [{"job_id": job["job_id"], "claim_token": job["claim_token"], "ack": ack}]});
        let (status, leases) = self.post("/v1/orch/heartbeats", &body).await;
        assert_eq!(status, 200, "{leases}");
        leases["jobs"][0].clone()
    }

    /// The bytes of a job's sealed bundle from `from` on.
    pub async fn bundle(&self, job: &Value, url: &str, from: usize) -> (u16, Vec<u8>) {
        let answer = self
            .http
            .get(format!("{}{url}", self.url))
            .bearer_auth(&self.token)
            .header("x-claim-token", text(&job["claim_token"]))
            .header("range", format!("bytes={from}-"))
            .send()
            .await
            .expect("the server answers");
        let status = answer.status().as_u16();
        (status, answer.bytes().await.expect("the body comes whole").to_vec())
    }
}

impl RemoteWorker {
    /// SHA-256 of what the engine signed of a job.
    pub fn digest(job: &Value) -> [u8; 32] {
        Sha256::digest(signed(job)).into()
    }

    /// Checks that the engine signed a job for this worker.
    ///
    /// # Panics
    /// When it did not.
    pub fn check(&self, job: &Value) {
        assert_eq!(text(&job["worker_id"]), self.id);
        assert!(self.is_signed(&signed(job), &job["signature"]["sig"]), "{job}");
    }

    /// Whether a command was signed for this worker and attempt.
    pub fn obeys(&self, command: &Value, attempt: &Value) -> bool {
        let whole = json!({"attempt": attempt, "body": command["body"], "job_id": command["job_id"],
            "kind": command["kind"], "n": command["n"], "worker_id": self.id});
        let bytes = serde_json_canonicalizer::to_vec(&whole).expect("plain JSON");
        self.is_signed(&bytes, &command["signature"]["sig"])
    }

    fn is_signed(&self, bytes: &[u8], sig: &Value) -> bool {
        let key = VerifyingKey::from_bytes(&self.engine_key).expect("a pinned key");
        let sig = Signature::from_slice(&decode(sig)).expect("64 bytes");
        key.verify(bytes, &sig).is_ok()
    }

    /// Whether the engine signed a sealed box of a job.
    pub fn is_from_the_engine(&self, job: &Value, sealed: &Value, purpose: &str) -> bool {
        let place = self.place(job, purpose);
        let parts = [place, decode(&sealed["enc"]), decode(&sealed["ciphertext"])];
        self.is_signed(&parts.join(&0), &sealed["signature"]["sig"])
    }

    /// The associated data of a sealed box.
    fn place(&self, job: &Value, purpose: &str) -> Vec<u8> {
        let attempt = job["attempt"].to_string();
        let parts: [&[u8]; 4] = [
            &Self::digest(job),
            self.id.as_bytes(),
            attempt.as_bytes(),
            purpose.as_bytes(),
        ];
        parts.join(&0)
    }

    /// Opens a sealed box of a job; none when it does not open.
    pub fn open(&self, job: &Value, sealed: &Value, purpose: &str) -> Option<Vec<u8>> {
        let secret = <X25519HkdfSha256 as Kem>::PrivateKey::from_bytes(&self.x25519).ok()?;
        let enc = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(&decode(&sealed["enc"])).ok()?;
        hpke::single_shot_open::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &secret,
            &enc,
            b"pond/v1/seal",
            &decode(&sealed["ciphertext"]),
            &self.place(job, purpose),
        )
        .ok()
    }
}

/// An id that nobody has.
pub fn fresh_id() -> String {
    BootId::mint(&SystemClock, &SystemEntropy).to_string()
}

/// Opens a bundle file: 7 bytes of prefix, then sealed chunks; none when it does not open.
pub fn open_bundle(key: &[u8], file: &[u8]) -> Option<Vec<u8>> {
    let cipher = Aes256Gcm::new_from_slice(key).ok()?;
    let (prefix, rest) = file.split_at_checked(7)?;
    let chunks: Vec<&[u8]> = rest.chunks(65_536 + 16).collect();
    let mut clear = Vec::new();
    for (counter, chunk) in chunks.iter().enumerate() {
        let last = u8::from(counter + 1 == chunks.len());
        let counter = u32::try_from(counter).ok()?.to_be_bytes();
        let nonce: [u8; 12] = [prefix, &counter, &[last]].concat().try_into().ok()?;
        let payload = Payload { msg: chunk, aad: b"" };
        clear.extend(cipher.decrypt(&Nonce::from(nonce), payload).ok()?);
    }
    Some(clear)
}

/// The RFC 8785 form of a job without what the signature does not cover.
fn signed(job: &Value) -> Vec<u8> {
    let mut fields = job.as_object().cloned().expect("a job is an object");
    fields.remove("lease_expires_at");
    fields.remove("signature");
    serde_json_canonicalizer::to_vec(&Value::Object(fields)).expect("plain JSON")
}

/// Posts to the operators' side of the pool, and expects it to be taken.
pub async fn admin(server: &Server, what: &str, body: &Value) -> Value {
    let path = format!("/v1/admin/pool/{what}");
    let (status, answer) = call(&server.http, &server.url, &path, Some(TOKEN), None, body).await;
    assert!((200..300).contains(&status), "{status} {answer}");
    answer
}

async fn call(
    http: &reqwest::Client,
    url: &str,
    path: &str,
    token: Option<&str>,
    claim: Option<&str>,
    body: &Value,
) -> Answer {
    let mut request = http.post(format!("{url}{path}")).json(body);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    if let Some(claim) = claim {
        request = request.header("x-claim-token", claim);
    }
    let answer = request.send().await.expect("the server answers");
    let status = answer.status().as_u16();
    let bytes = answer.bytes().await.expect("the body comes whole");
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("a text and not {value}"))
        .to_owned()
}

fn decode(value: &Value) -> Vec<u8> {
    STANDARD.decode(text(value)).expect("standard base64")
}
