//! Runs a job's agent in its sandbox until it ends or is ended, and kills the sandbox in any case.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use pond_core::clock::{Clock, Timestamp};
use pond_core::logs::{LogStream, Redactor};
use pond_core::pool::JobEnd;
use pond_core::runs::{Failure, FailureCode};
use pond_core::sandbox::{Exec, Exit, LimitKind, Limits, Output, Running, SandboxError, Stream};
use tokio::sync::Mutex;

use super::disk;
use super::switch::{Stop, Switch};
use super::watched::Watched;
use super::{Lines, Writer};
use crate::broker::{BrokerHandle, Exceeded, Purse};
use crate::collect::Listener;
use crate::egress::ProxyHandle;
use crate::mini::{LogSink, Mini, MiniError, MiniLimits, MiniWire, Tool};
use crate::prepare::Agent;

/// How often broker and egress proxy are looked after.
const LOOK: Duration = Duration::from_millis(500);
/// How long the last words of a killed program are waited for.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The broker of a job.
pub(super) struct JobBroker {
    pub(super) handle: BrokerHandle,
    pub(super) socket: PathBuf,
    pub(super) wire: MiniWire,
    /// What pays for the calls, of a job with a budget.
    pub(super) purse: Option<Arc<Purse>>,
}

/// The egress proxy of a job.
pub(super) struct JobProxy {
    pub(super) handle: ProxyHandle,
    pub(super) socket: PathBuf,
}

/// What an agent runs with.
pub(super) struct Run<'a> {
    pub(super) sandbox: &'a Watched,
    pub(super) limits: Limits,
    /// The folders of the host that it may write to, and how much they may take.
    pub(super) writable: Vec<PathBuf>,
    pub(super) disk: u64,
    pub(super) broker: Option<&'a JobBroker>,
    pub(super) proxy: Option<&'a JobProxy>,
    pub(super) lines: Lines,
    /// Who hears its standard output.
    pub(super) listener: Option<&'a Listener>,
    pub(super) redactor: &'a Redactor,
    pub(super) switch: &'a Switch,
    pub(super) clock: &'a Arc<dyn Clock>,
    pub(super) timeout: Duration,
    /// When the timeout strikes.
    pub(super) until: Timestamp,
    pub(super) grace: Duration,
}

/// How an agent ended by itself.
enum Outcome {
    Exited(Exit),
    Done,
    Failed(String),
    Lost(SandboxError),
}

/// What came of a run.
pub(super) struct Ended {
    pub(super) end: JobEnd,
    /// Something of the sandbox may still run, so that nothing it can write is to be looked at.
    pub(super) alive: bool,
}

/// Why it is to be ended.
enum Reason {
    Stop,
    Timeout,
    Disk,
    BrokerGone,
    ProxyGone,
    Budget(Exceeded),
}

