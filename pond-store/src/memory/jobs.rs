//! Jobs in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use pond_core::clock::Timestamp;
use pond_core::id::{BootId, JobId, ProjectId, RunId, WorkerId};
use pond_core::pool::{
    ClaimRequest, ClaimedJob, JobChange, JobEvent, JobPhase, JobRow, JobStatus, Needs, NewJob, Renewal, Renewed,
    reached,
};
use pond_core::runs::Guard;
use pond_core::store::StoreError;
use uuid::Uuid;

use super::{Memory, State};
use crate::fact::{Claimed, JobReads};

/// A job with what only the store knows of it.
#[derive(Debug)]
pub(super) struct Job {
    row: JobRow,
    /// Its place in line; none while it is held.
    place: Option<i64>,
    /// Next piece of each stream of the live claim.
    pieces: BTreeMap<String, u64>,
    /// Ids told under the live claim.
    told: BTreeSet<Uuid>,
}

/// Where a job stands among those of its project that are held: by time, then stage and area.
pub(super) type HeldPlace = (Timestamp, u32, Option<u32>, JobId);

fn held_place(row: &JobRow) -> HeldPlace {
    (row.enqueued_at, row.stage, row.area, row.id)
}

/// What a piece of a stream is to those written before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    Next,
    Known,
    Gap { expected: u64 },
    NoClaim,
}

impl State {
    /// Whether the claim that a write of `run` depends on is live.
    pub(super) fn holds(&self, run: RunId, guard: Option<&Guard>) -> bool {
        let Some(guard) = guard else { return true };
        let Some(job) = self.jobs.get(&guard.job) else {
            return false;
        };
        match &job.row.phase {
            JobPhase::Claimed { token, lease_until, .. } => {
                job.row.run == run && *token == guard.token && guard.now.is_none_or(|now| *lease_until > now)
            }
            JobPhase::Waiting { .. } | JobPhase::Ended { .. } => false,
        }
    }

    /// Takes note of a piece if it is the next one of its stream.
    pub(super) fn take_piece(&mut self, guard: Option<&Guard>, stream: String, number: u64) -> Piece {
        let Some(job) = guard.and_then(|guard| self.jobs.get_mut(&guard.job)) else {
            return Piece::NoClaim;
        };
        let next = job.pieces.entry(stream).or_default();
        if number < *next {
            return Piece::Known;
        }
        if number > *next {
            return Piece::Gap { expected: *next };
        }
        *next += 1;
        Piece::Next
    }

    /// Makes changes that the jobs' states allow, others have no effect; then lets held jobs into line where there is room.
    /// Whether any came into line.
    pub(super) fn change_jobs(&mut self, changes: Vec<JobChange>) -> bool {
        let mut lanes = BTreeSet::new();
        let mut in_line = false;
        for change in changes {
            match change {
                JobChange::Enqueue(new) => lanes.extend(self.hold(new)),
                JobChange::Release(id) => in_line |= self.step(id, JobEvent::Release),
                JobChange::End(id) => {
                    if self.step(id, JobEvent::End) {
                        lanes.extend(self.jobs.get(&id).map(|job| job.row.project));
                    }
                }
                JobChange::Cancel(id) => {
                    if let Some(job) = self.jobs.get_mut(&id) {
                        job.row.cancelled |= job.row.phase.status() == JobStatus::Claimed;
                    }
                }
                JobChange::Reported(id, record) => {
                    let job = self.jobs.get_mut(&id);
                    if let Some(job) = job.filter(|job| job.row.phase.status() == JobStatus::Ended) {
                        job.row.dispatch = Some(record);
                    }
                }
                JobChange::Dispatch(id, record) => {
                    let job = self.jobs.get_mut(&id);
                    if let Some(job) = job.filter(|job| job.row.phase.status() == JobStatus::Claimed) {
                        job.row.dispatch = Some(record);
                    }
                }
            }
        }
        self.admit(lanes) || in_line
    }

