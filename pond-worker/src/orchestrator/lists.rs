//! A list that the engine is told of by its changes: what it knows, and what it does not know yet.

use std::collections::{BTreeMap, BTreeSet};

use pond_core::id::WorkerId;

/// Entries in one call.
pub(super) const MAX_ENTRIES: usize = 1000;

/// A list of workers as the engine has it.
#[derive(Debug)]
pub(super) struct Told<E> {
    known: BTreeMap<WorkerId, E>,
    changed: BTreeSet<WorkerId>,
    /// Workers of which the engine may know something else, so that they are told whatever is known.
    unsure: BTreeSet<WorkerId>,
    /// Up to here workers were told again in their turn.
    turn: Option<WorkerId>,
    /// Entries in the next call; fewer after one was refused, until the worker that it was refused for is found.
    most: usize,
}

/// What is to be told: entries, of which none says that a worker is gone.
pub(super) type Telling<E> = Vec<(WorkerId, Option<E>)>;

impl<E> Default for Told<E> {
    fn default() -> Self {
        Self {
            known: BTreeMap::new(),
            changed: BTreeSet::new(),
            unsure: BTreeSet::new(),
            turn: None,
            most: MAX_ENTRIES,
        }
    }
}

impl<E: Clone + PartialEq> Told<E> {
    /// A worker may have changed.
    pub(super) fn touch(&mut self, worker: WorkerId) {
        self.changed.insert(worker);
    }

    /// A worker is to be told whatever is known of it.
    pub(super) fn tell(&mut self, worker: WorkerId) {
        self.changed.insert(worker);
        self.unsure.insert(worker);
    }

    /// The next workers in turn are told again: the answer says which of them are revoked.
    pub(super) fn tell_in_turn(&mut self, most: usize) {
        use std::ops::Bound::{Excluded, Unbounded};
        let after = self.turn.map_or(Unbounded, Excluded);
        let next: Vec<WorkerId> = self
            .known
            .range((after, Unbounded))
            .take(most)
            .map(|(id, _)| *id)
            .collect();
        self.turn = next.last().copied().filter(|_| next.len() == most);
        next.into_iter().for_each(|worker| self.tell(worker));
    }

    /// Takes what is to be told next, as `now` gives it; nothing when all is known.
    pub(super) fn next(&mut self, now: impl Fn(WorkerId) -> Option<E>) -> Option<Telling<E>> {
        let mut entries = Vec::new();
        while entries.len() < self.most {
            let Some(worker) = self.changed.pop_first() else { break };
            let entry = now(worker);
            if self.unsure.remove(&worker) || entry.as_ref() != self.known.get(&worker) {
                entries.push((worker, entry));
            }
        }
        (!entries.is_empty()).then_some(entries)
    }

    /// The engine has taken it.
    pub(super) fn taken(&mut self, telling: Telling<E>) {
        self.most = MAX_ENTRIES;
        for (worker, entry) in telling {
            match entry {
                Some(entry) => drop(self.known.insert(worker, entry)),
                None => drop(self.known.remove(&worker)),
            }
        }
    }

    /// It is not known whether the engine has taken it.
    pub(super) fn lost(&mut self, telling: Telling<E>) {
        telling.into_iter().for_each(|(worker, _)| self.tell(worker));
    }

    /// The engine refuses an entry of it. Gives the worker when it is found.
    pub(super) fn refused(&mut self, telling: Telling<E>) -> Option<WorkerId> {
        if let [(worker, _)] = telling[..] {
            self.most = MAX_ENTRIES;
            return Some(worker);
        }
        self.most = telling.len().div_ceil(2).max(1);
        self.lost(telling);
        None
    }

    /// The engine does not know the list: all is told again. `all` are the workers that there are.
    pub(super) fn again(&mut self, all: impl Iterator<Item = WorkerId>) {
        self.known.clear();
        self.unsure.clear();
        self.changed.clear();
        self.changed.extend(all);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn id(n: u128) -> WorkerId {
        Uuid::from_u128(n).into()
    }

    #[test]
    fn c17_104_2500_workers_are_told_in_parts_and_one_change_is_one_entry() {
        let mut told = Told::default();
        (0..2500).for_each(|n| told.touch(id(n)));
        let mut sizes = Vec::new();
        while let Some(telling) = told.next(|_| Some(1)) {
            sizes.push(telling.len());
            told.taken(telling);
        }
        assert_eq!(sizes, [1000, 1000, 500]);
        told.touch(id(7));
        told.touch(id(8));
        let telling = told.next(|worker| Some(if worker == id(7) { 2 } else { 1 })).unwrap();
        assert_eq!(telling, [(id(7), Some(2))]);
        told.taken(telling);
        assert_eq!(told.next(|_| Some(9)), None);
        // A server that does not know the list gets everything again.
        told.again((0..2500).map(id));
        assert_eq!(told.next(|_| Some(1)).unwrap().len(), 1000);
    }

    #[test]
    fn what_may_not_have_arrived_is_told_again_even_when_it_changed_back() {
        let mut told = Told::default();
        told.touch(id(1));
        told.next(|_| Some(1)).map(|telling| told.taken(telling)).unwrap();
        told.touch(id(1));
        let telling = told.next(|_| Some(2)).unwrap();
        told.lost(telling);
        let telling = told.next(|_| Some(1)).unwrap();
        assert_eq!(telling, [(id(1), Some(1))]);
        told.taken(telling);
        told.touch(id(1));
        let telling = told.next(|_| None).unwrap();
        assert_eq!(telling, [(id(1), None)]);
        told.taken(telling);
        told.touch(id(1));
        assert_eq!(told.next(|_| None), None);
    }

    #[test]
    fn every_worker_is_told_again_in_its_turn() {
        let mut told = Told::default();
        (0..5).for_each(|n| told.touch(id(n)));
        told.next(|_| Some(1)).map(|telling| told.taken(telling)).unwrap();
        let mut turns = Vec::new();
        for _ in 0..4 {
            told.tell_in_turn(2);
            let telling = told.next(|_| Some(1)).unwrap_or_default();
            turns.push(
                telling
                    .iter()
                    .map(|(worker, _)| worker.uuid().as_u128())
                    .collect::<Vec<_>>(),
            );
            told.taken(telling);
        }
        assert_eq!(turns, [vec![0, 1], vec![2, 3], vec![4], vec![0, 1]]);
    }

    #[test]
    fn the_worker_that_a_list_is_refused_for_is_found() {
        let mut told = Told::default();
        (0..9).for_each(|n| told.touch(id(n)));
        let mut found = None;
        for _ in 0..40 {
            let Some(telling) = told.next(|worker| (Some(worker) != found).then_some(1)) else {
                break;
            };
            if telling.iter().any(|(worker, _)| *worker == id(5)) && found.is_none() {
                found = told.refused(telling);
            } else {
                told.taken(telling);
            }
        }
        assert_eq!(found, Some(id(5)));
        assert_eq!(told.known.len(), 8);
    }
}
