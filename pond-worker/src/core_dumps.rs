//! No core dumps: the memory of a process that opens secrets is nobody's to keep.

use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, setrlimit};

/// Keeps this process, and those that it starts, from leaving a core file; and this one from being dumped by a handler of the
/// host, or read by other processes of the same user. To be called first of all; where the kernel refuses, the process ends.
pub fn refuse_core_dumps() {
    // A limit of zero stops files; a handler that the kernel pipes dumps to is stopped by the other alone.
    let refused = setrlimit(Resource::RLIMIT_CORE, 0, 0).and_then(|()| set_dumpable(false));
    if let Err(error) = refused {
        eprintln!("pond: core dumps cannot be turned off: {error}");
        std::process::exit(1);
    }
}
