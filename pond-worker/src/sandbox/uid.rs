//! Host uids for jobs: a worker started as root gives each confined job one of its own, so that what a job leaves on the
//! host belongs to nobody else.

use std::ops::RangeInclusive;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Mutex;

/// Uids from a range, never one to two jobs at once, also not by another worker on this host.
#[derive(Debug)]
pub struct UidPool {
    range: RangeInclusive<u32>,
    next: Mutex<u32>,
}

/// A uid (and gid of the same number) held by one job, given back when dropped.
#[derive(Debug)]
pub struct UidLease {
    uid: u32,
    /// A name in the abstract namespace is a lock over the whole host that the kernel lets go with its holder.
    _lock: UnixDatagram,
}

impl UidLease {
    /// Holds one uid; nothing when somebody on this host has it.
    pub(super) fn of(uid: u32) -> Option<Self> {
        let _lock = lock(uid)?;
        Some(Self { uid, _lock })
    }

    /// The uid.
    pub fn uid(&self) -> u32 {
        self.uid
    }
}

impl UidPool {
    /// Over a range; nothing when it is empty or holds a uid below 65,536, which belong to the host's own users.
    pub fn new(range: RangeInclusive<u32>) -> Option<Self> {
        let sound = *range.start() >= 65_536 && range.start() <= range.end() && *range.end() < u32::MAX - 1;
        let next = Mutex::new(*range.start());
        sound.then_some(Self { range, next })
    }

    /// The range.
    pub fn range(&self) -> &RangeInclusive<u32> {
        &self.range
    }

    /// The next free uid, going round, so that one is used again as late as can be. Nothing when all are held.
    pub fn lease(&self) -> Option<UidLease> {
        self.lease_in(&self.range)
    }

    /// As [`UidPool::lease`], from those uids alone that are in another range too.
    pub fn lease_in(&self, other: &RangeInclusive<u32>) -> Option<UidLease> {
        let mut next = self.next.lock().expect("no holder of this lock panics");
        let size = u64::from(self.range.end() - self.range.start()) + 1;
        for _ in 0..size {
            let uid = *next;
            *next = if uid == *self.range.end() {
                *self.range.start()
            } else {
                uid + 1
            };
            if other.contains(&uid)
                && let Some(lease) = UidLease::of(uid)
            {
                return Some(lease);
            }
        }
        None
    }
}

fn lock(uid: u32) -> Option<UnixDatagram> {
    let name = SocketAddr::from_abstract_name(format!("pond-job-uid-{uid}")).ok()?;
    UnixDatagram::bind_addr(&name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_uid_is_held_twice_and_a_returned_one_is_found_again() {
        let pool = UidPool::new(4_000_000_000..=4_000_000_002).expect("a sound range");
        let held: Vec<UidLease> = std::iter::from_fn(|| pool.lease()).collect();
        let uids: Vec<u32> = held.iter().map(UidLease::uid).collect();
        assert_eq!(uids, [4_000_000_000, 4_000_000_001, 4_000_000_002]);
        let other = UidPool::new(4_000_000_000..=4_000_000_002).expect("a sound range");
        assert!(
            other.lease().is_none(),
            "another pool of the same range finds none free"
        );
        drop(held);
        assert_eq!(other.lease().map(|lease| lease.uid()), Some(4_000_000_000));
    }

    #[test]
    fn a_lease_may_have_to_be_in_another_range_too() {
        let pool = UidPool::new(4_000_000_010..=4_000_000_019).expect("a sound range");
        let both = 4_000_000_018..=4_000_000_030;
        let held: Vec<UidLease> = std::iter::from_fn(|| pool.lease_in(&both)).collect();
        let uids: Vec<u32> = held.iter().map(UidLease::uid).collect();
        assert_eq!(uids, [4_000_000_018, 4_000_000_019]);
        assert!(pool.lease().is_some(), "the others are still free");
    }

    #[test]
    fn ranges_of_the_hosts_own_users_are_refused() {
        for range in [
            0..=70_000,
            1000..=2000,
            RangeInclusive::new(70_000, 69_999),
            70_000..=u32::MAX,
        ] {
            assert!(UidPool::new(range.clone()).is_none(), "{range:?}");
        }
    }
}
