//! Random operations on the store in memory, as the model, and on both databases: the same answers, and the same records
//! afterwards, whatever is read.

use std::collections::BTreeSet;
use std::time::Duration;

use pond_core::clock::{Clock, Timestamp};
use pond_core::config::{ConfigChange, ConfigRevision, Entry, EntryKind, Owner};
use pond_core::id::{BootId, EngineId, JobId, ProjectId, RunId, WorkerId};
use pond_core::page::PageRequest;
use pond_core::pool::{ClaimRequest, ClaimToken, ClaimedJob, JobChange, Needs, Renewal};
use pond_core::projects::Project;
use pond_core::runs::{Append, Commit, Guard, Inputs, NewRun, RunFilter, RunStatus};
use pond_core::scope::Scope;
use pond_core::sealing::WrappedKey;
use pond_core::store::{SharedStore, Store, StoreError};
use pond_core::testing::Samples;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::Config;

use crate::conformance::{in_file, in_postgres};

/// What is done, in terms of what is there by then.
#[derive(Debug, Clone)]
enum Op {
    Create {
        second: bool,
        owner: Index,
        lines: usize,
        again: bool,
    },
    Commit {
        run: Index,
        stale: bool,
        finish: bool,
        claim: Claimed,
        jobs: Vec<(u8, Index)>,
        parts: u8,
    },
    Append {
        run: Index,
        lines: usize,
        claim: Claimed,
        piece: Option<(u8, u64)>,
        parts: u8,
    },
    Claim {
        worker: Index,
        tags: u8,
        only: Option<bool>,
        most: usize,
        short: bool,
    },
    Renew {
        job: Index,
        wrong: bool,
    },
    Beat {
        engine: Index,
        retire: bool,
    },
    Adopt {
        heir: Index,
        limit: u32,
    },
    Config {
        name: u8,
        second: bool,
        stale: bool,
        delete: bool,
    },
    Project {
        slug: u8,
        delete: bool,
    },
    Key {
        version: u32,
    },
    Wait {
        seconds: u64,
    },
}

/// The claim that a write depends on.
#[derive(Debug, Clone, Copy)]
enum Claimed {
    None,
    Known(u8),
    Wrong,
    TakenBack,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let index = any::<Index>;
    let claim = prop_oneof![
        4 => Just(Claimed::None),
        4 => any::<u8>().prop_map(Claimed::Known),
        1 => Just(Claimed::Wrong),
        1 => Just(Claimed::TakenBack),
    ];
    let jobs = prop::collection::vec((any::<u8>(), index()), 0..3);
    let op = prop_oneof![
        4 => (any::<bool>(), index(), 0..3usize, prop::bool::weighted(0.1))
            .prop_map(|(second, owner, lines, again)| Op::Create { second, owner, lines, again }),
        10 => (index(), prop::bool::weighted(0.1), prop::bool::weighted(0.2), claim.clone(), jobs, any::<u8>())
            .prop_map(|(run, stale, finish, claim, jobs, parts)| Op::Commit { run, stale, finish, claim, jobs, parts }),
        6 => (index(), 0..4usize, claim, prop::option::of((0..2u8, 0..4u64)), any::<u8>())
            .prop_map(|(run, lines, claim, piece, parts)| Op::Append { run, lines, claim, piece, parts }),
        5 => (index(), 0..8u8, prop::option::weighted(0.3, any::<bool>()), 0..4usize, any::<bool>())
            .prop_map(|(worker, tags, only, most, short)| Op::Claim { worker, tags, only, most, short }),
        3 => (index(), prop::bool::weighted(0.2)).prop_map(|(job, wrong)| Op::Renew { job, wrong }),
        2 => (index(), any::<bool>()).prop_map(|(engine, retire)| Op::Beat { engine, retire }),
        2 => (index(), 0..5u32).prop_map(|(heir, limit)| Op::Adopt { heir, limit }),
        2 => (0..3u8, any::<bool>(), prop::bool::weighted(0.2), prop::bool::weighted(0.3))
            .prop_map(|(name, second, stale, delete)| Op::Config { name, second, stale, delete }),
        2 => (0..3u8, prop::bool::weighted(0.3)).prop_map(|(slug, delete)| Op::Project { slug, delete }),
        1 => (0..3u32).prop_map(|version| Op::Key { version }),
        2 => (0..40u64).prop_map(|seconds| Op::Wait { seconds }),
    ];
    prop::collection::vec(op, 1..48)
}

