//! `budget_missing`, `budget_unenforceable` and `cost_estimate`: what a model stage may spend, and what it is likely to.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{Check, Problem, Severity, Subject, of_stage, swarms};
use crate::config::{Harness, Model, Named};
use crate::page::PageRequest;
use crate::runs::executors::Swarm;
use crate::runs::{RunFilter, RunStatus};
use crate::scope::Scope;
use crate::store::StoreError;
use crate::usage::{Pico, Price, UsageReport};
use crate::workflow::{Budget, Stage};

/// Runs that are looked through for some of the same workflow.
const LOOKED_AT: u32 = 50;
/// Past runs that an estimate rests on.
const PAST_RUNS: usize = 5;

/// What a stage is likely to cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Estimate {
    /// Likely not less.
    pub low: Pico,
    /// Likely not more.
    pub high: Pico,
    /// What it rests on.
    pub basis: &'static str,
}

pub(super) struct Budgets;

#[async_trait]
impl Check for Budgets {
    async fn check(&self, subject: &Subject<'_>, found: &mut Vec<Problem>) {
        let models: Vec<(usize, &Stage, Model)> = swarms(subject.definition)
            .filter_map(|(index, stage, swarm)| Some((index, stage, model_of(subject, swarm)?)))
            .collect();
        let priced = |(_, _, model): &(usize, &Stage, Model)| is_priced(model);
        let past = if models.iter().any(priced) {
            past_costs(subject).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "past costs could not be read; nothing is estimated from them");
                BTreeMap::new()
            })
        } else {
            BTreeMap::new()
        };
        for (index, stage, model) in &models {
            let budget = subject.budget.tighter(stage.budget);
            found.extend(bounded(subject, *index, stage, model, &budget));
            found.extend(estimated(stage, model, &budget, past.get(&stage.key)));
        }
    }
}

/// The model of a stage, as far as it can be told; what is wrong with its name is told elsewhere.
fn model_of(subject: &Subject<'_>, swarm: &Swarm) -> Option<Model> {
    let (effective, settings) = (subject.effective, subject.settings);
    let needs_model = match effective.harness(swarm.harness.as_deref(), settings.default_harness.as_deref()) {
        Named::Found(harness) => Harness::needs_model(&harness.record),
        _ => false,
    };
    if swarm.model.is_none() && !needs_model {
        return None;
    }
    match effective.model(swarm.model.as_deref(), settings.default_model.as_deref()) {
        Named::Found(model) => Some(model.record),
        _ => None,
    }
}

/// Whether every call of the model has a cost: cache tokens cost as input where they have no price of their own.
fn is_priced(model: &Model) -> bool {
    model.prices.input.is_some() && model.prices.output.is_some()
}

fn bounded(subject: &Subject<'_>, index: usize, stage: &Stage, model: &Model, budget: &Budget) -> Option<Problem> {
    if budget.is_unlimited() {
        let severity = if is_priced(model) {
            Severity::Warning
        } else {
            Severity::Info
        };
        let message = "nothing bounds what its model calls may use";
        let fix = "Set budget of the request or the stage, or POND_DEFAULT_BUDGET_USD on the server.";
        return Some(of_stage(stage, severity, "budget_missing", message, fix));
    }
    if budget.usd.is_none() || is_priced(model) {
        return None;
    }
    let message = format!("a budget in USD cannot be held to: model '{}' has no prices", model.key);
    let fix = format!(
        "Set the prices of model '{}' (pond model create), or budget.tokens or budget.calls instead of budget.usd.",
        model.key
    );
    let problem = of_stage(stage, Severity::Error, "budget_unenforceable", &message, fix);
    // The server's default has no place in the request.
    let pointer = if stage.budget.usd.is_some() {
        Some(format!("/definition/stages/{index}/budget/usd"))
    } else {
        subject.sent_budget_usd.then(|| "/budget/usd".to_owned())
    };
    Some(Problem { pointer, ..problem })
}

