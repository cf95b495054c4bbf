//! Claims: all of a batch in one look at the fronts of their lines, and one update.

use std::collections::{BTreeMap, BTreeSet};

use pond_core::id::{JobId, ProjectId};
use pond_core::pool::{ClaimRequest, ClaimToken, ClaimedJob, JobEvent, JobRow, NeedsKey};
use pond_core::store::StoreError;

use super::db::{Arg, Text, Tx, args, over_rows};
use super::item::{JsonRow, json_rows, stored};
use super::jobs::job_row;
use super::row::Row;
use crate::fact::Claimed;

/// A job at the front of its line.
struct Front {
    need: NeedsKey,
    job: JobRow,
}

/// Takes jobs for workers, one after another: those that stand first in the lines that each fits.
pub(super) async fn claim(tx: &mut Tx, requests: &[&ClaimRequest]) -> Result<Vec<Claimed>, sqlx::Error> {
    if requests.is_empty() {
        return Ok(Vec::new());
    }
    let mut fronts = fronts(tx, requests).await?;
    let mut taken: Vec<(&ClaimRequest, ClaimedJob)> = Vec::new();
    let mut claimed = Vec::with_capacity(requests.len());
    for request in requests {
        let jobs = take_first(&mut fronts, request);
        taken.extend(jobs.iter().cloned().map(|job| (*request, job)));
        claimed.push(Claimed {
            jobs,
            passed_over: false,
        });
    }
    write(tx, &taken).await?;
    // SQLite has one writer: nobody passes over what it looks at.
    let looked_at = matches!(tx, Tx::Postgres(_)) && !fronts.is_empty();
    if let Some(last) = claimed.last_mut() {
        last.passed_over = looked_at;
    }
    Ok(claimed)
}

// Each line gives its first few by the index; jobs that another server is just taking are passed over.
pub(crate) const OF_ALL: Text = Text {
    sqlite: "
        SELECT j.id, j.run_id, j.project, j.stage, n.body, j.enqueued_at, j.status, j.claims, j.cancelled,
               j.token, j.worker, j.boot, j.lease_until, j.area, j.dispatch, j.place, j.need
        FROM json_each($1) AS f
        CROSS JOIN jobs AS j
        CROSS JOIN needs AS n
        WHERE j.id IN (SELECT k.id FROM jobs AS k WHERE k.need = unhex(f.value) AND k.status = 0
                       ORDER BY k.place, k.id LIMIT $2)
          AND n.digest = j.need",
    postgres: "
        SELECT j.id, j.run_id, j.project, j.stage, n.body, j.enqueued_at, j.status, j.claims, j.cancelled,
               j.token, j.worker, j.boot, j.lease_until, j.area, j.dispatch, j.place, j.need
        FROM UNNEST($1) AS f (need)
        CROSS JOIN LATERAL (SELECT * FROM jobs AS k WHERE k.need = f.need AND k.status = 0
                            ORDER BY k.place, k.id LIMIT $2 FOR UPDATE SKIP LOCKED) AS j
        JOIN needs AS n ON n.digest = f.need",
};
pub(crate) const OF_PROJECT: Text = Text {
    sqlite: "
        SELECT j.id, j.run_id, j.project, j.stage, n.body, j.enqueued_at, j.status, j.claims, j.cancelled,
               j.token, j.worker, j.boot, j.lease_until, j.area, j.dispatch, j.place, j.need
        FROM json_each($1) AS f
        CROSS JOIN jobs AS j
        CROSS JOIN needs AS n
        WHERE j.id IN (SELECT k.id FROM jobs AS k INDEXED BY jobs_in_line_of_project
                       WHERE k.project = $3 AND k.need = unhex(f.value) AND k.status = 0
                       ORDER BY k.place, k.id LIMIT $2)
          AND n.digest = j.need",
    postgres: "
        SELECT j.id, j.run_id, j.project, j.stage, n.body, j.enqueued_at, j.status, j.claims, j.cancelled,
               j.token, j.worker, j.boot, j.lease_until, j.area, j.dispatch, j.place, j.need
        FROM UNNEST($1) AS f (need)
        CROSS JOIN LATERAL (SELECT * FROM jobs AS k WHERE k.project = $3 AND k.need = f.need AND k.status = 0
                            ORDER BY k.place, k.id LIMIT $2 FOR UPDATE SKIP LOCKED) AS j
        JOIN needs AS n ON n.digest = f.need",
};