impl Run<'_> {
    /// Runs the agent; on return nothing of the sandbox is left, unless that is said.
    pub(super) async fn run(&self, agent: Agent) -> Ended {
        let is_program = matches!(agent, Agent::Program(_));
        let mut work: BoxFuture<'_, Outcome> = match agent {
            Agent::Program(exec) => Box::pin(self.program(exec)),
            Agent::Mini { model, prompt, env } => Box::pin(self.mini(model, prompt, env)),
        };
        let reason = tokio::select! {
            biased;
            reason = self.reason() => reason,
            outcome = &mut work => {
                let end = self.judge(outcome).await;
                drop(work);
                return self.kill().await.err().unwrap_or(Ended { end, alive: false });
            }
        };
        // Who fills the disk gets no time to go on with it.
        if self.switch.now() < Stop::Lost && !matches!(reason, Reason::Disk) {
            if is_program {
                self.end_program(&mut work).await;
            } else {
                drop(work);
                self.end_tools().await;
                work = Box::pin(std::future::ready(Outcome::Done));
            }
        }
        if let Err(alive) = self.kill().await {
            return alive;
        }
        if self.switch.now() < Stop::Lost {
            // What it still had to say has been read by now, or is not worth a longer wait.
            let patience = self.clock.sleep(LAST_WORDS);
            tokio::select! {
                biased;
                _ = &mut work => {}
                () = patience => {}
            }
        }
        let end = self.ended_for(&reason);
        Ended { end, alive: false }
    }

    async fn kill(&self) -> Result<(), Ended> {
        self.sandbox.kill().await.map_err(|error| {
            tracing::error!(%error, "a sandbox could not be ended");
            let what = "the job's sandbox could not be ended, so nothing that it left is taken";
            let end = failed(FailureCode::Internal, what);
            Ended { end, alive: true }
        })
    }

    /// Asks the program to end and waits for the grace; `work` is over when it has.
    async fn end_program(&self, work: &mut BoxFuture<'_, Outcome>) {
        self.sandbox.ask_to_end();
        let grace = self.clock.sleep(self.grace);
        let ended = async {
            (&mut *work).await;
            *work = Box::pin(std::future::ready(Outcome::Done));
        };
        tokio::select! {
            biased;
            _ = self.switch.reaches(Stop::Lost) => {}
            () = ended => {}
            () = grace => {}
        }
    }

    /// The agent itself has ended; asks its tools to, and waits for the grace.
    async fn end_tools(&self) {
        self.sandbox.ask_to_end();
        tokio::select! {
            biased;
            _ = self.switch.reaches(Stop::Lost) => {}
            () = self.sandbox.ended() => {}
            () = self.clock.sleep(self.grace) => {}
        }
    }

    /// Waits until the agent is to be ended.
    async fn reason(&self) -> Reason {
        let left = self.until.since(self.clock.now());
        tokio::select! {
            biased;
            _ = self.switch.reaches(Stop::Cancel) => Reason::Stop,
            () = self.clock.sleep(left) => Reason::Timeout,
            () = disk::filled(&self.writable, self.disk, &**self.clock) => Reason::Disk,
            exceeded = self.budget_spent() => Reason::Budget(exceeded),
            () = self.broker_gone() => Reason::BrokerGone,
            () = self.proxy_gone() => Reason::ProxyGone,
        }
    }

    /// Waits until a call was refused or cut off for want of a budget.
    async fn budget_spent(&self) -> Exceeded {
        match self.broker.and_then(|broker| broker.purse.as_ref()) {
            Some(purse) => purse.exceeded().await,
            None => std::future::pending().await,
        }
    }

    /// Waits until the broker serves no more.
    async fn broker_gone(&self) {
        match self.broker {
            Some(broker) => self.gone(broker.handle.ended(), &broker.socket).await,
            None => std::future::pending().await,
        }
    }

    /// Waits until the egress proxy serves no more.
    async fn proxy_gone(&self) {
        match self.proxy {
            Some(proxy) => self.gone(proxy.handle.ended(), &proxy.socket).await,
            None => std::future::pending().await,
        }
    }

    /// Waits until a server of the job has ended, or nobody finds it any more.
    async fn gone(&self, ended: impl Future<Output = ()>, socket: &Path) {
        let mut ended = std::pin::pin!(ended);
        loop {
            tokio::select! {
                biased;
                () = &mut ended => return,
                () = self.clock.sleep(LOOK) => {}
            }
            if std::fs::symlink_metadata(socket).is_err() {
                return;
            }
        }
    }

    fn ended_for(&self, reason: &Reason) -> JobEnd {
        match reason {
            Reason::Stop => JobEnd::Cancelled,
            Reason::Timeout => timed_out(self.timeout),
            Reason::Disk => failed(
                FailureCode::SandboxLimit,
                format!(
                    "its work and output folders took more than {} of disk, or more files or deeper folders than may be",
                    bytes(self.disk)
                ),
            ),
            Reason::Budget(exceeded) => failed(FailureCode::BudgetExceeded, exceeded.message.as_str()),
            Reason::BrokerGone => failed(
                FailureCode::Internal,
                "the job's model broker has gone; without it the agent reaches nothing, so it was ended",
            ),
            Reason::ProxyGone => failed(
                FailureCode::Internal,
                "the job's egress proxy has gone; without it the agent reaches no host, so it was ended",
            ),
        }
    }

    fn stdout(&self) -> Writer {
        Writer::new(self.lines.clone(), LogStream::Stdout, self.redactor).heard_by(self.listener)
    }

    async fn program(&self, exec: Exec) -> Outcome {
        let name = exec.argv.first().cloned().unwrap_or_default();
        let mut process = match self.sandbox.exec(exec).await {
            Ok(process) => process,
            Err(SandboxError::Failed {
                what,
                source: Some(source),
            }) => return Outcome::Failed(format!("`{name}`: {what}: {source}")),
            Err(error) => return Outcome::Lost(error),
        };
        let mut stdout = self.stdout();
        let mut stderr = Writer::new(self.lines.clone(), LogStream::Stderr, self.redactor);
        let mut exit = None;
        while let Some(output) = process.output.recv().await {
            match output {
                Output::Bytes(Stream::Stdout, bytes) => stdout.write(&bytes).await,
                Output::Bytes(Stream::Stderr, bytes) => stderr.write(&bytes).await,
                Output::Exited(how) => exit = Some(how),
            }
        }
        stdout.finish().await;
        stderr.finish().await;
        exit.map_or_else(
            || Outcome::Lost(SandboxError::failed("the sandbox has gone")),
            Outcome::Exited,
        )
    }

    async fn mini(
        &self,
        model: String,
        prompt: String,
        env: std::collections::BTreeMap<String, pond_core::secret::Secret>,
    ) -> Outcome {
        let Some(broker) = self.broker else {
            return Outcome::Failed("the built-in agent has no model".into());
        };
        let log = Log(Mutex::new(Writer::new(
            self.lines.clone(),
            LogStream::Stderr,
            self.redactor,
        )));
        let mini = Mini {
            wire: broker.wire,
            model,
            broker: broker.socket.clone(),
            sandbox: self.sandbox,
            env,
            tools: BTreeSet::from(Tool::ALL),
            system: None,
            limits: MiniLimits::default(),
            clock: Arc::clone(self.clock),
            log: &log,
        };
        let ended = mini.run(&prompt).await;
        log.0.into_inner().finish().await;
        match ended {
            Ok(end) => {
                let mut stdout = self.stdout();
                stdout.write(end.text.as_bytes()).await;
                stdout.finish().await;
                Outcome::Done
            }
            Err(MiniError::Sandbox(error)) => Outcome::Lost(error),
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }

    /// What an end means. An agent that ran out of budget has not done what it was to do, whatever it says; a limit that was
    /// run into explains a bad end.
    async fn judge(&self, outcome: Outcome) -> JobEnd {
        let purse = self.broker.and_then(|broker| broker.purse.as_ref());
        if let Some(exceeded) = purse.and_then(|purse| purse.exceeded_already()) {
            return failed(FailureCode::BudgetExceeded, exceeded.message);
        }
        if let Outcome::Done | Outcome::Exited(Exit::Code(0)) = outcome {
            return JobEnd::Done;
        }
        if let Some(limit) = self.breached().await {
            return failed(FailureCode::SandboxLimit, limit_message(&self.limits, limit));
        }
        match outcome {
            Outcome::Done => JobEnd::Done,
            Outcome::Exited(Exit::Code(code)) => failed(FailureCode::ExitNonzero, format!("exit code {code}")),
            Outcome::Exited(exit @ Exit::Signal(signal)) => failed(
                FailureCode::ExitNonzero,
                format!("exit code {}: killed by signal {signal}", exit.rc()),
            ),
            Outcome::Failed(why) => failed(FailureCode::AgentFailed, self.redactor.text(&why)),
            Outcome::Lost(error) => failed(FailureCode::AgentFailed, format!("the sandbox was lost: {error}")),
        }
    }

    async fn breached(&self) -> Option<LimitKind> {
        self.sandbox.stats().await.ok()?.breached.first().copied()
    }
}

