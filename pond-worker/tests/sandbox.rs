//! The sandbox backends of this crate, by the suite that every backend has to pass.

use std::path::PathBuf;
use std::sync::Arc;

use pond_core::sandbox::{BackendKind, Profile};
use pond_core::testing::conformance::sandbox::Bench;
use pond_worker::sandbox::{Host, HostSettings, Means, open};

const UIDS: std::ops::RangeInclusive<u32> = 200_000..=265_535;

fn bench(kind: BackendKind, profile: Profile, means: Option<Means>) -> Bench {
    // Closed to everybody else, as a worker's state folder is.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = nix::unistd::geteuid().is_root();
    let state = folder.path().join("state");
    let host = Host::open(HostSettings {
        state,
        uid_range: root.then_some(UIDS),
        means,
    })
    .expect("the host opens");
    let work = folder.path().join("work");
    std::fs::create_dir(&work).expect("own folder");
    Bench {
        sandbox: open(kind, &host).expect("the backend is built in"),
        profile,
        probe: PathBuf::from(env!("POND_PROBE")),
        folder: work,
        uids: (root && profile.is_confined()).then_some(UIDS),
        image: None,
        keep: Box::new(Closing { host, _folder: folder }),
    }
}

/// Ends all of a bench before its folders go.
struct Closing {
    host: Arc<Host>,
    _folder: tempfile::TempDir,
}

impl Drop for Closing {
    fn drop(&mut self) {
        let closed = self.host.close();
        assert!(closed.is_ok() || std::thread::panicking(), "{closed:?}");
    }
}

fn none() -> Bench {
    bench(BackendKind::None, Profile::None, None)
}

fn none_by_rlimits() -> Bench {
    bench(BackendKind::None, Profile::None, Some(Means::Rlimits))
}

fn bubblewrap() -> Bench {
    bench(BackendKind::Bubblewrap, Profile::UntrustedCodeWrite, None)
}

fn bubblewrap_by_rlimits() -> Bench {
    bench(
        BackendKind::Bubblewrap,
        Profile::UntrustedCodeWrite,
        Some(Means::Rlimits),
    )
}

pond_core::sandbox_conformance!(on_none, none);
pond_core::sandbox_conformance!(on_none_by_rlimits, none_by_rlimits);
pond_core::sandbox_conformance!(on_bubblewrap, bubblewrap, confined);
pond_core::sandbox_conformance!(on_bubblewrap_by_rlimits, bubblewrap_by_rlimits, confined);
