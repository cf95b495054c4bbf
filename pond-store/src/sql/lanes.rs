//! Lanes: which jobs come into line, and at which place.

use std::collections::{BTreeMap, BTreeSet};

use pond_core::clock::Timestamp;
use pond_core::id::{JobId, ProjectId};
use pond_core::pool::{Lane, NewJob, reached};
use pond_core::store::StoreError;

use super::db::{Arg, Text, Tx, args, over_rows};
use super::item::{JsonRow, json_rows};

/// Projects whose lanes are to be looked at, and what is new of each.
#[derive(Debug, Default)]
pub(super) struct LaneNews(BTreeMap<ProjectId, News>);

/// What is new of a lane.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Jobs in line or claimed that leave.
    pub(super) busy_left: u32,
    /// Held jobs that leave.
    pub(super) held_left: u32,
    /// How many may be busy, when a job told it: one that ended at once has told it too.
    pub(super) most: Option<u32>,
}

impl LaneNews {
    /// That of a project, which is looked at from now on.
    pub(super) fn of(&mut self, project: ProjectId) -> &mut News {
        self.0.entry(project).or_default()
    }
}

/// A job that is not in the database yet.
#[derive(Debug)]
pub(super) struct Newcomer<'a> {
    pub(super) job: &'a NewJob,
    /// Its place, once it has come into line.
    pub(super) place: Option<i64>,
}

impl<'a> Newcomer<'a> {
    pub(super) fn new(job: &'a NewJob) -> Self {
        Self { job, place: None }
    }
}

/// A job that waits to come into line.
struct Candidate {
    id: JobId,
    need: [u8; 16],
    /// Which newcomer it is; none when it was held.
    newcomer: Option<usize>,
}

/// Jobs of a project that wait to come into line, oldest first.
type Candidates = BTreeMap<(Timestamp, u32, Option<u32>, JobId), Candidate>;