    /// Adds a job that is held, and gives its project; none when the job is there already.
    fn hold(&mut self, new: NewJob) -> Option<ProjectId> {
        if self.jobs.contains_key(&new.id) {
            return None;
        }
        let row = JobRow {
            id: new.id,
            run: new.run,
            project: new.project,
            stage: new.stage,
            area: new.area,
            needs: new.needs,
            enqueued_at: new.enqueued_at,
            phase: JobPhase::Waiting { claims: 0 },
            cancelled: false,
            dispatch: None,
        };
        let lane = self.lanes.entry(new.project).or_default();
        lane.most = new.project_limit;
        lane.held += 1;
        self.held.entry(new.project).or_default().insert(held_place(&row));
        let job = Job {
            row,
            place: None,
            pieces: BTreeMap::new(),
            told: BTreeSet::new(),
        };
        self.jobs.insert(new.id, job);
        Some(new.project)
    }

    /// Lets held jobs of these projects into line, oldest first; whether any came.
    fn admit(&mut self, projects: BTreeSet<ProjectId>) -> bool {
        let last_given = self.lanes.values().map(|lane| lane.last).max();
        let mut lines = BTreeMap::new();
        let mut any = false;
        for project in projects {
            let (Some(held), Some(lane)) = (self.held.get_mut(&project), self.lanes.get_mut(&project)) else {
                continue;
            };
            while let Some(oldest) = held.first().copied() {
                let Some(job) = self.jobs.get(&oldest.3) else { break };
                let key = job.row.needs.key();
                let line = self.waiting.entry(key).or_default();
                let jobs = &self.jobs;
                let at = *lines
                    .entry(key)
                    .or_insert_with(|| reached(first_fresh(line, jobs), last_given));
                let Some(place) = lane.admit(at) else { break };
                line.insert((place, oldest.3));
                if let Some(job) = self.jobs.get_mut(&oldest.3) {
                    job.place = Some(place);
                }
                held.pop_first();
                any = true;
            }
        }
        any
    }

    /// Takes a job over a transition, and in or out of the line; whether it could.
    fn step(&mut self, id: JobId, event: JobEvent) -> bool {
        let Some(job) = self.jobs.get_mut(&id) else {
            return false;
        };
        let Ok(next) = job.row.phase.next(event) else {
            return false;
        };
        let line = self.waiting.entry(job.row.needs.key()).or_default();
        if let Some(place) = job.place {
            line.remove(&(place, id));
            if next.status() == JobStatus::Waiting {
                line.insert((place, id));
            }
        }
        if next.status() == JobStatus::Ended {
            self.ended.insert((job.row.run, id));
            let lane = self.lanes.entry(job.row.project).or_default();
            if job.place.is_some() {
                lane.drop_busy();
            } else {
                lane.drop_held();
                self.held
                    .entry(job.row.project)
                    .or_default()
                    .remove(&held_place(&job.row));
            }
        }
        if next.status() != JobStatus::Claimed {
            // Mark and record were of the claim.
            job.row.cancelled = false;
            job.row.dispatch = None;
            job.told.clear();
        }
        let ended = (next.status() != JobStatus::Claimed).then_some(job.row.run);
        if job.row.phase.status() == JobStatus::Waiting && next.status() == JobStatus::Claimed {
            job.pieces.clear();
        }
        job.row.phase = next;
        if let Some(run) = ended {
            self.give_back(run, id);
        }
        true
    }

    /// Which of these ids were told before under the live claim; none when there is no claim.
    pub(super) fn told(&self, guard: Option<&Guard>, ids: &[Uuid]) -> Option<Vec<Uuid>> {
        let job = self.jobs.get(&guard?.job)?;
        Some(ids.iter().filter(|id| job.told.contains(id)).copied().collect())
    }

    /// Takes note of ids that were told.
    pub(super) fn note_told(&mut self, guard: Option<&Guard>, ids: Vec<Uuid>) {
        if let Some(job) = guard.and_then(|guard| self.jobs.get_mut(&guard.job)) {
            job.told.extend(ids);
        }
    }

    /// Forgets up to `limit` ended jobs of a run, and says how many.
    pub(super) fn forget_jobs(&mut self, run: RunId, limit: usize) -> usize {
        let (first, last) = (JobId::from(Uuid::nil()), JobId::from(Uuid::max()));
        let gone = self.ended.range((run, first)..=(run, last)).take(limit);
        let gone: Vec<(RunId, JobId)> = gone.copied().collect();
        for ended in &gone {
            self.ended.remove(ended);
            self.jobs.remove(&ended.1);
        }
        gone.len()
    }

