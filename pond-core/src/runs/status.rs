//! The state machines of runs and stages: total functions, shared by the live engine, recovery and the stores' tests.

use serde::{Deserialize, Serialize};

use super::Failure;
use crate::clock::Timestamp;
use crate::id::{JobId, WorkerId};

/// A transition that the machine does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a {what} that is {from} cannot take {event}")]
pub struct Illegal {
    /// `run` or `stage`.
    pub what: &'static str,
    /// The state it is in.
    pub from: &'static str,
    /// The event it was given.
    pub event: &'static str,
}

/// The name of a run's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// Nothing has started.
    Queued,
    /// Its fetch or a stage has started.
    Running,
    /// Every stage ended well.
    Done,
    /// The fetch or a stage failed.
    Failed,
    /// It was cancelled.
    Cancelled,
}

impl RunStatus {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Queued, Self::Running, Self::Done, Self::Failed, Self::Cancelled];

    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status of this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// Whether nothing can change any more.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunOutcome {
    /// Well.
    Done,
    /// With the failure of its first failed stage, or of its fetch.
    Failed(Failure),
    /// By a cancel.
    Cancelled,
}

/// The state of a run; each variant holds what is true in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunPhase {
    /// Nothing has started.
    Queued,
    /// Running since.
    Running {
        /// When it started.
        since: Timestamp,
    },
    /// Ended.
    Ended {
        /// When it started, if it did.
        since: Option<Timestamp>,
        /// When it ended.
        at: Timestamp,
        /// How.
        outcome: RunOutcome,
    },
}

/// What may happen to a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEvent {
    /// Its fetch or first stage started.
    Start {
        /// When.
        at: Timestamp,
    },
    /// It ended.
    End {
        /// When.
        at: Timestamp,
        /// How.
        outcome: RunOutcome,
    },
}

impl RunPhase {
    /// When it ended, if it did.
    pub fn ended_at(&self) -> Option<Timestamp> {
        match self {
            Self::Queued | Self::Running { .. } => None,
            Self::Ended { at, .. } => Some(*at),
        }
    }

    /// The name of the state.
    pub fn status(&self) -> RunStatus {
        match self {
            Self::Queued => RunStatus::Queued,
            Self::Running { .. } => RunStatus::Running,
            Self::Ended {
                outcome: RunOutcome::Done,
                ..
            } => RunStatus::Done,
            Self::Ended {
                outcome: RunOutcome::Failed(_),
                ..
            } => RunStatus::Failed,
            Self::Ended {
                outcome: RunOutcome::Cancelled,
                ..
            } => RunStatus::Cancelled,
        }
    }

    /// The state after `event`.
    ///
    /// # Errors
    /// When the table has no such transition; the state stays as it was.
    pub fn next(&self, event: RunEvent) -> Result<Self, Illegal> {
        match (self, event) {
            (Self::Queued, RunEvent::Start { at }) => Ok(Self::Running { since: at }),
            (
                Self::Queued,
                RunEvent::End {
                    at,
                    outcome: outcome @ (RunOutcome::Failed(_) | RunOutcome::Cancelled),
                },
            ) => Ok(Self::Ended {
                since: None,
                at,
                outcome,
            }),
            (Self::Running { since }, RunEvent::End { at, outcome }) => Ok(Self::Ended {
                since: Some(*since),
                at,
                outcome,
            }),
            (
                Self::Queued,
                RunEvent::End {
                    outcome: RunOutcome::Done,
                    ..
                },
            ) => Err(self.illegal("end")),
            (Self::Running { .. } | Self::Ended { .. }, RunEvent::Start { .. }) => Err(self.illegal("start")),
            (Self::Ended { .. }, RunEvent::End { .. }) => Err(self.illegal("end")),
        }
    }

    fn illegal(&self, event: &'static str) -> Illegal {
        Illegal {
            what: "run",
            from: self.status().as_str(),
            event,
        }
    }
}

