//! Control groups, version 2: one folder per sandbox, in a part of the tree that was delegated to the worker.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pond_core::sandbox::{Enforcement, LimitKind, Limits};

use super::{Group, Usage};

/// The controllers without which this version is not used.
const NEEDED: [&str; 3] = ["memory", "pids", "cpu"];

/// The folder below which groups can be made with all controllers, if there is one: below the worker's own group.
pub(super) fn usable(own: &str, mounts: &str) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let group = super::in_file_system(&super::mount_point(mounts, "cgroup2", None)?, path);
    prepare(&group).ok().flatten()
}

/// Lets a group hand its controllers down. Nothing when it has not got them, or is not the worker's to change.
fn prepare(group: &Path) -> io::Result<Option<PathBuf>> {
    if !holds(&group.join("cgroup.controllers"))? {
        return Ok(None);
    }
    let parent = group.join("pond");
    fs::create_dir(&parent).or_else(|error| if parent.is_dir() { Ok(()) } else { Err(error) })?;
    if !holds(&group.join("cgroup.subtree_control"))? {
        hand_down(group)?;
    }
    fs::write(parent.join("cgroup.subtree_control"), "+memory +pids +cpu")?;
    Ok(holds(&parent.join("cgroup.subtree_control"))?.then_some(parent))
}

/// A group with members cannot hand controllers down, so a worker that is alone in its group steps into a leaf of it.
fn hand_down(group: &Path) -> io::Result<()> {
    let control = group.join("cgroup.subtree_control");
    let Err(error) = fs::write(&control, "+memory +pids +cpu") else {
        return Ok(());
    };
    let own = std::process::id();
    if super::members(group)? != [own as i32] {
        return Err(error);
    }
    let leaf = group.join("pond-worker");
    fs::create_dir_all(&leaf)?;
    fs::write(leaf.join("cgroup.procs"), own.to_string())?;
    fs::write(&control, "+memory +pids +cpu")
}

fn holds(file: &Path) -> io::Result<bool> {
    let text = fs::read_to_string(file)?;
    Ok(NEEDED
        .iter()
        .all(|needed| text.split_whitespace().any(|found| found == *needed)))
}

/// One sandbox's group.
pub(crate) struct GroupV2 {
    folder: PathBuf,
}

impl GroupV2 {
    pub(super) fn create(parent: &Path, name: &str) -> io::Result<Self> {
        let folder = parent.join(name);
        fs::create_dir(&folder)?;
        Ok(Self { folder })
    }

    pub(super) fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn write(&self, file: &str, value: &(impl ToString + ?Sized)) -> io::Result<()> {
        fs::write(self.folder.join(file), value.to_string())
    }
}

impl Group for GroupV2 {
    fn add(&self, pid: u32) -> io::Result<()> {
        self.write("cgroup.procs", &pid)
    }

    fn limit(&self, limits: &Limits) -> io::Result<()> {
        self.write("memory.max", &limits.memory)?;
        if self.folder.join("memory.swap.max").exists() {
            self.write("memory.swap.max", &0)?;
        }
        self.write("pids.max", &limits.pids)?;
        let quota = format!("{} 100000", u64::from(limits.millicpus.max(10)) * 100);
        self.write("cpu.max", &quota)
    }

    fn usage(&self) -> io::Result<Usage> {
        let at = |file: &str| self.folder.join(file);
        let mut breached = Vec::new();
        if super::keyed(&at("memory.events"), "oom_kill ").is_some_and(|count| count > 0) {
            breached.push(LimitKind::Memory);
        }
        if super::keyed(&at("pids.events"), "max ").is_some_and(|count| count > 0) {
            breached.push(LimitKind::Pids);
        }
        Ok(Usage {
            memory: super::number(&at("memory.current")),
            cpu: super::keyed(&at("cpu.stat"), "usage_usec ").map(Duration::from_micros),
            pids: super::number(&at("pids.current")).map(|count| count as u32),
            breached,
        })
    }

    fn freeze(&self) -> io::Result<()> {
        self.write("cgroup.freeze", &1)
    }

    fn thaw(&self) -> io::Result<()> {
        self.write("cgroup.freeze", &0)
    }

    fn kill(&self) -> io::Result<usize> {
        let seen = super::members(&self.folder)?.len();
        if seen > 0 {
            // Also reaches frozen members, and none can be born in between.
            self.write("cgroup.kill", &1)
                .or_else(|_| super::kill_members(&self.folder).map(drop))?;
        }
        Ok(seen)
    }

    fn remove(&self) -> io::Result<()> {
        super::remove_folder(&self.folder)
    }

    fn folders(&self) -> Vec<PathBuf> {
        vec![self.folder.clone()]
    }

    fn enforcement(&self) -> Enforcement {
        Enforcement::CgroupV2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(folder: &Path) -> GroupV2 {
        fs::write(folder.join("memory.swap.max"), "max").expect("a file");
        GroupV2::at(folder.to_owned())
    }

    #[test]
    fn limits_are_written_as_the_kernel_reads_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let limits = Limits {
            memory: 1 << 30,
            millicpus: 1500,
            pids: 10,
            tmpfs: 1,
        };
        group(folder.path()).limit(&limits).expect("written");
        let read = |file: &str| fs::read_to_string(folder.path().join(file)).expect("written");
        assert_eq!(read("memory.max"), "1073741824");
        assert_eq!(read("memory.swap.max"), "0");
        assert_eq!(read("pids.max"), "10");
        assert_eq!(read("cpu.max"), "150000 100000");
    }

    #[test]
    fn events_are_read_as_breaches() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |file: &str, text: &str| fs::write(folder.path().join(file), text).expect("a file");
        write("memory.events", "low 0\nmax 31\noom 2\noom_kill 1\noom_group_kill 0\n");
        write("pids.events", "max 0\n");
        write("memory.current", "4096\n");
        write("pids.current", "5\n");
        write("cpu.stat", "usage_usec 1500\nuser_usec 1000\n");
        let usage = group(folder.path()).usage().expect("readable");
        let expected = Usage {
            memory: Some(4096),
            cpu: Some(Duration::from_micros(1500)),
            pids: Some(5),
            breached: vec![LimitKind::Memory],
        };
        assert_eq!(usage, expected);
        write("pids.events", "max 3\n");
        let usage = group(folder.path()).usage().expect("readable");
        assert_eq!(usage.breached, [LimitKind::Memory, LimitKind::Pids]);
    }

    #[test]
    fn a_group_without_the_controllers_is_not_used() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("cgroup.controllers"), "memory io\n").expect("a file");
        assert_eq!(prepare(folder.path()).expect("readable"), None);
        assert!(!folder.path().join("pond").exists(), "nothing was made");
    }
}
