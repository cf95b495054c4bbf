//! The worker itself: asks for jobs while it has room, and looks after those it has.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pond_core::clock::Clock;
use pond_core::dispatch::{Command, Job, Poll, Polled, Report, WorkerInfo, WorkerLink};
use pond_core::entropy::Entropy;
use pond_core::error::Result;
use pond_core::id::{BootId, WorkerId};
use pond_core::pool::{Claim, JobEnd};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::identity::{self, StateFolder};
use super::job::{Shop, attend};
use super::leases::Leases;
use super::probe::{self, Found};
use super::settings::{WorkerError, WorkerSettings};
use super::switch::Stop;
use crate::broker::dialled;
use crate::net::{Dialer, DialerSettings};
use crate::prepare::remove_leftovers;
use crate::sandbox::{Host, HostSettings};

/// How long a poll is held when there is nothing.
const WAIT: Duration = Duration::from_secs(30);
/// The first wait after a poll that failed or came back with nothing at once, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a poll that may be claiming a job is waited for when the worker leaves.
const LEAVING: Duration = Duration::from_millis(200);

/// A worker that has found out what it can do. Dropped, it gives its state folder back.
pub struct Worker {
    info: WorkerInfo,
    shop: Arc<Shop>,
    host: Arc<Host>,
    _folder: StateFolder,
}

