//! What is to be done next in a run: a pure function of its definition and state.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use serde_json::Value;
use serde_json::value::RawValue;

use super::{Failure, RunOutcome, RunState, StageOutcome, StagePhase, StageStatus, Unit};
use crate::artifacts::ArtifactName;
use crate::clock::Timestamp;
use crate::workflow::{Definition, Facts, at_path};

/// What is to be done next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The sources are to be fetched before anything starts.
    pub fetch: bool,
    /// Stages and areas to start, in array order.
    pub start: Vec<Unit>,
    /// Stages whose list of areas is to be read.
    pub fan_out: Vec<usize>,
    /// Stages of which all areas have ended: what they left is to be put together.
    pub gather: Vec<usize>,
    /// Stages and areas that never start: they end so.
    pub settle: Vec<(Unit, StageOutcome)>,
    /// When the first of those may start that wait for another attempt.
    pub wake: Option<Timestamp>,
    /// A condition asks for artifacts that are not known here.
    pub ask: bool,
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
    /// The time.
    pub now: Timestamp,
    /// What conditions may ask of: the run's context.
    pub context: Option<&'a RawValue>,
    /// What conditions may ask of: artifacts, when they were read.
    pub artifacts: Option<&'a KnownArtifacts>,
}

/// Artifacts of a run, as they were read.
#[derive(Debug, Clone, Default)]
pub struct KnownArtifacts {
    /// Stages that had ended before they were read: of these all are known.
    pub ended: BTreeSet<usize>,
    /// Stage and name of each that is a stage's own.
    pub names: BTreeSet<(usize, ArtifactName)>,
}

/// Makes the plan.
pub fn plan(situation: Situation<'_>) -> Plan {
    if situation.state.phase.status().is_terminal() {
        return Plan::default();
    }
    let planner = Planner::new(situation);
    if situation.state.cancel_requested_at.is_some() {
        return planner.cancelled();
    }
    if situation.has_sources && situation.state.bundle.is_none() {
        return Plan {
            fetch: true,
            ..Plan::default()
        };
    }
    planner.onwards()
}

struct Planner<'a> {
    with: Situation<'a>,
    plan: Plan,
    /// How each stage ended, or is about to by this very plan.
    ended: Vec<Option<StageStatus>>,
    /// Whether a stage before it failed, near or far: what is behind a failure stays behind it, whatever ran in between.
    failed_before: Vec<bool>,
    /// The context, read once a condition asks of it.
    context: OnceCell<Value>,
}

/// What becomes of a stage that has not started.
enum Turn {
    Start,
    Skip,
    /// It waits, for stages before it or for what its condition asks of.
    Wait,
}

impl<'a> Planner<'a> {
    fn new(with: Situation<'a>) -> Self {
        let stages = &with.state.stages;
        let ended = stages
            .iter()
            .map(|stage| Some(stage.phase.status()).filter(|status| status.is_terminal()));
        Self {
            with,
            plan: Plan::default(),
            ended: ended.collect(),
            failed_before: vec![false; stages.len()],
            context: OnceCell::new(),
        }
    }

    /// Whether a job, or an attempt in the engine, is on its way.
    fn is_busy(&self, unit: Unit, phase: &StagePhase) -> bool {
        let here = unit.area.is_none() && self.with.active.contains(&unit.stage);
        let on_its_way = matches!(
            phase,
            StagePhase::Running { .. } | StagePhase::Queued { job: Some(_), .. }
        );
        here || on_its_way
    }

    fn running(&self) -> usize {
        let units = self.with.state.units();
        units.filter(|(unit, phase)| self.is_busy(*unit, phase)).count()
    }

    /// Whether all areas of a stage that has some ended.
    fn is_to_be_gathered(&self, index: usize) -> bool {
        let stage = &self.with.state.stages[index];
        let live = |area: &super::AreaState| !area.phase.status().is_terminal();
        !stage.areas.is_empty() && !stage.phase.status().is_terminal() && !stage.areas.iter().any(live)
    }

