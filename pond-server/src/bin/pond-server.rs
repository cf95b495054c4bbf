//! `pond-server`: serves the API.

use pond_server::program;
use pond_server::settings::Role;

fn main() {
    let environment = program::environment();
    program::install(&environment, "info");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime: without threads there is no server");
    let code = runtime.block_on(program::serve(&environment, Role::Server));
    std::process::exit(i32::from(code));
}
