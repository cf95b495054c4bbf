//! Jobs: locks and claims, leases and lines.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use async_trait::async_trait;
use pond_core::clock::Timestamp;
use pond_core::id::{BootId, JobId, ProjectId, RunId, WorkerId};
use pond_core::pool::{
    ClaimRequest, ClaimedJob, JobChange, JobEvent, JobPhase, JobRow, Needs, NewJob, Renewal, Renewed,
};
use pond_core::runs::Guard;
use pond_core::store::StoreError;

use super::Sql;
use super::budgets;
use super::db::{Arg, Text, Tx, args, over_rows};
use super::item::{ChangeItem, JsonRow, json_rows, stored};
use super::row::Row;
use crate::error::unavailable;
use crate::fact::{Claimed, JobReads};

const WAITING: i64 = 0;
const CLAIMED: i64 = 1;
const ENDED: i64 = 2;

/// `$head`, then whether `id` is among the ids of the first parameter, then a tail per dialect.
macro_rules! among_ids {
    ($head:literal, $sqlite_tail:literal, $postgres_tail:literal) => {
        Text {
            sqlite: concat!($head, " id IN (SELECT unhex(value) FROM json_each($1)) ", $sqlite_tail),
            postgres: concat!($head, " id = ANY($1) ", $postgres_tail),
        }
    };
}

pub(super) use among_ids;

/// The jobs that a batch depends on or changes, locked.
#[derive(Debug, Default)]
pub(super) struct Held(HashMap<JobId, HeldJob>);

#[derive(Debug)]
struct HeldJob {
    run: RunId,
    status: i64,
    cancelled: bool,
    token: Option<Vec<u8>>,
    lease_until: Option<i64>,
    pieces: String,
    drawn: bool,
    told: bool,
}

/// What a piece of a stream is to those written before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PieceJudged {
    Next,
    Known,
    Gap { expected: u64 },
    NoClaim,
}

impl HeldJob {
    fn is_held_with(&self, token: &[u8; 32], now: Option<Timestamp>) -> bool {
        self.status == CLAIMED
            && self.token.as_deref() == Some(token)
            && now.is_none_or(|now| self.lease_until.is_some_and(|until| until > now.micros()))
    }

    fn next_pieces(&self) -> BTreeMap<String, u64> {
        serde_json::from_str(&self.pieces).unwrap_or_default()
    }
}

impl Held {
    /// Whether the claim that a write of `run` depends on is live.
    pub(super) fn holds(&self, run: RunId, guard: Option<&Guard>) -> bool {
        let Some(guard) = guard else { return true };
        let job = self.0.get(&guard.job);
        job.is_some_and(|job| job.run == run && job.is_held_with(&guard.token, guard.now))
    }

    /// Whether a job has drawn from a budget, in any claim of it.
    pub(super) fn has_drawn(&self, job: JobId) -> bool {
        self.0.get(&job).is_some_and(|job| job.drawn)
    }

    /// Whether anything was told by id under the live claim of a job.
    pub(super) fn has_told(&self, job: JobId) -> bool {
        self.0.get(&job).is_some_and(|job| job.told)
    }

    /// The run of a job.
    pub(super) fn run_of(&self, job: JobId) -> Option<RunId> {
        self.0.get(&job).map(|job| job.run)
    }

    /// Judges a piece by those that the live claim has sent before.
    pub(super) fn piece(&self, guard: Option<&Guard>, piece: Option<&(String, u64)>) -> PieceJudged {
        let Some((stream, number)) = piece else {
            return PieceJudged::Next;
        };
        let Some(job) = guard.and_then(|guard| self.0.get(&guard.job)) else {
            return PieceJudged::NoClaim;
        };
        let expected = job.next_pieces().get(stream).copied().unwrap_or(0);
        match number.cmp(&expected) {
            std::cmp::Ordering::Less => PieceJudged::Known,
            std::cmp::Ordering::Equal => PieceJudged::Next,
            std::cmp::Ordering::Greater => PieceJudged::Gap { expected },
        }
    }
}