impl Worker {
    /// Takes the state folder, ends what an earlier life left, and finds out what this host can do.
    ///
    /// # Errors
    /// When the state folder is used by another worker or cannot be used, or what was left cannot be ended.
    pub async fn start(
        settings: WorkerSettings,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, WorkerError> {
        let folder = StateFolder::open(&settings.state_dir, &*clock).await?;
        let id = identity::worker_id(&settings.state_dir, &*clock, &*entropy)?;
        Self::start_as(id, folder, settings, clock, entropy).await
    }

    /// As [`Worker::start`], with an id that was given elsewhere and a state folder that is held already.
    ///
    /// # Errors
    /// As [`Worker::start`].
    pub async fn start_as(
        id: WorkerId,
        folder: StateFolder,
        mut settings: WorkerSettings,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, WorkerError> {
        for path in [&mut settings.state_dir, &mut settings.work_dir] {
            *path = placed(path).map_err(WorkerError::state("a folder of its own cannot be made or found"))?;
        }
        let host = open_host(&settings).await?;
        let found = probe::probe(&host, &settings.backends, settings.allow_unconfined).await?;
        let work = settings.work_dir.clone();
        let removed = tokio::task::spawn_blocking(move || remove_leftovers(&work)).await;
        removed
            .unwrap_or_else(|panic| Err(io::Error::other(panic)))
            .map_err(WorkerError::state("the folders of former jobs stay"))?;
        let Found {
            backends,
            mut capabilities,
            problems,
        } = found;
        capabilities.extend(settings.capabilities.iter().cloned());
        let info = WorkerInfo {
            id,
            boot: BootId::mint(&*clock, &*entropy),
            name: settings.name.clone(),
            tags: settings.tags.clone(),
            capabilities,
            problems,
            egress_defaults: settings.egress_defaults.hosts().to_vec(),
            concurrency: settings.concurrency,
        };
        let dialer = Dialer::new(DialerSettings {
            resolver: settings.resolver,
            extra_ca: settings.extra_ca.clone(),
            // Each list counts for its own purpose alone.
            allow: settings
                .model_allow_private
                .clone()
                .and(settings.egress_allow_private.clone()),
        })?;
        let shop = Arc::new(Shop {
            settings,
            backends,
            upstream: dialled(dialer.clone()),
            dialer,
            leases: Leases::new(Arc::clone(&clock)),
            clock,
            entropy,
        });
        Ok(Self {
            info,
            shop,
            host,
            _folder: folder,
        })
    }

    /// Who it is, and what it can do.
    pub fn info(&self) -> &WorkerInfo {
        &self.info
    }

    /// Works until it is told to stop; then its jobs are ended and given back. Dropping the future kills them instead.
    pub async fn run(self, link: Arc<dyn WorkerLink>, stop: CancellationToken) {
        let leases = Arc::clone(&self.shop.leases);
        let renewing = AbortOnDropHandle::new(tokio::spawn({
            let (leases, link) = (Arc::clone(&leases), Arc::clone(&link));
            async move { leases.renew(link).await }
        }));
        let mut jobs = JoinSet::new();
        self.work(&link, &stop, &mut jobs).await;
        leases.raise_all(Stop::Leave);
        while jobs.join_next().await.is_some() {}
        drop(renewing);
        let host = Arc::clone(&self.host);
        match tokio::task::spawn_blocking(move || host.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the worker leaves sandboxes behind"),
            Err(panic) => tracing::error!(%panic, "closing the host panicked"),
        }
    }

    /// Takes jobs until it is told to stop.
    async fn work(&self, link: &Arc<dyn WorkerLink>, stop: &CancellationToken, jobs: &mut JoinSet<()>) {
        let mut pause = FIRST_PAUSE;
        while !stop.is_cancelled() {
            let Some(polled) = self.poll(link, stop, jobs).await else {
                continue;
            };
            match polled {
                Ok(polled) if stop.is_cancelled() => give_back(link, polled.jobs).await,
                Ok(Polled { jobs: new, commands }) if !new.is_empty() || !commands.is_empty() => {
                    pause = FIRST_PAUSE;
                    for job in new {
                        jobs.spawn(attend(Arc::clone(&self.shop), Arc::clone(link), job));
                    }
                    for Command::Cancel(job) in commands {
                        self.shop.leases.cancel(job);
                    }
                }
                // A link that answers nothing at once is on its way down.
                other => {
                    if let Err(error) = other {
                        tracing::warn!(%error, "the worker could not ask for work");
                    }
                    stop.run_until_cancelled(self.shop.clock.sleep(pause)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Asks for what there is room for. Nothing when room came up meanwhile, or the worker is to stop.
    async fn poll(
        &self,
        link: &Arc<dyn WorkerLink>,
        stop: &CancellationToken,
        jobs: &mut JoinSet<()>,
    ) -> Option<Result<Polled>> {
        while jobs.try_join_next().is_some() {}
        let running = u32::try_from(jobs.len()).unwrap_or(u32::MAX);
        let free = self.shop.settings.concurrency.saturating_sub(running);
        let poll = Poll { free, wait: WAIT };
        let began = self.shop.clock.now();
        let asking = Arc::clone(link);
        // In a task of its own: a poll that may be claiming a job is never broken off.
        let mut asked = AbortOnDropHandle::new(tokio::spawn(async move { asking.poll(poll).await }));
        let answer = tokio::select! {
            biased;
            answer = &mut asked => Some(answer),
            () = stop.cancelled() => {
                let leaving = self.shop.clock.sleep(LEAVING);
                tokio::select! {
                    biased;
                    answer = &mut asked => Some(answer),
                    () = leaving => None,
                }
            }
            // Without room it only waited for commands, which stay.
            Some(_) = jobs.join_next(), if free == 0 => None,
        };
        match answer? {
            Ok(Ok(polled)) => {
                let empty = polled.jobs.is_empty() && polled.commands.is_empty();
                let held = self.shop.clock.now().since(began) > WAIT / 2;
                // A poll that was held for its time and found nothing is no sign of trouble.
                (!(empty && held)).then_some(Ok(polled))
            }
            Ok(Err(error)) => Some(Err(error)),
            Err(panic) => Some(Err(pond_core::Error::internal(format!("a poll panicked: {panic}")))),
        }
    }
}

/// Gives jobs back that came when the worker was about to leave.
async fn give_back(link: &Arc<dyn WorkerLink>, jobs: Vec<Job>) {
    for job in jobs {
        let claim = Claim {
            job: job.id,
            token: job.claim,
        };
        let end = JobEnd::Cancelled;
        if let Err(error) = link
            .finish(
                &claim,
                Report {
                    end,
                    parse: None,
                    spent: None,
                },
            )
            .await
        {
            tracing::warn!(job = %claim.job, %error, "a job is given back only when its lease ends");
        }
    }
}

/// A folder by its absolute path, whatever way it was named: a sandbox takes no other. Made if it is not there.
fn placed(folder: &Path) -> io::Result<PathBuf> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    folder.canonicalize()
}

async fn open_host(settings: &WorkerSettings) -> Result<Arc<Host>, WorkerError> {
    let host = HostSettings {
        state: settings.state_dir.clone(),
        uid_range: settings.uid_range.clone(),
        means: None,
    };
    let opened = tokio::task::spawn_blocking(move || Host::open(host)).await;
    Ok(opened.map_err(|_| pond_core::sandbox::SandboxError::failed("opening the host panicked"))??)
}
