//! Records of the pool: orchestrators, the workers behind them, and the codes by which both come in.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::id::{OrchestratorId, WorkerId};
use crate::outbound::HostPattern;

/// A paired orchestrator: a relay that workers dial, and that dials the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orchestrator {
    /// The orchestrator.
    pub id: OrchestratorId,
    /// Its name for people.
    pub name: String,
    /// SHA-256 of its token.
    pub token: [u8; 32],
    /// When it was paired.
    pub paired_at: Timestamp,
    /// When it was last heard of, to the nearest quarter of a minute.
    pub last_seen_at: Option<Timestamp>,
}

/// The public keys of a worker, pinned when it enrols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerKeys {
    /// X25519, that secrets are sealed to.
    pub x25519: [u8; 32],
    /// Ed25519, that it signs with.
    pub ed25519: [u8; 32],
}

/// An enrolled worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolledWorker {
    /// The worker.
    pub id: WorkerId,
    /// The orchestrator that it is behind.
    pub orchestrator: OrchestratorId,
    /// Its name for people.
    pub name: String,
    /// Its keys; nothing changes them.
    pub keys: WorkerKeys,
    /// Its tags; nothing raises them.
    pub tags: BTreeSet<String>,
    /// What it may do; it may have shown less.
    pub capabilities: BTreeSet<String>,
    /// When it enrolled.
    pub enrolled_at: Timestamp,
    /// Whether it gets no new jobs.
    pub draining: bool,
    /// What was last heard of it.
    pub seen: WorkerSeen,
}

/// What a worker tells of itself; written coarsely.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerSeen {
    /// When, to the nearest quarter of a minute.
    pub at: Option<Timestamp>,
    /// Whether its orchestrator has it connected.
    pub connected: bool,
    /// Jobs it runs.
    pub running: u32,
    /// Jobs it takes at once.
    pub concurrency: u32,
    /// Version of its program.
    pub version: String,
    /// What it was to do and cannot, and why.
    pub problems: BTreeMap<String, String>,
    /// Places that its jobs may reach unless a rule denies them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress_defaults: Vec<HostPattern>,
}

/// What a code admits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Admits {
    /// One orchestrator.
    Pairing {
        /// Its name, unless it brings one.
        name: Option<String>,
    },
    /// One worker.
    Enrolment {
        /// Behind this orchestrator alone.
        orchestrator: OrchestratorId,
        /// Its name, unless it brings one.
        name: Option<String>,
        /// The tags that it may have.
        tags: BTreeSet<String>,
        /// What it may do.
        capabilities: BTreeSet<String>,
        /// The only keys that are let in, as a fingerprint.
        fingerprint: Option<String>,
    },
}

/// A code that was minted and not yet used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// SHA-256 of the code.
    pub hash: [u8; 32],
    /// What it admits.
    pub admits: Admits,
    /// Until when.
    pub expires_at: Timestamp,
}
