//! What the link remembers of the jobs that it was handed: what their calls carry, and what was said of them already.

use std::collections::{HashMap, VecDeque};

use pond_core::dispatch::{Job, JobInvalid, SignedCommand};
use pond_core::id::{JobId, WorkerId};
use pond_core::logs::{LogSource, LogStream};
use pond_core::pool::{Claim, EnginePublic};
use pond_core::sealing::{BoxPlace, Purpose};
use serde_json::Value;

use super::chunks::Numbers;

/// Attempts that are remembered after their end, so that an old job that is brought again is not started again.
const REMEMBERED: usize = 10_000;

/// A job that is held.
#[derive(Debug)]
struct Held {
    claim: Claim,
    attempt: u32,
    digest: [u8; 32],
    artifact_cap: u64,
    /// Token, digest and size of its sources.
    bundle: Option<(pond_core::secret::Secret, String, u64)>,
    numbers: Numbers,
    /// Number of the last command that was carried out.
    obeyed: u64,
}

/// A job that came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// It is new.
    New,
    /// It came before: the answer that brought it may have been lost on the way, so it was brought again.
    Again,
}

/// A command that came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// It is to be carried out, and is not yet.
    Obey(SignedCommand),
    /// It was carried out before, or is of a later turn.
    Not,
}

/// The jobs.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    held: HashMap<JobId, Held>,
    attempts: HashMap<JobId, u32>,
    order: VecDeque<JobId>,
}

impl Jobs {
    /// Takes a job on, once.
    pub(super) fn take(&mut self, job: &Job, digest: [u8; 32]) -> Came {
        if self.attempts.get(&job.id).is_some_and(|known| *known >= job.attempt) {
            return Came::Again;
        }
        if self.attempts.insert(job.id, job.attempt).is_none() {
            self.order.push_back(job.id);
        }
        while self.order.len() > REMEMBERED {
            let oldest = self.order.pop_front();
            oldest.map(|job| self.attempts.remove(&job));
        }
        let bundle = job.source_bundle.as_ref();
        let held = Held {
            claim: Claim {
                job: job.id,
                token: job.claim.clone(),
            },
            attempt: job.attempt,
            digest,
            artifact_cap: job.artifact_cap,
            bundle: bundle.map(|offer| (offer.token.clone(), offer.sha256.clone(), offer.size)),
            numbers: Numbers::default(),
            obeyed: 0,
        };
        self.held.insert(job.id, held);
        Came::New
    }

    /// How many are held.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Forgets a claim that is over; another claim of the same job stays.
    pub(super) fn forget(&mut self, claim: &Claim) {
        if self.of(claim).is_some() {
            self.held.remove(&claim.job);
        }
    }

    /// Number of the last command that was carried out, if any was.
    pub(super) fn obeyed(&self, claim: &Claim) -> Option<u64> {
        self.of(claim).map(|held| held.obeyed).filter(|n| *n > 0)
    }

    /// Where boxes of a job open.
    pub(super) fn place(&self, claim: &Claim, worker: WorkerId, purpose: Purpose) -> Option<BoxPlace> {
        let held = self.of(claim)?;
        Some(BoxPlace {
            job: held.digest,
            worker,
            attempt: held.attempt,
            purpose,
        })
    }

    /// What its artifacts may have, in bytes.
    pub(super) fn artifact_cap(&self, claim: &Claim) -> u64 {
        self.of(claim).map_or(0, |held| held.artifact_cap)
    }

    /// Token, digest in hex and size of its sources.
    pub(super) fn bundle(&self, claim: &Claim) -> Option<(pond_core::secret::Secret, String, u64)> {
        self.of(claim)?.bundle.clone()
    }

    /// Number of the first chunk of a piece of its log.
    pub(super) fn first_chunk(
        &mut self,
        claim: &Claim,
        of: (LogSource, LogStream),
        piece: u64,
        chunks: u64,
    ) -> Option<u64> {
        self.of_mut(claim).map(|held| held.numbers.first(of, piece, chunks))
    }

    /// A chunk was refused for good.
    pub(super) fn chunk_refused(&mut self, claim: &Claim, of: (LogSource, LogStream), at: u64) {
        if let Some(held) = self.of_mut(claim) {
            held.numbers.refused(of, at);
        }
    }

    /// Judges a command.
    ///
    /// # Errors
    /// [`JobInvalid`] when the engine did not sign it for this attempt at this worker.
    pub(super) fn order(
        &self,
        json: &Value,
        engine: &EnginePublic,
        worker: WorkerId,
    ) -> Result<(Order, Option<Claim>), JobInvalid> {
        let Some(held) = SignedCommand::names(json).and_then(|job| self.held.get(&job)) else {
            // Its job is over, and there is nothing to be told.
            return Ok((Order::Not, None));
        };
        let command = SignedCommand::open(json, engine, worker, held.attempt)?;
        let order = match command.n == held.obeyed + 1 {
            true => Order::Obey(command),
            false => Order::Not,
        };
        Ok((order, Some(held.claim.clone())))
    }

    /// Notes that a command was carried out.
    pub(super) fn carried_out(&mut self, command: &SignedCommand) {
        if let Some(held) = self.held.get_mut(&command.job) {
            held.obeyed = held.obeyed.max(command.n);
        }
    }

    fn of(&self, claim: &Claim) -> Option<&Held> {
        let held = self.held.get(&claim.job);
        held.filter(|held| held.claim.token.expose() == claim.token.expose())
    }

    fn of_mut(&mut self, claim: &Claim) -> Option<&mut Held> {
        let held = self.held.get_mut(&claim.job);
        held.filter(|held| held.claim.token.expose() == claim.token.expose())
    }
}
