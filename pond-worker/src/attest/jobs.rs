//! Sandboxes as jobs have them: the same folders, ports, broker and proxy; and what a guest says in them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pond_core::clock::SystemClock;
use pond_core::egress::{EgressDecision, EgressPolicy};
use pond_core::entropy::SystemEntropy;
use pond_core::outbound::{AllowPrivate, HostPattern, Purpose};
use pond_core::sandbox::{
    Access, Bridge, Exec, HomeFile, Limits, Mount, Output, Profile, Running, Sandbox, Spec, Stream,
};
use pond_core::secret::Secret;
use tokio::net::UnixListener;
use tokio::sync::mpsc;

use super::town::{self, RESOLVER};
use crate::broker::{self, Broker, BrokerHandle, ModelCall, Unlimited};
use crate::egress::{self, Proxy, ProxyHandle};
use crate::net::{Dialer, DialerSettings};

/// What a job of the battery gets: little, so that bombs burst soon.
const LIMITS: Limits = Limits {
    memory: 256 << 20,
    millicpus: 2000,
    pids: 128,
    tmpfs: 32 << 20,
};
/// How often a sandbox is looked at.
const LOOK: Duration = Duration::from_millis(250);
const BROKER: u16 = 8787;
const PROXY: u16 = 8788;

/// Makes jobs.
pub(super) struct Jobs {
    pub(super) folder: PathBuf,
    pub(super) guest: PathBuf,
    pub(super) shown: Vec<PathBuf>,
    pub(super) home: String,
    dialer: Dialer,
}

/// A job's sandbox and what is before it.
pub(super) struct Job {
    pub(super) running: Box<dyn Running>,
    pub(super) output: PathBuf,
    pub(super) proxy: Option<ProxyHandle>,
    _broker: BrokerHandle,
    _told: (mpsc::Receiver<EgressDecision>, mpsc::Receiver<ModelCall>),
}

impl Jobs {
    pub(super) fn new(folder: &Path, guest: &Path, shown: &[PathBuf], home: String) -> io::Result<Self> {
        let settings = DialerSettings {
            resolver: Some(RESOLVER),
            extra_ca: Vec::new(),
            allow: AllowPrivate::parse_for(Purpose::Model, "model.test:80").map_err(io::Error::other)?,
        };
        Ok(Self {
            folder: folder.to_owned(),
            guest: guest.to_owned(),
            shown: shown.to_owned(),
            home,
            dialer: Dialer::new(settings).map_err(io::Error::other)?,
        })
    }

    /// Starts a job of this number.
    pub(super) async fn start(&self, number: usize, sandbox: &dyn Sandbox, profile: Profile) -> io::Result<Job> {
        let place = self.folder.join(format!("job-{number}"));
        let (work, output) = (place.join("work"), place.join("output"));
        fs::create_dir(&place)?;
        for folder in [&work, &output] {
            fs::create_dir(folder)?;
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        }
        // A copy by another process: a child of this one may hold a file open that was written here, which cannot be run then.
        let copied = tokio::process::Command::new("cp")
            .arg(&self.guest)
            .arg(&work)
            .status()
            .await?;
        if !copied.success() {
            return Err(io::Error::other("the guest cannot be laid down"));
        }
        let (calls, calls_told) = mpsc::channel(4096);
        let (decisions, decisions_told) = mpsc::channel(4096);
        let broker = self.broker(&place.join("broker.sock"), calls)?;
        let mut bridges = vec![Bridge {
            port: BROKER,
            socket: place.join("broker.sock"),
        }];
        let mut proxy = None;
        // An unconfined one has neither; a battery on it is to show that it fails.
        if profile != Profile::UntrustedCodeRead {
            let socket = place.join("proxy.sock");
            proxy = Some(self.proxy(&socket, decisions)?);
            bridges.push(Bridge { port: PROXY, socket });
        }
        let access = if profile == Profile::UntrustedCodeRead {
            Access::Read
        } else {
            Access::Write
        };
        let mount = |host: &Path, inside: &Path, access| Mount {
            host: host.to_owned(),
            inside: inside.to_owned(),
            access,
        };
        let mut mounts = vec![
            mount(&work, Path::new("/work"), access),
            mount(&output, Path::new("/output"), Access::Write),
        ];
        mounts.extend(self.shown.iter().map(|shown| mount(shown, shown, Access::Read)));
        let spec = Spec {
            name: format!("attest-{number}"),
            profile,
            mounts,
            home: vec![HomeFile {
                path: ".attest".into(),
                content: Secret::new(self.home.as_str()),
            }],
            bridges,
            limits: LIMITS,
            image: None,
        };
        let running = sandbox.start(spec).await.map_err(|error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            io::Error::other(format!("{error}{}", cause.unwrap_or_default()))
        })?;
        Ok(Job {
            running,
            output,
            proxy,
            _broker: broker,
            _told: (decisions_told, calls_told),
        })
    }

    fn broker(&self, socket: &Path, calls: mpsc::Sender<ModelCall>) -> io::Result<BrokerHandle> {
        let provider = broker::provider("openai_compatible").ok_or_else(|| io::Error::other("no such provider"))?;
        let credential = [
            ("OPENAI_API_KEY", "attest-key"),
            ("OPENAI_BASE_URL", "http://model.test/v1"),
        ];
        let credential = credential.map(|(name, value)| (name.to_owned(), Secret::new(value)));
        let models = BTreeMap::from([("m".to_owned(), Default::default())]);
        let grant = broker::Grant::new(provider, &credential.into(), models, Default::default());
        let parts = broker::Parts {
            upstream: broker::dialled(self.dialer.clone()),
            spend: Arc::new(Unlimited),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
        };
        let grant = grant.map_err(io::Error::other)?;
        Ok(Broker::start(UnixListener::bind(socket)?, grant, parts, calls))
    }

    fn proxy(&self, socket: &Path, decisions: mpsc::Sender<EgressDecision>) -> io::Result<ProxyHandle> {
        let hosts: Result<Vec<HostPattern>, _> = town::allowed().into_iter().map(HostPattern::parse).collect();
        let policy = EgressPolicy::new(
            [],
            &hosts.map_err(|_| io::Error::other("a host rule does not read"))?,
            &[],
        );
        let parts = egress::Parts {
            dialer: self.dialer.clone(),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            intercept: None,
        };
        Ok(Proxy::start(UnixListener::bind(socket)?, policy, parts, decisions))
    }
}

