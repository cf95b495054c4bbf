//! The order of lines: fair between projects, first in first out within one, and no project above its limit.

use std::time::Duration;

use crate::id::{JobId, ProjectId};
use crate::pool::{ClaimRequest, JobChange, JobStatus};
use crate::runs::{Committed, NewRun};
use crate::store::{Change, SharedStore, Store};
use crate::testing::Samples;

/// A job in line, of a project that may have `limit` there.
async fn enqueue(samples: &Samples, store: &dyn Store, project: ProjectId, limit: u32) -> (NewRun, JobId) {
    samples.enqueue_within(store, project, "a", limit).await
}

async fn claim(samples: &Samples, store: &dyn Store, most: usize) -> Vec<JobId> {
    let claimed = store.claim_jobs(samples.claim("a", most)).await.unwrap();
    claimed.iter().map(|claimed| claimed.job.id).collect()
}

async fn change(samples: &Samples, store: &dyn Store, run: &NewRun, revision: i64, jobs: Vec<JobChange>) {
    let mut commit = samples.commit(run, revision);
    commit.jobs = jobs;
    let committed = store.commit_run(commit).await.unwrap();
    assert!(matches!(committed, Committed::At { .. }), "{committed:?}");
}

/// The project of each job, by its place in `projects`.
async fn whose(store: &dyn Store, jobs: &[JobId], projects: &[ProjectId]) -> Vec<usize> {
    let mut whose = Vec::new();
    for job in jobs {
        let project = store.job(*job).await.unwrap().unwrap().project;
        whose.push(projects.iter().position(|known| *known == project).unwrap());
    }
    whose
}

/// A project whose first job comes while others wait, or which comes back after a while, has it taken next.
pub async fn a_project_that_was_away_goes_next(store: SharedStore) {
    let samples = Samples::new(1);
    let (busy, away) = (samples.project, samples.id());
    let (run, first) = enqueue(&samples, &*store, away, 100).await;
    assert_eq!(claim(&samples, &*store, 1).await, [first]);
    change(&samples, &*store, &run, 2, vec![JobChange::End(first)]).await;
    for _ in 0..12 {
        enqueue(&samples, &*store, busy, 100).await;
    }
    assert_eq!(claim(&samples, &*store, 7).await.len(), 7);
    let (_, back) = enqueue(&samples, &*store, away, 100).await;
    // One of the busy project stands at the same place, and came earlier.
    assert!(claim(&samples, &*store, 2).await.contains(&back));
    let (_, again) = enqueue(&samples, &*store, away, 100).await;
    assert!(claim(&samples, &*store, 2).await.contains(&again));
}

/// One project queues 1,000 jobs and may run 20: it never has more claimed, and a single job of another project is taken by
/// the next claim.
pub async fn c17_61_another_projects_single_job_goes_next_and_limits_hold(store: SharedStore) {
    const LIMIT: u32 = 20;
    let samples = Samples::new(2);
    let (busy, other): (ProjectId, ProjectId) = (samples.project, samples.id());
    let runs: Vec<(NewRun, JobId)> = {
        let runs = (0..1000).map(|_| samples.new_run()).collect::<Vec<_>>();
        let created = runs.iter().map(|run| store.create_run(run.clone()));
        futures::future::try_join_all(created).await.unwrap();
        let jobs = runs.iter().map(|run| {
            let mut job = samples.job(run, "a");
            job.project_limit = LIMIT;
            job
        });
        let jobs: Vec<_> = jobs.collect();
        let commits = runs.iter().zip(&jobs).map(|(run, job)| {
            let mut commit = samples.commit(run, 1);
            commit.jobs = vec![JobChange::Enqueue(job.clone())];
            store.commit_run(commit)
        });
        for committed in futures::future::try_join_all(commits).await.unwrap() {
            assert!(matches!(committed, Committed::At { .. }));
        }
        runs.into_iter().zip(jobs.iter().map(|job| job.id)).collect()
    };
    assert_eq!(store.job_counts(busy).await.unwrap(), (1000, 0));
    let mut running = claim(&samples, &*store, 8).await;
    assert_eq!(running.len(), 8);

    let (_, single) = enqueue(&samples, &*store, other, LIMIT).await;
    // Next, but for the busy project's own job of the same turn.
    let next = claim(&samples, &*store, 2).await;
    assert!(next.contains(&single), "{next:?}");
    running.extend(next.into_iter().filter(|job| *job != single));

    running.extend(claim(&samples, &*store, 100).await);
    assert_eq!(running.len(), LIMIT as usize);
    assert_eq!(store.job_counts(busy).await.unwrap(), (980, 20));
    assert_eq!(claim(&samples, &*store, 100).await, []);
    let mut done = 0;
    while let Some(job) = running.pop() {
        let (run, _) = runs.iter().find(|(_, of)| *of == job).unwrap();
        change(&samples, &*store, run, 2, vec![JobChange::End(job)]).await;
        done += 1;
        if done <= 60 {
            let next = claim(&samples, &*store, 100).await;
            assert_eq!(next.len(), 1, "one came into line for the one that ended");
            running.extend(next);
        }
        let (_, claimed) = store.job_counts(busy).await.unwrap();
        assert!(claimed <= u64::from(LIMIT), "{claimed}");
    }
    assert_eq!(done, 80);
    assert_eq!(store.job_counts(busy).await.unwrap(), (920, 0));
}

