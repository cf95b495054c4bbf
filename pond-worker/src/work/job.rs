//! One job, from its claim to its end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use pond_core::Error;
use pond_core::artifacts::ByteStream;
use pond_core::clock::{Clock, Timestamp};
use pond_core::dispatch::{Grant, Job, Report, WorkerLink};
use pond_core::egress::EgressPolicy;
use pond_core::entropy::Entropy;
use pond_core::logs::Redactor;
use pond_core::outbound::HostPattern;
use pond_core::pool::{Claim, JobEnd};
use pond_core::runs::{Failure, FailureCode, ParseCount};
use pond_core::sandbox::{Access, BackendKind, Bridge, HomeFile, Mount, Profile, Running, Sandbox, SandboxError, Spec};
use pond_core::secret::Secret;
use pond_core::sources::TreeError;
use pond_core::usage::{Amounts, Granted};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::agent::{Ended, JobBroker, JobProxy, Run, failed, timed_out};
use super::disk;
use super::late::{Late, late};
use super::leases::{Leases, Lifetime};
use super::probe::Backends;
use super::settings::WorkerSettings;
use super::switch::{Stop, Switch};
use super::watched::Watched;
use super::{Claimed, Lines, Refused, calls};
use crate::broker::{Broker, Draws, Parts, Purse, Spend, Tally, Unlimited, Upstream};
use crate::collect::{Collecting, Listener, Said, collect};
use crate::egress::{self, Intercept, Proxy, SealedSecret, Sealer, Sealing, in_an_image, on_the_host};
use crate::mini::MiniWire;
use crate::net::Dialer;
use crate::prepare::{Inside, WorkFolder, broker_grant, launch, seal};

/// The broker's port in a confined sandbox, which has its own loopback.
const BROKER_PORT: u16 = 8787;
/// The egress proxy's.
const EGRESS_PORT: u16 = 8788;
/// Where a confined job finds its checkout and its output folder.
const CHECKOUT: &str = "/work";
const OUTPUT: &str = "/output";
/// What stands in the mark in place of a claim token.
const CLAIM: &str = "claim";
/// Model calls that wait to be sent on.
const WAITING_CALLS: usize = 256;
/// Egress decisions that wait to be sent on; the job waits for the rest.
const WAITING_DECISIONS: usize = 1024;

/// What all jobs of a worker use.
pub(super) struct Shop {
    pub(super) settings: WorkerSettings,
    pub(super) backends: Backends,
    pub(super) upstream: Arc<dyn Upstream>,
    pub(super) dialer: Dialer,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) leases: Arc<Leases>,
}

/// Why a job ends before its agent does.
enum Early {
    /// With this end.
    End(JobEnd),
    /// Nobody wants to hear of it.
    Gone,
}

impl From<Failure> for Early {
    fn from(failure: Failure) -> Self {
        Self::End(JobEnd::Failed(failure))
    }
}

/// Takes a job to its end and tells of it.
pub(super) async fn attend(shop: Arc<Shop>, link: Arc<dyn WorkerLink>, job: Job) {
    let switch = Switch::new();
    let claim = Claim {
        job: job.id,
        token: job.claim.clone(),
    };
    let mut lease = shop.leases.hold(claim.clone(), job.lease_until, switch.clone());
    let claimed = Claimed {
        link,
        claim,
        switch: switch.clone(),
        clock: Arc::clone(&shop.clock),
    };
    let attempt = Attempt {
        until: shop.clock.now().plus(job.timeout),
        shop: &shop,
        job: &job,
        claimed,
        tally: Arc::default(),
        lifetime: lease.lifetime(),
    };
    let mut whole = Box::pin(attempt.whole());
    tokio::select! {
        biased;
        () = &mut whole => {}
        // The switch tells the job, which then ends by itself.
        () = lease.guard() => whole.await,
    }
}

/// One attempt.
struct Attempt<'a> {
    shop: &'a Shop,
    job: &'a Job,
    claimed: Claimed,
    /// How long its sandbox may live.
    lifetime: Lifetime,
    /// When the timeout strikes.
    until: Timestamp,
    /// What its model calls come to.
    tally: Arc<Tally>,
}

/// What was made ready before the sandbox starts.
struct Ready {
    folder: WorkFolder,
    grant: Grant,
}

