//! Digests of what is in the database for certain: values that are written once and never deleted.

use std::collections::{HashSet, VecDeque};
use std::sync::Mutex;

/// How many are remembered; the oldest go first, and cost one statement when they come again.
const REMEMBERED: usize = 4096;

/// A bounded memory of digests.
#[derive(Debug, Default)]
pub(crate) struct Known<const N: usize>(Mutex<Remembered<N>>);

#[derive(Debug, Default)]
struct Remembered<const N: usize> {
    set: HashSet<[u8; N]>,
    order: VecDeque<[u8; N]>,
}

impl<const N: usize> Known<N> {
    /// Whether this one is there.
    pub(crate) fn has(&self, digest: &[u8; N]) -> bool {
        self.0
            .lock()
            .expect("no holder of this lock panics")
            .set
            .contains(digest)
    }

    /// Remembers some, once they are durable.
    pub(crate) fn add(&self, digests: impl IntoIterator<Item = [u8; N]>) {
        let mut remembered = self.0.lock().expect("no holder of this lock panics");
        for digest in digests {
            if remembered.set.insert(digest) {
                remembered.order.push_back(digest);
            }
            if remembered.order.len() > REMEMBERED
                && let Some(oldest) = remembered.order.pop_front()
            {
                remembered.set.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten() {
        let known = Known::<4>::default();
        let count = u32::try_from(REMEMBERED).unwrap();
        known.add((0..=count).map(u32::to_be_bytes));
        known.add([count.to_be_bytes()]);
        assert!(!known.has(&0u32.to_be_bytes()));
        assert!(known.has(&1u32.to_be_bytes()) && known.has(&count.to_be_bytes()));
    }
}