/// Of three projects with much in line each gets its turn, whatever the size of its heap.
pub async fn projects_take_turns_job_by_job(store: SharedStore) {
    let samples = Samples::new(3);
    let projects: [ProjectId; 3] = [samples.project, samples.id(), samples.id()];
    let mut firsts = vec![Vec::new(); 3];
    for (project, jobs) in [(0, 9), (1, 5), (2, 7)] {
        for _ in 0..jobs {
            firsts[project].push(enqueue(&samples, &*store, projects[project], 100).await.1);
        }
    }
    let order = claim(&samples, &*store, 100).await;
    let order = whose(&*store, &order, &projects).await;
    for turn in order[..15].chunks(3) {
        let mut turn = turn.to_vec();
        turn.sort_unstable();
        assert_eq!(turn, [0, 1, 2]);
    }
    let mut rest = order[15..].to_vec();
    assert_eq!(rest.split_off(4), [0, 0]);
    rest.sort_unstable();
    assert_eq!(rest, [0, 0, 2, 2]);
}

/// What is above the limit waits outside the line; the oldest comes in when a job in line or a claimed one ends.
pub async fn held_jobs_come_into_line_oldest_first_when_one_ends(store: SharedStore) {
    let samples = Samples::new(4);
    let mut jobs = Vec::new();
    for _ in 0..6 {
        jobs.push(enqueue(&samples, &*store, samples.project, 2).await);
    }
    assert_eq!(store.job_counts(samples.project).await.unwrap(), (6, 0));
    for (_, job) in &jobs {
        assert_eq!(
            store.job(*job).await.unwrap().unwrap().phase.status(),
            JobStatus::Waiting
        );
    }
    let id = |place: usize| jobs[place].1;
    assert_eq!(claim(&samples, &*store, 10).await, [id(0), id(1)]);
    assert_eq!(claim(&samples, &*store, 10).await, []);
    // One that is held ends: it makes no room, and never comes into line.
    change(&samples, &*store, &jobs[2].0, 2, vec![JobChange::End(id(2))]).await;
    assert_eq!(claim(&samples, &*store, 10).await, []);
    change(&samples, &*store, &jobs[0].0, 2, vec![JobChange::End(id(0))]).await;
    // The third was next, and one in line ends.
    change(&samples, &*store, &jobs[3].0, 2, vec![JobChange::End(id(3))]).await;
    assert_eq!(claim(&samples, &*store, 10).await, [id(4)]);
    assert_eq!(store.job_counts(samples.project).await.unwrap(), (1, 2));
    change(&samples, &*store, &jobs[1].0, 2, vec![JobChange::End(id(1))]).await;
    assert_eq!(claim(&samples, &*store, 10).await, [id(5)]);
    assert_eq!(store.job_counts(samples.project).await.unwrap(), (0, 2));

    // The areas of a stage come in order, and those of one commit are counted as they come.
    let run = NewRun {
        project: samples.id(),
        ..samples.new_run()
    };
    store.create_run(run.clone()).await.unwrap();
    let at = samples.now();
    let mut areas: Vec<_> = (0..4).map(|_| samples.job(&run, "a")).collect();
    for (job, area) in areas.iter_mut().zip([3, 1, 0, 2]) {
        (job.area, job.enqueued_at, job.project_limit) = (Some(area), at, 3);
    }
    let enqueue = areas.iter().cloned().map(JobChange::Enqueue).collect();
    change(&samples, &*store, &run, 1, enqueue).await;
    assert_eq!(
        claim(&samples, &*store, 10).await,
        [areas[2].id, areas[1].id, areas[3].id]
    );
    change(&samples, &*store, &run, 2, vec![JobChange::End(areas[1].id)]).await;
    assert_eq!(claim(&samples, &*store, 10).await, [areas[0].id]);
}

