//! A sandbox whose programs can all be asked to end, whoever started them.

use std::sync::Mutex;
use std::time::Instant;

use async_trait::async_trait;
use futures::future::join_all;
use pond_core::sandbox::{Enforcement, Exec, Process, Running, SandboxError, Signal, Stats};
use tokio::sync::mpsc;

/// A sandbox, and the programs started in it.
pub(crate) struct Watched {
    running: Box<dyn Running>,
    programs: Mutex<Vec<mpsc::Sender<Signal>>>,
}

impl Watched {
    pub(crate) fn new(running: Box<dyn Running>) -> Self {
        Self {
            running,
            programs: Mutex::default(),
        }
    }

    fn programs(&self) -> Vec<mpsc::Sender<Signal>> {
        let mut programs = self.programs.lock().expect("no holder of this lock panics");
        programs.retain(|program| !program.is_closed());
        programs.clone()
    }

    /// Asks every program to end.
    pub(crate) fn ask_to_end(&self) {
        for program in self.programs() {
            // A full queue of signals means that one is under way already.
            let _ = program.try_send(Signal::Term);
        }
    }

    /// Waits until every program has ended.
    pub(crate) async fn ended(&self) {
        join_all(self.programs().iter().map(mpsc::Sender::closed)).await;
    }
}

#[async_trait]
impl Running for Watched {
    async fn exec(&self, exec: Exec) -> Result<Process, SandboxError> {
        let process = self.running.exec(exec).await?;
        let mut programs = self.programs.lock().expect("no holder of this lock panics");
        programs.retain(|program| !program.is_closed());
        programs.push(process.signals.clone());
        Ok(process)
    }

    fn enforcement(&self) -> Enforcement {
        self.running.enforcement()
    }

    async fn stats(&self) -> Result<Stats, SandboxError> {
        self.running.stats().await
    }

    async fn freeze(&self) -> Result<(), SandboxError> {
        self.running.freeze().await
    }

    async fn thaw(&self) -> Result<(), SandboxError> {
        self.running.thaw().await
    }

    async fn keep(&self, until: Instant) -> Result<(), SandboxError> {
        self.running.keep(until).await
    }

    async fn kill(&self) -> Result<(), SandboxError> {
        self.running.kill().await
    }
}