impl Attempt<'_> {
    /// Of this attempt alone: one that lost its lease may still be ending here when the next one begins.
    fn name(&self) -> String {
        format!("{}-{}", self.job.id, self.job.attempt)
    }

    async fn whole(&self) {
        let report = match WorkFolder::create(&self.shop.settings.work_dir, &self.name()).await {
            Ok(folder) => self.in_folder(folder).await,
            Err(error) => {
                tracing::error!(job = %self.job.id, %error, "no folder for a job");
                let what = format!("the worker has no room for the job: {}", error.kind());
                let end = failed(FailureCode::Internal, what);
                Some(Report {
                    end,
                    parse: None,
                    spent: None,
                })
            }
        };
        let Some(mut report) = report else { return };
        report.spent = self.tally.total().as_ref().map(Amounts::from);
        let told = self.claimed.call(|link, claim| {
            let report = report.clone();
            async move { link.finish(&claim, report).await }
        });
        if let Err(Refused::Error(error)) = told.await {
            tracing::error!(job = %self.job.id, %error, "the end of a job is refused");
        }
    }

    /// Everything but telling the end. Nothing when nobody wants to hear of it. The folder is removed in any case.
    async fn in_folder(&self, folder: WorkFolder) -> Option<Report> {
        let mut ready = Ready {
            folder,
            grant: Grant::default(),
        };
        let prepared = tokio::select! {
            biased;
            early = self.early() => Err(early),
            prepared = self.prepare(&mut ready) => prepared,
        };
        let (end, parse) = match prepared {
            Ok(()) => self.in_sandbox(&ready).await,
            Err(early) => (Err(early), None),
        };
        ready.folder.remove().await;
        match end {
            Ok(end) | Err(Early::End(end)) => Some(Report {
                end,
                parse,
                spent: None,
            }),
            Err(Early::Gone) => None,
        }
    }

    /// Waits for what ends a job while it is being prepared.
    async fn early(&self) -> Early {
        let left = self.until.since(self.shop.clock.now());
        tokio::select! {
            biased;
            stop = self.claimed.switch.reaches(Stop::Cancel) => match stop {
                Stop::Lost => Early::Gone,
                _ => Early::End(JobEnd::Cancelled),
            },
            () = self.shop.clock.sleep(left) => Early::End(timed_out(self.job.timeout)),
        }
    }

    /// Asks for secrets and sources.
    async fn prepare(&self, ready: &mut Ready) -> Result<(), Early> {
        if self.job.cred_request.is_some() {
            let seal = self.claimed.call(|link, claim| async move { link.seal(&claim).await });
            ready.grant = seal.await.map_err(|refused| asked("the secrets", refused))?;
        }
        let limits = self.shop.settings.bundle;
        if self.job.source_bundle.is_some() {
            let bundle = self
                .claimed
                .call(|link, claim| async move { link.bundle(&claim).await });
            let bundle: ByteStream = bundle.await.map_err(|refused| asked("the sources", refused))?;
            // A tar file takes a head and some filling for each entry.
            let cap = limits.bytes.saturating_add(limits.files.saturating_mul(4096));
            let kept = ready.folder.keep_bundle(bundle, cap).await;
            kept.map_err(|error| {
                Failure::new(FailureCode::SourceFailed, format!("the sources did not come: {error}"))
            })?;
        }
        let unpacked = ready.folder.unpack(ready.folder.checkout(), limits).await;
        unpacked.map_err(|error| {
            let code = match error {
                TreeError::TooLarge(_) => FailureCode::SourceTooLarge,
                _ => FailureCode::SourceFailed,
            };
            Failure::new(code, format!("the bundle of the sources {error}")).into()
        })
    }

    /// Runs the agent, and takes out what it left. Counts the records that it said, if it was asked for some and ran.
    async fn in_sandbox(&self, ready: &Ready) -> (Result<JobEnd, Early>, Option<ParseCount>) {
        let claim = Secret::new(self.job.claim.expose());
        let secrets = ready.grant.secrets.iter().map(|(name, secret)| (name.as_str(), secret));
        let redactor = Redactor::new(secrets.chain([(CLAIM, &claim)]));
        let listener = match Listener::of(self.job, &redactor, &ready.folder.scratch()) {
            Ok(listener) => listener,
            Err(error) => {
                let what = format!("the worker has no room for the job's records: {}", error.kind());
                return (Ok(failed(FailureCode::Internal, what)), None);
            }
        };
        let (lines, shipping) = Lines::ship(self.claimed.clone());
        let ran = self.run(ready, &redactor, &lines, listener.as_ref()).await;
        let alive = ran.as_ref().is_ok_and(|ended| ended.alive);
        let said = listener.map(|listener| listener.finish()).unwrap_or_default();
        let count = said.count().filter(|_| ran.is_ok());
        let ran = ran.map(|ended| ended.end);
        let collected = match self.claimed.switch.now() {
            Stop::Lost => Err(Early::Gone),
            // Whoever still writes there could change what is looked at.
            _ if alive => Ok(()),
            _ => self.collect_in_time(ready, &redactor, &lines, &ran, said).await,
        };
        drop(lines);
        // Every line comes before the end.
        let _ = shipping.await;
        (collected.and(ran), count)
    }

    async fn run(
        &self,
        ready: &Ready,
        redactor: &Redactor,
        lines: &Lines,
        listener: Option<&Listener>,
    ) -> Result<Ended, Early> {
        let backend = self.backend()?;
        let policy = self.policy(backend.kind());
        let sealed = seal(self.job, &ready.grant, &*self.shop.entropy)?;
        let token = |secret: &SealedSecret| (secret.rule.name.clone(), secret.token.clone());
        let tokens = sealed.iter().map(token).collect();
        let sealing = self.sealing(policy.as_ref(), sealed, ready, backend.kind())?;
        let laid = sealing.as_ref().map(|sealing| sealing.laid.clone()).unwrap_or_default();
        let (bridges, mut inside) = self.ways(backend.kind(), ready).await?;
        inside.tokens = tokens;
        inside.network.extend(laid.env);
        let launch = launch(self.job, &ready.grant, &inside)?;
        let broker = self.broker(ready)?;
        let (broker, telemetry) = broker.map_or((None, None), |(broker, telemetry)| (Some(broker), Some(telemetry)));
        let intercept = sealing.map(|sealing| sealing.intercept);
        let proxy = self.proxy(policy, intercept, ready, lines).await?;
        let (proxy, decided) = proxy.map_or((None, None), |(proxy, decided)| (Some(proxy), Some(decided)));
        let spec = self.spec(ready, bridges, laid.mounts, launch.home);
        let not_started = |error: SandboxError| Ended {
            end: JobEnd::Failed(not_started(&error)),
            alive: false,
        };
        let end = match backend.start(spec).await {
            Ok(running) => {
                let sandbox = Watched::new(running);
                let run = Run {
                    sandbox: &sandbox,
                    limits: self.job.sandbox.limits,
                    writable: self.writable(ready),
                    disk: disk::CAP.saturating_add(self.shop.settings.bundle.bytes),
                    broker: broker.as_ref(),
                    proxy: proxy.as_ref(),
                    lines: lines.clone(),
                    listener,
                    redactor,
                    switch: &self.claimed.switch,
                    clock: &self.shop.clock,
                    timeout: self.job.timeout,
                    until: self.until,
                    grace: self.job.cancel_grace,
                };
                match self.kept(&sandbox, run.run(launch.agent)).await {
                    Ok(ended) => ended,
                    Err(error) => not_started(error),
                }
            }
            Err(error) => not_started(error),
        };
        if let Some(broker) = broker {
            broker.handle.close().await;
        }
        if let Some(proxy) = proxy {
            proxy.handle.close().await;
        }
        for telemetry in [telemetry, decided].into_iter().flatten() {
            // Every call and every decision is told before the end.
            let _ = telemetry.await;
        }
        Ok(end)
    }

    /// Keeps a sandbox alive for as long as the lease lives, and no longer, while it is used. The sandbox watches its time
    /// itself: it is over then though this process hangs.
    async fn kept(&self, sandbox: &dyn Running, used: impl Future<Output = Ended>) -> Result<Ended, SandboxError> {
        let mut lifetime = self.lifetime.clone();
        if let Err(error) = lifetime.keep(sandbox).await {
            sandbox.kill().await?;
            return Err(error);
        }
        let ended = tokio::select! {
            biased;
            ended = used => ended,
            never = lifetime.keep_on(sandbox) => match never {},
        };
        // What looks like the job's own end may be that of its time.
        if self.lifetime.is_over() {
            self.claimed.switch.raise(Stop::Lost);
        }
        Ok(ended)
    }

    /// The folders of the host that the job may write to.
    fn writable(&self, ready: &Ready) -> Vec<PathBuf> {
        match self.job.sandbox.profile {
            Profile::UntrustedCodeRead => vec![ready.folder.output()],
            Profile::UntrustedCodeWrite | Profile::None => vec![ready.folder.output(), ready.folder.checkout()],
        }
    }

    /// The backend that the job asks for, or the best one.
    fn backend(&self) -> Result<Arc<dyn Sandbox>, Failure> {
        let block = &self.job.sandbox;
        let invalid = |message: String| Failure::new(FailureCode::SandboxInvalid, message);
        let wanted = match (block.backend, block.profile.is_confined()) {
            (Some(kind), _) => Some(kind),
            (None, false) => Some(BackendKind::None),
            (None, true) => None,
        };
        if !block.profile.is_confined() && !self.shop.settings.allow_unconfined {
            return Err(invalid(
                "profile none: this worker does not run jobs unconfined; start it with --allow-unconfined".into(),
            ));
        }
        let fits = |kind: BackendKind| wanted.map_or(kind != BackendKind::None, |wanted| wanted == kind);
        let found = self.shop.backends.iter().find(|(kind, _)| fits(*kind));
        found.map(|(_, backend)| Arc::clone(backend)).ok_or_else(|| {
            let wanted = wanted.map_or("that confines", BackendKind::as_str);
            invalid(format!("this worker has no working sandbox backend {wanted}"))
        })
    }

    /// The ports that lead to broker and egress proxy, and where things are inside.
    async fn ways(&self, kind: BackendKind, ready: &Ready) -> Result<(Vec<Bridge>, Inside), Early> {
        let confined = kind != BackendKind::None;
        let output = match confined {
            true => OUTPUT.to_owned(),
            false => ready.folder.output().to_string_lossy().into_owned(),
        };
        // On the host's own loopback a port is there for everybody, so it is opened only for a job that asks for it.
        let wanted = self.job.model.is_some() && (confined || self.names_broker());
        let port = match (wanted, confined) {
            (false, _) => None,
            (true, true) => Some(BROKER_PORT),
            (true, false) => Some(free_port().await.map_err(|error| {
                Failure::new(
                    FailureCode::Internal,
                    format!("no port for the broker: {}", error.kind()),
                )
            })?),
        };
        let socket = ready.folder.broker_socket();
        let broker = port.map(|port| format!("http://127.0.0.1:{port}"));
        let to_broker = port.map(|port| Bridge { port, socket });
        let to_proxy = self.has_egress(kind).then(|| Bridge {
            port: EGRESS_PORT,
            socket: ready.folder.egress_socket(),
        });
        let network = to_proxy.as_ref().map(|_| proxy_variables()).unwrap_or_default();
        let inside = Inside {
            output,
            broker,
            tokens: BTreeMap::new(),
            network,
        };
        Ok((to_broker.into_iter().chain(to_proxy).collect(), inside))
    }

    /// Whether the job reaches hosts at all, by a proxy of its own.
    fn has_egress(&self, kind: BackendKind) -> bool {
        self.job.sandbox.profile == Profile::UntrustedCodeWrite && kind != BackendKind::None
    }

    /// What the job may reach, if it reaches hosts at all.
    fn policy(&self, kind: BackendKind) -> Option<EgressPolicy> {
        let defaults = self.shop.settings.egress_defaults.hosts();
        let (rules, asked) = (self.job.egress.clone(), &self.job.sandbox.allow_hosts);
        self.has_egress(kind).then(|| EgressPolicy::new(rules, asked, defaults))
    }

    /// Makes ready what opens TLS where the job's secrets go, if any of them goes anywhere.
    fn sealing(
        &self,
        policy: Option<&EgressPolicy>,
        sealed: Vec<SealedSecret>,
        ready: &Ready,
        kind: BackendKind,
    ) -> Result<Option<Sealing>, Failure> {
        let Some(policy) = policy else { return Ok(None) };
        let sealer = Sealer {
            policy,
            dialer: &self.shop.dialer,
            clock: &self.shop.clock,
            entropy: &self.shop.entropy,
            life: self.job.timeout,
            hosts_may_change: false,
        };
        let sealed = match kind {
            BackendKind::Docker => sealer.seal(sealed, &ready.folder.trust(), in_an_image),
            BackendKind::None | BackendKind::Bubblewrap => sealer.seal(sealed, &ready.folder.trust(), on_the_host),
        };
        sealed.map_err(|error| Failure::new(FailureCode::Internal, error.to_string()))
    }

    /// Starts the egress proxy, by this policy.
    async fn proxy(
        &self,
        policy: Option<EgressPolicy>,
        intercept: Option<Arc<dyn Intercept>>,
        ready: &Ready,
        lines: &Lines,
    ) -> Result<Option<(JobProxy, AbortOnDropHandle<()>)>, Failure> {
        let Some(policy) = policy else { return Ok(None) };
        if !policy.narrowed().is_empty() {
            let dropped: Vec<&str> = policy.narrowed().iter().map(HostPattern::as_str).collect();
            let dropped = dropped.join(", ");
            lines
                .note(format!(
                    "allow_hosts is narrowed by the egress rules: without {dropped}"
                ))
                .await;
        }
        let socket = ready.folder.egress_socket();
        let listener = UnixListener::bind(&socket).map_err(|error| {
            Failure::new(
                FailureCode::Internal,
                format!("the job's egress proxy cannot listen: {}", error.kind()),
            )
        })?;
        let parts = egress::Parts {
            dialer: self.shop.dialer.clone(),
            clock: Arc::clone(&self.shop.clock),
            entropy: Arc::clone(&self.shop.entropy),
            intercept,
        };
        let (told, decisions) = mpsc::channel(WAITING_DECISIONS);
        let handle = Proxy::start(listener, policy, parts, told);
        let telemetry = calls::ship_decisions(decisions, self.claimed.clone());
        Ok(Some((JobProxy { handle, socket }, telemetry)))
    }

    fn names_broker(&self) -> bool {
        let files = self.job.files.iter().map(|file| &file.content);
        self.job
            .command
            .iter()
            .chain(files)
            .any(|text| text.contains("{{BROKER_URL}}"))
    }

    fn broker(&self, ready: &Ready) -> Result<Option<(JobBroker, AbortOnDropHandle<()>)>, Failure> {
        let Some(model) = &self.job.model else {
            return Ok(None);
        };
        let mut grant = broker_grant(model, &ready.grant)?;
        let limits = self.job.budget.slice();
        if limits.usd.is_some() {
            // What has no price could be used without end.
            grant
                .models
                .retain(|_, prices| prices.input.is_some() && prices.output.is_some());
        }
        let purse = (!limits.is_unbounded()).then(|| {
            let draws = LinkDraws(self.claimed.clone());
            Arc::new(Purse::new(limits, Box::new(draws)))
        });
        let spend: Arc<dyn Spend> = match &purse {
            Some(purse) => purse.clone(),
            None => Arc::new(Unlimited),
        };
        let wire = MiniWire::of(&model.provider).unwrap_or(MiniWire::Chat);
        let socket = ready.folder.broker_socket();
        let listener = UnixListener::bind(&socket).map_err(|error| {
            Failure::new(
                FailureCode::Internal,
                format!("the job's broker cannot listen: {}", error.kind()),
            )
        })?;
        let parts = Parts {
            upstream: Arc::clone(&self.shop.upstream),
            spend,
            clock: Arc::clone(&self.shop.clock),
            entropy: Arc::clone(&self.shop.entropy),
        };
        let (told, calls) = mpsc::channel(WAITING_CALLS);
        let handle = Broker::start(listener, grant, parts, told);
        let telemetry = calls::ship(calls, self.claimed.clone(), Arc::clone(&self.tally));
        let broker = JobBroker {
            handle,
            socket,
            wire,
            purse,
        };
        Ok(Some((broker, telemetry)))
    }

    fn spec(&self, ready: &Ready, bridges: Vec<Bridge>, trust: Vec<Mount>, home: Vec<HomeFile>) -> Spec {
        let block = &self.job.sandbox;
        let access = match block.profile {
            Profile::UntrustedCodeRead => Access::Read,
            Profile::UntrustedCodeWrite | Profile::None => Access::Write,
        };
        let mount = |host, inside: &str, access| Mount {
            host,
            inside: inside.into(),
            access,
        };
        Spec {
            name: format!("job-{}", self.name()),
            profile: block.profile,
            mounts: [
                mount(ready.folder.checkout(), CHECKOUT, access),
                mount(ready.folder.output(), OUTPUT, Access::Write),
            ]
            .into_iter()
            .chain(trust)
            .collect(),
            home,
            bridges,
            limits: block.limits,
            image: block.image.clone(),
        }
    }

    /// Collects for as long as that may take; the job then ends without the rest.
    async fn collect_in_time(
        &self,
        ready: &Ready,
        redactor: &Redactor,
        lines: &Lines,
        ran: &Result<JobEnd, Early>,
        said: Said,
    ) -> Result<(), Early> {
        let late = tokio::select! {
            biased;
            collected = self.collect(ready, redactor, lines, ran, said) => return collected,
            late = late(&self.claimed.switch, &*self.shop.clock, self.job.cancel_grace) => late,
        };
        if late == Late::Lost {
            return Err(Early::Gone);
        }
        const WHAT: &str = "what the job left could not be collected in time, and the rest of it is not kept";
        lines.note(WHAT).await;
        match (ran, late) {
            (Ok(JobEnd::Done), Late::Stopped) => Err(Early::End(JobEnd::Cancelled)),
            // A job that did well may not seem to have left all that it did.
            (Ok(JobEnd::Done), _) => Err(Failure::new(FailureCode::Internal, WHAT).into()),
            _ => Ok(()),
        }
    }

    /// Takes out what the job left, whatever its end. What it says of a job that did well may be that it did not.
    async fn collect(
        &self,
        ready: &Ready,
        redactor: &Redactor,
        lines: &Lines,
        ran: &Result<JobEnd, Early>,
        said: Said,
    ) -> Result<(), Early> {
        let collecting = Collecting {
            claimed: &self.claimed,
            lines,
            redactor,
            folder: &ready.folder,
            limits: self.shop.settings.bundle,
            base: self.job.base.as_deref(),
            with_patch: self.job.sandbox.profile == Profile::UntrustedCodeWrite,
            parse: self.job.parse.as_ref(),
            writes: self.job.writes_artifact.as_ref(),
            cap: self.job.artifact_cap,
        };
        match collect(&collecting, said).await {
            Ok(Some(failure)) if matches!(ran, Ok(JobEnd::Done)) => Err(failure.into()),
            Ok(_) => Ok(()),
            Err(Refused::Gone) => Err(Early::Gone),
            Err(Refused::Error(error)) => {
                let failure = collecting.failure(&error);
                if let Ok(JobEnd::Done) = ran {
                    return Err(failure.into());
                }
                lines.note(failure.message).await;
                Ok(())
            }
        }
    }
}