impl Job {
    /// Starts the guest.
    async fn guest(
        &self,
        words: &[&str],
        env: &[(&str, &str)],
        input: String,
    ) -> io::Result<pond_core::sandbox::Process> {
        let argv = [&["./intruder"], words].concat();
        let exec = Exec {
            argv: argv.into_iter().map(str::to_owned).collect(),
            env: env
                .iter()
                .map(|(name, value)| ((*name).to_owned(), Secret::new(*value)))
                .collect(),
            stdin: Bytes::from(input),
            cwd: None,
        };
        self.running.exec(exec).await.map_err(io::Error::other)
    }

    /// Runs a plan; what the guest said. `meanwhile` is done while it runs.
    pub(super) async fn run(
        &self,
        plan: String,
        env: &[(&str, &str)],
        within: Duration,
        meanwhile: impl FnOnce(),
    ) -> io::Result<String> {
        let mut process = self.guest(&["run"], env, plan).await?;
        meanwhile();
        let mut said = Vec::new();
        let reading = async {
            while let Some(output) = process.output.recv().await {
                match output {
                    Output::Bytes(Stream::Stdout, bytes) => said.extend_from_slice(&bytes),
                    Output::Bytes(Stream::Stderr, _) => {}
                    Output::Exited(_) => return,
                }
            }
        };
        // As a job's sandbox is watched over by its worker.
        let watching = async {
            loop {
                tokio::time::sleep(LOOK).await;
                if let Ok(stats) = self.running.stats().await
                    && !stats.breached.is_empty()
                {
                    let _ = self.running.kill().await;
                    return;
                }
            }
        };
        let either = async {
            tokio::select! {
                () = reading => {}
                () = watching => {}
            }
        };
        // One that does not end has not reported all, which is told by what is missing.
        let _ = tokio::time::timeout(within, either).await;
        Ok(String::from_utf8_lossy(&said).into_owned())
    }

    /// Starts a plan whose output is not read, and waits.
    pub(super) async fn unread(&self, plan: String, wait: Duration) -> io::Result<()> {
        let _process = self.guest(&["run"], &[], plan).await?;
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// Starts a victim, which stays.
    pub(super) async fn victim(&self, secret: &str, name: &str) -> io::Result<()> {
        let mut process = self
            .guest(&["victim", secret, "7777", name], &[("SECRET", secret)], String::new())
            .await?;
        let ready = tokio::time::timeout(Duration::from_secs(10), process.output.recv()).await;
        match ready {
            Ok(Some(Output::Bytes(..))) => Ok(()),
            _ => Err(io::Error::other("the victim does not start")),
        }
    }

    pub(super) async fn end(self) -> io::Result<()> {
        self.running.kill().await.map_err(io::Error::other)
    }
}