/// A call with all its values, to be made on each store.
enum Call {
    Create(Box<NewRun>),
    Commit(Box<Commit>),
    Append(Box<Append>),
    Claim(ClaimRequest),
    Renew(Renewal),
    Beat(EngineId, Timestamp),
    Retire(EngineId),
    Adopt(EngineId, Timestamp, u32),
    Config(ConfigRevision, ConfigChange),
    CreateProject(Project),
    DeleteProject(ProjectId),
    Key(WrappedKey),
}

/// The answer as text; of an error its kind alone.
fn text<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> String {
    match answer {
        Ok(answer) => format!("{answer:?}"),
        Err(StoreError::Corrupt { table, column, .. }) => format!("corrupt {table}.{column}"),
        Err(error) => panic!("the store answers: {error:?}"),
    }
}

impl Call {
    /// Makes the call, and gives the jobs it claimed.
    async fn make(&self, store: &dyn Store) -> (String, Vec<ClaimedJob>) {
        let answer = match self {
            Self::Create(run) => text(store.create_run((**run).clone()).await),
            Self::Commit(commit) => text(store.commit_run((**commit).clone()).await),
            Self::Append(append) => text(store.append_events((**append).clone()).await),
            Self::Claim(request) => {
                let jobs = store.claim_jobs(request.clone()).await;
                let tokens: Vec<String> = jobs.iter().flatten().map(|job| job.token.expose().into()).collect();
                return (format!("{jobs:?} {tokens:?}"), jobs.unwrap());
            }
            Self::Renew(renewal) => text(store.renew_lease(renewal.clone()).await),
            Self::Beat(engine, until) => text(store.beat(*engine, *until).await),
            Self::Retire(engine) => text(store.retire(*engine).await),
            Self::Adopt(heir, now, limit) => text(store.adopt_runs(*heir, *now, *limit).await),
            Self::Config(expected, change) => text(store.commit_config(*expected, change.clone()).await),
            Self::CreateProject(project) => text(store.create_project(project.clone()).await),
            Self::DeleteProject(project) => text(store.delete_project(*project).await),
            Self::Key(key) => text(store.add_wrapped_key(key.clone()).await),
        };
        (answer, Vec::new())
    }
}

/// What has been done so far, as far as it takes to think of something sensible to do next.
struct World {
    samples: Samples,
    projects: Vec<ProjectId>,
    engines: Vec<EngineId>,
    workers: Vec<(WorkerId, BootId)>,
    runs: Vec<NewRun>,
    jobs: Vec<(JobId, RunId)>,
    claims: Vec<(JobId, ClaimToken)>,
    slugs: Vec<Project>,
}

const TAGS: [&str; 3] = ["a", "b", "c"];

impl World {
    fn new() -> Self {
        let samples = Samples::new(1);
        let slugs = ["a", "b", "c"].map(|slug| samples.project(slug)).to_vec();
        let worker: WorkerId = samples.id();
        Self {
            projects: vec![slugs[0].id, slugs[1].id],
            engines: (0..3).map(|_| samples.id()).collect(),
            // Two lives of one worker, and another worker.
            workers: vec![
                (worker, samples.id()),
                (worker, samples.id()),
                (samples.id(), samples.id()),
            ],
            runs: Vec::new(),
            jobs: Vec::new(),
            claims: Vec::new(),
            slugs,
            samples,
        }
    }

