//! When a call is tried again: a policy as a value.

use std::time::Duration;

/// How often a call is tried, and how long is waited in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all, the first one included; 1 means none again.
    pub tries: u32,
    /// Wait before the second try; doubled each time.
    pub base: Duration,
    /// The longest wait. A server that asks for a longer one is not tried again.
    pub cap: Duration,
    /// How often in a row a broken stream is taken up again without a byte having come.
    pub reconnects: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            tries: 4,
            base: Duration::from_millis(200),
            cap: Duration::from_secs(10),
            reconnects: 10,
        }
    }
}

/// What a failed try means for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The server did nothing: no connection, or it said "not now".
    NotDone,
    /// The server may have done it, but its answer was lost.
    Unknown,
}

/// Whether doing a call twice does the same as doing it once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It does.
    Safe,
    /// It does not, or is answered otherwise the second time.
    Unsafe,
}

impl RetryPolicy {
    /// Never tries again.
    pub fn none() -> Self {
        Self {
            tries: 1,
            reconnects: 0,
            ..Self::default()
        }
    }

    /// How long to wait after the `tried`-th try, which failed; none: give up.
    pub(crate) fn wait(
        &self,
        tried: u32,
        failure: Failure,
        repeat: Repeat,
        asked: Option<Duration>,
    ) -> Option<Duration> {
        if tried >= self.tries || (failure == Failure::Unknown && repeat == Repeat::Unsafe) {
            return None;
        }
        match asked {
            Some(asked) if asked > self.cap => None,
            Some(asked) => Some(asked),
            None => Some(self.backoff(tried)),
        }
    }

    /// The wait after the `tried`-th try when nobody asked for another one.
    pub(crate) fn backoff(&self, tried: u32) -> Duration {
        let factor = 2_u32.saturating_pow(tried.saturating_sub(1));
        self.base.saturating_mul(factor).min(self.cap)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_table() {
        use Failure::{NotDone, Unknown};
        use Repeat::{Safe, Unsafe};
        let policy = RetryPolicy {
            tries: 3,
            base: Duration::from_secs(1),
            ..RetryPolicy::default()
        };
        let seconds = |n| Some(Duration::from_secs(n));
        for (tried, failure, repeat, asked, expected) in [
            (1, NotDone, Safe, None, seconds(1)),
            (2, NotDone, Unsafe, None, seconds(2)),
            (3, NotDone, Safe, None, None),
            (1, Unknown, Safe, None, seconds(1)),
            (1, Unknown, Unsafe, None, None),
            (1, NotDone, Safe, seconds(7), seconds(7)),
            (1, NotDone, Safe, seconds(0), seconds(0)),
            (1, NotDone, Safe, seconds(11), None),
        ] {
            assert_eq!(
                policy.wait(tried, failure, repeat, asked),
                expected,
                "{tried} {failure:?} {repeat:?} {asked:?}"
            );
        }
        assert_eq!(RetryPolicy::none().wait(1, NotDone, Safe, None), None);
    }

    proptest! {
        #[test]
        fn no_wait_is_past_the_cap(tried in 0_u32.., asked in proptest::option::of(0_u64..100)) {
            let policy = RetryPolicy { tries: u32::MAX, ..RetryPolicy::default() };
            let wait = policy.wait(tried, Failure::NotDone, Repeat::Safe, asked.map(Duration::from_secs));
            prop_assert!(wait.is_none_or(|wait| wait <= policy.cap));
        }
    }
}