/// The name of a stage's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StageStatus {
    /// Waiting for its predecessors, or for a worker.
    Queued,
    /// An attempt runs.
    Running,
    /// It ended well.
    Done,
    /// It failed.
    Failed,
    /// The run was cancelled.
    Cancelled,
    /// It was never started.
    Skipped,
}

impl StageStatus {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }

    /// Whether nothing can change any more.
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// How a stage ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StageOutcome {
    /// Well.
    #[serde(rename = "d")]
    Done,
    /// It failed.
    #[serde(rename = "f")]
    Failed(Failure),
    /// The run was cancelled.
    #[serde(rename = "c")]
    Cancelled,
    /// It was never started.
    #[serde(rename = "s")]
    Skipped,
}

/// The state of a stage; each variant holds what is true in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StagePhase {
    /// Waiting.
    #[serde(rename = "q")]
    Queued {
        /// Attempts that were started before.
        #[serde(rename = "n")]
        attempts: u32,
        /// The job that waits for a worker, once there is one.
        #[serde(rename = "j", default, skip_serializing_if = "Option::is_none")]
        job: Option<JobId>,
        /// The next attempt is not made before this.
        #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
        not_before: Option<Timestamp>,
    },
    /// An attempt runs.
    #[serde(rename = "r")]
    Running {
        /// Number of the attempt, from 1.
        #[serde(rename = "n")]
        attempt: u32,
        /// When the stage was first started.
        #[serde(rename = "t")]
        since: Timestamp,
        /// The job, when a worker runs it.
        #[serde(rename = "j", default, skip_serializing_if = "Option::is_none")]
        job: Option<JobId>,
        /// The worker that runs it.
        #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
        worker: Option<WorkerId>,
    },
    /// Ended.
    #[serde(rename = "e")]
    Ended {
        /// Number of its last attempt, 0 when there was none.
        #[serde(rename = "n")]
        attempt: u32,
        /// When its last attempt started.
        #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
        since: Option<Timestamp>,
        /// When it ended.
        #[serde(rename = "u")]
        at: Timestamp,
        /// The worker of its last attempt.
        #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
        worker: Option<WorkerId>,
        /// How.
        #[serde(rename = "o")]
        outcome: StageOutcome,
    },
}

/// What may happen to a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StageEvent {
    /// A job for it was put in line.
    Enqueue {
        /// The job.
        job: JobId,
    },
    /// An attempt starts.
    Start {
        /// When.
        at: Timestamp,
        /// The worker, for a pool stage.
        worker: Option<WorkerId>,
    },
    /// The attempt was lost with its worker or engine, and another one will follow.
    Requeue {
        /// When.
        at: Timestamp,
        /// The job that waits again, of a pool stage.
        job: Option<JobId>,
    },
    /// The attempt failed, and another one will follow.
    Retry {
        /// When.
        at: Timestamp,
        /// When the next attempt may be made.
        not_before: Timestamp,
    },
    /// It ended.
    End {
        /// When.
        at: Timestamp,
        /// How.
        outcome: StageOutcome,
    },
}

impl Default for StagePhase {
    fn default() -> Self {
        Self::Queued {
            attempts: 0,
            job: None,
            not_before: None,
        }
    }
}

impl StagePhase {
    /// The name of the state.
    pub fn status(&self) -> StageStatus {
        match self {
            Self::Queued { .. } => StageStatus::Queued,
            Self::Running { .. } => StageStatus::Running,
            Self::Ended {
                outcome: StageOutcome::Done,
                ..
            } => StageStatus::Done,
            Self::Ended {
                outcome: StageOutcome::Failed(_),
                ..
            } => StageStatus::Failed,
            Self::Ended {
                outcome: StageOutcome::Cancelled,
                ..
            } => StageStatus::Cancelled,
            Self::Ended {
                outcome: StageOutcome::Skipped,
                ..
            } => StageStatus::Skipped,
        }
    }

