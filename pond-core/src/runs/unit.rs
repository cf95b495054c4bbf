//! What one attempt runs: a stage, or one area of a stage that fans out.

use std::fmt;

use crate::pool::JobRow;

/// A stage, or one area of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unit {
    /// Place of the stage in the definition.
    pub stage: usize,
    /// Number of the area, from 0; none for a stage that does not fan out.
    pub area: Option<usize>,
}

impl Unit {
    /// A whole stage.
    pub fn stage(stage: usize) -> Self {
        Self { stage, area: None }
    }

    /// One area of a stage.
    pub fn area(stage: usize, area: usize) -> Self {
        Self {
            stage,
            area: Some(area),
        }
    }

    /// What a job runs. A number that no machine counts to is the place of no stage.
    pub fn of(job: &JobRow) -> Self {
        let place = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        Self {
            stage: place(job.stage),
            area: job.area.map(place),
        }
    }

    /// The key of its area, as the API shows it.
    pub fn substage(self) -> Option<String> {
        self.area.map(area_key)
    }
}

/// `area-001` for the area with number 0.
pub fn area_key(area: usize) -> String {
    format!("area-{:03}", area.saturating_add(1))
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stage {}", self.stage)?;
        match self.area {
            Some(area) => write!(f, " {}", area_key(area)),
            None => Ok(()),
        }
    }
}