    pub(super) fn claim(&mut self, request: &ClaimRequest) -> Claimed {
        let served = |id: &JobId| {
            let project = self.jobs.get(id).map(|job| job.row.project);
            request.only.is_none() || request.only == project
        };
        let lines = request.fits.iter().filter_map(|key| self.waiting.get(key));
        let most = request.tokens.len();
        let fronts = lines.flat_map(|line| line.iter().filter(|(_, id)| served(id)).take(most));
        let places: BTreeSet<(i64, JobId)> = fronts.copied().collect();
        let mut jobs = Vec::new();
        for ((_, id), token) in places.into_iter().zip(&request.tokens) {
            self.step(
                id,
                JobEvent::Claim {
                    token: token.hash(),
                    worker: request.worker,
                    boot: request.boot,
                    lease_until: request.lease_until,
                },
            );
            if let Some(job) = self.jobs.get(&id) {
                jobs.push(ClaimedJob {
                    job: job.row.clone(),
                    token: token.clone(),
                });
            }
        }
        // Nobody else looks while the lock is held.
        Claimed {
            jobs,
            passed_over: false,
        }
    }

    pub(super) fn renew(&mut self, renewal: &Renewal) -> Renewed {
        let Some(job) = self.jobs.get_mut(&renewal.job) else {
            return Renewed::Unknown;
        };
        match &mut job.row.phase {
            JobPhase::Claimed { token, lease_until, .. } if *token == renewal.token && *lease_until > renewal.now => {
                *lease_until = renewal.lease_until;
                Renewed::Until {
                    lease_until: renewal.lease_until,
                    cancel: job.row.cancelled,
                }
            }
            _ => Renewed::Stale,
        }
    }

    fn claimed_rows(&self, wanted: impl Fn(&JobRow, WorkerId, BootId, Timestamp) -> bool) -> Vec<(Timestamp, JobRow)> {
        let held = self.jobs.values().filter_map(|job| match &job.row.phase {
            JobPhase::Claimed {
                worker,
                boot,
                lease_until,
                ..
            } => wanted(&job.row, *worker, *boot, *lease_until).then(|| (*lease_until, job.row.clone())),
            _ => None,
        });
        held.collect()
    }
}

/// The place of the first job of a line that no worker had before.
fn first_fresh(line: &BTreeSet<(i64, JobId)>, jobs: &HashMap<JobId, Job>) -> Option<i64> {
    let fresh = |id: &JobId| jobs.get(id).is_some_and(|job| job.row.phase.claims() == 0);
    line.iter().find(|(_, id)| fresh(id)).map(|(place, _)| *place)
}

#[async_trait]
impl JobReads for Memory {
    async fn job(&self, id: JobId) -> Result<Option<JobRow>, StoreError> {
        Ok(self.state()?.jobs.get(&id).map(|job| job.row.clone()))
    }

    async fn expired_jobs(&self, now: Timestamp, limit: u32) -> Result<Vec<JobRow>, StoreError> {
        let mut expired = self.state()?.claimed_rows(|_, _, _, lease_until| lease_until <= now);
        expired.sort_by_key(|(lease_until, row)| (*lease_until, row.id));
        expired.truncate(limit as usize);
        Ok(expired.into_iter().map(|(_, row)| row).collect())
    }

    async fn jobs_of_worker(&self, worker: WorkerId, but: Option<BootId>) -> Result<Vec<JobRow>, StoreError> {
        let mut held = self
            .state()?
            .claimed_rows(|_, holder, life, _| holder == worker && Some(life) != but);
        held.sort_by_key(|(_, row)| row.id);
        Ok(held.into_iter().map(|(_, row)| row).collect())
    }

    async fn waiting_needs(&self) -> Result<Arc<[Needs]>, StoreError> {
        let state = self.state()?;
        let fronts = state.waiting.values().filter_map(|line| line.first());
        Ok(fronts
            .filter_map(|(_, id)| state.jobs.get(id).map(|job| job.row.needs.clone()))
            .collect())
    }

    async fn job_counts(&self, project: ProjectId) -> Result<(u64, u64), StoreError> {
        let state = self.state()?;
        let mut counts = (0, 0);
        for job in state.jobs.values().filter(|job| job.row.project == project) {
            match job.row.phase.status() {
                JobStatus::Waiting => counts.0 += 1,
                JobStatus::Claimed => counts.1 += 1,
                JobStatus::Ended => {}
            }
        }
        Ok(counts)
    }
}
