//! Control groups, version 1: a folder in each controller's own tree.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pond_core::sandbox::{Enforcement, LimitKind, Limits};

use super::{Group, Usage};

/// The controllers without which this version is not used.
const NEEDED: [&str; 4] = ["freezer", "memory", "pids", "cpu"];
/// How long members may take to stop.
const FREEZE: Duration = Duration::from_secs(5);

/// For each controller the folder below which groups are made: `pond` below the worker's own group.
pub(super) fn usable(own: &str, mounts: &str) -> Option<Vec<(String, PathBuf)>> {
    let needed: Option<Vec<_>> = NEEDED
        .iter()
        .map(|controller| parent(own, mounts, controller))
        .collect();
    let mut parents = needed?;
    // Only measures, so its absence is no loss.
    parents.extend(parent(own, mounts, "cpuacct"));
    Some(parents)
}

/// The group of one controller, as `/proc/PID/cgroup` tells it.
fn group_of(of: &str, mounts: &str, controller: &str) -> Option<PathBuf> {
    let path = of.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        controllers.split(',').any(|found| found == controller).then_some(path)
    })?;
    let mounted = super::mount_point(mounts, "cgroup", Some(controller))?;
    Some(super::in_file_system(&mounted, path))
}

fn parent(own: &str, mounts: &str, controller: &str) -> Option<(String, PathBuf)> {
    let parent = group_of(own, mounts, controller)?.join("pond");
    fs::create_dir(&parent)
        .or_else(|error| if parent.is_dir() { Ok(()) } else { Err(error) })
        .ok()?;
    nix::unistd::access(&parent, nix::unistd::AccessFlags::W_OK).ok()?;
    Some((controller.to_owned(), parent))
}

/// One sandbox's groups.
pub(crate) struct GroupV1 {
    /// Without repeats: controllers mounted together share one. The freezer's is the first.
    folders: Vec<PathBuf>,
}

impl GroupV1 {
    pub(super) fn create(parents: &[(String, PathBuf)], name: &str) -> io::Result<Self> {
        let mut group = Self { folders: Vec::new() };
        for (_, parent) in parents {
            let folder = parent.join(name);
            if !group.folders.contains(&folder) {
                fs::create_dir(&folder).inspect_err(|_| drop(group.remove()))?;
                group.folders.push(folder);
            }
        }
        Ok(group)
    }

    /// The groups of a process, as `/proc/PID/cgroup` tells them.
    pub(super) fn around(of: &str, mounts: &str) -> Option<Self> {
        let needed: Option<Vec<PathBuf>> = NEEDED
            .iter()
            .map(|controller| group_of(of, mounts, controller))
            .collect();
        let mut folders = needed?;
        folders.extend(group_of(of, mounts, "cpuacct"));
        folders.dedup();
        folders.iter().all(|folder| folder.is_dir()).then_some(Self { folders })
    }

    pub(super) fn at(folders: Vec<PathBuf>) -> Self {
        Self { folders }
    }

    /// A file of whichever controller has it.
    fn file(&self, name: &str) -> Option<PathBuf> {
        self.folders
            .iter()
            .map(|folder| folder.join(name))
            .find(|file| file.exists())
    }

    fn write(&self, name: &str, value: &(impl ToString + ?Sized)) -> io::Result<()> {
        let file = self
            .file(name)
            .ok_or_else(|| io::Error::other(format!("no control group has {name}")))?;
        fs::write(file, value.to_string())
    }

    fn state(&self) -> Option<String> {
        fs::read_to_string(self.file("freezer.state")?).ok()
    }

    fn kill_once(&self) -> io::Result<usize> {
        let mut most = 0;
        for folder in &self.folders {
            most = most.max(super::kill_members(folder)?);
        }
        Ok(most)
    }
}

impl Group for GroupV1 {
    fn add(&self, pid: u32) -> io::Result<()> {
        self.folders
            .iter()
            .try_for_each(|folder| fs::write(folder.join("cgroup.procs"), pid.to_string()))
    }

    fn limit(&self, limits: &Limits) -> io::Result<()> {
        self.write("memory.limit_in_bytes", &limits.memory)?;
        // Memory and swap together, so that nothing is swapped. Absent where the kernel does not account swap.
        if self.file("memory.memsw.limit_in_bytes").is_some() {
            self.write("memory.memsw.limit_in_bytes", &limits.memory)?;
        }
        self.write("pids.max", &limits.pids)?;
        self.write("cpu.cfs_period_us", &100_000)?;
        self.write("cpu.cfs_quota_us", &(u64::from(limits.millicpus.max(10)) * 100))
    }

    fn usage(&self) -> io::Result<Usage> {
        let read = |name: &str| self.file(name).as_deref().and_then(super::number);
        let count = |name: &str, key: &str| self.file(name).and_then(|file| super::keyed(&file, key)).unwrap_or(0);
        let mut breached = Vec::new();
        if count("memory.oom_control", "oom_kill ") > 0 {
            breached.push(LimitKind::Memory);
        }
        if count("pids.events", "max ") > 0 {
            breached.push(LimitKind::Pids);
        }
        Ok(Usage {
            memory: read("memory.usage_in_bytes"),
            cpu: read("cpuacct.usage").map(Duration::from_nanos),
            pids: read("pids.current").map(|count| count as u32),
            breached,
        })
    }

    fn freeze(&self) -> io::Result<()> {
        let until = Instant::now() + FREEZE;
        self.write("freezer.state", "FROZEN")?;
        while self.state().as_deref().map(str::trim) != Some("FROZEN") {
            if Instant::now() > until {
                self.thaw()?;
                return Err(io::ErrorKind::TimedOut.into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn thaw(&self) -> io::Result<()> {
        self.write("freezer.state", "THAWED")
    }

    fn kill(&self) -> io::Result<usize> {
        // Stopped while they are counted, so that none starts another unseen; the signal is taken on thawing.
        let stopped = self.write("freezer.state", "FROZEN");
        let seen = self.kill_once();
        if stopped.is_ok() {
            self.thaw()?;
        }
        seen
    }

    fn remove(&self) -> io::Result<()> {
        let mut outcome = Ok(());
        for folder in &self.folders {
            outcome = outcome.and(super::remove_folder(folder));
        }
        outcome
    }

    fn folders(&self) -> Vec<PathBuf> {
        self.folders.clone()
    }

    fn enforcement(&self) -> Enforcement {
        Enforcement::CgroupV1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_missing_controller_means_another_way() {
        let own = "4:memory:/a\n3:pids:/a\n2:freezer:/a\n0::/\n";
        assert_eq!(usable(own, ""), None);
    }

    #[test]
    fn controllers_mounted_together_share_a_folder() {
        let parent = tempfile::tempdir().expect("a folder");
        let parents = ["freezer", "memory"].map(|name| (name.to_owned(), parent.path().to_owned()));
        let group = GroupV1::create(&parents, "x").expect("made");
        assert_eq!(group.folders(), [parent.path().join("x")]);
        group.remove().expect("removed");
        group.remove().expect("removing twice is no matter");
    }
}