/// Locks the jobs that guards, job changes and renewals name, in id order.
pub(super) async fn lock(
    tx: &mut Tx,
    changes: &[(usize, &ChangeItem)],
    renewals: &[(usize, &Renewal)],
) -> Result<Held, sqlx::Error> {
    let mut ids: BTreeSet<[u8; 16]> = renewals.iter().map(|(_, renewal)| *renewal.job.as_bytes()).collect();
    for (_, item) in changes {
        ids.extend(item.guard.iter().map(|guard| *guard.job.as_bytes()));
        ids.extend(item.jobs.iter().filter_map(|change| match change {
            JobChange::Release(id) | JobChange::End(id) | JobChange::Cancel(id) | JobChange::Dispatch(id, _) => {
                Some(*id.as_bytes())
            }
            JobChange::Enqueue(_) => None,
        }));
    }
    if ids.is_empty() {
        return Ok(Held::default());
    }
    lock_all(tx, ids.into_iter().collect()).await
}

/// Locks a job.
pub(super) async fn lock_one(tx: &mut Tx, job: JobId) -> Result<Held, sqlx::Error> {
    lock_all(tx, vec![*job.as_bytes()]).await
}

async fn lock_all(tx: &mut Tx, ids: Vec<[u8; 16]>) -> Result<Held, sqlx::Error> {
    let text = among_ids!(
        "SELECT id, run_id, status, cancelled, token, lease_until, pieces, drawn, told FROM jobs WHERE",
        "",
        "ORDER BY id FOR UPDATE"
    );
    let rows = tx.read(text, vec![Arg::Ids(ids)]).await?;
    let held = rows.iter().map(held_job).collect::<Result<_, StoreError>>();
    Ok(Held(held.map_err(|error| sqlx::Error::Decode(Box::new(error)))?))
}

fn held_job(row: &Row) -> Result<(JobId, HeldJob), StoreError> {
    let cells = row.cells("jobs");
    let job = HeldJob {
        run: cells.id(1, "run_id")?,
        status: cells.int(2, "status")?,
        cancelled: cells.int(3, "cancelled")? != 0,
        token: cells.maybe_bytes(4, "token")?,
        lease_until: cells.maybe_int(5, "lease_until")?,
        pieces: cells.text(6, "pieces")?,
        drawn: cells.maybe_int(7, "drawn")?.is_some(),
        told: cells.maybe_int(8, "told")?.is_some(),
    };
    Ok((cells.id(0, "id")?, job))
}

/// Renews leases, all in one statement, and answers each.
pub(super) async fn renew(
    tx: &mut Tx,
    renewals: &[(usize, &Renewal)],
    held: &Held,
) -> Result<Vec<Renewed>, sqlx::Error> {
    let mut rows = Vec::new();
    let mut answers = Vec::with_capacity(renewals.len());
    for (_, renewal) in renewals {
        answers.push(match held.0.get(&renewal.job) {
            None => Renewed::Unknown,
            Some(job) if job.is_held_with(&renewal.token, Some(renewal.now)) => {
                let mut row = JsonRow::new(80);
                row.hex(renewal.job.as_bytes());
                row.int(renewal.lease_until.micros());
                rows.push(row.end());
                Renewed::Until {
                    lease_until: renewal.lease_until,
                    cancel: job.cancelled,
                }
            }
            Some(_) => Renewed::Stale,
        });
    }
    if !rows.is_empty() {
        let text = over_rows!(
            "UPDATE jobs SET lease_until = CAST(r.value ->> 1 AS BIGINT)",
            "WHERE jobs.id = unhex(r.value ->> 0) AND jobs.status = 1"
        );
        tx.write(text, args![json_rows(rows.iter().map(String::as_str))])
            .await?;
    }
    Ok(answers)
}