    fn guard(&self, claim: Claimed) -> Option<Guard> {
        let place = match claim {
            Claimed::None => return None,
            Claimed::Known(place) => usize::from(place),
            Claimed::Wrong | Claimed::TakenBack => 0,
        };
        let count = self.claims.len();
        let (job, token) = self.claims.get(count.checked_sub(1 + place % count.max(1))?)?;
        Some(Guard {
            job: *job,
            token: if matches!(claim, Claimed::Wrong) {
                [9; 32]
            } else {
                token.hash()
            },
            now: (!matches!(claim, Claimed::TakenBack)).then(|| self.samples.clock.now()),
        })
    }

    /// The run of the guarded job more often than not, else any.
    fn run(&self, any: Index, guard: Option<&Guard>) -> Option<NewRun> {
        let of_job = guard.and_then(|guard| self.jobs.iter().find(|(job, _)| *job == guard.job));
        let guarded = of_job.and_then(|(_, run)| self.runs.iter().find(|known| known.id == *run));
        match guarded {
            Some(run) if any.index(4) > 0 => Some(run.clone()),
            _ if self.runs.is_empty() => None,
            _ => Some(any.get(&self.runs).clone()),
        }
    }

    fn lines(&self, count: usize) -> Vec<pond_core::event::Event> {
        (0..count)
            .map(|line| self.samples.line(&format!("line\0{line}")))
            .collect()
    }

    /// The call that an operation comes to by now; `model` is asked for revisions alone.
    async fn call(&mut self, op: &Op, model: &dyn Store) -> Option<Call> {
        Some(match op {
            Op::Create {
                second,
                owner,
                lines,
                again,
            } => {
                let mut run = self.samples.new_run();
                if let (true, Some(known)) = (*again, self.runs.last()) {
                    run.id = known.id;
                } else {
                    self.runs.push(run.clone());
                }
                run.project = self.projects[usize::from(*second)];
                run.owner = *owner.get(&self.engines);
                run.events = self.lines(*lines);
                if *second {
                    run.inputs = Inputs {
                        sha: Some("abc".into()),
                        ..Inputs::default()
                    }
                    .into();
                    run.trigger = "cron".into();
                }
                if let Some(kept) = self.runs.iter_mut().find(|kept| kept.id == run.id && !again) {
                    kept.clone_from(&run);
                }
                Call::Create(Box::new(run))
            }
            Op::Commit {
                run,
                stale,
                finish,
                claim,
                jobs,
                parts,
            } => {
                let guard = self.guard(*claim);
                let run = self.run(*run, guard.as_ref())?;
                let head = model.run(Scope::Org, run.id).await.unwrap()?.head;
                let mut commit = Commit {
                    owner: head.owner,
                    state: head.state.clone(),
                    ..self.samples.commit(&run, head.revision)
                };
                if *finish && head.state == run.state {
                    let finished = self.samples.finish(&run);
                    (commit.state, commit.events) = (finished.state, finished.events);
                }
                commit.expected_revision -= i64::from(*stale);
                commit.log_bytes = u64::from(*parts);
                commit.guard = guard;
                commit.jobs = jobs
                    .iter()
                    .filter_map(|(kind, any)| self.job_change(&run, *kind, *any))
                    .collect();
                (commit.artifacts, commit.usage) = self.parts(*parts);
                Call::Commit(Box::new(commit))
            }
            Op::Append {
                run,
                lines,
                claim,
                piece,
                parts,
            } => {
                let guard = self.guard(*claim);
                let run = self.run(*run, guard.as_ref())?;
                let mut append = self.samples.append(run.id, &[]);
                append.events = self.lines(*lines);
                append.log_bytes = *lines as u64;
                append.guard = guard;
                append.piece = piece.map(|(stream, number)| (format!("stream {stream}"), number));
                (append.artifacts, append.usage) = self.parts(*parts);
                Call::Append(Box::new(append))
            }
            Op::Claim {
                worker,
                tags,
                only,
                most,
                short,
            } => {
                let (worker, boot) = *worker.get(&self.workers);
                let fits = (0..3)
                    .filter(|tag| tags & (1 << tag) != 0)
                    .map(|tag| self.samples.needs(TAGS[tag]).key());
                let lease = Duration::from_secs(if *short { 10 } else { 60 });
                Call::Claim(ClaimRequest {
                    worker,
                    boot,
                    fits: fits.collect(),
                    only: only.map(|second| self.projects[usize::from(second)]),
                    lease_until: self.samples.clock.now().plus(lease),
                    ..self.samples.claim("a", *most)
                })
            }
            Op::Renew { job, wrong } => {
                let (id, token) = match self.claims.as_slice() {
                    [] => (self.samples.id(), [0; 32]),
                    claims => job.get(claims).to_owned().into_hash(),
                };
                let now = self.samples.clock.now();
                Call::Renew(Renewal {
                    job: id,
                    token: if *wrong { [3; 32] } else { token },
                    now,
                    lease_until: now.plus(Duration::from_secs(30)),
                })
            }
            Op::Beat { engine, retire: true } => Call::Retire(*engine.get(&self.engines)),
            Op::Beat { engine, .. } => Call::Beat(
                *engine.get(&self.engines),
                self.samples.clock.now().plus(Duration::from_secs(15)),
            ),
            Op::Adopt { heir, limit } => Call::Adopt(*heir.get(&self.engines), self.samples.clock.now(), *limit),
            Op::Config {
                name,
                second,
                stale,
                delete,
            } => {
                let revision = model.config_revision().await.unwrap();
                let owner = if *second {
                    Owner::Project(self.projects[1])
                } else {
                    Owner::Org
                };
                let (kind, name) = (EntryKind::ALL[usize::from(*name)], format!("entry {name}"));
                let change = if *delete {
                    ConfigChange::Delete { kind, owner, name }
                } else {
                    let (body, updated_at) = ("{}".into(), self.samples.now());
                    ConfigChange::Put(Entry {
                        kind,
                        owner,
                        name,
                        body,
                        sealed: None,
                        updated_at,
                    })
                };
                Call::Config(ConfigRevision(revision.0 - i64::from(*stale)), change)
            }
            Op::Project { slug, delete: true } => Call::DeleteProject(self.slugs[usize::from(*slug)].id),
            Op::Project { slug, .. } => Call::CreateProject(self.slugs[usize::from(*slug)].clone()),
            Op::Key { version } => Call::Key(WrappedKey {
                version: *version,
                wrapped: self.samples.now().micros().to_be_bytes().to_vec(),
            }),
            Op::Wait { seconds } => {
                self.samples.clock.advance(Duration::from_secs(*seconds));
                return None;
            }
        })
    }

