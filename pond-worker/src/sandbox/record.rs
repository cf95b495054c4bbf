//! What is on disk about each sandbox, so that a later life of the worker can end what an earlier one left.
//!
//! `<state>/sandboxes/<id>/record.json` names processes and control groups; beside it lie the home and temporary folders of
//! an unconfined sandbox.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::limits::Means;
use super::uid::UidLease;
use crate::prepare::remove;

const RECORD: &str = "record.json";
/// How long the end of what was left may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// One process, told from a later one of the same number by when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    pid: i32,
    /// In clock ticks since the host started.
    started: u64,
}

impl Identity {
    fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
        let state = fields.next()?;
        let started = fields.nth(18)?.parse().ok()?;
        (state != "Z").then_some(Self { pid, started })
    }

    fn lives(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
}

/// The record of one sandbox.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// The worker that started it; what belongs to a living one is left alone.
    owner: Identity,
    /// The launcher, whatever it became.
    root: Option<Identity>,
    /// The job's own uid.
    uid: Option<u32>,
    groups: Vec<PathBuf>,
    /// The container that holds it, which its engine has to end.
    #[serde(default)]
    container: Option<String>,
}

/// What holds a sandbox.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// Its first process, on the host.
    pub(crate) root: Option<i32>,
    /// The job's own uid.
    pub(crate) uid: Option<u32>,
    pub(crate) groups: Vec<PathBuf>,
    /// Its container, by name.
    pub(crate) container: Option<String>,
}

/// Where the sandboxes of one worker are kept.
#[derive(Debug, Clone)]
pub(crate) struct Shelf {
    folder: PathBuf,
    /// Begins the name of each control group made from this folder, so that groups without a record are found too.
    mark: String,
}

impl Shelf {
    pub(crate) fn open(state: &Path) -> io::Result<Self> {
        let folder = state.join("sandboxes");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let folder = folder.canonicalize()?;
        let digest = Sha256::digest(folder.as_os_str().as_encoded_bytes());
        Ok(Self {
            folder,
            mark: hex::encode(&digest[..6]),
        })
    }

    /// Makes the folder of a sandbox; `number` is new to this process.
    pub(crate) fn folder(&self, number: u64) -> io::Result<Folder> {
        let pid = std::process::id();
        let started = Identity::of(pid as i32).map_or(0, |own| own.started);
        let id = format!("{}-{pid}-{started}-{number}", self.mark);
        let path = self.folder.join(&id);
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Folder { id, path })
    }

    /// Whether a sandbox of this very process is left.
    pub(crate) fn is_clear(&self) -> io::Result<bool> {
        let own = format!("{}-{}-", self.mark, std::process::id());
        let mut names = fs::read_dir(&self.folder)?.flatten().map(|entry| entry.file_name());
        Ok(!names.any(|name| name.to_string_lossy().starts_with(&own)))
    }

    /// Ends everything whose owner no longer lives, and says how many sandboxes that were.
    pub(crate) fn recover(&self, means: &Means) -> io::Result<usize> {
        let mut ended = 0;
        for entry in fs::read_dir(&self.folder)? {
            let folder = entry?.path();
            let text = fs::read(folder.join(RECORD)).unwrap_or_default();
            match serde_json::from_slice::<Record>(&text) {
                Ok(record) if record.owner.lives() || record.container.is_some() => continue,
                Ok(record) => end(&record)?,
                // Its life ended before the record was whole; the group, if there is one, is found by its name.
                Err(_) if self.owner_lives(&folder) => continue,
                Err(_) => {}
            }
            if let Err(error) = remove(&folder) {
                // Nothing of it runs any more; what it left in its home may not keep the worker from starting.
                tracing::error!(%error, path = %folder.display(), "the folder of a former sandbox stays behind");
            }
            ended += 1;
        }
        for group in means
            .named(&self.mark)
            .into_iter()
            .filter(|group| !self.owner_lives(group))
        {
            empty(&[group])?;
        }
        Ok(ended)
    }

    /// What begins the id of each sandbox of this state folder.
    pub(crate) fn mark(&self) -> &str {
        &self.mark
    }

    /// Sandboxes in containers whose owner no longer lives.
    pub(crate) fn containers(&self) -> io::Result<Vec<Contained>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let folder = entry?.path();
            let text = fs::read(folder.join(RECORD)).unwrap_or_default();
            match serde_json::from_slice::<Record>(&text) {
                Ok(record) if record.container.is_some() && !record.owner.lives() => {
                    found.push(Contained { folder, record });
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// Whether the worker named in a sandbox's id lives; a folder is named by it.
    pub(crate) fn owner_lives(&self, folder: &Path) -> bool {
        let Some(name) = folder.file_name().and_then(|name| name.to_str()) else {
            return false;
        };
        let mut parts = name.split('-').skip(1);
        let owner = parts
            .next()
            .and_then(|pid| pid.parse().ok())
            .zip(parts.next().and_then(|at| at.parse().ok()));
        owner.is_some_and(|(pid, started)| Identity { pid, started }.lives())
    }
}

/// A container that an earlier life left.
#[derive(Debug)]
pub(crate) struct Contained {
    folder: PathBuf,
    record: Record,
}

impl Contained {
    pub(crate) fn name(&self) -> &str {
        self.record.container.as_deref().unwrap_or_default()
    }

    /// Whether a process of it still runs.
    pub(crate) fn lives(&self) -> bool {
        let free = self.record.uid.and_then(UidLease::of);
        self.record.root.is_some_and(Identity::lives) || free.is_some_and(|held| !all_of(held.uid()).is_empty())
    }

    /// Makes sure that nothing of it runs, now that its container is gone, and removes its folder.
    pub(crate) fn end(self) -> io::Result<()> {
        end(&self.record)?;
        if let Err(error) = remove(&self.folder) {
            tracing::error!(%error, path = %self.folder.display(), "the folder of a former sandbox stays behind");
        }
        Ok(())
    }
}

/// The folder of one sandbox.
#[derive(Debug)]
pub(crate) struct Folder {
    id: String,
    path: PathBuf,
}

impl Folder {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the record anew.
    pub(crate) fn write(&self, held: Held) -> io::Result<()> {
        let owner = Identity::of(std::process::id() as i32).ok_or_else(|| io::Error::other("/proc cannot be read"))?;
        let record = Record {
            owner,
            root: held.root.and_then(Identity::of),
            uid: held.uid,
            groups: held.groups,
            container: held.container,
        };
        fs::write(self.path.join(RECORD), serde_json::to_vec(&record)?)
    }

    /// Removes it with all it holds.
    pub(crate) fn remove(&self) {
        if let Err(error) = remove(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "the folder of a sandbox stays behind");
        }
    }
}