/// What stands first in the lines of all requests, by place.
async fn fronts(tx: &mut Tx, requests: &[&ClaimRequest]) -> Result<BTreeMap<(i64, JobId), Front>, sqlx::Error> {
    let mut lines: BTreeMap<Option<ProjectId>, (BTreeSet<[u8; 16]>, usize)> = BTreeMap::new();
    for request in requests {
        let (needs, most) = lines.entry(request.only).or_default();
        needs.extend(request.fits.iter().map(|need| need.0));
        *most += request.tokens.len();
    }
    let mut fronts = BTreeMap::new();
    for (only, (needs, most)) in lines {
        let mut args = vec![Arg::Ids(needs.into_iter().collect()), stored(most as u64).into()];
        let text = match only {
            None => OF_ALL,
            Some(project) => {
                args.push(project.as_bytes().into());
                OF_PROJECT
            }
        };
        for row in tx.read(text, args).await? {
            match front(&row) {
                Ok((place, front)) => drop(fronts.insert((place, front.job.id), front)),
                // It is passed over, so that it is in nobody's way.
                Err(error) => tracing::error!(%error, "a job in line makes no sense"),
            }
        }
    }
    Ok(fronts)
}

fn front(row: &Row) -> Result<(i64, Front), StoreError> {
    let cells = row.cells("jobs");
    let front = Front {
        need: NeedsKey(cells.array(16, "need")?),
        job: job_row(row)?,
    };
    Ok((cells.int(15, "place")?, front))
}

/// Takes out of `fronts` what a request gets.
fn take_first(fronts: &mut BTreeMap<(i64, JobId), Front>, request: &ClaimRequest) -> Vec<ClaimedJob> {
    let fits: BTreeSet<NeedsKey> = request.fits.iter().copied().collect();
    let fit = |front: &Front| fits.contains(&front.need) && request.only.is_none_or(|only| only == front.job.project);
    let first = fronts.iter().filter(|(_, front)| fit(front)).take(request.tokens.len());
    let places: Vec<(i64, JobId)> = first.map(|(place, _)| *place).collect();
    let jobs = places.iter().filter_map(|place| fronts.remove(place));
    jobs.zip(&request.tokens)
        .map(|(front, token)| claimed(front.job, token, request))
        .collect()
}

fn claimed(mut job: JobRow, token: &ClaimToken, request: &ClaimRequest) -> ClaimedJob {
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

async fn write(tx: &mut Tx, taken: &[(&ClaimRequest, ClaimedJob)]) -> Result<(), sqlx::Error> {
    if taken.is_empty() {
        return Ok(());
    }
    let row = |(request, claimed): &(&ClaimRequest, ClaimedJob)| {
        let mut row = JsonRow::new(256);
        row.hex(claimed.job.id.as_bytes());
        row.hex(&claimed.token.hash());
        row.hex(request.worker.as_bytes());
        row.hex(request.boot.as_bytes());
        row.int(request.lease_until.micros());
        row.end()
    };
    let rows: Vec<String> = taken.iter().map(row).collect();
    let text = over_rows!(
        "UPDATE jobs SET status = 1, claims = claims + 1, pieces = '{}', token = unhex(r.value ->> 1),
                worker = unhex(r.value ->> 2), boot = unhex(r.value ->> 3), lease_until = CAST(r.value ->> 4 AS BIGINT)",
        "WHERE jobs.id = unhex(r.value ->> 0)"
    );
    let args = args![json_rows(rows.iter().map(String::as_str))];
    tx.write(text, args).await.map(drop)
}