    /// What runs comes to its end, the rest never starts. What the areas of a stage left by then is put together all the same.
    fn cancelled(mut self) -> Plan {
        let running = self.running();
        let waits = |(unit, phase): &(Unit, &StagePhase)| !phase.status().is_terminal() && !self.is_busy(*unit, phase);
        let mut settle: Vec<Unit> = self.with.state.units().filter(waits).map(|(unit, _)| unit).collect();
        for (index, stage) in self.with.state.stages.iter().enumerate() {
            let started = stage.areas.iter().any(|area| area.phase.attempt() > 0);
            let over = |(area, state): (usize, &super::AreaState)| {
                state.phase.status().is_terminal() || settle.contains(&Unit::area(index, area))
            };
            let over = !stage.areas.is_empty() && stage.areas.iter().enumerate().all(over);
            match (over && !stage.phase.status().is_terminal(), started) {
                (true, true) => self.plan.gather.push(index),
                (true, false) => settle.push(Unit::stage(index)),
                (false, _) => {}
            }
        }
        let settle = settle.into_iter().map(|unit| (unit, StageOutcome::Cancelled));
        self.plan.settle = settle.collect();
        self.plan.end = (running == 0 && self.plan.gather.is_empty()).then_some(RunOutcome::Cancelled);
        self.plan
    }

    fn onwards(mut self) -> Plan {
        let running = self.running();
        for index in self.with.definition.topological() {
            let before = &self.with.definition.predecessors[index];
            self.failed_before[index] = before
                .iter()
                .any(|&p| self.failed_before[p] || self.counts_as_failure(p));
            if self.ended[index].is_some() {
                continue;
            }
            if self.is_to_be_gathered(index) {
                self.plan.gather.push(index);
            } else if !self.with.state.stages[index].areas.is_empty() {
                self.areas(index);
            } else {
                self.stage(index);
            }
        }
        self.plan.start.sort_unstable();
        self.plan.start.truncate(self.with.max_parallel.saturating_sub(running));
        if self.ended.iter().all(Option::is_some) {
            self.plan.end = Some(outcome(self.with.definition, self.with.state));
        }
        self.plan
    }

    /// A failure that is not forgiven. A stage that was skipped because of one lies behind it, as all that follows does.
    fn counts_as_failure(&self, index: usize) -> bool {
        match self.ended[index] {
            Some(StageStatus::Failed) => !self.with.definition.stages[index].continue_on_error,
            Some(StageStatus::Cancelled) => true,
            _ => false,
        }
    }

    fn areas(&mut self, index: usize) {
        let areas = self.with.state.stages[index].areas.iter().enumerate();
        let waiting: Vec<_> = areas
            .map(|(area, state)| (Unit::area(index, area), &state.phase))
            .filter(|(unit, phase)| !phase.status().is_terminal() && !self.is_busy(*unit, phase))
            .collect();
        for (unit, phase) in waiting {
            self.start(unit, phase);
        }
    }

    fn stage(&mut self, index: usize) {
        let unit = Unit::stage(index);
        let phase = &self.with.state.stages[index].phase;
        if self.is_busy(unit, phase) {
            return;
        }
        match self.turn(index, phase) {
            Turn::Wait => {}
            Turn::Skip => {
                self.plan.settle.push((unit, StageOutcome::Skipped));
                self.ended[index] = Some(StageStatus::Skipped);
            }
            Turn::Start if self.with.definition.stages[index].fanout().is_some() => self.plan.fan_out.push(index),
            Turn::Start => self.start(unit, phase),
        }
    }

    /// Starts what may start, and notes when the rest may.
    fn start(&mut self, unit: Unit, phase: &StagePhase) {
        match phase {
            StagePhase::Queued {
                not_before: Some(at), ..
            } if *at > self.with.now => {
                self.plan.wake = Some(self.plan.wake.map_or(*at, |wake| wake.min(*at)));
            }
            _ => self.plan.start.push(unit),
        }
    }

    fn turn(&mut self, index: usize, phase: &StagePhase) -> Turn {
        let before = &self.with.definition.predecessors[index];
        if !before.iter().all(|&p| self.ended[p].is_some()) {
            return Turn::Wait;
        }
        if phase.attempt() > 0 {
            // Its condition held for the first attempt, and nothing that it could ask of has changed.
            return Turn::Start;
        }
        let Some(when) = &self.with.definition.stages[index].when else {
            return if self.failed_before[index] {
                Turn::Skip
            } else {
                Turn::Start
            };
        };
        let known = |artifacts: &KnownArtifacts| before.iter().all(|p| artifacts.ended.contains(p));
        if when.asks_for_artifacts() && !self.with.artifacts.is_some_and(known) {
            self.plan.ask = true;
            return Turn::Wait;
        }
        let asked = Asked {
            planner: self,
            index,
            before: OnceCell::new(),
        };
        if when.holds(&asked) { Turn::Start } else { Turn::Skip }
    }
}