/// A job that its worker lost goes first again, holds on to its room, and whoever comes meanwhile gets no earlier for it.
pub async fn a_lost_job_keeps_its_place_and_lets_nobody_jump_the_line(store: SharedStore) {
    let samples = Samples::new(5);
    let (busy, other): (ProjectId, ProjectId) = (samples.project, samples.id());
    let mut jobs = Vec::new();
    for _ in 0..12 {
        jobs.push(enqueue(&samples, &*store, busy, 100).await);
    }
    assert_eq!(claim(&samples, &*store, 6).await.len(), 6);
    change(&samples, &*store, &jobs[0].0, 2, vec![JobChange::Release(jobs[0].1)]).await;
    let mut late = Vec::new();
    for _ in 0..4 {
        late.push(enqueue(&samples, &*store, other, 100).await.1);
    }
    let order = claim(&samples, &*store, 9).await;
    assert_eq!(order[0], jobs[0].1);
    for (turn, pair) in order[1..].chunks(2).enumerate() {
        assert!(pair.contains(&late[turn]) && pair.contains(&jobs[6 + turn].1), "{turn}");
    }

    let samples = Samples::new(6);
    let (run, lost) = enqueue(&samples, &*store, samples.project, 1).await;
    let (_, held) = enqueue(&samples, &*store, samples.project, 1).await;
    claim(&samples, &*store, 100).await;
    change(&samples, &*store, &run, 2, vec![JobChange::Release(lost)]).await;
    assert_eq!(claim(&samples, &*store, 10).await, [lost]);
    change(&samples, &*store, &run, 3, vec![JobChange::End(lost)]).await;
    assert_eq!(claim(&samples, &*store, 10).await, [held]);
}

/// A limit that came with a job holds for its project from then on, up or down.
pub async fn a_limit_counts_from_the_next_job_on(store: SharedStore) {
    let samples = Samples::new(7);
    let mut jobs = Vec::new();
    for limit in [1, 1, 1, 3] {
        jobs.push(enqueue(&samples, &*store, samples.project, limit).await);
    }
    let id = |place: usize| jobs[place].1;
    assert_eq!(claim(&samples, &*store, 10).await, [id(0), id(1), id(2)]);
    enqueue(&samples, &*store, samples.project, 2).await;
    for (run, job) in &jobs[..2] {
        change(&samples, &*store, run, 2, vec![JobChange::End(*job)]).await;
    }
    assert_eq!(claim(&samples, &*store, 10).await, [id(3)]);
    assert_eq!(store.job_counts(samples.project).await.unwrap(), (1, 2));
}

/// A job that comes and ends within one commit never comes into line, but what it told of its project's limit holds: one that
/// waited for room has it. What was reported of it reads back.
pub async fn a_job_that_ends_as_it_comes_tells_its_limit_and_keeps_its_report(store: SharedStore) {
    let samples = Samples::new(10);
    let (run, waits) = enqueue(&samples, &*store, samples.project, 0).await;
    assert_eq!(*store.waiting_needs().await.unwrap(), [], "there is no room");
    let mut brief = samples.job(&run, "b");
    brief.project_limit = 1;
    let changes = vec![
        JobChange::Enqueue(brief.clone()),
        JobChange::End(brief.id),
        JobChange::Reported(brief.id, "first".into()),
        JobChange::Reported(brief.id, "last".into()),
    ];
    change(&samples, &*store, &run, 2, changes).await;
    assert_eq!(*store.waiting_needs().await.unwrap(), [samples.needs("a")]);
    assert_eq!(store.job_counts(samples.project).await.unwrap(), (1, 0));
    let row = store.job(brief.id).await.unwrap().unwrap();
    assert_eq!(
        (row.phase.status(), row.dispatch.as_deref()),
        (JobStatus::Ended, Some("last"))
    );
    assert_eq!(claim(&samples, &*store, 10).await, [waits]);
}

