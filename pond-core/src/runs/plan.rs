//! What is to be done next in a run: a pure function of its definition and state.

use std::collections::BTreeSet;

use super::{Failure, RunOutcome, RunState, StageOutcome, StagePhase};
use crate::workflow::Definition;

/// What is to be done next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The sources are to be fetched before anything starts.
    pub fetch: bool,
    /// Stages to start, in array order.
    pub start: Vec<usize>,
    /// Stages that never start: they end so.
    pub settle: Vec<(usize, StageOutcome)>,
    /// The run is over.
    pub end: Option<RunOutcome>,
}

/// What a plan is made from.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// The workflow.
    pub definition: &'a Definition,
    /// The run.
    pub state: &'a RunState,
    /// Whether the run has sources.
    pub has_sources: bool,
    /// Stages that run here though the store does not know yet.
    pub active: &'a BTreeSet<usize>,
    /// Jobs that may run at once.
    pub max_parallel: usize,
}

/// How an ended stage counts for its successors and for the run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Success,
    Failure,
}

/// Makes the plan.
pub fn plan(situation: Situation<'_>) -> Plan {
    let Situation {
        definition,
        state,
        has_sources,
        active,
        max_parallel,
    } = situation;
    let mut plan = Plan::default();
    if state.phase.status().is_terminal() {
        return plan;
    }
    let mut verdicts: Vec<Option<Verdict>> = (0..state.stages.len())
        .map(|index| verdict(definition, state, index))
        .collect();
    let busy = |index: usize| {
        active.contains(&index)
            || matches!(
                &state.stages[index].phase,
                StagePhase::Running { .. } | StagePhase::Queued { job: Some(_), .. }
            )
    };
    let mut running = (0..verdicts.len()).filter(|&index| busy(index)).count();
    if state.cancel_requested_at.is_some() {
        plan.settle = waiting(&verdicts, busy)
            .map(|index| (index, StageOutcome::Cancelled))
            .collect();
        plan.end = (running == 0).then_some(RunOutcome::Cancelled);
        return plan;
    }
    if has_sources && state.bundle.is_none() {
        plan.fetch = true;
        return plan;
    }
    for index in definition.topological() {
        if verdicts[index].is_some() || busy(index) {
            continue;
        }
        let before: Option<Vec<Verdict>> = definition.predecessors[index].iter().map(|&p| verdicts[p]).collect();
        let Some(before) = before else { continue };
        if before.contains(&Verdict::Failure) {
            plan.settle.push((index, StageOutcome::Skipped));
            verdicts[index] = Some(Verdict::Failure);
        } else {
            plan.start.push(index);
        }
    }
    plan.start.sort_unstable();
    plan.start.truncate(max_parallel.saturating_sub(running));
    running += plan.start.len();
    if running == 0 && verdicts.iter().all(Option::is_some) {
        plan.end = Some(outcome(definition, state));
    }
    plan
}

fn waiting<'a>(verdicts: &'a [Option<Verdict>], busy: impl Fn(usize) -> bool + 'a) -> impl Iterator<Item = usize> + 'a {
    (0..verdicts.len()).filter(move |&index| verdicts[index].is_none() && !busy(index))
}

/// A stage that was skipped was skipped because of a failure, and counts as one.
fn verdict(definition: &Definition, state: &RunState, index: usize) -> Option<Verdict> {
    let StagePhase::Ended { outcome, .. } = &state.stages[index].phase else {
        return None;
    };
    Some(match outcome {
        StageOutcome::Done => Verdict::Success,
        StageOutcome::Failed(_) if definition.stages[index].continue_on_error => Verdict::Success,
        StageOutcome::Failed(_) | StageOutcome::Cancelled | StageOutcome::Skipped => Verdict::Failure,
    })
}