/// Takes out of the lanes what leaves, and lets held jobs and newcomers into line where there is room; whether any came.
/// Newcomers that stay without a place are held; their projects are among those of `news`.
pub(super) async fn admit(tx: &mut Tx, news: LaneNews, newcomers: &mut [Newcomer<'_>]) -> Result<bool, sqlx::Error> {
    let projects: BTreeSet<ProjectId> = news.0.keys().copied().collect();
    if projects.is_empty() {
        return Ok(false);
    }
    let mut lanes = lock(tx, &projects).await?;
    for (project, new) in &news.0 {
        let lane = lanes.entry(*project).or_default();
        (0..new.busy_left).for_each(|_| lane.drop_busy());
        (0..new.held_left).for_each(|_| lane.drop_held());
        lane.most = new.most.unwrap_or(lane.most);
    }
    let mut candidates = held(tx, &lanes).await?;
    for (place, new) in newcomers.iter().enumerate() {
        lanes.entry(new.job.project).or_default().held += 1;
        let key = (new.job.enqueued_at, new.job.stage, new.job.area, new.job.id);
        let candidate = Candidate {
            id: new.job.id,
            need: new.job.needs.key().0,
            newcomer: Some(place),
        };
        candidates.entry(new.job.project).or_default().insert(key, candidate);
    }
    let lines = lines(tx, candidates.values().flat_map(|all| all.values())).await?;
    let (mut any, mut moved) = (false, Vec::new());
    for (project, waiting) in candidates {
        let Some(lane) = lanes.get_mut(&project) else { continue };
        for candidate in waiting.into_values() {
            let at = lines.get(&candidate.need).copied().unwrap_or(0);
            let Some(place) = lane.admit(at) else { break };
            any = true;
            match candidate.newcomer {
                Some(newcomer) => newcomers[newcomer].place = Some(place),
                None => moved.push((candidate.id, place)),
            }
        }
    }
    move_in(tx, &moved).await?;
    save(tx, &lanes).await?;
    Ok(any)
}

/// The lanes of projects, locked in order; those that are not there are made.
async fn lock(tx: &mut Tx, projects: &BTreeSet<ProjectId>) -> Result<BTreeMap<ProjectId, Lane>, sqlx::Error> {
    const LANES: Text = Text {
        sqlite: "SELECT project, last, busy, held, most FROM lanes
                 WHERE project IN (SELECT unhex(value) FROM json_each($1))",
        postgres: "SELECT project, last, busy, held, most FROM lanes WHERE project = ANY($1) ORDER BY project FOR UPDATE",
    };
    let ids: Vec<[u8; 16]> = projects.iter().map(|project| *project.as_bytes()).collect();
    let lanes = read(tx, LANES, ids.clone()).await?;
    if lanes.len() == ids.len() {
        return Ok(lanes);
    }
    let row = |project: &ProjectId| {
        let mut row = JsonRow::new(48);
        row.hex(project.as_bytes());
        row.end()
    };
    let rows: Vec<String> = projects.iter().filter(|id| !lanes.contains_key(id)).map(row).collect();
    let insert = over_rows!(
        "INSERT INTO lanes (project, last, busy, held, most) SELECT unhex(r.value ->> 0), 0, 0, 0, 0",
        "WHERE 1 = 1 ON CONFLICT (project) DO NOTHING"
    );
    tx.write(insert, args![json_rows(rows.iter().map(String::as_str))])
        .await?;
    read(tx, LANES, ids).await
}

async fn read(tx: &mut Tx, text: Text, ids: Vec<[u8; 16]>) -> Result<BTreeMap<ProjectId, Lane>, sqlx::Error> {
    let rows = tx.read(text, vec![Arg::Ids(ids)]).await?;
    let lane = |row: &super::row::Row| {
        let cells = row.cells("lanes");
        let lane = Lane {
            last: cells.int(1, "last")?,
            busy: cells.count(2, "busy")?,
            held: cells.count(3, "held")?,
            most: cells.count(4, "most")?,
        };
        Ok((cells.id(0, "project")?, lane))
    };
    decoded(rows.iter().map(lane).collect())
}

fn decoded<T>(read: Result<T, StoreError>) -> Result<T, sqlx::Error> {
    read.map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// The oldest held jobs of the lanes that have room, as many as there is room for. One that another server holds locked is
/// passed over: that one looks after its lane.
async fn held(tx: &mut Tx, lanes: &BTreeMap<ProjectId, Lane>) -> Result<BTreeMap<ProjectId, Candidates>, sqlx::Error> {
    const OLDEST: Text = Text {
        sqlite: "SELECT id, project, need, enqueued_at, stage, area FROM jobs
                 WHERE project = $1 AND status = 3 ORDER BY enqueued_at, stage, area, id LIMIT $2",
        // SQLite puts a job without an area first unasked.
        postgres: "SELECT id, project, need, enqueued_at, stage, area FROM jobs
                   WHERE project = $1 AND status = 3 ORDER BY enqueued_at, stage, area NULLS FIRST, id LIMIT $2
                   FOR UPDATE SKIP LOCKED",
    };
    let mut all = BTreeMap::new();
    for (project, lane) in lanes.iter().filter(|(_, lane)| lane.held > 0 && lane.has_room()) {
        let rows = tx
            .read(OLDEST, args![project.as_bytes(), lane.most - lane.busy])
            .await?;
        let candidate = |row: &super::row::Row| {
            let cells = row.cells("jobs");
            let id = cells.id(0, "id")?;
            let area = cells
                .maybe_int(5, "area")?
                .map(|area| u32::try_from(area).map_err(|_| cells.corrupt("area")));
            let key = (
                cells.time(3, "enqueued_at")?,
                cells.count(4, "stage")?,
                area.transpose()?,
                id,
            );
            let candidate = Candidate {
                id,
                need: cells.array(2, "need")?,
                newcomer: None,
            };
            Ok((key, candidate))
        };
        let oldest: Candidates = decoded(rows.iter().map(candidate).collect())?;
        all.insert(*project, oldest);
    }
    Ok(all)
}

/// Where the lines of these needs have come to.
async fn lines(
    tx: &mut Tx,
    candidates: impl Iterator<Item = &Candidate>,
) -> Result<BTreeMap<[u8; 16], i64>, sqlx::Error> {
    // The first that no worker had before: a job that was lost stands at an old place.
    const FIRST: Text = Text {
        sqlite: "SELECT unhex(f.value), (SELECT k.place FROM jobs AS k
                                         WHERE k.need = unhex(f.value) AND k.status = 0 AND k.claims = 0
                                         ORDER BY k.place, k.id LIMIT 1)
                 FROM json_each($1) AS f",
        postgres: "SELECT f.need, (SELECT k.place FROM jobs AS k
                                   WHERE k.need = f.need AND k.status = 0 AND k.claims = 0
                                   ORDER BY k.place, k.id LIMIT 1)
                   FROM UNNEST($1) AS f (need)",
    };
    let needs: BTreeSet<[u8; 16]> = candidates.map(|candidate| candidate.need).collect();
    if needs.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows = tx.read(FIRST, vec![Arg::Ids(needs.into_iter().collect())]).await?;
    let first = |row: &super::row::Row| {
        let cells = row.cells("jobs");
        Ok((cells.array(0, "need")?, cells.maybe_int(1, "place")?))
    };
    let firsts: Vec<([u8; 16], Option<i64>)> = decoded(rows.iter().map(first).collect())?;
    let mut last_given = None;
    if firsts.iter().any(|(_, first)| first.is_none()) {
        let rows = tx.read("SELECT MAX(last) FROM lanes", args![]).await?;
        let last = rows.first().map(|row| row.cells("lanes").maybe_int(0, "last"));
        last_given = decoded(last.transpose())?.flatten();
    }
    Ok(firsts
        .into_iter()
        .map(|(need, first)| (need, reached(first, last_given)))
        .collect())
}