/// Takes jobs for a worker: those that stand first in the lines that it fits.
pub(super) async fn claim(tx: &mut Tx, request: &ClaimRequest) -> Result<Result<Claimed, StoreError>, sqlx::Error> {
    // Each line gives its first few by the index; jobs that another server is just taking are passed over.
    const FRONTS: Text = Text {
        sqlite: "
            SELECT j.id, j.run_id, j.project, j.stage, n.body, j.enqueued_at, j.status, j.claims, j.cancelled,
                   j.token, j.worker, j.boot, j.lease_until, j.area, j.dispatch, j.place
            FROM json_each($1) AS f
            CROSS JOIN jobs AS j
            CROSS JOIN needs AS n
            WHERE j.id IN (SELECT k.id FROM jobs AS k WHERE k.need = unhex(f.value) AND k.status = 0
                           ORDER BY k.place, k.id LIMIT $2)
              AND n.digest = j.need",
        postgres: "
            SELECT j.id, j.run_id, j.project, j.stage, n.body, j.enqueued_at, j.status, j.claims, j.cancelled,
                   j.token, j.worker, j.boot, j.lease_until, j.area, j.dispatch, j.place
            FROM UNNEST($1) AS f (need)
            CROSS JOIN LATERAL (SELECT * FROM jobs AS k WHERE k.need = f.need AND k.status = 0
                                ORDER BY k.place, k.id LIMIT $2 FOR UPDATE SKIP LOCKED) AS j
            JOIN needs AS n ON n.digest = f.need",
    };
    let fits: BTreeSet<[u8; 16]> = request.fits.iter().map(|need| need.0).collect();
    let most = stored(request.tokens.len() as u64);
    let rows = tx
        .read(FRONTS, vec![Arg::Ids(fits.into_iter().collect()), most.into()])
        .await?;
    let fronts = rows
        .iter()
        .map(|row| Ok((row.cells("jobs").int(15, "place")?, job_row(row)?)));
    let mut fronts = match fronts.collect::<Result<Vec<(i64, JobRow)>, StoreError>>() {
        Ok(fronts) => fronts,
        Err(error) => return Ok(Err(error)),
    };
    fronts.sort_unstable_by_key(|(place, job)| (*place, job.id));
    let passed_over = fronts.len() > request.tokens.len();
    let taken = fronts.into_iter().zip(&request.tokens);
    let jobs: Vec<ClaimedJob> = taken.map(|((_, job), token)| claimed(job, token, request)).collect();
    if !jobs.is_empty() {
        take(tx, &jobs, request).await?;
    }
    Ok(Ok(Claimed { jobs, passed_over }))
}

fn claimed(mut job: JobRow, token: &pond_core::pool::ClaimToken, request: &ClaimRequest) -> ClaimedJob {
    let event = JobEvent::Claim {
        token: token.hash(),
        worker: request.worker,
        boot: request.boot,
        lease_until: request.lease_until,
    };
    job.phase = job.phase.next(event).expect("the line holds waiting jobs alone");
    ClaimedJob {
        job,
        token: token.clone(),
    }
}

async fn take(tx: &mut Tx, jobs: &[ClaimedJob], request: &ClaimRequest) -> Result<(), sqlx::Error> {
    let row = |claimed: &ClaimedJob| {
        let mut row = JsonRow::new(112);
        row.hex(claimed.job.id.as_bytes());
        row.hex(&claimed.token.hash());
        row.end()
    };
    let rows: Vec<String> = jobs.iter().map(row).collect();
    let text = over_rows!(
        "UPDATE jobs SET status = 1, claims = claims + 1, pieces = '{}', token = unhex(r.value ->> 1),
                worker = $2, boot = $3, lease_until = $4",
        "WHERE jobs.id = unhex(r.value ->> 0)"
    );
    let args = args![
        json_rows(rows.iter().map(String::as_str)),
        request.worker.as_bytes(),
        request.boot.as_bytes(),
        request.lease_until.micros(),
    ];
    tx.write(text, args).await.map(drop)
}

/// Makes the job changes of runs that were changed, and gives the needs that are new to this process. A change that the
/// job's state does not allow has no effect.
pub(super) async fn change_jobs(
    tx: &mut Tx,
    done: &[&ChangeItem],
    held: &Held,
    known: impl Fn(&[u8; 16]) -> bool,
) -> Result<Vec<[u8; 16]>, sqlx::Error> {
    let (mut enqueued, mut dispatched) = (Vec::new(), Vec::new());
    let (mut released, mut cancelled, mut ended) = (Vec::new(), Vec::new(), Vec::new());
    for change in done.iter().flat_map(|item| &item.jobs) {
        match change {
            JobChange::Enqueue(new) => enqueued.push(new),
            JobChange::Release(id) => released.push(*id.as_bytes()),
            JobChange::Cancel(id) => cancelled.push(*id.as_bytes()),
            JobChange::End(id) => ended.push(*id.as_bytes()),
            JobChange::Dispatch(id, record) => dispatched.push((id, record)),
        }
    }
    let fresh = enqueue(tx, &enqueued, known).await?;
    dispatch(tx, &dispatched).await?;
    budgets::close(tx, &[&released[..], &ended[..]].concat(), held).await?;
    let texts = [
        (
            released,
            among_ids!(
                "UPDATE jobs SET status = 0, cancelled = 0, token = NULL, worker = NULL, boot = NULL, lease_until = NULL,
                        dispatch = NULL, told = NULL
                 WHERE status = 1 AND",
                "",
                ""
            ),
        ),
        (
            cancelled,
            among_ids!("UPDATE jobs SET cancelled = 1 WHERE status = 1 AND", "", ""),
        ),
        (
            ended,
            among_ids!(
                "UPDATE jobs SET status = 2, cancelled = 0, token = NULL, worker = NULL, boot = NULL, lease_until = NULL,
                        dispatch = NULL, told = NULL
                 WHERE status < 2 AND",
                "",
                ""
            ),
        ),
    ];
    for (ids, text) in texts {
        if !ids.is_empty() {
            tx.write(text, vec![Arg::Ids(ids)]).await?;
        }
    }
    Ok(fresh)
}

