//! A project's lane: how its jobs come into line, so that no project stands in another's way.
//!
//! Start-time fair queueing: a job's place is one after the project's last, or one after where its line has come to when
//! that is further on. So the first job of a project that was away goes next, and a project that asks for much takes turns
//! with the others. As many jobs as the project may run at once are in line or claimed; the others are held, and come into
//! line oldest first when one ends.

/// A project's lane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lane {
    /// The place of its last job that came into line.
    pub last: i64,
    /// Its jobs in line and claimed.
    pub busy: u32,
    /// Its jobs that are held.
    pub held: u32,
    /// How many may be in line and claimed, as last told.
    pub most: u32,
}

impl Lane {
    /// Whether another job may come into line.
    pub fn has_room(&self) -> bool {
        self.busy < self.most
    }

    /// Lets a held job into the line that has come to `reached`, and gives its place; none when there is no room.
    pub fn admit(&mut self, reached: i64) -> Option<i64> {
        if !self.has_room() {
            return None;
        }
        self.last = self.last.max(reached).saturating_add(1);
        self.busy += 1;
        self.held = self.held.saturating_sub(1);
        Some(self.last)
    }

    /// Takes out a job that was held.
    pub fn drop_held(&mut self) {
        self.held = self.held.saturating_sub(1);
    }

    /// Takes out a job that was in line or claimed.
    pub fn drop_busy(&mut self) {
        self.busy = self.busy.saturating_sub(1);
    }
}

/// Where a line has come to: just before the first job in it that no worker had before, or, when there is none, to the last
/// place that was given to anyone. One that a worker lost stands at an old place, which says nothing about now.
pub fn reached(first_fresh: Option<i64>, last_given: Option<i64>) -> i64 {
    match (first_fresh, last_given) {
        (Some(first), _) => first.saturating_sub(1),
        (None, last) => last.unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(last: i64, busy: u32, held: u32, most: u32) -> Lane {
        Lane { last, busy, held, most }
    }

    #[test]
    fn a_job_comes_after_its_projects_last_and_where_the_line_is() {
        for (before, reached, after, place) in [
            (lane(0, 0, 1, 2), 0, lane(1, 1, 0, 2), Some(1)),
            (lane(7, 0, 1, 2), 3, lane(8, 1, 0, 2), Some(8)),
            (lane(3, 1, 2, 2), 7, lane(8, 2, 1, 2), Some(8)),
            (lane(3, 2, 2, 2), 7, lane(3, 2, 2, 2), None),
            (lane(3, 5, 2, 2), 7, lane(3, 5, 2, 2), None),
            (lane(0, 0, 1, 0), 7, lane(0, 0, 1, 0), None),
            (lane(i64::MAX, 0, 1, 1), 7, lane(i64::MAX, 1, 0, 1), Some(i64::MAX)),
        ] {
            let mut lane = before;
            assert_eq!((lane.admit(reached), lane), (place, after), "{before:?}");
        }
    }

    #[test]
    fn jobs_that_leave_make_room() {
        let mut full = lane(9, 2, 1, 2);
        assert!(!full.has_room());
        full.drop_busy();
        assert!(full.has_room());
        assert_eq!(full.admit(0), Some(10));
        full.drop_held();
        assert_eq!(full, lane(10, 2, 0, 2));
    }

    #[test]
    fn a_line_has_come_to_its_first_fresh_job_or_to_the_last_place_of_all() {
        for (first, last, expected) in [
            (None, None, 0),
            (None, Some(9), 9),
            (Some(5), Some(9), 4),
            (Some(5), None, 4),
        ] {
            assert_eq!(reached(first, last), expected);
        }
    }
}
