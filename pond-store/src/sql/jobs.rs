//! Jobs: locks, leases, changes and reads. How they come into line is in [`super::lanes`], how they are taken in
//! [`super::claims`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use pond_core::clock::Timestamp;
use pond_core::id::{BootId, JobId, ProjectId, RunId, WorkerId};
use pond_core::pool::{JobChange, JobPhase, JobRow, Needs, NewJob, Renewal, Renewed};
use pond_core::runs::Guard;
use pond_core::store::StoreError;

use super::Sql;
use super::budgets;
use super::db::{Arg, Tx, args, over_rows};
use super::item::{ChangeItem, JsonRow, json_rows};
use super::lanes::{self, Newcomer};
use super::row::Row;
use crate::error::unavailable;
use crate::fact::JobReads;

const WAITING: i64 = 0;
const CLAIMED: i64 = 1;
const ENDED: i64 = 2;
const HELD: i64 = 3;

/// `$head`, then whether `id` is among the ids of the first parameter, then a tail per dialect.
macro_rules! among_ids {
    ($head:literal, $sqlite_tail:literal, $postgres_tail:literal) => {
        $crate::sql::db::Text {
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
    project: ProjectId,
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

/// What the job changes of a batch came to.
#[derive(Debug, Default)]
pub(super) struct Lined {
    /// Needs that are new to this process.
    pub(super) fresh_needs: Vec<[u8; 16]>,
    /// Whether jobs came into line.
    pub(super) any: bool,
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
        ids.extend(item.jobs.iter().map(|change| match change {
            JobChange::Release(id)
            | JobChange::End(id)
            | JobChange::Cancel(id)
            | JobChange::Dispatch(id, _)
            | JobChange::Reported(id, _) => *id.as_bytes(),
            // It may be there already.
            JobChange::Enqueue(new) => *new.id.as_bytes(),
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
        "SELECT id, run_id, status, cancelled, token, lease_until, pieces, project, drawn, told FROM jobs WHERE",
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
        project: cells.id(7, "project")?,
        status: cells.int(2, "status")?,
        cancelled: cells.int(3, "cancelled")? != 0,
        token: cells.maybe_bytes(4, "token")?,
        lease_until: cells.maybe_int(5, "lease_until")?,
        pieces: cells.text(6, "pieces")?,
        drawn: cells.maybe_int(8, "drawn")?.is_some(),
        told: cells.maybe_int(9, "told")?.is_some(),
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

/// Job changes of a batch, by what they do to whom; those that a job's state does not allow are left out.
#[derive(Default)]
struct Steps<'a> {
    enqueued: BTreeMap<JobId, &'a NewJob>,
    /// Of those that were enqueued, the ones that ended at once.
    stillborn: BTreeSet<JobId>,
    released: Vec<[u8; 16]>,
    cancelled: Vec<[u8; 16]>,
    ended: Vec<[u8; 16]>,
    dispatched: BTreeMap<JobId, &'a String>,
    reported: BTreeMap<JobId, &'a String>,
    lanes: lanes::LaneNews,
}

impl<'a> Steps<'a> {
    /// Takes the changes one after another, as the job's state is by then.
    fn of(done: &[&'a ChangeItem], held: &mut Held) -> Self {
        let mut steps = Self::default();
        for change in done.iter().flat_map(|item| &item.jobs) {
            match change {
                JobChange::Enqueue(new) => {
                    if !held.0.contains_key(&new.id) && !steps.enqueued.contains_key(&new.id) {
                        steps.enqueued.insert(new.id, new);
                        steps.lanes.of(new.project).most = Some(new.project_limit);
                    }
                }
                JobChange::End(id) if steps.enqueued.contains_key(id) => drop(steps.stillborn.insert(*id)),
                JobChange::Dispatch(id, record) => {
                    if held.0.get(id).is_some_and(|job| job.status == CLAIMED) {
                        steps.dispatched.insert(*id, record);
                    }
                }
                JobChange::Reported(id, record) => {
                    let ended = held.0.get(id).is_some_and(|job| job.status == ENDED);
                    if ended || steps.stillborn.contains(id) {
                        steps.reported.insert(*id, record);
                    }
                }
                JobChange::Release(id) | JobChange::Cancel(id) | JobChange::End(id) => {
                    if let Some(job) = held.0.get_mut(id) {
                        steps.step(change, *id.as_bytes(), job);
                    }
                }
            }
        }
        steps
    }

    fn step(&mut self, change: &JobChange, id: [u8; 16], job: &mut HeldJob) {
        match (change, job.status) {
            (JobChange::Cancel(_), CLAIMED) => self.cancelled.push(id),
            (JobChange::Release(_), CLAIMED) => {
                job.status = WAITING;
                self.released.push(id);
            }
            (JobChange::End(_), WAITING | CLAIMED) => {
                self.lanes.of(job.project).busy_left += 1;
                job.status = ENDED;
                self.ended.push(id);
            }
            (JobChange::End(_), HELD) => {
                self.lanes.of(job.project).held_left += 1;
                job.status = ENDED;
                self.ended.push(id);
            }
            _ => {}
        }
    }
}

/// Makes the job changes of runs that were changed, and lets held jobs into line where there is room. A change that the job's
/// state does not allow has no effect.
pub(super) async fn change_jobs(
    tx: &mut Tx,
    done: &[&ChangeItem],
    held: &mut Held,
    known: impl Fn(&[u8; 16]) -> bool,
) -> Result<Lined, sqlx::Error> {
    // One that is held may be passed over by whoever makes room for it while it is locked here: so its lane is looked after.
    let waiting: BTreeSet<ProjectId> = held
        .0
        .values()
        .filter(|job| job.status == HELD)
        .map(|job| job.project)
        .collect();
    let mut steps = Steps::of(done, held);
    for project in waiting {
        steps.lanes.of(project);
    }
    let fresh_needs = insert_needs(tx, &steps.enqueued, known).await?;
    dispatch(tx, &steps.dispatched).await?;
    budgets::close(tx, &[&steps.released[..], &steps.ended[..]].concat(), held).await?;
    let texts = [
        (
            &steps.released,
            among_ids!(
                "UPDATE jobs SET status = 0, cancelled = 0, token = NULL, worker = NULL, boot = NULL, lease_until = NULL,
                        dispatch = NULL, told = NULL
                 WHERE status = 1 AND",
                "",
                ""
            ),
        ),
        (
            &steps.cancelled,
            among_ids!("UPDATE jobs SET cancelled = 1 WHERE status = 1 AND", "", ""),
        ),
        (
            &steps.ended,
            among_ids!(
                "UPDATE jobs SET status = 2, cancelled = 0, token = NULL, worker = NULL, boot = NULL, lease_until = NULL,
                        dispatch = NULL, told = NULL
                 WHERE status <> 2 AND",
                "",
                ""
            ),
        ),
    ];
    for (ids, text) in texts {
        if !ids.is_empty() {
            tx.write(text, vec![Arg::Ids(ids.clone())]).await?;
        }
    }
    let mut newcomers: Vec<Newcomer<'_>> = steps.enqueued.values().map(|new| Newcomer::new(new)).collect();
    newcomers.retain(|newcomer| !steps.stillborn.contains(&newcomer.job.id));
    let admitted = lanes::admit(tx, steps.lanes, &mut newcomers).await?;
    let stillborn = steps.stillborn.iter().filter_map(|id| steps.enqueued.get(id));
    let rows = newcomers
        .iter()
        .map(|new| job_json(new.job, new.place.map_or(HELD, |_| WAITING), new.place));
    let rows: Vec<String> = rows.chain(stillborn.map(|new| job_json(new, ENDED, None))).collect();
    insert_jobs(tx, &rows).await?;
    // Last: it may be of one that ended here, or that came and ended here.
    dispatch(tx, &steps.reported).await?;
    Ok(Lined {
        fresh_needs,
        any: admitted || !steps.released.is_empty(),
    })
}

/// Writes needs that are new to this process, and gives them.
async fn insert_needs(
    tx: &mut Tx,
    jobs: &BTreeMap<JobId, &NewJob>,
    known: impl Fn(&[u8; 16]) -> bool,
) -> Result<Vec<[u8; 16]>, sqlx::Error> {
    let mut fresh: BTreeMap<[u8; 16], String> = BTreeMap::new();
    for job in jobs.values() {
        let need = job.needs.key().0;
        if !known(&need) {
            let body = serde_json::to_string(&job.needs).expect("a record of plain fields serialises");
            fresh.insert(need, body);
        }
    }
    for (digest, body) in &fresh {
        let insert = "INSERT INTO needs (digest, body) VALUES ($1, $2) ON CONFLICT (digest) DO NOTHING";
        tx.write(insert, args![digest, body.as_str()]).await?;
    }
    Ok(fresh.into_keys().collect())
}

/// A new job as a row; a held one has no place yet.
fn job_json(job: &NewJob, status: i64, place: Option<i64>) -> String {
    let mut row = JsonRow::new(256);
    row.hex(job.id.as_bytes());
    row.hex(job.run.as_bytes());
    row.hex(job.project.as_bytes());
    row.int(job.stage.into());
    row.hex(&job.needs.key().0);
    row.int(place.unwrap_or(0));
    row.int(job.enqueued_at.micros());
    row.maybe_int(job.area.map(i64::from));
    row.int(status);
    row.end()
}

async fn insert_jobs(tx: &mut Tx, rows: &[String]) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let text = over_rows!(
        "INSERT INTO jobs (id, run_id, project, stage, need, place, enqueued_at, status, claims, cancelled, pieces,
                           area)
         SELECT unhex(r.value ->> 0), unhex(r.value ->> 1), unhex(r.value ->> 2), CAST(r.value ->> 3 AS BIGINT),
                unhex(r.value ->> 4), CAST(r.value ->> 5 AS BIGINT), CAST(r.value ->> 6 AS BIGINT),
                CAST(r.value ->> 8 AS BIGINT), 0, 0, '{}', CAST(r.value ->> 7 AS BIGINT)",
        ""
    );
    tx.write(text, args![json_rows(rows.iter().map(String::as_str))])
        .await
        .map(drop)
}

/// Keeps what was decided of claimed jobs, or reported of ended ones.
async fn dispatch(tx: &mut Tx, records: &BTreeMap<JobId, &String>) -> Result<(), sqlx::Error> {
    if records.is_empty() {
        return Ok(());
    }
    let row = |(id, record): (&JobId, &&String)| {
        let mut row = JsonRow::new(64 + record.len());
        row.hex(id.as_bytes());
        row.text(record);
        row.end()
    };
    let rows: Vec<String> = records.iter().map(row).collect();
    let text = over_rows!(
        "UPDATE jobs SET dispatch = r.value ->> 1",
        "WHERE jobs.id = unhex(r.value ->> 0)"
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

/// Reads a job from its columns in the order of [`select_jobs`].
pub(super) fn job_row(row: &Row) -> Result<JobRow, StoreError> {
    let cells = row.cells("jobs");
    let claims = cells.count(7, "claims")?;
    let phase = match cells.int(6, "status")? {
        WAITING | HELD => JobPhase::Waiting { claims },
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

    async fn waiting_needs(&self) -> Result<Arc<[Needs]>, StoreError> {
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
        // What is claimed is what is busy and not in line.
        let text =
            "SELECT l.project, l.held, l.busy, (SELECT COUNT(*) FROM jobs AS j WHERE j.project = $1 AND j.status = 0)
                    FROM lanes AS l WHERE l.project = $1";
        let row = self.db.read_one(text, args![project.as_bytes()]).await;
        let Some(row) = row.map_err(unavailable)? else {
            return Ok((0, 0));
        };
        let cells = row.cells("lanes");
        let (held, busy, in_line) = (cells.int(1, "held")?, cells.int(2, "busy")?, cells.int(3, "in_line")?);
        let count = |count: i64| u64::try_from(count).map_err(|_| cells.corrupt("busy"));
        Ok((count(held + in_line)?, count(busy - in_line)?))
    }
}