/// Draws by the job's link.
struct LinkDraws(Claimed);

#[async_trait]
impl Draws for LinkDraws {
    async fn draw(&self, want: Amounts) -> Result<Granted, String> {
        let drawn = self.0.call(|link, claim| async move { link.draw(&claim, want).await });
        drawn.await.map_err(|refused| match refused {
            Refused::Gone => "the job is lost".to_owned(),
            Refused::Error(error) => error.to_string(),
        })
    }
}

/// What it means that something asked for does not come.
fn asked(what: &str, refused: Refused) -> Early {
    match refused {
        Refused::Gone => Early::Gone,
        // What was brought for the job is not what the engine made for it.
        Refused::Error(Error::Invalid(faults)) => {
            let why = faults
                .into_iter()
                .next()
                .map_or_else(String::new, |fault| fault.message);
            Failure::new(FailureCode::JobInvalid, format!("{what} of the job: {why}")).into()
        }
        Refused::Error(error) => Failure::new(FailureCode::Internal, format!("{what} of the job: {error}")).into(),
    }
}

/// What it means that a sandbox does not start.
pub(crate) fn not_started(error: &SandboxError) -> Failure {
    let code = match error {
        SandboxError::Unsupported { .. } => FailureCode::SandboxInvalid,
        SandboxError::Failed { .. } => FailureCode::Internal,
    };
    let cause = std::error::Error::source(error).map(|source| format!(": {source}"));
    Failure::new(code, format!("{error}{}", cause.unwrap_or_default()))
}

/// What makes programs use the egress proxy. Some read the names in capitals, some the others; the broker is not asked for
/// through it.
fn proxy_variables() -> BTreeMap<String, String> {
    let proxy = format!("http://127.0.0.1:{EGRESS_PORT}");
    let near = "127.0.0.1,localhost,::1".to_owned();
    let names = [("HTTP_PROXY", &proxy), ("HTTPS_PROXY", &proxy), ("NO_PROXY", &near)];
    names
        .iter()
        .flat_map(|(name, value)| [(*name).to_owned(), name.to_lowercase()].map(|name| (name, (*value).clone())))
        .collect()
}

async fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0)).await?.local_addr()?.port())
}