/// Held jobs that came at one moment come into line by stage, and within a stage the one without an area before the areas.
pub async fn held_jobs_of_one_moment_come_by_stage_and_area(store: SharedStore) {
    let samples = Samples::new(11);
    let run = samples.new_run();
    store.create_run(run.clone()).await.unwrap();
    let at = samples.now();
    let mut jobs = Vec::new();
    for (stage, area) in [(1, None), (0, Some(1)), (0, Some(0)), (0, None)] {
        let mut job = samples.job(&run, "a");
        (job.stage, job.area, job.enqueued_at, job.project_limit) = (stage, area, at, 0);
        jobs.push(job);
    }
    let ids: Vec<JobId> = jobs.iter().rev().map(|job| job.id).collect();
    change(
        &samples,
        &*store,
        &run,
        1,
        jobs.into_iter().map(JobChange::Enqueue).collect(),
    )
    .await;
    for (revision, id) in (2..).step_by(2).zip(ids) {
        let mut room = samples.job(&run, "b");
        room.project_limit = 1;
        let room = vec![JobChange::Enqueue(room.clone()), JobChange::End(room.id)];
        change(&samples, &*store, &run, revision, room).await;
        assert_eq!(claim(&samples, &*store, 10).await, [id]);
        let mut full = samples.job(&run, "b");
        full.project_limit = 0;
        let full = vec![
            JobChange::End(id),
            JobChange::Enqueue(full.clone()),
            JobChange::End(full.id),
        ];
        change(&samples, &*store, &run, revision + 1, full).await;
    }
    assert_eq!(store.job_counts(samples.project).await.unwrap(), (0, 0));
}

/// A worker that is one project's own takes the first of that one's jobs, however many others stand before it.
pub async fn a_worker_of_one_project_takes_its_jobs_alone(store: SharedStore) {
    let samples = Samples::new(8);
    let (own, other): (ProjectId, ProjectId) = (samples.project, samples.id());
    for _ in 0..20 {
        enqueue(&samples, &*store, other, 100).await;
    }
    let mut jobs = Vec::new();
    for _ in 0..3 {
        jobs.push(enqueue(&samples, &*store, own, 100).await.1);
    }
    let only = |most, project| ClaimRequest {
        only: Some(project),
        ..samples.claim("a", most)
    };
    let ids = async |request: ClaimRequest| -> Vec<JobId> {
        let claimed = store.claim_jobs(request).await.unwrap();
        claimed.iter().map(|claimed| claimed.job.id).collect()
    };
    assert_eq!(ids(only(2, own)).await, jobs[..2]);
    assert_eq!(ids(only(2, samples.id())).await, []);
    let unfit = ClaimRequest {
        fits: vec![samples.needs("b").key()],
        ..only(2, own)
    };
    assert_eq!(ids(unfit).await, []);
    // Both kinds at once: no job goes to two.
    let requests = [only(5, own), samples.claim("a", 30), only(5, own), only(3, other)];
    let claimed = futures::future::join_all(requests.map(|request| store.claim_jobs(request))).await;
    let mut all = Vec::new();
    for (place, claimed) in claimed.into_iter().enumerate() {
        for claimed in claimed.unwrap() {
            assert!(place % 2 == 1 || claimed.job.project == own);
            all.push(claimed.job.id);
        }
    }
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count);
    assert_eq!(count + claim(&samples, &*store, 30).await.len(), 21);
}

/// Watchers hear of work when a job comes into line, be it because another one ended, and not otherwise.
pub async fn jobs_that_come_into_line_are_told(store: SharedStore) {
    let samples = Samples::new(9);
    let mut changes = store.changes();
    let mut told = move || {
        let all = std::iter::from_fn(|| changes.try_recv().ok());
        all.filter(|change| *change == Change::Work).count()
    };
    let (first, one) = enqueue(&samples, &*store, samples.project, 1).await;
    assert_eq!(told(), 1, "in line");
    let (second, two) = enqueue(&samples, &*store, samples.project, 1).await;
    assert_eq!(told(), 0, "held");
    assert_eq!(claim(&samples, &*store, 1).await, [one]);
    change(&samples, &*store, &first, 2, vec![JobChange::Release(one)]).await;
    assert_eq!(told(), 1, "back in line");
    samples.clock.advance(Duration::from_secs(1));
    change(&samples, &*store, &first, 3, vec![JobChange::End(one)]).await;
    assert_eq!(told(), 1, "the next one");
    change(&samples, &*store, &second, 2, vec![JobChange::End(two)]).await;
    assert_eq!(told(), 0, "nobody is left");
}
