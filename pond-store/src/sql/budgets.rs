//! Budgets: what jobs were granted and have spent, and the ids of what they told.

use std::collections::HashMap;

use async_trait::async_trait;
use pond_core::id::{JobId, RunId};
use pond_core::store::StoreError;
use pond_core::usage::{self, Account, Amounts, BudgetStore, Draw, Drawn, Pico, UsageTotals};
use uuid::Uuid;

use super::Sql;
use super::db::{Arg, Text, Tx, args, over_rows};
use super::item::{ChangeItem, JsonRow, json_rows, stored};
use super::jobs::{self, Held};
use super::row::Cells;
use crate::error::unavailable;

/// Which of the ids that changes tell were told before under the live claim of their job; asks only where any were.
pub(super) async fn told(
    tx: &mut Tx,
    changes: &[(usize, &ChangeItem)],
    held: &Held,
) -> Result<HashMap<JobId, Vec<Uuid>>, sqlx::Error> {
    let mut rows = Vec::new();
    for (_, item) in changes {
        let Some(guard) = &item.guard else { continue };
        if held.has_told(guard.job) {
            rows.extend(item.ids.iter().map(|id| told_row(guard.job, id)));
        }
    }
    if rows.is_empty() {
        return Ok(HashMap::new());
    }
    let text = over_rows!(
        "SELECT t.job, t.id",
        "CROSS JOIN told AS t WHERE t.job = unhex(r.value ->> 0) AND t.id = unhex(r.value ->> 1)"
    );
    let mut known: HashMap<JobId, Vec<Uuid>> = HashMap::new();
    for row in tx.read(text, args![json_rows(rows.iter().map(String::as_str))]).await? {
        let cells = row.cells("told");
        let pair = cells.id(0, "job").and_then(|job| Ok((job, cells.id(1, "id")?)));
        let (job, id) = pair.map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        known.entry(job).or_default().push(id);
    }
    Ok(known)
}

fn told_row(job: JobId, id: &Uuid) -> String {
    let mut row = JsonRow::new(72);
    row.hex(job.as_bytes());
    row.hex(id.as_bytes());
    row.end()
}

