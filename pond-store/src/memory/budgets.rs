//! Budgets in memory.

use async_trait::async_trait;
use pond_core::id::{JobId, RunId};
use pond_core::store::StoreError;
use pond_core::usage::{self, Account, Amounts, BudgetStore, Draw, Drawn, UsageEntry, UsageTotals};

use super::{Memory, State};

impl State {
    /// Adds what a job has spent, if it draws from a budget.
    pub(super) fn spend(&mut self, run: RunId, job: JobId, usage: &[UsageEntry]) {
        if let Some((_, account)) = self.accounts.get_mut(&run).and_then(|jobs| jobs.get_mut(&job)) {
            account.spent += total(usage);
        }
    }

    /// Gives back what a job was granted and has not spent.
    pub(super) fn give_back(&mut self, run: RunId, job: JobId) {
        if let Some((_, account)) = self.accounts.get_mut(&run).and_then(|jobs| jobs.get_mut(&job)) {
            account.granted = account.spent;
        }
    }

    fn draw(&mut self, draw: &Draw) -> Drawn {
        if !self.holds(draw.run, Some(&draw.guard)) {
            return Drawn::StaleClaim;
        }
        let jobs = self.accounts.entry(draw.run).or_default();
        let (mut run, mut stage) = (Amounts::default(), Amounts::default());
        for (_, (place, account)) in jobs.iter().filter(|(job, _)| **job != draw.guard.job) {
            let held = account.granted.or_more(account.spent);
            run += held;
            if *place == draw.stage {
                stage += held;
            }
        }
        let mut account = jobs
            .get(&draw.guard.job)
            .map_or_else(Account::default, |(_, account)| *account);
        let before = account.granted;
        let limits = [(draw.run_limit, run), (draw.stage_limit, stage)];
        let granted = usage::draw(&mut account, limits, draw.want);
        if account.granted != before {
            jobs.insert(draw.guard.job, (draw.stage, account));
        }
        Drawn::Granted(granted)
    }
}

/// What entries come to.
fn total(usage: &[UsageEntry]) -> Amounts {
    let mut totals = UsageTotals::default();
    for entry in usage {
        totals += entry.totals;
    }
    Amounts::from(&totals)
}

#[async_trait]
impl BudgetStore for Memory {
    async fn draw(&self, draw: Draw) -> Result<Drawn, StoreError> {
        Ok(self.state()?.draw(&draw))
    }
}