async fn enqueue(
    tx: &mut Tx,
    jobs: &[&NewJob],
    known: impl Fn(&[u8; 16]) -> bool,
) -> Result<Vec<[u8; 16]>, sqlx::Error> {
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let mut fresh: BTreeMap<[u8; 16], String> = BTreeMap::new();
    let mut rows = Vec::with_capacity(jobs.len());
    for job in jobs {
        let need = job.needs.key().0;
        if !known(&need) {
            let body = serde_json::to_string(&job.needs).expect("a record of plain fields serialises");
            fresh.insert(need, body);
        }
        let mut row = JsonRow::new(256);
        row.hex(job.id.as_bytes());
        row.hex(job.run.as_bytes());
        row.hex(job.project.as_bytes());
        row.int(job.stage.into());
        row.hex(&need);
        row.int(job.place);
        row.int(job.enqueued_at.micros());
        row.maybe_int(job.area.map(i64::from));
        rows.push(row.end());
    }
    for (digest, body) in &fresh {
        let insert = "INSERT INTO needs (digest, body) VALUES ($1, $2) ON CONFLICT (digest) DO NOTHING";
        tx.write(insert, args![digest, body.as_str()]).await?;
    }
    let text = over_rows!(
        "INSERT INTO jobs (id, run_id, project, stage, need, place, enqueued_at, status, claims, cancelled, pieces,
                           area)
         SELECT unhex(r.value ->> 0), unhex(r.value ->> 1), unhex(r.value ->> 2), CAST(r.value ->> 3 AS BIGINT),
                unhex(r.value ->> 4), CAST(r.value ->> 5 AS BIGINT), CAST(r.value ->> 6 AS BIGINT), 0, 0, 0, '{}',
                CAST(r.value ->> 7 AS BIGINT)",
        "WHERE 1 = 1 ON CONFLICT (id) DO NOTHING"
    );
    tx.write(text, args![json_rows(rows.iter().map(String::as_str))])
        .await?;
    Ok(fresh.into_keys().collect())
}

/// Keeps what was decided of claimed jobs.
async fn dispatch(tx: &mut Tx, records: &[(&JobId, &String)]) -> Result<(), sqlx::Error> {
    if records.is_empty() {
        return Ok(());
    }
    let row = |(id, record): &(&JobId, &String)| {
        let mut row = JsonRow::new(64 + record.len());
        row.hex(id.as_bytes());
        row.text(record);
        row.end()
    };
    let rows: Vec<String> = records.iter().map(row).collect();
    let text = over_rows!(
        "UPDATE jobs SET dispatch = r.value ->> 1",
        "WHERE jobs.id = unhex(r.value ->> 0) AND jobs.status = 1"
    );
    tx.write(text, args![json_rows(rows.iter().map(String::as_str))])
        .await
        .map(drop)
}

/// Takes note of the pieces that were written.
pub(super) async fn note_pieces(tx: &mut Tx, done: &[&ChangeItem], held: &Held) -> Result<(), sqlx::Error> {
    let mut rows = Vec::new();
    for item in done {
        let (Some(guard), Some((stream, number))) = (&item.guard, &item.piece) else {
            continue;
        };
        let Some(job) = held.0.get(&guard.job) else { continue };
        let mut pieces = job.next_pieces();
        pieces.insert(stream.clone(), number.saturating_add(1));
        let mut row = JsonRow::new(128);
        row.hex(guard.job.as_bytes());
        row.text(&serde_json::to_string(&pieces).expect("names and numbers serialise"));
        rows.push(row.end());
    }
    if rows.is_empty() {
        return Ok(());
    }
    let text = over_rows!(
        "UPDATE jobs SET pieces = r.value ->> 1",
        "WHERE jobs.id = unhex(r.value ->> 0)"
    );
    tx.write(text, args![json_rows(rows.iter().map(String::as_str))])
        .await
        .map(drop)
}

