//! Budgets of running jobs, as the engine keeps them: what a job may spend, its draws, and the failure of one that crossed.

use super::JobEnd;
use crate::config::Model;
use crate::engine::{EngineSettings, Loaded, Parts, stale_claim};
use crate::error::{Error, Result};
use crate::id::RunId;
use crate::runs::{Failure, FailureCode, Guard};
use crate::scope::Scope;
use crate::usage::{Amounts, Draw, Drawn, Granted, UsageReport};
use crate::workflow::Budget;

/// The budgets that bind a job.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Binding {
    /// The run's.
    pub(crate) run: Budget,
    /// The stage's, of all its attempts and areas together.
    pub(crate) stage: Budget,
}

impl Binding {
    /// The budgets of a stage's jobs.
    pub(crate) fn of(loaded: &Loaded, stage: usize, settings: &EngineSettings) -> Self {
        let own = loaded.definition.stages.get(stage);
        Self {
            run: loaded.head.inputs.budget(settings.default_budget_usd),
            stage: own.map(|stage| stage.budget).unwrap_or_default(),
        }
    }

    /// What a worker is told: the tighter bound of each kind. It draws slices of these before it spends.
    pub(crate) fn tighter(&self) -> Budget {
        let slice = self.run.slice().tighter(self.stage.slice());
        Budget {
            usd: slice.usd,
            tokens: slice.tokens,
            calls: slice.calls,
            wall_sec: self.run.wall_sec.into_iter().chain(self.stage.wall_sec).min(),
        }
    }

    fn bounds_models(&self) -> bool {
        self.run.bounds_models() || self.stage.bounds_models()
    }
}

/// Draws a slice for a job of `stage` under its claim.
///
/// # Errors
/// A stale claim, or a store that does not answer.
pub(crate) async fn draw(parts: &Parts, run: RunId, stage: usize, guard: Guard, want: Amounts) -> Result<Granted> {
    let binding = parts
        .ledger
        .look(run, |loaded| Binding::of(loaded, stage, &parts.settings))
        .await?;
    let draw = Draw {
        run,
        stage: u32::try_from(stage).map_err(|_| Error::internal("a stage beyond any definition"))?,
        guard,
        want,
        run_limit: binding.run.slice(),
        stage_limit: binding.stage.slice(),
    };
    match parts.store.draw(draw).await? {
        Drawn::Granted(granted) => Ok(granted),
        Drawn::StaleClaim => Err(stale_claim()),
    }
}

/// How a job ended, in the light of what was spent: one that crossed a budget failed, whatever its worker says, and the message
/// of one that was stopped by it names limit and spend. To be asked when all of its usage is in.
pub(crate) async fn judged(parts: &Parts, run: RunId, stage: usize, end: JobEnd) -> Result<JobEnd> {
    let (binding, key) = parts
        .ledger
        .look(run, |loaded| {
            (
                Binding::of(loaded, stage, &parts.settings),
                loaded.definition.key(stage).to_owned(),
            )
        })
        .await?;
    if !binding.bounds_models() {
        return Ok(end);
    }
    let entries = parts.store.usage(Scope::Org, run).await?;
    Ok(judge(&binding, &UsageReport { entries }, &key, end))
}

/// The pure part of [`judged`].
fn judge(binding: &Binding, report: &UsageReport, key: &str, end: JobEnd) -> JobEnd {
    let run = report.totals();
    let of_stage = report.by(|entry| (entry.stage == key).then_some(()));
    let stage = of_stage.first().map(|(_, totals)| *totals).unwrap_or_default();
    let budgets = [("stage", &binding.stage, stage), ("run", &binding.run, run)];
    let crossed = budgets
        .iter()
        .find_map(|(whose, budget, spent)| Some(format!("the budget of the {whose}: {}", budget.crossed(spent)?)));
    let stopped = matches!(&end, JobEnd::Failed(failure) if failure.code == FailureCode::BudgetExceeded);
    let message = match (crossed, stopped) {
        (Some(message), _) => message,
        (None, false) => return end,
        (None, true) => {
            let told = budgets.iter().filter_map(|(whose, budget, spent)| {
                Some(format!("the budget of the {whose}: {}", budget.spent(spent)?))
            });
            told.collect::<Vec<_>>().join("; ")
        }
    };
    JobEnd::Failed(Failure::new(FailureCode::BudgetExceeded, message))
}