    fn parts(&self, parts: u8) -> (Vec<pond_core::artifacts::Artifact>, Vec<pond_core::usage::UsageEntry>) {
        let name = |bit: u8| if parts & bit == 0 { "a" } else { "b" };
        let artifacts = (parts & 1 != 0).then(|| self.samples.artifact(name(2)));
        let usage = (parts & 4 != 0).then(|| self.samples.usage(name(8)));
        (
            artifacts.into_iter().collect(),
            usage
                .into_iter()
                .chain((parts & 16 != 0).then(|| self.samples.usage("a")))
                .collect(),
        )
    }

    fn job_change(&mut self, run: &NewRun, kind: u8, any: Index) -> Option<JobChange> {
        if kind.is_multiple_of(2) {
            let mut job = self.samples.job(run, TAGS[usize::from(kind) / 2 % 3]);
            job.project_limit = u32::from(kind / 32);
            job.area = (kind >= 128).then_some(u32::from(kind));
            self.jobs.push((job.id, run.id));
            return Some(JobChange::Enqueue(job));
        }
        let own: Vec<JobId> = self
            .jobs
            .iter()
            .filter(|(_, of)| *of == run.id)
            .map(|(job, _)| *job)
            .collect();
        let job = if own.is_empty() { return None } else { *any.get(&own) };
        Some(match kind / 2 % 5 {
            0 => JobChange::Release(job),
            1 => JobChange::Cancel(job),
            2 => JobChange::End(job),
            3 => JobChange::Dispatch(job, format!("decided {kind}")),
            _ => JobChange::Reported(job, format!("reported {kind}")),
        })
    }

