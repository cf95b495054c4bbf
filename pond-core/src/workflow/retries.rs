//! When an attempt that failed is made again, and after which wait.

use std::time::Duration;

use crate::body::Object;
use crate::runs::FailureCode;

/// The longest wait.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// How often a stage that failed is tried again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retries {
    /// Further attempts.
    pub max: u32,
    /// Wait before the first of them.
    pub backoff: Duration,
}

impl Retries {
    /// The wait before the next attempt, when there is to be one: after a failure of this code, with `done` retries before.
    pub fn after(&self, code: FailureCode, done: u32) -> Option<Duration> {
        if done >= self.max || !is_retried(code) {
            return None;
        }
        let wait = self.backoff.saturating_mul(1u32.checked_shl(done).unwrap_or(u32::MAX));
        Some(wait.min(MAX_WAIT))
    }

    /// Reads the object `{max, backoff_sec}`; without the latter there is no wait.
    pub(super) fn read(mut object: Object<'_>) -> Self {
        object.required("max");
        let max = object.integer("max", 0..=10).unwrap_or_default();
        let backoff = object.integer("backoff_sec", 0..=3600).unwrap_or_default();
        object.close();
        Self {
            max: u32::try_from(max).unwrap_or_default(),
            backoff: Duration::from_secs(backoff),
        }
    }
}

/// Failures that another attempt may mend. A lost lease is no failure of an attempt and counted apart.
fn is_retried(code: FailureCode) -> bool {
    use FailureCode::{AgentFailed, ArtifactMissing, ExitNonzero, ParseFailed, SandboxLimit, Timeout};
    matches!(
        code,
        ExitNonzero | Timeout | ParseFailed | ArtifactMissing | AgentFailed | SandboxLimit
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c17_13_the_wait_doubles_up_to_an_hour_and_stops_at_max() {
        let retries = Retries {
            max: 10,
            backoff: Duration::from_secs(10),
        };
        let waits: Vec<u64> = (0..12)
            .map_while(|done| retries.after(FailureCode::ExitNonzero, done))
            .map(|wait| wait.as_secs())
            .collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600]);
        assert_eq!(Retries::default().after(FailureCode::Timeout, 0), None);
    }

    #[test]
    fn c17_13_only_what_another_attempt_may_mend_is_tried_again() {
        let retries = Retries {
            max: 1,
            backoff: Duration::ZERO,
        };
        let tried: Vec<&str> = FailureCode::ALL
            .iter()
            .filter(|code| retries.after(**code, 0).is_some())
            .map(|code| code.as_str())
            .collect();
        assert_eq!(
            tried,
            [
                "exit_nonzero",
                "timeout",
                "sandbox_limit",
                "artifact_missing",
                "parse_failed",
                "agent_failed"
            ]
        );
    }
}