/// Whether a budget in USD can be kept: the stage's model needs a price for what it reads and for what it says. Other models of
/// its credential that have none are left out by the worker.
///
/// # Errors
/// A failure that names the model without one.
pub(crate) fn enforceable(budget: &Budget, model: Option<&Model>) -> Result<(), Failure> {
    let unpriced = |model: &&Model| model.prices.input.is_none() || model.prices.output.is_none();
    match (budget.usd, model.filter(unpriced)) {
        (Some(_), Some(model)) => {
            let message = format!(
                "the budget is in USD and model '{}' has no input and output price; register its prices, or use a \
                 budget in tokens",
                model.key
            );
            Err(Failure::new(FailureCode::BudgetExceeded, message))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::{Pico, Price, Prices, Tokens, UsageEntry, UsageTotals};

    fn entry(stage: &str, tokens: u64) -> UsageEntry {
        UsageEntry {
            stage: stage.into(),
            substage: None,
            model: "m".into(),
            totals: UsageTotals {
                calls: 2,
                tokens: Tokens {
                    output: tokens,
                    ..Tokens::default()
                },
                cost: Pico(1),
                ..UsageTotals::default()
            },
        }
    }

    fn tokens(limit: u64) -> Budget {
        Budget {
            tokens: Some(limit),
            ..Budget::default()
        }
    }

    fn told(run: Budget, stage: Budget, end: JobEnd) -> JobEnd {
        let report = UsageReport {
            entries: vec![entry("a", 60), entry("b", 30)],
        };
        judge(&Binding { run, stage }, &report, "b", end)
    }

    #[test]
    fn c17_74_who_crossed_a_budget_failed_whatever_the_worker_says() {
        let none = Budget::default();
        let failed = |message: &str| JobEnd::Failed(Failure::new(FailureCode::BudgetExceeded, message));
        let rows = [
            (none, none, JobEnd::Done, JobEnd::Done),
            (tokens(90), tokens(30), JobEnd::Done, JobEnd::Done),
            (
                tokens(89),
                none,
                JobEnd::Done,
                failed("the budget of the run: 90 tokens were used of 89"),
            ),
            (
                tokens(89),
                tokens(29),
                JobEnd::Done,
                failed("the budget of the stage: 30 tokens were used of 29"),
            ),
            (
                tokens(95),
                none,
                failed("spent"),
                failed("the budget of the run: 90 tokens of 95"),
            ),
        ];
        for (run, stage, end, expected) in rows {
            assert_eq!(told(run, stage, end), expected);
        }
    }

    #[test]
    fn a_budget_in_usd_needs_prices_of_its_model() {
        let priced = Prices {
            input: Some(Price(1)),
            output: Some(Price(0)),
            ..Prices::default()
        };
        let usd = Budget {
            usd: Some(Pico(1)),
            ..Budget::default()
        };
        let model = |prices| Model {
            key: "m".into(),
            label: None,
            provider: "openai".into(),
            model_id: "m-1".into(),
            credential_name: "c".into(),
            capability: None,
            prices,
        };
        assert!(enforceable(&usd, Some(&model(priced))).is_ok());
        assert!(enforceable(&usd, None).is_ok());
        assert!(enforceable(&tokens(1), Some(&model(Prices::default()))).is_ok());
        let half = Prices { output: None, ..priced };
        for prices in [Prices::default(), half] {
            let failure = enforceable(&usd, Some(&model(prices))).expect_err("no price");
            assert!(failure.message.contains("'m'"), "{}", failure.message);
        }
    }
}