    /// Everything that can be read of a store, as text.
    async fn read(&self, store: &dyn Store) -> Vec<String> {
        let mut all = Vec::new();
        let now = self.samples.clock.now();
        let scopes = [
            Scope::Org,
            Scope::Project(self.projects[0]),
            Scope::Project(self.projects[1]),
        ];
        let live = RunFilter {
            statuses: vec![RunStatus::Queued, RunStatus::Running],
            ..RunFilter::default()
        };
        let cron = RunFilter {
            trigger: Some("cron".into()),
            ..RunFilter::default()
        };
        for scope in scopes {
            for filter in [&RunFilter::default(), &live, &cron] {
                let mut after = None;
                loop {
                    let page = store
                        .runs(scope, filter, PageRequest { limit: 3, after })
                        .await
                        .unwrap();
                    all.push(format!("{page:?}"));
                    after = page.next;
                    if after.is_none() {
                        break;
                    }
                }
            }
            for run in &self.runs {
                all.push(text(store.run(scope, run.id).await));
                all.push(text(store.events(scope, run.id, 2, 1000).await));
                all.push(text(store.artifacts(scope, run.id).await));
                all.push(text(store.usage(scope, run.id).await));
            }
        }
        for project in &self.projects {
            all.push(text(store.live_run_count(*project, 3).await));
            all.push(text(store.job_counts(*project).await));
        }
        for (job, _) in &self.jobs {
            all.push(text(store.job(*job).await));
        }
        for (worker, boot) in &self.workers {
            all.push(text(store.jobs_of_worker(*worker, Some(*boot)).await));
        }
        all.push(text(store.expired_jobs(now, 100).await));
        // A claim that takes less than it asks for makes them exact.
        let vain = ClaimRequest {
            only: Some(self.samples.id()),
            ..self.samples.claim("a", 1)
        };
        assert_eq!(store.claim_jobs(vain).await.unwrap().len(), 0);
        let needs: BTreeSet<Needs> = store.waiting_needs().await.unwrap().iter().cloned().collect();
        all.push(format!("{needs:?}"));
        all.push(text(store.config().await));
        all.push(text(store.projects().await));
        all.push(text(store.wrapped_keys().await));
        all
    }
}

trait IntoHash {
    fn into_hash(self) -> (JobId, [u8; 32]);
}

impl IntoHash for (JobId, ClaimToken) {
    fn into_hash(self) -> (JobId, [u8; 32]) {
        (self.0, self.1.hash())
    }
}

async fn agree(ops: &[Op], model: SharedStore, other: SharedStore) {
    let mut world = World::new();
    for (step, op) in ops.iter().enumerate() {
        let Some(call) = world.call(op, &*model).await else {
            continue;
        };
        let (expected, jobs) = call.make(&*model).await;
        let (answer, _) = call.make(&*other).await;
        assert_eq!(answer, expected, "step {step}: {op:?}");
        world
            .claims
            .extend(jobs.into_iter().map(|claimed| (claimed.job.id, claimed.token)));
    }
    let (expected, read) = (world.read(&*model).await, world.read(&*other).await);
    assert_eq!(read.len(), expected.len());
    for (read, expected) in read.iter().zip(&expected) {
        assert_eq!(read, expected);
    }
    other.close().await;
}

/// A quarter of the cases that are usual, or asked for by `PROPTEST_CASES`: each one opens a database. Seeds of failures are kept
/// beside this file and tried first.
fn config() -> Config {
    let usual = Config::with_source_file(file!());
    Config {
        cases: usual.cases.div_ceil(4),
        ..usual
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn sqlite_answers_as_the_model_does(ops in ops()) {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let (store, _folder) = in_file().await;
            agree(&ops, pond_store::memory(), store).await;
        });
    }

    #[test]
    fn postgres_answers_as_the_model_does(ops in ops()) {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let (store, _database) = in_postgres().await;
            agree(&ops, pond_store::memory(), store).await;
        });
    }
}
