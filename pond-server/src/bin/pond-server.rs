//! `pond-server`: serves the API.

use clap::Parser;
use pond_server::program;
use pond_server::settings::Role;

/// Serves Pond's API; settings are POND_* variables
#[derive(Debug, Parser)]
#[command(name = "pond-server", version)]
struct Arguments {
    /// Let the embedded pool run jobs without a sandbox, where POND_REQUIRE_SANDBOX is off too
    #[arg(long)]
    allow_unconfined: bool,
}

fn main() {
    let arguments = Arguments::parse();
    pond_worker::refuse_core_dumps();
    let environment = program::environment();
    program::install(&environment, "info");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime: without threads there is no server");
    let code = runtime.block_on(program::serve(&environment, Role::Server, arguments.allow_unconfined));
    std::process::exit(i32::from(code));
}
