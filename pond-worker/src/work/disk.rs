//! How much a job has written to the folders of the host that it is shown: nothing else holds it there.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pond_core::clock::Clock;

/// Bytes on disk that a job's folders may take beside its sources.
pub(crate) const CAP: u64 = 8 << 30;
/// Files and folders that they may hold.
const MAX_ENTRIES: u64 = 4_000_000;
/// How long there is between two looks; longer where a look takes long.
const PERIOD: Duration = Duration::from_secs(3);
const SHARE: u32 = 20;

/// Waits until folders take more than `cap` bytes of disk, hold more than may be, or are made so that they cannot be
/// measured.
pub(crate) async fn filled(folders: &[PathBuf], cap: u64, clock: &dyn Clock) {
    let mut pause = PERIOD;
    loop {
        clock.sleep(pause).await;
        let folders = folders.to_vec();
        let look = move || {
            let began = Instant::now();
            (is_over(&folders, cap, MAX_ENTRIES), began.elapsed())
        };
        match tokio::task::spawn_blocking(look).await {
            Ok((false, took)) => pause = PERIOD.max(took.saturating_mul(SHARE)),
            Ok((true, _)) | Err(_) => return,
        }
    }
}

/// Looks at what is there now; stops as soon as it is too much.
fn is_over(folders: &[PathBuf], cap: u64, most: u64) -> bool {
    let mut sum = Sum {
        bytes: 0,
        entries: 0,
        cap,
        most,
        linked: HashSet::new(),
    };
    let mut waiting = folders.to_vec();
    while let Some(folder) = waiting.pop() {
        match sum.add(&folder, &mut waiting) {
            Ok(()) => {}
            // A folder too deep for any path hides what is in it.
            Err(error) if error.kind() == io::ErrorKind::InvalidFilename => return true,
            // It has gone or changed meanwhile; or it is closed to the worker, which then is not root.
            Err(_) => {}
        }
        if sum.is_over() {
            return true;
        }
    }
    false
}

struct Sum {
    bytes: u64,
    entries: u64,
    cap: u64,
    most: u64,
    /// Files of several names, each counted once.
    linked: HashSet<(u64, u64)>,
}

impl Sum {
    fn is_over(&self) -> bool {
        self.bytes > self.cap || self.entries > self.most
    }

    fn add(&mut self, folder: &Path, waiting: &mut Vec<PathBuf>) -> io::Result<()> {
        // Not through a link that stands there by now.
        if !folder.symlink_metadata()?.is_dir() {
            return Ok(());
        }
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            // Asked of the open folder, and of the entry itself.
            let Ok(found) = entry.metadata() else { continue };
            self.entries += 1;
            if found.nlink() == 1 || found.is_dir() || self.linked.insert((found.dev(), found.ino())) {
                self.bytes = self.bytes.saturating_add(found.blocks().saturating_mul(512));
            }
            if self.is_over() {
                return Ok(());
            }
            if found.is_dir() {
                waiting.push(entry.path());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_on_disk_counts_and_what_is_only_said_does_not() {
        let temp = tempfile::tempdir().expect("a folder");
        let folders = [temp.path().to_owned()];
        let over = |cap| is_over(&folders, cap, 1000);
        fs::File::create(temp.path().join("sparse"))
            .expect("a file")
            .set_len(1 << 40)
            .expect("sparse");
        std::os::unix::fs::symlink("/", temp.path().join("link")).expect("a link");
        assert!(!over(1 << 20));
        fs::create_dir(temp.path().join("in")).expect("a folder");
        fs::write(temp.path().join("in/full"), vec![1; 2 << 20]).expect("a file");
        assert!(over(1 << 20));
        fs::hard_link(temp.path().join("in/full"), temp.path().join("again")).expect("a link");
        assert!(!over(3 << 20), "one file of two names is there once");
        assert!(is_over(&folders, u64::MAX, 3), "empty files have a bound too");
    }

    #[test]
    fn a_folder_too_deep_to_be_looked_into_is_too_much() {
        use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
        let temp = tempfile::tempdir().expect("a folder");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut at = openat(CWD, temp.path(), flags, Mode::empty()).expect("open");
        let name = "n".repeat(250);
        for _ in 0..20 {
            mkdirat(&at, name.as_str(), Mode::RWXU).expect("made");
            at = openat(&at, name.as_str(), flags, Mode::empty()).expect("open");
        }
        assert!(is_over(&[temp.path().to_owned()], u64::MAX, 1000));
    }

    #[tokio::test]
    async fn a_folder_that_fills_up_is_seen() {
        let temp = tempfile::tempdir().expect("a folder");
        let folders = [temp.path().to_owned()];
        let clock = pond_core::testing::ManualClock::new();
        let mut filled = Box::pin(filled(&folders, 1 << 20, &*clock));
        assert!(futures::poll!(&mut filled).is_pending());
        fs::write(temp.path().join("full"), vec![1; 2 << 20]).expect("a file");
        clock.advance(PERIOD);
        filled.await;
    }
}