/// The columns that [`job_row`] reads.
macro_rules! select_jobs {
    ($tail:literal) => {
        concat!(
            "SELECT j.id, j.run_id, j.project, j.stage, n.body, j.enqueued_at, j.status, j.claims, j.cancelled,
                    j.token, j.worker, j.boot, j.lease_until, j.area, j.dispatch
             FROM jobs AS j JOIN needs AS n ON n.digest = j.need ",
            $tail
        )
    };
}

fn job_row(row: &Row) -> Result<JobRow, StoreError> {
    let cells = row.cells("jobs");
    let claims = cells.count(7, "claims")?;
    let phase = match cells.int(6, "status")? {
        WAITING => JobPhase::Waiting { claims },
        CLAIMED => JobPhase::Claimed {
            claim: claims,
            token: cells.array(9, "token")?,
            worker: cells.id(10, "worker")?,
            boot: cells.id(11, "boot")?,
            lease_until: cells.time(12, "lease_until")?,
        },
        ENDED => JobPhase::Ended { claims },
        _ => return Err(cells.corrupt("status")),
    };
    Ok(JobRow {
        id: cells.id(0, "id")?,
        run: cells.id(1, "run_id")?,
        project: cells.id(2, "project")?,
        stage: cells.count(3, "stage")?,
        needs: serde_json::from_str(&cells.text(4, "need")?).map_err(|_| cells.corrupt("need"))?,
        enqueued_at: cells.time(5, "enqueued_at")?,
        phase,
        cancelled: cells.int(8, "cancelled")? != 0,
        area: cells
            .maybe_int(13, "area")?
            .map(|area| u32::try_from(area).map_err(|_| cells.corrupt("area")))
            .transpose()?,
        dispatch: cells.maybe_text(14, "dispatch")?,
    })
}

#[async_trait]
impl JobReads for Sql {
    async fn job(&self, id: JobId) -> Result<Option<JobRow>, StoreError> {
        let row = self
            .db
            .read_one(select_jobs!("WHERE j.id = $1"), args![id.as_bytes()])
            .await;
        row.map_err(unavailable)?.as_ref().map(job_row).transpose()
    }

    async fn expired_jobs(&self, now: Timestamp, limit: u32) -> Result<Vec<JobRow>, StoreError> {
        let text = select_jobs!("WHERE j.status = 1 AND j.lease_until <= $1 ORDER BY j.lease_until, j.id LIMIT $2");
        let rows = self
            .db
            .read(text, args![now.micros(), limit])
            .await
            .map_err(unavailable)?;
        rows.iter().map(job_row).collect()
    }

    async fn jobs_of_worker(&self, worker: WorkerId, but: Option<BootId>) -> Result<Vec<JobRow>, StoreError> {
        // No life has an empty id.
        let but = but.map_or_else(Vec::new, |boot| boot.as_bytes().to_vec());
        let text = select_jobs!("WHERE j.status = 1 AND j.worker = $1 AND j.boot <> $2 ORDER BY j.id");
        let args = args![worker.as_bytes(), but];
        let rows = self.db.read(text, args).await.map_err(unavailable)?;
        rows.iter().map(job_row).collect()
    }

    async fn waiting_needs(&self) -> Result<Vec<Needs>, StoreError> {
        // One look into each line, however long it is.
        let text = "SELECT digest, body FROM needs AS n
                    WHERE EXISTS (SELECT 1 FROM jobs AS j WHERE j.need = n.digest AND j.status = 0)
                    ORDER BY digest";
        let rows = self.db.read(text, args![]).await.map_err(unavailable)?;
        let needs = |row: &Row| {
            let cells = row.cells("needs");
            serde_json::from_str(&cells.text(1, "body")?).map_err(|_| cells.corrupt("body"))
        };
        rows.iter().map(needs).collect()
    }

    async fn job_counts(&self, project: ProjectId) -> Result<(u64, u64), StoreError> {
        let text = "SELECT status, COUNT(*) FROM jobs WHERE project = $1 AND status < 2 GROUP BY status";
        let rows = self
            .db
            .read(text, args![project.as_bytes()])
            .await
            .map_err(unavailable)?;
        let mut counts = (0, 0);
        for row in &rows {
            let cells = row.cells("jobs");
            let count = cells.count(1, "count")?;
            match cells.int(0, "status")? {
                WAITING => counts.0 = count,
                _ => counts.1 = count,
            }
        }
        Ok(counts)
    }
}
