//! Writes a batch of facts as a few set-based statements in one transaction.
//!
//! Locks are taken in one order everywhere: jobs by id, then runs by id, then lanes by project, then jobs that are held or in
//! line, which skip what others hold.

use std::collections::HashMap;

use pond_core::id::{JobId, RunId};
use pond_core::runs::{Appended, Committed};
use uuid::Uuid;

use super::db::{Arg, Tx, args};
use super::hot::{self, Changed};
use super::item::{Body, ChangeItem, CreateItem, Item};
use super::jobs::{self, Held, Lined, PieceJudged};
use super::{Sql, budgets, claims, runs};
use crate::error::corrupt;
use crate::fact::{Answer, Outcome};
use crate::line::all_failed;

/// How often a batch is tried when other servers' transactions are in its way.
const TRIES: usize = 3;

impl Sql {
    /// Writes a batch. When one fact alone spoils it, the others are written without that one.
    pub(super) async fn write_batch(&self, items: &[Item]) -> Vec<Answer> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_batch(items).await {
                Ok(answers) => return answers,
                Err(error) if in_the_way(&error) && tries < TRIES => {}
                Err(error) if spoilt(&error) && items.len() > 1 => return self.one_by_one(items).await,
                Err(error) => return vec_of(items, &error),
            }
        }
    }

    async fn one_by_one(&self, items: &[Item]) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(items.len());
        for item in items {
            let one = std::slice::from_ref(item);
            match self.try_batch(one).await {
                Ok(mut answer) => answers.append(&mut answer),
                Err(error) => answers.append(&mut vec_of(one, &error)),
            }
        }
        answers
    }

    async fn try_batch(&self, items: &[Item]) -> Result<Vec<Answer>, sqlx::Error> {
        let mut tx = self.db.begin().await?;
        let mut answers: Vec<Option<Answer>> = items.iter().map(|_| None).collect();
        let parts = Parts::of(items);
        let mut held = jobs::lock(&mut tx, &parts.changes, &parts.renewals).await?;

        let renewed = jobs::renew(&mut tx, &parts.renewals, &held).await?;
        for ((place, _), renewed) in parts.renewals.iter().zip(renewed) {
            answers[*place] = Some(Ok(Outcome::Renewed(renewed)));
        }

        let fresh = self.create(&mut tx, &parts.creates).await?;
        let mut segments: Vec<(RunId, i64, i64, &Body)> = Vec::new();
        for (place, create) in &parts.creates {
            segments.extend(create.segment.as_ref().map(|body| (create.id, 1, create.events, body)));
            answers[*place] = Some(Ok(Outcome::Created));
        }

        let told = budgets::told(&mut tx, &parts.changes, &held).await?;
        let judged = judge(&parts.changes, &held, &told);
        let changed = change(&mut tx, &judged).await?;
        let unchanged: Vec<RunId> = parts
            .changes
            .iter()
            .map(|(_, item)| item.run)
            .filter(|run| !changed.contains_key(run))
            .collect();
        let known = runs::known(&mut tx, &unchanged).await?;
        for (place, item, verdict) in &judged {
            let now = changed.get(&item.run);
            if let (Some(now), Some(body)) = (now, &item.segment) {
                segments.push((item.run, now.next_event - item.events, item.events, body));
            }
            let again = item.guard.as_ref().and_then(|guard| told.get(&guard.job));
            answers[*place] = Some(Ok(match (verdict, again) {
                (Verdict::Told, Some(ids)) => Outcome::Appended(Appended::Told(ids.clone())),
                _ => outcome(item, *verdict, now, known.contains(&item.run)),
            }));
        }
        hot::segments(&mut tx, &segments).await?;
        let done: Vec<&ChangeItem> = judged
            .iter()
            .map(|(_, item, _)| *item)
            .filter(|item| changed.contains_key(&item.run))
            .collect();
        let lined = self.rare_parts(&mut tx, &done, &mut held).await?;
        for (place, item, _) in judged.iter().filter(|(_, item, _)| !item.jobs.is_empty()) {
            if let Some(Ok(Outcome::Committed { in_line, .. })) = &mut answers[*place] {
                *in_line = lined.any && changed.contains_key(&item.run);
            }
        }

        let requests: Vec<_> = parts.claims.iter().map(|(_, request)| *request).collect();
        let claimed = claims::claim(&mut tx, &requests).await?;
        for ((place, _), claimed) in parts.claims.iter().zip(claimed) {
            answers[*place] = Some(Ok(Outcome::Claimed(claimed)));
        }
        tx.commit().await?;
        self.known_definitions.add(fresh);
        self.known_needs.add(lined.fresh_needs);
        Ok(answers
            .into_iter()
            .map(|answer| answer.expect("every kind of item is answered above"))
            .collect())
    }

    /// Writes runs with what belongs to them, and gives the definitions that are new to this process.
    async fn create(&self, tx: &mut Tx, creates: &[(usize, &CreateItem)]) -> Result<Vec<[u8; 32]>, sqlx::Error> {
        if creates.is_empty() {
            return Ok(Vec::new());
        }
        let items: Vec<&CreateItem> = creates.iter().map(|(_, item)| *item).collect();
        let mut fresh: HashMap<[u8; 32], &str> = HashMap::new();
        for item in &items {
            if !self.known_definitions.has(&item.definition.digest) {
                fresh.insert(item.definition.digest, &item.definition.json);
            }
        }
        // In one order, so that two servers that write the same ones don't wait for each other.
        let mut fresh: Vec<([u8; 32], &str)> = fresh.into_iter().collect();
        fresh.sort_unstable();
        for (digest, body) in &fresh {
            let insert = "INSERT INTO definitions (digest, body) VALUES ($1, $2) ON CONFLICT (digest) DO NOTHING";
            tx.write(insert, args![digest.to_vec(), *body]).await?;
        }
        hot::create(tx, &items).await?;
        runs::insert_inputs(tx, &items).await?;
        Ok(fresh.into_iter().map(|(digest, _)| digest).collect())
    }

    /// Writes what few changes have.
    async fn rare_parts(&self, tx: &mut Tx, done: &[&ChangeItem], held: &mut Held) -> Result<Lined, sqlx::Error> {
        jobs::note_pieces(tx, done, held).await?;
        budgets::note_told(tx, done, held).await?;
        budgets::spend(tx, done, held).await?;
        let lined = jobs::change_jobs(tx, done, held, |need| self.known_needs.has(need)).await?;
        runs::record_artifacts(tx, done).await?;
        runs::add_usage(tx, done).await?;
        Ok(lined)
    }
}