/// What the condition of a stage asks of.
struct Asked<'p, 'a> {
    planner: &'p Planner<'a>,
    index: usize,
    /// All stages before it, found once it asks for artifacts.
    before: OnceCell<BTreeSet<usize>>,
}

impl Facts for Asked<'_, '_> {
    fn failed_before(&self) -> bool {
        self.planner.failed_before[self.index]
    }

    fn status(&self, key: &str) -> Option<&'static str> {
        let index = self.planner.with.definition.index(key)?;
        self.planner.ended[index].map(StageStatus::as_str)
    }

    fn context(&self, path: &[String]) -> Value {
        let context = self.planner.context.get_or_init(|| {
            let raw = self.planner.with.context;
            let read = raw.map(|raw| serde_json::from_str(raw.get()));
            read.and_then(Result::ok).unwrap_or_default()
        });
        at_path(context, path).cloned().unwrap_or_default()
    }

    fn artifact(&self, name: &ArtifactName) -> bool {
        let definition = self.planner.with.definition;
        let before = self.before.get_or_init(|| definition.before(self.index));
        let known = self.planner.with.artifacts;
        known.is_some_and(|known| before.iter().any(|&stage| known.names.contains(&(stage, name.clone()))))
    }
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

    /// Whole stages.
    fn units(stages: &[usize]) -> Vec<Unit> {
        stages.iter().copied().map(Unit::stage).collect()
    }

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

    #[derive(Clone, Copy)]
    enum End {
        Well,
        Badly,
        ByCancel,
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
            self.plan_knowing(max_parallel, None)
        }

        fn plan_knowing(&self, max_parallel: usize, artifacts: Option<&KnownArtifacts>) -> Plan {
            let context = RawValue::from_string(r#"{"deploy": true}"#.into()).unwrap();
            plan(Situation {
                definition: &self.definition,
                state: &self.state,
                has_sources: false,
                active: &BTreeSet::new(),
                max_parallel,
                now: Timestamp::from_micros(self.time),
                context: Some(&context),
                artifacts,
            })
        }

        fn apply(&mut self, transition: Transition) {
            self.state.apply(transition, |_| "key").unwrap();
        }

        fn unit(&mut self, unit: Unit, event: impl FnOnce(Timestamp) -> StageEvent) {
            self.time += 1;
            let event = event(Timestamp::from_micros(self.time));
            self.apply(Transition::unit(unit, event));
        }

        /// Follows the plan to the end, with these outcomes; what is not named ends well.
        fn follow(&mut self, ends: &[(usize, End)]) -> Vec<&'static str> {
            for _ in 0..20 {
                let next = self.plan(8);
                for (unit, outcome) in next.settle {
                    self.unit(unit, |at| StageEvent::End { at, outcome });
                }
                if let Some(outcome) = next.end {
                    self.apply(Transition::Ended {
                        at: Timestamp::from_micros(self.time),
                        outcome,
                    });
                    break;
                }
                for unit in next.start {
                    self.unit(unit, |at| StageEvent::Start { at, worker: None });
                    let end = ends
                        .iter()
                        .find(|(stage, _)| *stage == unit.stage)
                        .map_or(End::Well, |(_, end)| *end);
                    match end {
                        End::Well => self.end(unit.stage, StageOutcome::Done),
                        End::Badly => self.fail(unit.stage),
                        End::ByCancel => {
                            self.apply(Transition::CancelRequested {
                                at: Timestamp::from_micros(self.time),
                            });
                            self.end(unit.stage, StageOutcome::Cancelled);
                        }
                    }
                }
            }
            assert!(self.state.phase.status().is_terminal(), "{:?}", self.state);
            self.state
                .stages
                .iter()
                .map(|stage| stage.phase.status().as_str())
                .collect()
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
        assert_eq!(row.plan(8).start, units(&[0]));
        row.start(0);
        assert_eq!(row.plan(8), Plan::default());
        row.end(0, StageOutcome::Done);
        assert_eq!(row.plan(8).start, units(&[1]));

        let mut fan = Play::new(definition(5, &[(0, 4)], &[]));
        assert_eq!(fan.plan(3).start, units(&[0, 1, 2]));
        fan.start(1);
        assert_eq!(fan.plan(3).start, units(&[0, 2]));
        fan.start(0);
        fan.start(2);
        assert_eq!(fan.plan(3).start, []);
    }

    #[test]
    fn what_is_behind_a_failure_is_skipped_and_the_first_failure_is_the_runs() {
        let mut play = Play::new(definition(4, &[(0, 1), (1, 2)], &[]));
        play.start(3);
        play.fail(3);
        play.start(0);
        play.fail(0);
        let next = play.plan(8);
        let skipped = [1, 2].map(|stage| (Unit::stage(stage), StageOutcome::Skipped));
        assert_eq!(next.settle, skipped);
        assert!(matches!(next.end, Some(RunOutcome::Failed(Failure { stage: Some(ref key), .. })) if key == "s3"));
    }

    #[test]
    fn a_forgiven_failure_counts_as_success() {
        let mut play = Play::new(definition(2, &[], &[0]));
        play.start(0);
        play.fail(0);
        assert_eq!(play.plan(8).start, units(&[1]));
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
        assert_eq!(play.plan(8).settle, [(Unit::stage(1), StageOutcome::Cancelled)]);
        assert_eq!(play.plan(8).end, None);
        play.end(0, StageOutcome::Done);
        assert_eq!(play.plan(8).end, Some(RunOutcome::Cancelled));
    }

    /// Three stages in a row: the first ends as said, the second has the condition, the third has none.
    fn row(when: Option<&str>, forgiven: bool, end: End) -> (Vec<&'static str>, &'static str) {
        let mut stages = json!([
            {"key": "s0", "name": "x", "executor": {"kind": "noop"}, "continue_on_error": forgiven},
            {"key": "s1", "name": "x", "executor": {"kind": "noop"}},
            {"key": "s2", "name": "x", "executor": {"kind": "noop"}}]);
        if let Some(when) = when {
            stages[1]["when"] = when.into();
        }
        let definition = crate::workflow::read(&json!({"stages": stages}), &Faults::new()).unwrap();
        let mut play = Play::new(definition);
        let stages = play.follow(&[(0, end)]);
        (stages, play.state.phase.status().as_str())
    }

    #[test]
    fn c17_12_conditions_forgiveness_skips_and_cancels_match_the_truth_table() {
        use End::{Badly, ByCancel, Well};
        // Condition of the second; the first forgiven; how the first ends; the states of all; that of the run.
        type Line = (Option<&'static str>, bool, End, [&'static str; 3], &'static str);
        let table: &[Line] = &[
            (None, false, Well, ["done", "done", "done"], "done"),
            (None, false, Badly, ["failed", "skipped", "skipped"], "failed"),
            (None, true, Badly, ["failed", "done", "done"], "done"),
            (
                None,
                false,
                ByCancel,
                ["cancelled", "cancelled", "cancelled"],
                "cancelled",
            ),
            (Some("success()"), false, Well, ["done", "done", "done"], "done"),
            (
                Some("success()"),
                false,
                Badly,
                ["failed", "skipped", "skipped"],
                "failed",
            ),
            (Some("success()"), true, Badly, ["failed", "done", "done"], "done"),
            (Some("failure()"), false, Well, ["done", "skipped", "done"], "done"),
            // What ran on a failure does not mend it: what has no condition stays behind the failure.
            (Some("failure()"), false, Badly, ["failed", "done", "skipped"], "failed"),
            (Some("failure()"), true, Badly, ["failed", "skipped", "done"], "done"),
            (Some("always()"), false, Well, ["done", "done", "done"], "done"),
            (Some("always()"), false, Badly, ["failed", "done", "skipped"], "failed"),
            (Some("always()"), true, Badly, ["failed", "done", "done"], "done"),
            (
                Some("always()"),
                false,
                ByCancel,
                ["cancelled", "cancelled", "cancelled"],
                "cancelled",
            ),
            // A condition that is false is no failure, and one without a function is asked only after success.
            (Some("false"), false, Well, ["done", "skipped", "done"], "done"),
            (Some("true"), false, Badly, ["failed", "skipped", "skipped"], "failed"),
            (Some("context.deploy"), false, Well, ["done", "done", "done"], "done"),
            (
                Some("!context.deploy"),
                false,
                Well,
                ["done", "skipped", "done"],
                "done",
            ),
            (
                Some("stages.s0.status == 'failed'"),
                true,
                Badly,
                ["failed", "done", "done"],
                "done",
            ),
            (
                Some("stages.s0.status == 'failed' && always()"),
                false,
                Badly,
                ["failed", "done", "skipped"],
                "failed",
            ),
            (
                Some("always() && context.gone"),
                false,
                Badly,
                ["failed", "skipped", "skipped"],
                "failed",
            ),
        ];
        for (when, forgiven, end, stages, run) in table {
            let (found, status) = row(*when, *forgiven, *end);
            assert_eq!(
                (&found[..], status),
                (&stages[..], *run),
                "{when:?}, forgiven: {forgiven}"
            );
        }
    }

    #[test]
    fn c17_12_a_skipped_stage_has_a_status_that_later_ones_may_ask() {
        let stages = json!([
            {"key": "s0", "name": "x", "executor": {"kind": "noop"}, "when": "context.deploy == false"},
            {"key": "s1", "name": "x", "executor": {"kind": "noop"}, "when": "stages.s0.status == 'skipped'"},
            {"key": "s2", "name": "x", "executor": {"kind": "noop"}, "when": "stages.s0.status != 'skipped'"}]);
        let definition = crate::workflow::read(&json!({"stages": stages}), &Faults::new()).unwrap();
        let mut play = Play::new(definition);
        assert_eq!(play.follow(&[]), ["skipped", "done", "skipped"]);
    }

    #[test]
    fn c17_12_a_condition_on_artifacts_waits_until_they_are_known() {
        let stages = json!([
            {"key": "s0", "name": "x", "executor": {"kind": "noop"}},
            {"key": "s1", "name": "x", "executor": {"kind": "noop"}, "when": "artifact('map.json')"}]);
        let definition = crate::workflow::read(&json!({"stages": stages}), &Faults::new()).unwrap();
        let mut play = Play::new(definition);
        assert!(!play.plan(8).ask, "nothing to ask before its turn");
        play.start(0);
        play.end(0, StageOutcome::Done);
        let next = play.plan(8);
        assert!(next.ask && next.start.is_empty() && next.end.is_none());
        let mut known = KnownArtifacts::default();
        assert!(
            play.plan_knowing(8, Some(&known)).ask,
            "read before the stage had ended"
        );
        known.ended.insert(0);
        assert_eq!(play.plan_knowing(8, Some(&known)).settle.len(), 1);
        known.names.insert((0, ArtifactName::new("map.json").unwrap()));
        assert_eq!(play.plan_knowing(8, Some(&known)).start, units(&[1]));
    }

    #[test]
    fn c17_13_a_retry_waits_for_its_time_and_leaves_its_place_to_others() {
        let mut play = Play::new(definition(2, &[(0, 1)], &[]));
        play.start(0);
        let not_before = Timestamp::from_micros(100);
        play.event(0, |at| StageEvent::Retry { at, not_before });
        assert_eq!((play.plan(8).start, play.plan(8).wake), (vec![], Some(not_before)));
        assert_eq!(
            RunState::from_row(&play.state.to_row()).unwrap(),
            play.state,
            "the wait is kept"
        );
        play.time = 100;
        assert_eq!((play.plan(8).start, play.plan(8).wake), (units(&[0]), None));
        play.start(0);
        assert_eq!(
            (play.state.stages[0].phase.attempt(), play.state.stages[0].tries.retried),
            (2, 1)
        );
    }

    fn fan() -> Play {
        let stages = json!([
            {"key": "s0", "name": "x", "executor": {"kind": "noop"}},
            {"key": "s1", "name": "x", "executor": {"kind": "swarm", "prompt": "{{AREA_TITLE}}",
                "sandbox": {"profile": "untrusted-code-read"}, "fanout": {"source": "s0", "artifact": "map.json"}}}]);
        Play::new(crate::workflow::read(&json!({"stages": stages}), &Faults::new()).unwrap())
    }

    fn fanned_out(areas: usize) -> Play {
        let mut play = fan();
        play.start(0);
        play.end(0, StageOutcome::Done);
        assert_eq!((play.plan(8).fan_out, play.plan(8).start), (vec![1], vec![]));
        let titles = (0..areas).map(|area| format!("area {area}")).collect();
        play.apply(Transition::FannedOut { index: 1, titles });
        play
    }

    #[test]
    fn c17_27_areas_start_up_to_the_limit_and_are_gathered_when_all_have_ended() {
        let mut play = fanned_out(3);
        let area = |area| Unit::area(1, area);
        assert_eq!(play.plan(2).start, [area(0), area(1)]);
        play.unit(area(0), |at| StageEvent::Start { at, worker: None });
        assert_eq!(
            play.state.stages[1].phase.status(),
            StageStatus::Running,
            "the first area takes its stage along"
        );
        assert_eq!(play.plan(2).start, [area(1)]);
        let failure = StageOutcome::Failed(Failure::new(FailureCode::AgentFailed, "x"));
        play.unit(area(0), |at| StageEvent::End { at, outcome: failure });
        for next in [1, 2] {
            assert_eq!(play.plan(1).start, [area(next)], "a failed area keeps none back");
            play.unit(area(next), |at| StageEvent::Start { at, worker: None });
            assert_eq!(play.plan(1).gather, [0; 0]);
            play.unit(area(next), |at| StageEvent::End {
                at,
                outcome: StageOutcome::Done,
            });
        }
        assert_eq!((play.plan(1).gather, play.plan(1).end), (vec![1], None));
        assert_eq!(
            play.state.stages[1].progress,
            crate::runs::Progress { done: 3, total: 3 }
        );
        assert_eq!(RunState::from_row(&play.state.to_row()).unwrap(), play.state);
        play.end(1, StageOutcome::Done);
        assert_eq!(play.plan(1).end, Some(RunOutcome::Done));
    }

    #[test]
    fn c17_27_a_cancel_ends_areas_that_wait_and_gathers_what_the_others_left() {
        let mut waiting = fanned_out(2);
        waiting.apply(Transition::CancelRequested {
            at: Timestamp::from_micros(9),
        });
        let next = waiting.plan(8);
        let cancelled =
            [Unit::area(1, 0), Unit::area(1, 1), Unit::stage(1)].map(|unit| (unit, StageOutcome::Cancelled));
        assert_eq!(
            (&next.settle[..], next.end),
            (&cancelled[..], Some(RunOutcome::Cancelled))
        );

        let mut running = fanned_out(2);
        running.unit(Unit::area(1, 1), |at| StageEvent::Start { at, worker: None });
        running.apply(Transition::CancelRequested {
            at: Timestamp::from_micros(9),
        });
        let next = running.plan(8);
        assert_eq!(next.settle, [(Unit::area(1, 0), StageOutcome::Cancelled)]);
        assert_eq!((next.end, next.gather), (None, vec![]));
        running.unit(Unit::area(1, 0), |at| StageEvent::End {
            at,
            outcome: StageOutcome::Cancelled,
        });
        running.unit(Unit::area(1, 1), |at| StageEvent::End {
            at,
            outcome: StageOutcome::Cancelled,
        });
        assert_eq!((running.plan(8).end, running.plan(8).gather), (None, vec![1]));
        running.end(1, StageOutcome::Cancelled);
        assert_eq!(running.plan(8).end, Some(RunOutcome::Cancelled));
    }

    #[test]
    fn a_stage_does_not_end_before_its_areas_and_no_area_starts_after_it() {
        let mut play = fanned_out(1);
        let at = Timestamp::from_micros(9);
        let end = |outcome| Transition::Stage {
            index: 1,
            event: StageEvent::End { at, outcome },
        };
        let before = play.state.clone();
        assert!(play.state.apply(end(StageOutcome::Cancelled), |_| "key").is_err());
        let gone = Transition::Area {
            index: 1,
            area: 7,
            event: StageEvent::Start { at, worker: None },
        };
        assert!(play.state.apply(gone, |_| "key").is_err());
        let again = Transition::FannedOut {
            index: 1,
            titles: vec!["x".into()],
        };
        assert!(play.state.apply(again, |_| "key").is_err());
        assert_eq!(play.state, before, "what is refused changes nothing");
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
                for (unit, outcome) in &next.settle {
                    play.end(unit.stage, outcome.clone());
                }
                if let Some(outcome) = next.end {
                    play.apply(Transition::Ended { at: Timestamp::from_micros(99), outcome });
                    break;
                }
                for Unit { stage, .. } in &next.start {
                    let before = &play.definition.predecessors[*stage];
                    prop_assert!(before.iter().all(|&p| play.state.stages[p].phase.status().is_terminal()));
                    play.start(*stage);
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