/// The failure of a run is that of its first failed stage: first in time, then in array order.
fn outcome(definition: &Definition, state: &RunState) -> RunOutcome {
    let failed = state
        .stages
        .iter()
        .enumerate()
        .filter_map(|(index, stage)| match &stage.phase {
            StagePhase::Ended {
                at,
                outcome: StageOutcome::Failed(failure),
                ..
            } if !definition.stages[index].continue_on_error => Some((*at, index, failure)),
            _ => None,
        });
    match failed.min_by_key(|(at, index, _)| (*at, *index)) {
        None => RunOutcome::Done,
        Some((_, index, failure)) => RunOutcome::Failed(Failure {
            stage: Some(definition.key(index).to_owned()),
            ..failure.clone()
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::body::Faults;
    use crate::clock::Timestamp;
    use crate::runs::{FailureCode, StageEvent, Transition};

    fn definition(stages: usize, edges: &[(usize, usize)], forgiven: &[usize]) -> Definition {
        let stage = |i: usize| {
            json!({"key": format!("s{i}"), "name": "x", "executor": {"kind": "noop"},
                "continue_on_error": forgiven.contains(&i)})
        };
        let edges: Vec<Value> = edges
            .iter()
            .map(|(from, to)| json!({"from": format!("s{from}"), "to": format!("s{to}")}))
            .collect();
        let json = json!({"stages": (0..stages).map(stage).collect::<Vec<_>>(), "edges": edges});
        crate::workflow::read(&json, &Faults::new()).unwrap()
    }

    struct Play {
        definition: Definition,
        state: RunState,
        time: i64,
    }

    impl Play {
        fn new(definition: Definition) -> Self {
            let state = RunState::new(definition.stages.len());
            Self {
                definition,
                state,
                time: 0,
            }
        }

        fn plan(&self, max_parallel: usize) -> Plan {
            let (definition, state) = (&self.definition, &self.state);
            let active = BTreeSet::new();
            plan(Situation {
                definition,
                state,
                has_sources: false,
                active: &active,
                max_parallel,
            })
        }

        fn apply(&mut self, transition: Transition) {
            self.state.apply(transition, |_| "key").unwrap();
        }

        fn event(&mut self, index: usize, event: impl FnOnce(Timestamp) -> StageEvent) {
            self.time += 1;
            let event = event(Timestamp::from_micros(self.time));
            self.apply(Transition::Stage { index, event });
        }

        fn start(&mut self, index: usize) {
            self.event(index, |at| StageEvent::Start { at, worker: None });
        }

        fn end(&mut self, index: usize, outcome: StageOutcome) {
            self.event(index, |at| StageEvent::End { at, outcome });
        }

        fn fail(&mut self, index: usize) {
            self.end(index, StageOutcome::Failed(Failure::new(FailureCode::Timeout, "x")));
        }
    }

    #[test]
    fn c17_11_array_order_never_overlaps_and_edges_run_up_to_the_limit() {
        let mut row = Play::new(definition(3, &[], &[]));
        assert_eq!(row.plan(8).start, [0]);
        row.start(0);
        assert_eq!(row.plan(8), Plan::default());
        row.end(0, StageOutcome::Done);
        assert_eq!(row.plan(8).start, [1]);

        let mut fan = Play::new(definition(5, &[(0, 4)], &[]));
        assert_eq!(fan.plan(3).start, [0, 1, 2]);
        fan.start(1);
        assert_eq!(fan.plan(3).start, [0, 2]);
        fan.start(0);
        fan.start(2);
        assert_eq!(fan.plan(3).start, Vec::<usize>::new());
    }

    #[test]
    fn what_is_behind_a_failure_is_skipped_and_the_first_failure_is_the_runs() {
        let mut play = Play::new(definition(4, &[(0, 1), (1, 2)], &[]));
        play.start(3);
        play.fail(3);
        play.start(0);
        play.fail(0);
        let next = play.plan(8);
        assert_eq!(next.settle, [(1, StageOutcome::Skipped), (2, StageOutcome::Skipped)]);
        assert!(matches!(next.end, Some(RunOutcome::Failed(Failure { stage: Some(ref key), .. })) if key == "s3"));
    }

    #[test]
    fn a_forgiven_failure_counts_as_success() {
        let mut play = Play::new(definition(2, &[], &[0]));
        play.start(0);
        play.fail(0);
        assert_eq!(play.plan(8).start, [1]);
        play.start(1);
        play.end(1, StageOutcome::Done);
        assert_eq!(play.plan(8).end, Some(RunOutcome::Done));
    }

    #[test]
    fn a_cancelled_run_ends_when_its_last_stage_has() {
        let mut play = Play::new(definition(2, &[], &[]));
        play.start(0);
        play.apply(Transition::CancelRequested {
            at: Timestamp::from_micros(9),
        });
        assert_eq!(play.plan(8).settle, [(1, StageOutcome::Cancelled)]);
        assert_eq!(play.plan(8).end, None);
        play.end(0, StageOutcome::Done);
        assert_eq!(play.plan(8).end, Some(RunOutcome::Cancelled));
    }

    proptest! {
        /// Whatever ends how, following the plan ends every run, with no live stage left, and never over the limit.
        #[test]
        fn c17_11_following_the_plan_ends_every_run(
            edges in prop::collection::vec((0usize..8, 0usize..8), 0..14),
            ends in prop::collection::vec(0u8..4, 8),
            limit in 1usize..4,
        ) {
            // Rising edges have no cycle.
            let edges: Vec<_> = edges.into_iter().filter(|(from, to)| from < to).collect();
            let mut play = Play::new(definition(8, &edges, &[2, 5]));
            for _ in 0..100 {
                let next = play.plan(limit);
                for (index, outcome) in &next.settle {
                    play.end(*index, outcome.clone());
                }
                if let Some(outcome) = next.end {
                    play.apply(Transition::Ended { at: Timestamp::from_micros(99), outcome });
                    break;
                }
                for index in &next.start {
                    let before = &play.definition.predecessors[*index];
                    prop_assert!(before.iter().all(|&p| play.state.stages[p].phase.status().is_terminal()));
                    play.start(*index);
                }
                let running: Vec<usize> = (0..8)
                    .filter(|&i| matches!(play.state.stages[i].phase, StagePhase::Running { .. })).collect();
                prop_assert!(running.len() <= limit);
                if let Some(&index) = running.first() {
                    if ends[index] == 0 { play.fail(index) } else { play.end(index, StageOutcome::Done) }
                }
            }
            prop_assert!(play.state.phase.status().is_terminal());
            prop_assert!(play.state.stages.iter().all(|stage| stage.phase.status().is_terminal()));
            let failed = play.state.stages.iter().enumerate()
                .any(|(i, stage)| stage.phase.failure().is_some() && ![2, 5].contains(&i));
            prop_assert_eq!(play.state.phase.status() == crate::runs::RunStatus::Failed, failed);
            let row = play.state.to_row();
            prop_assert_eq!(RunState::from_row(&row).unwrap(), play.state);
        }
    }
}
