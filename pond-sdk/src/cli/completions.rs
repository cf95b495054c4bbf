//! `pond completions`.

use clap::Args;
use clap_complete::Shell;
use serde_json::json;

use super::Program;
use super::console::Console;
use super::exit::{Exit, Fault};

/// What stands behind `pond completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Writes a completion script.
pub(super) fn run(args: &CompletionsArgs, program: Program, console: &mut Console) -> Result<Exit, Fault> {
    let mut command = program.command;
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    if console.json() {
        console.result(&json!({ "shell": args.shell.to_string(), "script": String::from_utf8_lossy(&script) }))?;
    } else {
        console.bytes(&script)?;
    }
    Ok(Exit::Ok)
}