fn end(record: &Record) -> io::Result<()> {
    if !record.groups.is_empty() {
        empty(&record.groups)?;
    }
    if let Some(root) = record.root.filter(|root| root.lives()) {
        // Those below it first: once it has gone, they are found by nothing where there are no groups.
        let tree = Means::tree(root.pid)?;
        wait_until(|| Ok(tree.kill()? == 0))?;
        let _ = kill(Pid::from_raw(root.pid), Signal::SIGKILL);
    }
    // Where the uid cannot be had, another worker of this host has given it to a job since: what runs under it is that job.
    let free = record.uid.and_then(UidLease::of);
    let lives =
        || record.root.is_some_and(Identity::lives) || free.as_ref().is_some_and(|held| kill_all_of(held.uid()) > 0);
    wait_until(|| Ok(!lives()))
}

/// Kills the members of groups until there are none, and removes them.
fn empty(groups: &[PathBuf]) -> io::Result<()> {
    let group = Means::left(groups.to_vec());
    wait_until(|| Ok(group.kill()? == 0 && group.remove().is_ok()))
}

/// Kills every process of a job's own uid; says how many there were.
fn kill_all_of(uid: u32) -> usize {
    let theirs = all_of(uid);
    for pid in &theirs {
        let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    }
    theirs.len()
}

fn all_of(uid: u32) -> Vec<i32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| real_uid(*pid) == Some(uid) && Identity::of(*pid).is_some())
        .collect()
}

fn real_uid(pid: i32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:")?.split_ascii_whitespace().next()?.parse().ok())
}

/// Tries until it is so, for as long as [`PATIENCE`].
pub(crate) fn wait_until(mut so: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let until = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(200);
    while !so()? {
        if Instant::now() > until {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "processes of a sandbox do not end",
            ));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_a_later_one_of_its_number() {
        let own = Identity::of(std::process::id() as i32).expect("this process lives");
        assert!(own.lives());
        assert!(
            !Identity {
                started: own.started + 1,
                ..own
            }
            .lives()
        );
    }

    #[test]
    fn what_belongs_to_a_living_worker_is_left_alone() {
        let state = tempfile::tempdir().expect("a folder");
        let shelf = Shelf::open(state.path()).expect("open");
        let folder = shelf.folder(1).expect("made");
        assert_eq!(
            shelf.recover(&Means::Rlimits).expect("recovers"),
            0,
            "also without a record"
        );
        let held = Held {
            root: Some(std::process::id() as i32),
            ..Held::default()
        };
        folder.write(held).expect("written");
        assert_eq!(shelf.recover(&Means::Rlimits).expect("recovers"), 0);
        assert!(folder.path().exists());
    }

    #[test]
    fn a_uid_that_another_worker_has_given_to_a_job_since_is_left_alone() {
        use std::os::unix::process::CommandExt;
        const UID: u32 = 4_100_000_000;
        let left = |uid| Record {
            owner: Identity { pid: 1, started: 0 },
            root: None,
            uid: Some(uid),
            groups: Vec::new(),
            container: None,
        };
        let mut job = std::process::Command::new("sleep");
        let mut job = job.arg("60").uid(UID).spawn().expect("this test runs as root");
        let held = UidLease::of(UID).expect("nobody has it");
        end(&left(UID)).expect("nothing is left to end");
        assert!(
            job.try_wait().expect("our own child").is_none(),
            "the other's job goes on"
        );
        // Let go, what still runs under it was left.
        drop(held);
        let ends = std::thread::spawn(move || job.wait().expect("our own child"));
        end(&left(UID)).expect("it is ended");
        assert!(!ends.join().expect("no panic").success());
    }

    #[test]
    fn a_folder_of_a_dead_worker_is_removed() {
        let state = tempfile::tempdir().expect("a folder");
        let shelf = Shelf::open(state.path()).expect("open");
        fs::create_dir(shelf.folder.join(format!("{}-4194305-7-1", shelf.mark))).expect("a folder");
        assert_eq!(shelf.recover(&Means::Rlimits).expect("recovers"), 1);
        assert_eq!(fs::read_dir(&shelf.folder).expect("readable").count(), 0);
    }
}