fn estimated(stage: &Stage, model: &Model, budget: &Budget, past: Option<&(Pico, Pico)>) -> Option<Problem> {
    if !is_priced(model) {
        return None;
    }
    let estimate = match past {
        Some((low, high)) => Estimate {
            low: *low,
            high: *high,
            basis: "past runs of this stage",
        },
        None => {
            let (low, high) = by_budget(model, budget)?;
            Estimate {
                low,
                high,
                basis: "its budget and the prices of its model",
            }
        }
    };
    let Estimate { low, high, basis } = &estimate;
    let message = format!("likely to cost {low} to {high} USD, by {basis}");
    let fix = "Set budget.usd of the stage to bound it.";
    let problem = of_stage(stage, Severity::Info, "cost_estimate", &message, fix);
    Some(Problem {
        estimate: Some(estimate),
        ..problem
    })
}

/// What the budget lets a stage cost: its money, or its tokens at the lowest and at the highest price.
fn by_budget(model: &Model, budget: &Budget) -> Option<(Pico, Pico)> {
    let prices = model.prices;
    let all: Vec<Price> = [prices.input, prices.output, prices.cache_read, prices.cache_write]
        .into_iter()
        .flatten()
        .collect();
    let times = |price: Option<&Price>| {
        let tokens = i64::try_from(budget.tokens?).unwrap_or(i64::MAX);
        Some(Pico(price?.0.saturating_mul(tokens)))
    };
    let (low, high) = (times(all.iter().min()), times(all.iter().max()));
    match (low, high, budget.usd) {
        (Some(low), Some(high), Some(usd)) => Some((low.min(usd), high.min(usd))),
        (Some(low), Some(high), None) => Some((low, high)),
        (_, _, usd) => Some((Pico(0), usd?)),
    }
}

/// The least and the most that each stage of this very workflow cost in the last runs of the project that ended well.
async fn past_costs(subject: &Subject<'_>) -> Result<BTreeMap<String, (Pico, Pico)>, StoreError> {
    let scope = Scope::Project(subject.project);
    let filter = RunFilter {
        statuses: vec![RunStatus::Done],
        ..RunFilter::default()
    };
    let page = PageRequest {
        limit: LOOKED_AT,
        after: None,
    };
    let runs = subject.store.runs(scope, &filter, page).await?.items;
    let same = runs.iter().filter(|run| run.definition_digest == subject.digest);
    let mut costs: BTreeMap<String, (Pico, Pico)> = BTreeMap::new();
    for run in same.take(PAST_RUNS) {
        let entries = subject.store.usage(scope, run.id).await?;
        for (stage, totals) in (UsageReport { entries }).by(|entry| Some(entry.stage.clone())) {
            if totals.unpriced_calls > 0 {
                continue;
            }
            let (low, high) = costs.entry(stage).or_insert((totals.cost, totals.cost));
            *low = totals.cost.min(*low);
            *high = totals.cost.max(*high);
        }
    }
    Ok(costs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::Prices;

    fn model(input: i64, output: i64) -> Model {
        Model {
            key: "m".into(),
            label: None,
            provider: "anthropic".into(),
            model_id: "m".into(),
            credential_name: "c".into(),
            capability: None,
            prices: Prices {
                input: Some(Price(input)),
                output: Some(Price(output)),
                ..Prices::default()
            },
        }
    }

    #[test]
    fn c17_39_an_estimate_from_a_budget_lies_between_the_prices_and_under_the_money() {
        let budget = |usd: Option<i64>, tokens| Budget {
            usd: usd.map(Pico),
            tokens,
            ..Budget::default()
        };
        let table = [
            (budget(None, Some(10)), Some((30, 150))),
            (budget(Some(100), Some(10)), Some((30, 100))),
            (budget(Some(20), Some(10)), Some((20, 20))),
            (budget(Some(100), None), Some((0, 100))),
            (budget(None, None), None),
        ];
        for (budget, expected) in table {
            let found = by_budget(&model(3, 15), &budget);
            assert_eq!(found, expected.map(|(low, high)| (Pico(low), Pico(high))), "{budget:?}");
        }
    }
}