    /// Number of the last attempt, 0 before the first.
    pub fn attempt(&self) -> u32 {
        match self {
            Self::Queued { attempts, .. } => *attempts,
            Self::Running { attempt, .. } | Self::Ended { attempt, .. } => *attempt,
        }
    }

    /// The job that waits or runs.
    pub fn job(&self) -> Option<JobId> {
        match self {
            Self::Queued { job, .. } | Self::Running { job, .. } => *job,
            Self::Ended { .. } => None,
        }
    }

    /// The failure it ended with.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Ended {
                outcome: StageOutcome::Failed(failure),
                ..
            } => Some(failure),
            _ => None,
        }
    }

    /// The state after `event`.
    ///
    /// # Errors
    /// When the table has no such transition; the state stays as it was.
    pub fn next(&self, event: StageEvent) -> Result<Self, Illegal> {
        match (self, event) {
            (
                Self::Queued {
                    attempts, job: None, ..
                },
                StageEvent::Enqueue { job },
            ) => Ok(Self::Queued {
                attempts: *attempts,
                job: Some(job),
                not_before: None,
            }),
            (Self::Queued { job: Some(_), .. }, StageEvent::Enqueue { .. }) => Err(self.illegal("enqueue")),
            (Self::Queued { attempts, job, .. }, StageEvent::Start { at, worker }) => Ok(Self::Running {
                attempt: attempts.saturating_add(1),
                since: at,
                job: *job,
                worker,
            }),
            (Self::Queued { .. }, StageEvent::Requeue { .. }) => Err(self.illegal("requeue")),
            (
                Self::Queued { .. },
                StageEvent::End {
                    outcome: StageOutcome::Done,
                    ..
                },
            ) => Err(self.illegal("end")),
            (Self::Queued { attempts, .. }, StageEvent::End { at, outcome }) => Ok(Self::Ended {
                attempt: *attempts,
                since: None,
                at,
                worker: None,
                outcome,
            }),
            (Self::Running { attempt, .. }, StageEvent::Requeue { job, .. }) => Ok(Self::Queued {
                attempts: *attempt,
                job,
                not_before: None,
            }),
            (Self::Running { attempt, .. }, StageEvent::Retry { not_before, .. }) => Ok(Self::Queued {
                attempts: *attempt,
                job: None,
                not_before: Some(not_before),
            }),
            (Self::Queued { .. } | Self::Ended { .. }, StageEvent::Retry { .. }) => Err(self.illegal("retry")),
            (
                Self::Running { .. },
                StageEvent::End {
                    outcome: StageOutcome::Skipped,
                    ..
                },
            ) => Err(self.illegal("skip")),
            (
                Self::Running {
                    attempt, since, worker, ..
                },
                StageEvent::End { at, outcome },
            ) => Ok(Self::Ended {
                attempt: *attempt,
                since: Some(*since),
                at,
                worker: *worker,
                outcome,
            }),
            (Self::Running { .. }, StageEvent::Enqueue { .. }) => Err(self.illegal("enqueue")),
            (Self::Running { .. }, StageEvent::Start { .. }) => Err(self.illegal("start")),
            (Self::Ended { .. }, StageEvent::Enqueue { .. }) => Err(self.illegal("enqueue")),
            (Self::Ended { .. }, StageEvent::Start { .. }) => Err(self.illegal("start")),
            (Self::Ended { .. }, StageEvent::Requeue { .. }) => Err(self.illegal("requeue")),
            (Self::Ended { .. }, StageEvent::End { .. }) => Err(self.illegal("end")),
        }
    }

    fn illegal(&self, event: &'static str) -> Illegal {
        Illegal {
            what: "stage",
            from: self.status().as_str(),
            event,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::runs::FailureCode;

    const AT: Timestamp = Timestamp::from_millis(1);

    fn failure() -> Failure {
        Failure::new(FailureCode::Timeout, "too long")
    }

    fn run_outcomes() -> [RunOutcome; 3] {
        [RunOutcome::Done, RunOutcome::Failed(failure()), RunOutcome::Cancelled]
    }

    #[test]
    fn c17_09_every_pair_of_the_run_table() {
        use RunStatus::{Cancelled, Done, Failed, Queued, Running};
        let mut phases = vec![RunPhase::Queued, RunPhase::Running { since: AT }];
        phases.extend(run_outcomes().map(|outcome| RunPhase::Ended {
            since: None,
            at: AT,
            outcome,
        }));
        let mut events = vec![RunEvent::Start { at: AT }];
        events.extend(run_outcomes().map(|outcome| RunEvent::End { at: AT, outcome }));
        let allowed = [
            (Queued, vec![Running, Failed, Cancelled]),
            (Running, vec![Done, Failed, Cancelled]),
            (Done, vec![]),
            (Failed, vec![]),
            (Cancelled, vec![]),
        ];
        for phase in &phases {
            let reached: Vec<RunStatus> = events
                .iter()
                .filter_map(|event| phase.next(event.clone()).ok())
                .map(|next| next.status())
                .collect();
            let (_, expected) = allowed.iter().find(|(from, _)| *from == phase.status()).unwrap();
            assert_eq!(&reached, expected, "from {}", phase.status().as_str());
        }
    }

    fn stage_events() -> Vec<StageEvent> {
        let id = "018f0000-0000-7000-8000-000000000001";
        let mut events = vec![
            StageEvent::Enqueue {
                job: id.parse().unwrap(),
            },
            StageEvent::Start { at: AT, worker: None },
            StageEvent::Requeue { at: AT, job: None },
            StageEvent::Retry { at: AT, not_before: AT },
        ];
        let outcomes = [
            StageOutcome::Done,
            StageOutcome::Failed(failure()),
            StageOutcome::Cancelled,
            StageOutcome::Skipped,
        ];
        events.extend(outcomes.map(|outcome| StageEvent::End { at: AT, outcome }));
        events
    }

    fn stage_table(from: StageStatus) -> &'static [StageStatus] {
        use StageStatus::{Cancelled, Done, Failed, Queued, Running, Skipped};
        match from {
            // `queued` again is the enqueue of its job.
            Queued => &[Queued, Running, Failed, Cancelled, Skipped],
            // Twice: a lost lease and a retry.
            Running => &[Queued, Queued, Done, Failed, Cancelled],
            Done | Failed | Cancelled | Skipped => &[],
        }
    }

    #[test]
    fn c17_09_every_pair_of_the_stage_table() {
        let queued = StagePhase::default();
        let running = queued.next(StageEvent::Start { at: AT, worker: None }).unwrap();
        let mut phases = vec![queued.clone(), running.clone()];
        for event in stage_events() {
            phases.extend(running.next(event.clone()).ok());
            phases.extend(queued.next(event).ok());
        }
        for phase in phases {
            let enqueued = phase.job().is_some();
            let reached: Vec<StageStatus> = stage_events()
                .into_iter()
                .filter_map(|event| phase.next(event).ok())
                .map(|p| p.status())
                .collect();
            let expected = stage_table(phase.status());
            let expected = if enqueued && phase.status() == StageStatus::Queued {
                &expected[1..]
            } else {
                expected
            };
            assert_eq!(reached, expected, "from {phase:?}");
        }
    }

    proptest! {
        #[test]
        fn c17_09_no_sequence_leaves_the_table(choices in prop::collection::vec(0usize..8, 0..40)) {
            let (events, mut phase, mut attempt) = (stage_events(), StagePhase::default(), 0);
            for choice in choices {
                let before = phase.status();
                match phase.next(events[choice].clone()) {
                    Ok(next) => {
                        prop_assert!(stage_table(before).contains(&next.status()));
                        prop_assert!(next.attempt() >= attempt, "attempts never fall");
                        attempt = next.attempt();
                        phase = next;
                    }
                    Err(illegal) => prop_assert_eq!(illegal.from, before.as_str()),
                }
            }
        }
    }
}