/// The items of a batch by kind, each with its place.
#[derive(Default)]
struct Parts<'a> {
    creates: Vec<(usize, &'a CreateItem)>,
    changes: Vec<(usize, &'a ChangeItem)>,
    renewals: Vec<(usize, &'a pond_core::pool::Renewal)>,
    claims: Vec<(usize, &'a pond_core::pool::ClaimRequest)>,
}

impl<'a> Parts<'a> {
    fn of(items: &'a [Item]) -> Self {
        let mut parts = Self::default();
        for (place, item) in items.iter().enumerate() {
            match item {
                Item::Create(create) => parts.creates.push((place, create)),
                Item::Change(change) => parts.changes.push((place, change)),
                Item::Renew(renewal) => parts.renewals.push((place, renewal)),
                Item::Claim(request) => parts.claims.push((place, request)),
            }
        }
        parts
    }
}

/// What the job that a change depends on says to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Go,
    StaleClaim,
    Known,
    /// Some of its ids were told before.
    Told,
    Gap {
        expected: u64,
    },
}

fn judge<'a>(
    changes: &[(usize, &'a ChangeItem)],
    held: &Held,
    told: &HashMap<JobId, Vec<Uuid>>,
) -> Vec<(usize, &'a ChangeItem, Verdict)> {
    let verdict = |item: &ChangeItem| {
        if !held.holds(item.run, item.guard.as_ref()) {
            return Verdict::StaleClaim;
        }
        match &item.guard {
            _ if item.ids.is_empty() => {}
            None => return Verdict::StaleClaim,
            Some(guard) if told.contains_key(&guard.job) => return Verdict::Told,
            Some(_) => {}
        }
        match held.piece(item.guard.as_ref(), item.piece.as_ref()) {
            PieceJudged::Next => Verdict::Go,
            PieceJudged::Known => Verdict::Known,
            PieceJudged::Gap { expected } => Verdict::Gap { expected },
            PieceJudged::NoClaim => Verdict::StaleClaim,
        }
    };
    changes
        .iter()
        .map(|(place, item)| (*place, *item, verdict(item)))
        .collect()
}

/// Changes the runs that nothing speaks against, and gives those that were changed.
async fn change(tx: &mut Tx, judged: &[(usize, &ChangeItem, Verdict)]) -> Result<HashMap<RunId, Changed>, sqlx::Error> {
    let (mut commits, mut appends) = (Vec::new(), Vec::new());
    for (_, item, verdict) in judged {
        match (verdict, &item.update) {
            (Verdict::Go, Some(_)) => commits.push(*item),
            (Verdict::Go, None) => appends.push(*item),
            _ => {}
        }
    }
    if !commits.is_empty() && !appends.is_empty() {
        // Two statements take locks: one order for both, or another server's batch may hold what this one waits for.
        lock(tx, commits.iter().chain(&appends).map(|item| item.run)).await?;
    }
    let mut changed = HashMap::with_capacity(judged.len());
    if !commits.is_empty() {
        changed.extend(hot::commit(tx, &commits).await?.into_iter().map(|now| (now.run, now)));
    }
    if !appends.is_empty() {
        changed.extend(hot::append(tx, &appends).await?.into_iter().map(|now| (now.run, now)));
    }
    Ok(changed)
}

/// Locks rows of runs in id order. SQLite has one writer, and nothing to lock.
async fn lock(tx: &mut Tx, runs: impl Iterator<Item = RunId>) -> Result<(), sqlx::Error> {
    if let Tx::Sqlite(_) = tx {
        return Ok(());
    }
    let ids = runs.map(|run| *run.as_bytes()).collect();
    let text = "SELECT id FROM runs WHERE id = ANY($1) ORDER BY id FOR UPDATE";
    tx.read(text, vec![Arg::Ids(ids)]).await.map(drop)
}

fn outcome(item: &ChangeItem, verdict: Verdict, now: Option<&Changed>, known: bool) -> Outcome {
    let log_bytes = |now: &Changed| u64::try_from(now.log_bytes).unwrap_or(0);
    if item.update.is_some() {
        let committed = match (now, verdict) {
            (Some(now), _) => Committed::At {
                revision: now.revision,
                next_event: now.next_event,
                log_bytes: log_bytes(now),
            },
            (None, _) if !known => Committed::Unknown,
            (None, Verdict::Go) => Committed::Stale,
            (None, _) => Committed::StaleClaim,
        };
        return Outcome::Committed {
            committed,
            in_line: false,
        };
    }
    Outcome::Appended(match (now, verdict) {
        (Some(now), _) => Appended::At {
            next_event: now.next_event,
            log_bytes: log_bytes(now),
        },
        (None, _) if !known => Appended::Unknown,
        (None, Verdict::Known) => Appended::Known,
        (None, Verdict::Gap { expected }) => Appended::Gap { expected },
        // A run is never deleted, so one that is known and not refused is changed.
        (None, Verdict::StaleClaim | Verdict::Told | Verdict::Go) => Appended::StaleClaim,
    })
}

/// Whether another transaction was in the way and a second try may do.
fn in_the_way(error: &sqlx::Error) -> bool {
    // Postgres: serialization_failure and deadlock_detected.
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("40001" | "40P01"))
}

/// Whether the data of one fact is at fault, and not the database.
fn spoilt(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error() else {
        return matches!(error, sqlx::Error::Encode(_));
    };
    // Postgres classes 22 (data exception) and 23 (constraint); SQLite SQLITE_TOOBIG, SQLITE_CONSTRAINT, SQLITE_MISMATCH.
    let code = error.code().unwrap_or_default();
    if code.len() == 5 {
        return code.starts_with("22") || code.starts_with("23");
    }
    code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 18..=20))
}

fn vec_of(items: &[Item], error: &sqlx::Error) -> Vec<Answer> {
    let taken = error
        .as_database_error()
        .is_some_and(sqlx::error::DatabaseError::is_unique_violation);
    match items {
        [Item::Create(create)] if taken => vec![Err(corrupt("runs", "id", &create.id))],
        _ => {
            tracing::warn!(%error, facts = items.len(), "a batch was not written");
            all_failed(items.len(), error)
        }
    }
}
