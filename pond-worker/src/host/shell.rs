//! A `shell` stage, from its sources to what it left.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pond_core::artifacts::{ArtifactName, ByteStream};
use pond_core::clock::{Clock, Timestamp};
use pond_core::logs::{LogStream, Marks, Redacting, Redactor, split_lines};
use pond_core::runs::executors::StageSink;
use pond_core::runs::{Failure, FailureCode, ShellRun, StageOutcome};
use pond_core::sandbox::{
    Access, Exec, Exit, Mount, Output as Out, Process, Profile, Running, SandboxError, Signal, Spec, Stream,
};
use pond_core::secret::Secret;
use tokio_util::sync::CancellationToken;

use super::{Bench, ShellSandbox, internal};
use crate::collect::{Output, blocking, look, without_secrets};
use crate::prepare::WorkFolder;
use crate::work::{disk, limit_message, not_started};

/// Where a confined stage finds its copy of the sources and its output folder.
const CHECKOUT: &str = "/work";
const OUTPUT: &str = "/output";
/// How long the last words of a killed program are waited for.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// What a stage gets beyond its timeout and grace before its sandbox ends itself, should the engine hang.
const SPARE: Duration = Duration::from_secs(30);
/// Bytes of lines after which there is a pause, so that what waits for the run's driver stays small.
const PACE: usize = 1 << 20;
const PAUSE: Duration = Duration::from_millis(100);

/// Why a stage is over.
enum Over {
    Exited(Exit),
    /// The sandbox went, and the program with it.
    Lost,
    Timeout,
    Disk,
    Stopped,
}

/// Runs a stage to its end. Told to stop, it kills the program, and leaves nothing either.
pub(super) async fn run(bench: Arc<Bench>, shell: ShellRun, stop: CancellationToken) -> StageOutcome {
    let mut folder = match bench.folder("shell").await {
        Ok(folder) => folder,
        Err(failure) => return StageOutcome::Failed(failure),
    };
    let ShellRun {
        argv,
        env,
        bundle,
        timeout,
        grace,
        sink,
        clock,
        artifact_cap,
    } = shell;
    let stage = Stage {
        bench: &bench,
        until: clock.now().plus(timeout),
        argv,
        env,
        timeout,
        grace,
        sink,
        clock,
        cap: artifact_cap,
        stop,
    };
    let outcome = match stage.prepare(&mut folder, bundle).await {
        Ok(()) => stage.in_folder(&folder).await,
        Err(outcome) => outcome,
    };
    folder.remove().await;
    outcome
}

struct Stage<'a> {
    bench: &'a Bench,
    argv: Vec<String>,
    env: std::collections::BTreeMap<String, String>,
    timeout: Duration,
    /// When the timeout strikes.
    until: Timestamp,
    grace: Duration,
    sink: StageSink,
    clock: Arc<dyn Clock>,
    cap: u64,
    stop: CancellationToken,
}

