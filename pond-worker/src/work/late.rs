//! How long what a job left is collected.

use std::time::Duration;

use pond_core::clock::Clock;

use super::switch::{Stop, Switch};

/// How long collecting may take.
const WHOLE: Duration = Duration::from_secs(120);
/// The least that it gets of a job that is ended from outside, whatever its grace.
const LEAST: Duration = Duration::from_secs(10);

/// Why collecting is broken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Late {
    /// It took too long.
    TooLong,
    /// The job was ended from outside, and its grace is over.
    Stopped,
    /// The lease is lost.
    Lost,
}

/// Waits until collecting, which begins now, is to be broken off. The job may have made its files to keep the worker at it.
pub(super) async fn late(switch: &Switch, clock: &dyn Clock, grace: Duration) -> Late {
    let stopped = async {
        switch.reaches(Stop::Cancel).await;
        clock.sleep(grace.max(LEAST)).await;
    };
    tokio::select! {
        biased;
        _ = switch.reaches(Stop::Lost) => Late::Lost,
        () = clock.sleep(WHOLE) => Late::TooLong,
        () = stopped => Late::Stopped,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt;
    use pond_core::testing::ManualClock;

    use super::*;

    const GRACE: Duration = Duration::from_secs(30);
    const SECOND: Duration = Duration::from_secs(1);

    fn bench() -> (Switch, Arc<ManualClock>) {
        (Switch::new(), ManualClock::new())
    }

    #[test]
    fn collecting_has_an_end_of_its_own() {
        let (switch, clock) = bench();
        let mut late = Box::pin(late(&switch, &*clock, GRACE));
        clock.advance(Duration::ZERO);
        assert_eq!((&mut late).now_or_never(), None);
        clock.advance(WHOLE - SECOND);
        assert_eq!((&mut late).now_or_never(), None);
        clock.advance(SECOND);
        assert_eq!(late.now_or_never(), Some(Late::TooLong));
    }

    #[test]
    fn a_cancelled_job_is_collected_for_its_grace_and_never_less_than_the_least() {
        for (grace, least) in [(GRACE, GRACE), (Duration::ZERO, LEAST)] {
            let (switch, clock) = bench();
            let mut late = Box::pin(late(&switch, &*clock, grace));
            assert_eq!((&mut late).now_or_never(), None);
            switch.raise(Stop::Cancel);
            assert_eq!((&mut late).now_or_never(), None);
            clock.advance(least - SECOND);
            assert_eq!((&mut late).now_or_never(), None);
            clock.advance(SECOND);
            assert_eq!(late.now_or_never(), Some(Late::Stopped));
        }
    }

    #[test]
    fn a_lost_lease_breaks_it_off_at_once() {
        let (switch, clock) = bench();
        let mut late = Box::pin(late(&switch, &*clock, GRACE));
        switch.raise(Stop::Cancel);
        assert_eq!((&mut late).now_or_never(), None);
        switch.raise(Stop::Lost);
        assert_eq!(late.now_or_never(), Some(Late::Lost));
    }
}
