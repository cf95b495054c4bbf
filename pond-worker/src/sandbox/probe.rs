//! Tries a backend out as a job would use it.

use pond_core::sandbox::{Exec, Exit, Limits, Output, Profile, Running, Sandbox, SandboxError, Spec};

/// Starts a sandbox, runs a program in it, and ends it.
pub(super) async fn run(sandbox: &dyn Sandbox, profile: Profile) -> Result<(), SandboxError> {
    let limits = Limits {
        memory: 256 << 20,
        millicpus: 1000,
        pids: 16,
        tmpfs: 1 << 20,
    };
    let spec = Spec {
        name: "probe".into(),
        profile,
        mounts: Vec::new(),
        home: Vec::new(),
        bridges: Vec::new(),
        limits,
        image: None,
    };
    let running = sandbox.start(spec).await?;
    let outcome = run_true(running.as_ref()).await;
    running.kill().await?;
    outcome
}

async fn run_true(running: &dyn Running) -> Result<(), SandboxError> {
    let argv = ["sh", "-c", "exit 0"].map(str::to_owned).to_vec();
    let mut program = running
        .exec(Exec {
            argv,
            ..Exec::default()
        })
        .await?;
    while let Some(output) = program.output.recv().await {
        match output {
            Output::Exited(Exit::Code(0)) => return Ok(()),
            Output::Exited(exit) => {
                return Err(SandboxError::failed(format!(
                    "a program in the sandbox ends with {}",
                    exit.rc()
                )));
            }
            Output::Bytes(..) => {}
        }
    }
    Err(SandboxError::failed("the sandbox has gone"))
}