/// Puts held jobs into line.
async fn move_in(tx: &mut Tx, moved: &[(JobId, i64)]) -> Result<(), sqlx::Error> {
    if moved.is_empty() {
        return Ok(());
    }
    let row = |(id, place): &(JobId, i64)| {
        let mut row = JsonRow::new(64);
        row.hex(id.as_bytes());
        row.int(*place);
        row.end()
    };
    let rows: Vec<String> = moved.iter().map(row).collect();
    let text = over_rows!(
        "UPDATE jobs SET status = 0, place = CAST(r.value ->> 1 AS BIGINT)",
        "WHERE jobs.id = unhex(r.value ->> 0)"
    );
    tx.write(text, args![json_rows(rows.iter().map(String::as_str))])
        .await
        .map(drop)
}

async fn save(tx: &mut Tx, lanes: &BTreeMap<ProjectId, Lane>) -> Result<(), sqlx::Error> {
    let row = |(project, lane): (&ProjectId, &Lane)| {
        let mut row = JsonRow::new(96);
        row.hex(project.as_bytes());
        row.int(lane.last);
        row.int(lane.busy.into());
        row.int(lane.held.into());
        row.int(lane.most.into());
        row.end()
    };
    let rows: Vec<String> = lanes.iter().map(row).collect();
    let text = over_rows!(
        "UPDATE lanes SET last = CAST(r.value ->> 1 AS BIGINT), busy = CAST(r.value ->> 2 AS BIGINT),
                held = CAST(r.value ->> 3 AS BIGINT), most = CAST(r.value ->> 4 AS BIGINT)",
        "WHERE lanes.project = unhex(r.value ->> 0)"
    );
    tx.write(text, args![json_rows(rows.iter().map(String::as_str))])
        .await
        .map(drop)
}
