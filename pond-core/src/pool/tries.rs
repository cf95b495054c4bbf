//! Failed tries by address, for the engine and for orchestrators: codes are not guessed by asking often. Only failures count, so
//! that whoever has a good code is let in however often others behind another address have failed, and many with good codes
//! may come from one address at once.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use crate::clock::Timestamp;

/// Failures an address has within [`WINDOW`].
const MOST: usize = 10;
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses remembered; beyond it those that failed longest ago are forgotten.
const MAX_ADDRESSES: usize = 10_000;

/// Failed tries of the last minute.
#[derive(Debug, Default)]
pub struct Tries(Mutex<BTreeMap<IpAddr, Vec<Timestamp>>>);

impl Tries {
    /// How long an address is to wait that has failed too often.
    pub fn wait(&self, address: IpAddr, now: Timestamp) -> Option<Duration> {
        let failures = self.0.lock().expect("no holder of this lock panics");
        let recent: Vec<Timestamp> = recent(failures.get(&subject(address))?, now).collect();
        let oldest = recent.len().checked_sub(MOST)?;
        Some(recent[oldest].plus(WINDOW).since(now))
    }

    /// An address has failed.
    pub fn failed(&self, address: IpAddr, now: Timestamp) {
        let mut failures = self.0.lock().expect("no holder of this lock panics");
        if failures.len() >= MAX_ADDRESSES {
            failures.retain(|_, times| recent(times, now).next().is_some());
        }
        if failures.len() >= MAX_ADDRESSES
            && let Some(oldest) = failures
                .iter()
                .min_by_key(|(_, times)| times.last().copied())
                .map(|(key, _)| *key)
        {
            failures.remove(&oldest);
        }
        let times = failures.entry(subject(address)).or_default();
        *times = recent(times, now).chain([now]).collect();
    }
}

fn recent(times: &[Timestamp], now: Timestamp) -> impl Iterator<Item = Timestamp> + '_ {
    times.iter().copied().filter(move |at| now.since(*at) < WINDOW)
}

/// Who holds an IPv6 address holds its whole /64.
fn subject(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c17_94_ten_failures_a_minute_and_others_are_not_held_up() {
        let tries = Tries::default();
        let at = |seconds: u64| Timestamp::from_millis(1_000_000).plus(Duration::from_secs(seconds));
        let (one, other): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        for second in 0..10 {
            assert_eq!(tries.wait(one, at(second)), None, "{second}");
            tries.failed(one, at(second));
        }
        assert_eq!(tries.wait(one, at(10)), Some(Duration::from_secs(50)));
        assert_eq!(tries.wait(other, at(10)), None);
        assert_eq!(tries.wait(one, at(60)), None);
        tries.failed(one, at(60));
        assert_eq!(tries.wait(one, at(60)), Some(Duration::from_secs(1)));
        let (six, same) = ("2001:db8::1".parse().unwrap(), "2001:db8::ffff".parse().unwrap());
        (0..10).for_each(|_| tries.failed(six, at(0)));
        assert!(tries.wait(same, at(0)).is_some());
    }

    #[test]
    fn memory_is_bounded() {
        let tries = Tries::default();
        for n in 0..(MAX_ADDRESSES as u32 + 50) {
            tries.failed(IpAddr::V4(n.into()), Timestamp::from_millis(i64::from(n)));
        }
        assert!(tries.0.lock().unwrap().len() <= MAX_ADDRESSES);
    }
}
