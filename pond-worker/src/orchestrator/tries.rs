//! Failed tries to come in, by address: codes are not to be guessed. Failures alone count.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use pond_core::clock::Timestamp;

const WINDOW: Duration = Duration::from_secs(60);
const MOST: usize = 10;
/// Addresses that are remembered; when there are more, the oldest failures are forgotten.
const MAX_ADDRESSES: usize = 50_000;

/// The tries of the last minute.
#[derive(Debug, Default)]
pub(super) struct Tries(HashMap<IpAddr, Vec<Timestamp>>);

impl Tries {
    /// Takes a try for a failure until it is known to be none; or says how long the address must wait.
    pub(super) fn begin(&mut self, from: IpAddr, now: Timestamp) -> Result<(), Duration> {
        if self.0.len() >= MAX_ADDRESSES {
            self.0
                .retain(|_, tries| tries.last().is_some_and(|at| at.plus(WINDOW) > now));
        }
        if self.0.len() >= MAX_ADDRESSES {
            self.0.clear();
        }
        let tries = self.0.entry(subject(from)).or_default();
        tries.retain(|at| at.plus(WINDOW) > now);
        if tries.len() >= MOST {
            return Err(tries[0].plus(WINDOW).since(now));
        }
        tries.push(now);
        Ok(())
    }

    /// A try was no failure.
    pub(super) fn forgive(&mut self, from: IpAddr, began: Timestamp) {
        let subject = subject(from);
        if let Some(tries) = self.0.get_mut(&subject) {
            if let Some(index) = tries.iter().position(|at| *at == began) {
                tries.remove(index);
            }
            if tries.is_empty() {
                self.0.remove(&subject);
            }
        }
    }
}

/// Who has an IPv6 address has the whole network of it.
fn subject(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn c17_94_ten_failures_a_minute_shut_one_address_out_and_no_other() {
        let (bad, good): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let mut tries = Tries::default();
        for second in 0..10 {
            assert_eq!(tries.begin(bad, at(second)), Ok(()));
        }
        assert_eq!(tries.begin(bad, at(20)), Err(Duration::from_secs(40)));
        for second in 0..100 {
            assert_eq!(tries.begin(good, at(second)), Ok(()));
            tries.forgive(good, at(second));
        }
        assert_eq!(tries.begin(bad, at(60)), Ok(()));
        let net = |text: &str| subject(text.parse().unwrap());
        assert_eq!(net("2001:db8::1"), net("2001:db8::ffff"));
        assert_ne!(net("2001:db8::1"), net("2001:db8:0:1::1"));
        assert_eq!(net("::ffff:10.0.0.1"), bad);
    }
}
