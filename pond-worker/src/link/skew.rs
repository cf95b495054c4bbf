//! How far the clock of the other end is from ours: leases are told by its clock and kept by ours.

use std::time::Duration;

use pond_core::clock::Timestamp;

/// Smaller differences are left: they are of the way there and back.
const NEAR: i64 = 1_000_000;

/// What is to be added to a time of ours to make it one of theirs, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Skew(i64);

impl Skew {
    /// From a time that they told between `asked` and `heard`.
    pub(crate) fn measured(asked: Timestamp, told: Timestamp, heard: Timestamp) -> Self {
        let middle = asked.plus(heard.since(asked) / 2);
        let skew = told.micros().saturating_sub(middle.micros());
        let way = i64::try_from(heard.since(asked).as_micros()).unwrap_or(i64::MAX);
        Self(if skew.saturating_abs() <= NEAR.max(way) {
            0
        } else {
            skew
        })
    }

    /// Their time as ours.
    pub(crate) fn ours(self, theirs: Timestamp) -> Timestamp {
        Timestamp::from_micros(theirs.micros().saturating_sub(self.0))
    }

    /// Our time as theirs.
    pub(crate) fn theirs(self, ours: Timestamp) -> Timestamp {
        Timestamp::from_micros(ours.micros().saturating_add(self.0))
    }

    /// Its size.
    pub(crate) fn size(self) -> Duration {
        Duration::from_micros(self.0.unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_found_and_a_slow_way_is_not_taken_for_one() {
        let at = Timestamp::from_millis;
        let skew = Skew::measured(at(1_000), at(91_100), at(1_200));
        assert_eq!(skew.size(), Duration::from_secs(90));
        assert_eq!(
            (skew.ours(at(100_000)), skew.theirs(at(10_000))),
            (at(10_000), at(100_000))
        );
        let slow = Skew::measured(at(0), at(4_900), at(5_000));
        assert_eq!(slow.ours(at(7)), at(7));
    }
}
