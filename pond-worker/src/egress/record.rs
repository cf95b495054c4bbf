//! A decision while it is taken, and its way to whoever keeps it.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use pond_core::clock::Timestamp;
use pond_core::egress::{EgressDecision, MAX_HOST, Verdict};
use uuid::{Builder, Uuid};

use super::intercept::Tell;
use super::serve::Shared;
use super::traffic::Traffic;

/// The longest reason that is kept, in bytes.
const MAX_REASON: usize = 1024;

/// A decision about one place, until it is told.
#[derive(Clone)]
pub(super) struct Record {
    at: Timestamp,
    host: String,
    port: u16,
    verdict: Verdict,
    pub(super) ip: Option<IpAddr>,
    pub(super) rule: Option<String>,
    reason: Option<String>,
}

impl Record {
    /// A denial, until it is said otherwise.
    pub(super) fn new(shared: &Shared, host: &str, port: u16) -> Self {
        Self {
            at: shared.parts.clock.now(),
            host: line(host, MAX_HOST),
            port,
            verdict: Verdict::Denied,
            ip: None,
            rule: None,
            reason: None,
        }
    }

    pub(super) fn allow(&mut self, rule: String) {
        self.verdict = Verdict::Allowed;
        self.rule = Some(rule);
    }

    pub(super) fn deny(&mut self, reason: impl Into<String>) {
        self.verdict = Verdict::Denied;
        self.reason = Some(reason.into());
    }

    /// Says what happened to what was allowed.
    pub(super) fn note(&mut self, reason: impl Into<String>) {
        self.reason.get_or_insert(reason.into());
    }

    pub(super) fn reason(&self) -> &str {
        self.reason.as_deref().unwrap_or_default()
    }

    /// Tells it; waits while the queue is full.
    pub(super) async fn tell(self, shared: &Shared, traffic: Option<&Traffic>) {
        let decision = EgressDecision {
            id: shared.decision_id(),
            at: self.at,
            host: self.host,
            port: self.port,
            ip: self.ip,
            verdict: self.verdict,
            rule: self.rule,
            reason: self.reason.map(|reason| line(&reason, MAX_REASON)),
            bytes_up: traffic.map_or(0, Traffic::up),
            bytes_down: traffic.map_or(0, Traffic::down),
        };
        if shared.decisions.send(decision).await.is_err() {
            tracing::debug!("nobody hears of an egress decision any more");
        }
    }
}

/// Text of a client's on one line, and no longer than that.
fn line(text: &str, most: usize) -> String {
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut kept = String::new();
    for c in text.chars().map(shown) {
        if kept.len() + c.len_utf8() > most {
            break;
        }
        kept.push(c);
    }
    kept
}

impl Shared {
    fn decision_id(&self) -> Uuid {
        let millis = u64::try_from(self.parts.clock.now().millis()).unwrap_or(0);
        Builder::from_unix_timestamp_millis(millis, &self.parts.entropy.draw()).into_uuid()
    }
}

/// Tells of refusals within a tunnel.
pub(super) struct Within {
    pub(super) shared: Arc<Shared>,
    pub(super) record: Record,
}

#[async_trait]
impl Tell for Within {
    async fn refused(&self, reason: String) {
        let mut record = self.record.clone();
        record.at = self.shared.parts.clock.now();
        record.deny(reason);
        record.tell(&self.shared, None).await;
    }
}