impl Stage<'_> {
    /// Lays the sources out.
    async fn prepare(&self, folder: &mut WorkFolder, bundle: Option<ByteStream>) -> Result<(), StageOutcome> {
        let laid = async {
            if let Some(bundle) = bundle {
                self.bench.keep(folder, bundle).await?;
            }
            self.bench.unpack(folder, folder.checkout()).await
        };
        let left = self.until.since(self.clock.now());
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(StageOutcome::Cancelled),
            () = self.clock.sleep(left) => Err(StageOutcome::Failed(self.timed_out())),
            laid = laid => laid.map_err(StageOutcome::Failed),
        }
    }

    async fn in_folder(&self, folder: &WorkFolder) -> StageOutcome {
        let over = match self.bench.sandbox.start(self.spec(folder)).await {
            Ok(sandbox) => self.in_sandbox(&*sandbox, folder).await,
            Err(error) => Err(not_started(&error)),
        };
        if self.stop.is_cancelled() {
            return StageOutcome::Cancelled;
        }
        let kept = self.keep_output(folder).await;
        match over.and(kept) {
            Ok(()) => StageOutcome::Done,
            Err(failure) => StageOutcome::Failed(failure),
        }
    }

    fn spec(&self, folder: &WorkFolder) -> Spec {
        let mount = |host, inside: &str| Mount {
            host,
            inside: inside.into(),
            access: Access::Write,
        };
        Spec {
            name: "shell".into(),
            profile: match self.bench.settings.shell {
                ShellSandbox::Bubblewrap => Profile::UntrustedCodeWrite,
                ShellSandbox::None => Profile::None,
            },
            mounts: vec![mount(folder.checkout(), CHECKOUT), mount(folder.output(), OUTPUT)],
            home: Vec::new(),
            bridges: Vec::new(),
            limits: self.bench.settings.limits,
            image: None,
        }
    }

    /// Runs the program; on return nothing of the sandbox is left.
    async fn in_sandbox(&self, sandbox: &dyn Running, folder: &WorkFolder) -> Result<(), Failure> {
        let left = self.until.since(self.clock.now());
        let end = Instant::now().checked_add(left.saturating_add(self.grace).saturating_add(SPARE));
        let started = match end {
            Some(end) => sandbox.keep(end).await,
            None => Ok(()),
        };
        let over = match started {
            Ok(()) => self.drive(sandbox, folder).await,
            Err(error) => Err(not_started(&error)),
        };
        let judged = match over {
            Ok(over) => self.judge(over, sandbox).await,
            Err(failure) => Err(failure),
        };
        sandbox.kill().await.map_err(|error| internal("its sandbox", &error))?;
        judged
    }

    async fn drive(&self, sandbox: &dyn Running, folder: &WorkFolder) -> Result<Over, Failure> {
        let process = sandbox
            .exec(self.exec(folder))
            .await
            .map_err(|error| self.not_run(&error))?;
        let signals = process.signals.clone();
        let mut work = Box::pin(self.listen(process));
        let folders = [folder.checkout(), folder.output()];
        let cap = disk::CAP.saturating_add(self.bench.settings.sources.bytes);
        let left = self.until.since(self.clock.now());
        let over = tokio::select! {
            biased;
            () = self.stop.cancelled() => Over::Stopped,
            exit = &mut work => return Ok(exit.map_or(Over::Lost, Over::Exited)),
            () = self.clock.sleep(left) => Over::Timeout,
            () = disk::filled(&folders, cap, &*self.clock) => Over::Disk,
        };
        if matches!(over, Over::Timeout) {
            // A full queue of signals means that one is under way already.
            let _ = signals.try_send(Signal::Term);
            tokio::select! {
                biased;
                () = self.stop.cancelled() => {}
                _ = &mut work => return Ok(over),
                () = self.clock.sleep(self.grace) => {}
            }
        }
        sandbox.kill().await.map_err(|error| internal("its sandbox", &error))?;
        tokio::select! {
            biased;
            _ = &mut work => {}
            () = self.clock.sleep(LAST_WORDS) => {}
        }
        Ok(over)
    }

    fn exec(&self, folder: &WorkFolder) -> Exec {
        let output = match self.bench.settings.shell {
            ShellSandbox::Bubblewrap => PathBuf::from(OUTPUT),
            ShellSandbox::None => folder.output(),
        };
        let own = ("POND_OUTPUT_DIR".to_owned(), output.to_string_lossy().into_owned());
        let env = self.env.clone().into_iter().chain([own]);
        Exec {
            argv: self.argv.clone(),
            env: env.map(|(name, value)| (name, Secret::new(value))).collect(),
            ..Exec::default()
        }
    }

    fn not_run(&self, error: &SandboxError) -> Failure {
        let program = self.argv.first().map_or("", String::as_str);
        match error {
            // As a shell says it of a program that is not there or cannot be run.
            SandboxError::Failed {
                what,
                source: Some(source),
            } => Failure::new(
                FailureCode::ExitNonzero,
                format!("exit code 127: `{program}`: {what}: {source}"),
            ),
            error => internal("its sandbox", error),
        }
    }

    /// Passes on what the program writes, and gives its end.
    async fn listen(&self, mut process: Process) -> Option<Exit> {
        let redactor = Redactor::default();
        let mut stdout = Pipe::new(LogStream::Stdout, &redactor);
        let mut stderr = Pipe::new(LogStream::Stderr, &redactor);
        let (mut exit, mut passed) = (None, 0);
        while let Some(output) = process.output.recv().await {
            passed += match output {
                Out::Bytes(Stream::Stdout, bytes) => stdout.push(&bytes, self),
                Out::Bytes(Stream::Stderr, bytes) => stderr.push(&bytes, self),
                Out::Exited(how) => {
                    exit = Some(how);
                    0
                }
            };
            if passed >= PACE {
                passed = 0;
                self.clock.sleep(PAUSE).await;
            }
        }
        stdout.finish(self);
        stderr.finish(self);
        exit
    }

    fn timed_out(&self) -> Failure {
        Failure::new(
            FailureCode::Timeout,
            format!("ran longer than its {} s", self.timeout.as_secs_f64()),
        )
    }

    /// What an end means. A limit that was run into explains a bad one.
    async fn judge(&self, over: Over, sandbox: &dyn Running) -> Result<(), Failure> {
        let exit = match over {
            Over::Exited(Exit::Code(0)) | Over::Stopped => return Ok(()),
            Over::Exited(exit) => exit,
            Over::Lost => return Err(internal("its sandbox", &"it was lost")),
            Over::Timeout => return Err(self.timed_out()),
            Over::Disk => {
                return Err(Failure::new(
                    FailureCode::SandboxLimit,
                    "its work and output folders took more disk, or more files, than may be",
                ));
            }
        };
        let breached = sandbox
            .stats()
            .await
            .ok()
            .and_then(|stats| stats.breached.first().copied());
        Err(match (breached, exit) {
            (Some(limit), _) => {
                let message = limit_message(&self.bench.settings.limits, limit);
                Failure::new(FailureCode::SandboxLimit, message)
            }
            (None, Exit::Code(code)) => Failure::new(FailureCode::ExitNonzero, format!("exit code {code}")),
            (None, Exit::Signal(signal)) => Failure::new(
                FailureCode::ExitNonzero,
                format!("exit code {}: killed by signal {signal}", exit.rc()),
            ),
        })
    }

    /// Keeps the files of the output folder.
    async fn keep_output(&self, folder: &WorkFolder) -> Result<(), Failure> {
        let (output, scratch, cap) = (folder.output(), folder.scratch(), self.cap);
        let kept = blocking(move |halt| {
            let Output { files, skipped } = look(&output, &[])?;
            let redactor = Redactor::default();
            let (mut left, mut over, mut kept) = (cap, false, Vec::<(ArtifactName, Vec<u8>)>::new());
            for (name, file) in files {
                let clean = without_secrets(file, &redactor, &scratch, left, halt)?;
                // The smaller ones are kept all the same.
                let Some(clean) = clean else {
                    over = true;
                    continue;
                };
                left -= clean.size;
                kept.push((name, clean.read()?));
            }
            Ok((kept, over, skipped.line()))
        });
        let (files, over, skipped) = kept.await.map_err(|error| internal("the output folder", &error))?;
        if let Some(line) = skipped {
            self.sink.line(self.clock.now(), line);
        }
        for (name, bytes) in files {
            self.sink.artifact(name, bytes);
        }
        match over {
            true => Err(Failure::new(
                FailureCode::ArtifactTooLarge,
                format!("the artifacts are larger than their {} bytes", self.cap),
            )),
            false => Ok(()),
        }
    }
}

/// Turns the bytes of one stream into lines.
struct Pipe {
    stream: LogStream,
    redacting: Redacting,
    buffer: Vec<u8>,
}

impl Pipe {
    fn new(stream: LogStream, redactor: &Redactor) -> Self {
        Self {
            stream,
            redacting: redactor.stream(Marks::Named),
            buffer: Vec::new(),
        }
    }

    /// Passes whole lines on, and says how many bytes these were.
    fn push(&mut self, bytes: &[u8], stage: &Stage<'_>) -> usize {
        self.redacting.push(bytes, &mut self.buffer);
        self.pass(stage, false);
        bytes.len()
    }

    fn finish(&mut self, stage: &Stage<'_>) {
        self.redacting.finish(&mut self.buffer);
        self.pass(stage, true);
    }

    fn pass(&mut self, stage: &Stage<'_>, last: bool) {
        let now = stage.clock.now();
        for line in split_lines(&mut self.buffer, last) {
            stage.sink.output(now, self.stream, line);
        }
    }
}