/// What is said of a limit that was run into.
pub(crate) fn limit_message(limits: &Limits, kind: LimitKind) -> String {
    match kind {
        LimitKind::Memory => format!("ran into its memory limit of {}", bytes(limits.memory)),
        LimitKind::Pids => format!("ran into its limit of {} processes (pids_limit)", limits.pids),
        LimitKind::Disk => format!(
            "filled the {} of its /tmp or home folder (tmpfs_size)",
            bytes(limits.tmpfs)
        ),
    }
}

/// Takes mini's log.
struct Log(Mutex<Writer>);

#[async_trait]
impl LogSink for Log {
    async fn line(&self, line: &str) {
        let mut writer = self.0.lock().await;
        writer.write(line.as_bytes()).await;
        writer.write(b"\n").await;
    }
}

pub(super) fn failed(code: FailureCode, message: impl Into<String>) -> JobEnd {
    JobEnd::Failed(Failure::new(code, message))
}

pub(super) fn timed_out(timeout: Duration) -> JobEnd {
    failed(
        FailureCode::Timeout,
        format!("ran longer than its {} s", timeout.as_secs_f64()),
    )
}

fn bytes(count: u64) -> String {
    match count {
        count if count >= 1 << 30 && count.is_multiple_of(1 << 30) => format!("{} GiB", count >> 30),
        count if count >= 1 << 20 && count.is_multiple_of(1 << 20) => format!("{} MiB", count >> 20),
        count => format!("{count} bytes"),
    }
}
