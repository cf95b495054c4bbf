//! What has to be ended when a sandbox has, whatever holds it: once, until it is done, and before its uid is another's.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pond_core::sandbox::{Enforcement, SandboxError};

use super::host::Host;
use super::init::Control;
use super::limits::Usage;
use super::record::Folder;
use super::uid::UidLease;

/// How long a sandbox may take to end before that is an error.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// The first and the longest pause before a sandbox that did not end is ended again.
const RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// What holds the processes of one sandbox together. All methods block, shortly.
pub(super) trait Body: Send + Sync {
    /// By what its limits hold.
    fn enforcement(&self) -> Enforcement;
    /// What its processes use, the init and what confines it included.
    fn usage(&self) -> Result<Usage, SandboxError>;
    /// Stops the processes where they stand.
    fn freeze(&self) -> Result<(), SandboxError>;
    /// Lets them go on.
    fn thaw(&self) -> Result<(), SandboxError>;
    /// Ends every process and removes what held them. Called again when it was an error.
    fn end(&self) -> Result<(), SandboxError>;
}

/// What has to be ended and removed, once.
pub(super) struct Remains {
    pub(super) control: Option<Arc<Control>>,
    pub(super) body: Arc<dyn Body>,
    pub(super) folder: Option<Folder>,
    pub(super) uid: Option<UidLease>,
    /// Lives as long as any sandbox of it.
    pub(super) _host: Arc<Host>,
}

impl Remains {
    /// Ends every process and removes what is left. Until that has come to its end, the uid is held and the record stays.
    /// Blocks.
    pub(super) fn end(&mut self) -> Result<(), SandboxError> {
        if self.folder.is_none() {
            return Ok(());
        }
        if let Some(control) = &self.control {
            control.close();
        }
        self.body.end()?;
        if let Some(folder) = self.folder.take() {
            folder.remove();
        }
        self.uid = None;
        Ok(())
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            // The record is still there: the next life tries again. Until then nobody else may become who still runs.
            std::mem::forget(self.uid.take());
            tracing::error!(%error, "a sandbox stays behind");
        }
    }
}

/// Holds what a start has made so far; let go of, it is ended.
pub(super) struct Guard(pub(super) Option<Remains>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(remains) = self.0.take() {
            end_in_background(remains);
        }
    }
}

/// Ending blocks, and this may be a runtime's thread. Where no other can be had, it is done here after all.
pub(super) fn end_in_background(remains: Remains) {
    let remains = Arc::new(Mutex::new(Some(remains)));
    let theirs = Arc::clone(&remains);
    let end = move || {
        let remains = theirs.lock().expect("no holder of this lock panics").take();
        if let Some(remains) = remains {
            end_at_last(remains, RETRY);
        }
    };
    if std::thread::Builder::new()
        .name("pond-sandbox-end".into())
        .spawn(end)
        .is_err()
    {
        drop(remains.lock().expect("no holder of this lock panics").take());
    }
}

/// Tries until it has ended; what cannot be killed now may be later.
fn end_at_last(mut remains: Remains, mut pause: Duration) {
    while let Err(error) = remains.end() {
        tracing::error!(%error, "a sandbox stays behind, and is ended again later");
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_RETRY);
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::sandbox::HostSettings;
    use crate::sandbox::launch::Process;
    use crate::sandbox::launched::Launched;
    use crate::sandbox::limits::{Group, Means};
    use crate::sandbox::uid::UidPool;

    /// A group that cannot be killed a number of times.
    struct Stubborn {
        group: Box<dyn Group>,
        refusals: AtomicUsize,
    }

    impl Group for Stubborn {
        fn add(&self, pid: u32) -> io::Result<()> {
            self.group.add(pid)
        }

        fn limit(&self, limits: &pond_core::sandbox::Limits) -> io::Result<()> {
            self.group.limit(limits)
        }

        fn usage(&self) -> io::Result<Usage> {
            self.group.usage()
        }

        fn freeze(&self) -> io::Result<()> {
            self.group.freeze()
        }

        fn thaw(&self) -> io::Result<()> {
            self.group.thaw()
        }

        fn kill(&self) -> io::Result<usize> {
            let less = |left: usize| left.checked_sub(1);
            match self.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) {
                Ok(_) => Err(io::Error::other("it does not die")),
                Err(_) => self.group.kill(),
            }
        }

        fn remove(&self) -> io::Result<()> {
            self.group.remove()
        }

        fn folders(&self) -> Vec<PathBuf> {
            self.group.folders()
        }

        fn enforcement(&self) -> Enforcement {
            self.group.enforcement()
        }
    }

    fn remains(host: &Arc<Host>, uids: &UidPool, refusals: usize) -> (Remains, Arc<Process>, PathBuf) {
        let parked = host.launcher().expect("a launcher");
        let place = parked.folder.path().to_owned();
        let remains = Remains {
            control: None,
            body: Arc::new(Launched {
                process: Arc::clone(&parked.process),
                group: Box::new(Stubborn {
                    group: parked.group,
                    refusals: refusals.into(),
                }),
            }),
            folder: Some(parked.folder),
            uid: uids.lease(),
            _host: Arc::clone(host),
        };
        (remains, parked.process, place)
    }

    fn host(state: &Path) -> Arc<Host> {
        let settings = HostSettings {
            state: state.to_owned(),
            uid_range: None,
            means: Some(Means::Rlimits),
        };
        Host::open(settings).expect("the host opens")
    }

    #[test]
    fn what_cannot_be_killed_keeps_its_uid_and_its_record_until_it_is() {
        let state = tempfile::tempdir().expect("a folder");
        let host = host(state.path());
        let uids = UidPool::new(4_000_000_100..=4_000_000_100).expect("a sound range");
        let (mut remains, _, place) = remains(&host, &uids, 1);
        remains.end().expect_err("it cannot be killed");
        assert!(uids.lease().is_none(), "nobody else gets the uid of what still runs");
        assert!(place.exists(), "the next life knows of it");
        remains.end().expect("it dies now");
        assert!(uids.lease().is_some() && !place.exists());
    }

    #[test]
    fn it_is_tried_until_it_dies_and_a_uid_that_is_let_go_of_alive_is_never_given_again() {
        let state = tempfile::tempdir().expect("a folder");
        let host = host(state.path());
        let uids = UidPool::new(4_000_000_101..=4_000_000_101).expect("a sound range");
        let (first, _, place) = remains(&host, &uids, 3);
        end_at_last(first, Duration::from_millis(1));
        assert!(!place.exists());
        let (second, process, place) = remains(&host, &uids, 1);
        drop(second);
        assert!(uids.lease().is_none() && place.exists());
        process.kill();
        assert!(process.wait(PATIENCE), "own child");
    }
}