/// Takes note of the ids that were told.
pub(super) async fn note_told(tx: &mut Tx, done: &[&ChangeItem], held: &Held) -> Result<(), sqlx::Error> {
    let (mut rows, mut first) = (Vec::new(), Vec::new());
    for item in done {
        let Some(guard) = item.guard.as_ref().filter(|_| !item.ids.is_empty()) else {
            continue;
        };
        rows.extend(item.ids.iter().map(|id| told_row(guard.job, id)));
        if !held.has_told(guard.job) {
            first.push(*guard.job.as_bytes());
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    let insert = over_rows!(
        "INSERT INTO told (job, id) SELECT unhex(r.value ->> 0), unhex(r.value ->> 1)",
        "WHERE 1 = 1 ON CONFLICT (job, id) DO NOTHING"
    );
    tx.write(insert, args![json_rows(rows.iter().map(String::as_str))])
        .await?;
    if !first.is_empty() {
        let mark = jobs::among_ids!("UPDATE jobs SET told = 1 WHERE", "", "");
        tx.write(mark, vec![Arg::Ids(first)]).await?;
    }
    Ok(())
}

/// Adds what jobs that draw from a budget have spent.
pub(super) async fn spend(tx: &mut Tx, done: &[&ChangeItem], held: &Held) -> Result<(), sqlx::Error> {
    let mut rows = Vec::new();
    for item in done {
        let Some(guard) = item.guard.as_ref().filter(|_| !item.usage.is_empty()) else {
            continue;
        };
        if !held.has_drawn(guard.job) {
            continue;
        }
        let mut totals = UsageTotals::default();
        for entry in &item.usage {
            totals += entry.totals;
        }
        let spent = Amounts::from(&totals);
        let mut row = JsonRow::new(128);
        row.hex(item.run.as_bytes());
        row.hex(guard.job.as_bytes());
        for amount in kinds(spent) {
            row.int(amount);
        }
        rows.push(row.end());
    }
    if rows.is_empty() {
        return Ok(());
    }
    let text = over_rows!(
        "UPDATE draws SET spent_usd = spent_usd + CAST(r.value ->> 2 AS BIGINT),
                spent_tokens = spent_tokens + CAST(r.value ->> 3 AS BIGINT),
                spent_calls = spent_calls + CAST(r.value ->> 4 AS BIGINT)",
        "WHERE draws.run_id = unhex(r.value ->> 0) AND draws.job = unhex(r.value ->> 1)"
    );
    tx.write(text, args![json_rows(rows.iter().map(String::as_str))])
        .await
        .map(drop)
}

/// Closes claims that have ended: gives back what was granted and not spent, and forgets what was told.
pub(super) async fn close(tx: &mut Tx, jobs: &[[u8; 16]], held: &Held) -> Result<(), sqlx::Error> {
    let ids = |wanted: fn(&Held, JobId) -> bool| -> Vec<[u8; 16]> {
        let jobs = jobs.iter().copied();
        jobs.filter(|job| wanted(held, Uuid::from_bytes(*job).into())).collect()
    };
    let drawn = ids(Held::has_drawn);
    if !drawn.is_empty() {
        let rows = drawn.iter().filter_map(|job| {
            let mut row = JsonRow::new(72);
            row.hex(held.run_of(Uuid::from_bytes(*job).into())?.as_bytes());
            row.hex(job);
            Some(row.end())
        });
        let rows: Vec<String> = rows.collect();
        let text = over_rows!(
            "UPDATE draws SET granted_usd = spent_usd, granted_tokens = spent_tokens, granted_calls = spent_calls",
            "WHERE draws.run_id = unhex(r.value ->> 0) AND draws.job = unhex(r.value ->> 1)"
        );
        tx.write(text, args![json_rows(rows.iter().map(String::as_str))])
            .await?;
    }
    let told = ids(Held::has_told);
    if !told.is_empty() {
        let text = Text {
            sqlite: "DELETE FROM told WHERE job IN (SELECT unhex(value) FROM json_each($1))",
            postgres: "DELETE FROM told WHERE job = ANY($1)",
        };
        tx.write(text, vec![Arg::Ids(told)]).await?;
    }
    Ok(())
}

fn kinds(amounts: Amounts) -> [i64; 3] {
    [amounts.usd.0, stored(amounts.tokens), stored(amounts.calls)]
}

fn amounts(cells: &Cells<'_>, from: usize) -> Result<Amounts, StoreError> {
    Ok(Amounts {
        usd: Pico(cells.int(from, "usd")?),
        tokens: cells.count(from + 1, "tokens")?,
        calls: cells.count(from + 2, "calls")?,
    })
}

/// What the other jobs of the run, and of the stage, have spent or hold.
async fn others(tx: &mut Tx, draw: &Draw) -> Result<[Amounts; 2], StoreError> {
    let text = "
        SELECT CAST(COALESCE(SUM(usd), 0) AS BIGINT), CAST(COALESCE(SUM(tokens), 0) AS BIGINT),
               CAST(COALESCE(SUM(calls), 0) AS BIGINT),
               CAST(COALESCE(SUM(CASE WHEN stage = $3 THEN usd ELSE 0 END), 0) AS BIGINT),
               CAST(COALESCE(SUM(CASE WHEN stage = $3 THEN tokens ELSE 0 END), 0) AS BIGINT),
               CAST(COALESCE(SUM(CASE WHEN stage = $3 THEN calls ELSE 0 END), 0) AS BIGINT)
        FROM (SELECT stage,
                     CASE WHEN granted_usd > spent_usd THEN granted_usd ELSE spent_usd END AS usd,
                     CASE WHEN granted_tokens > spent_tokens THEN granted_tokens ELSE spent_tokens END AS tokens,
                     CASE WHEN granted_calls > spent_calls THEN granted_calls ELSE spent_calls END AS calls
              FROM draws WHERE run_id = $1 AND job <> $2) AS held";
    let args = args![draw.run.as_bytes(), draw.guard.job.as_bytes(), draw.stage];
    let rows = tx.read(text, args).await.map_err(unavailable)?;
    let Some(row) = rows.first() else {
        return Ok([Amounts::default(); 2]);
    };
    let cells = row.cells("draws");
    Ok([amounts(&cells, 0)?, amounts(&cells, 3)?])
}

async fn account(tx: &mut Tx, run: RunId, job: JobId) -> Result<Account, StoreError> {
    let text = "SELECT job, granted_usd, granted_tokens, granted_calls, spent_usd, spent_tokens, spent_calls
                FROM draws WHERE run_id = $1 AND job = $2";
    let rows = tx.read(text, args![run.as_bytes(), job.as_bytes()]).await;
    match rows.map_err(unavailable)?.first() {
        None => Ok(Account::default()),
        Some(row) => {
            let cells = row.cells("draws");
            Ok(Account {
                granted: amounts(&cells, 1)?,
                spent: amounts(&cells, 4)?,
            })
        }
    }
}

async fn keep(tx: &mut Tx, draw: &Draw, account: &Account, is_first: bool) -> Result<(), StoreError> {
    let text = "INSERT INTO draws (run_id, job, stage, granted_usd, granted_tokens, granted_calls,
                                   spent_usd, spent_tokens, spent_calls)
                VALUES ($1, $2, $3, $4, $5, $6, 0, 0, 0)
                ON CONFLICT (run_id, job) DO UPDATE
                SET granted_usd = excluded.granted_usd, granted_tokens = excluded.granted_tokens,
                    granted_calls = excluded.granted_calls";
    let [usd, tokens, calls] = kinds(account.granted);
    let (run, job) = (draw.run.as_bytes(), draw.guard.job.as_bytes());
    let args = args![run, job, draw.stage, usd, tokens, calls];
    tx.write(text, args).await.map_err(unavailable)?;
    if is_first {
        let mark = "UPDATE jobs SET drawn = 1 WHERE id = $1";
        tx.write(mark, args![job]).await.map_err(unavailable)?;
    }
    Ok(())
}

#[async_trait]
impl BudgetStore for Sql {
    /// Locks the job and then the run, as batches do: all that changes the sums of a run holds its row.
    async fn draw(&self, draw: Draw) -> Result<Drawn, StoreError> {
        let mut tx = self.db.begin().await.map_err(unavailable)?;
        let held = jobs::lock_one(&mut tx, draw.guard.job).await.map_err(unavailable)?;
        if !held.holds(draw.run, Some(&draw.guard)) {
            return Ok(Drawn::StaleClaim);
        }
        if let Tx::Postgres(_) = tx {
            let lock = "SELECT id FROM runs WHERE id = $1 FOR UPDATE";
            tx.read(lock, args![draw.run.as_bytes()]).await.map_err(unavailable)?;
        }
        let [run, stage] = others(&mut tx, &draw).await?;
        let mut account = account(&mut tx, draw.run, draw.guard.job).await?;
        let before = account.granted;
        let limits = [(draw.run_limit, run), (draw.stage_limit, stage)];
        let granted = usage::draw(&mut account, limits, draw.want);
        if account.granted != before {
            keep(&mut tx, &draw, &account, !held.has_drawn(draw.guard.job)).await?;
            tx.commit().await.map_err(unavailable)?;
        }
        Ok(Drawn::Granted(granted))
    }
}
