//! By what limits hold: control groups of version 2 where their controllers are there, else of version 1, else the limits
//! of each process with a supervisor over their sum.

mod cgroup_v1;
mod cgroup_v2;
pub(crate) mod rlimit;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pond_core::sandbox::{Enforcement, LimitKind, Limits};

/// What a group has used, launcher and init included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) memory: Option<u64>,
    pub(crate) cpu: Option<Duration>,
    pub(crate) pids: Option<u32>,
    pub(crate) breached: Vec<LimitKind>,
}

/// The processes of one sandbox as a group. All methods block, shortly.
pub(crate) trait Group: Send + Sync {
    /// Takes in a process; its children follow it. Called before it executes anything of the job.
    fn add(&self, pid: u32) -> io::Result<()>;
    /// Puts the limits in force; they count launcher and init in.
    fn limit(&self, limits: &Limits) -> io::Result<()>;
    /// What the members use.
    fn usage(&self) -> io::Result<Usage>;
    /// Stops the members where they stand.
    fn freeze(&self) -> io::Result<()>;
    /// Lets them go on.
    fn thaw(&self) -> io::Result<()>;
    /// Sends SIGKILL to all members once; says how many it saw.
    fn kill(&self) -> io::Result<usize>;
    /// Removes the group, which is empty.
    fn remove(&self) -> io::Result<()>;
    /// The folders it consists of, for clean-up by a later life.
    fn folders(&self) -> Vec<PathBuf>;
    /// By what it holds.
    fn enforcement(&self) -> Enforcement;
}

/// What this host offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Means {
    /// Version 2: the folder below which groups are made.
    CgroupV2(PathBuf),
    /// Version 1: such a folder for each controller.
    CgroupV1(Vec<(String, PathBuf)>),
    /// Neither.
    Rlimits,
}

impl Means {
    /// Finds what can be used, trying it out by making the folder that groups go into.
    pub fn detect() -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        if let Some(folder) = cgroup_v2::usable(&own, &mounts) {
            return Self::CgroupV2(folder);
        }
        cgroup_v1::usable(&own, &mounts).map_or(Self::Rlimits, Self::CgroupV1)
    }

    /// By what limits will hold.
    pub fn enforcement(&self) -> Enforcement {
        match self {
            Self::CgroupV2(_) => Enforcement::CgroupV2,
            Self::CgroupV1(_) => Enforcement::CgroupV1,
            Self::Rlimits => Enforcement::Rlimits,
        }
    }

    /// Makes an empty group.
    pub(crate) fn group(&self, name: &str) -> io::Result<Box<dyn Group>> {
        Ok(match self {
            Self::CgroupV2(parent) => Box::new(cgroup_v2::GroupV2::create(parent, name)?),
            Self::CgroupV1(parents) => Box::new(cgroup_v1::GroupV1::create(parents, name)?),
            Self::Rlimits => Box::new(rlimit::Supervised::new()),
        })
    }

    /// The processes below one, as a group.
    pub(crate) fn tree(root: i32) -> io::Result<Box<dyn Group>> {
        let tree = rlimit::Supervised::new();
        tree.add(root.unsigned_abs())?;
        Ok(Box::new(tree))
    }

    /// The groups that a process is in, which others made: to look at, where they are found.
    pub(crate) fn around(pid: u32) -> Option<Box<dyn Group>> {
        let of = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let of_v2 = of.lines().find_map(|line| line.strip_prefix("0::"));
        if let Some((path, mounted)) = of_v2.zip(mount_point(&mounts, "cgroup2", None)) {
            let folder = in_file_system(&mounted, path);
            if folder.join("memory.max").exists() {
                return Some(Box::new(cgroup_v2::GroupV2::at(folder)));
            }
        }
        Some(Box::new(cgroup_v1::GroupV1::around(&of, &mounts)?))
    }

    /// Finds a group that was left behind, by its folders.
    pub(crate) fn left(folders: Vec<PathBuf>) -> Box<dyn Group> {
        match &folders[..] {
            [only] if only.join("cgroup.controllers").exists() => Box::new(cgroup_v2::GroupV2::at(only.clone())),
            _ => Box::new(cgroup_v1::GroupV1::at(folders)),
        }
    }

    /// Folders of groups whose name begins so.
    pub(crate) fn named(&self, prefix: &str) -> Vec<PathBuf> {
        let parents: Vec<&Path> = match self {
            Self::CgroupV2(parent) => vec![parent],
            Self::CgroupV1(parents) => parents.iter().map(|(_, parent)| parent.as_path()).collect(),
            Self::Rlimits => Vec::new(),
        };
        let entries = parents
            .into_iter()
            .filter_map(|parent| fs::read_dir(parent).ok())
            .flatten()
            .flatten();
        let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
        ours.map(|entry| entry.path()).collect()
    }
}

/// The mount point of a hierarchy, and which part of it is mounted there: the line of `mountinfo` whose file system is
/// `kind` and whose options hold `controller`.
fn mount_point(mounts: &str, kind: &str, controller: Option<&str>) -> Option<(PathBuf, PathBuf)> {
    mounts.lines().find_map(|line| {
        let (head, tail) = line.split_once(" - ")?;
        let mut tail = tail.split(' ');
        let (found, options) = (tail.next()?, tail.nth(1)?);
        let fits = controller.is_none_or(|controller| options.split(',').any(|option| option == controller));
        let mut head = head.split(' ').skip(3);
        (found == kind && fits).then_some(())?;
        Some((PathBuf::from(head.next()?), PathBuf::from(head.next()?)))
    })
}

/// Where a group of the hierarchy (`path`, as `/proc/self/cgroup` tells it) lies in the file system.
fn in_file_system((root, mounted): &(PathBuf, PathBuf), path: &str) -> PathBuf {
    let path = Path::new(path);
    let below = path
        .strip_prefix(root)
        .or_else(|_| path.strip_prefix("/"))
        .unwrap_or(path);
    mounted.join(below)
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The value of a line `name value`.
fn keyed(path: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

fn members(folder: &Path) -> io::Result<Vec<i32>> {
    match fs::read_to_string(folder.join("cgroup.procs")) {
        Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        // The group went while it was read.
        Err(error) if error.raw_os_error() == Some(nix::libc::ENODEV) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn kill_members(folder: &Path) -> io::Result<usize> {
    let members = members(folder)?;
    for pid in &members {
        let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    }
    Ok(members.len())
}

fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
30 20 0:25 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
31 20 0:26 /docker/x /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
32 20 0:27 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";

    #[test]
    fn hierarchies_are_found_where_they_are_mounted() {
        let memory = mount_point(MOUNTS, "cgroup", Some("memory")).expect("there");
        assert_eq!(in_file_system(&memory, "/a/b"), Path::new("/sys/fs/cgroup/memory/a/b"));
        let pids = mount_point(MOUNTS, "cgroup", Some("pids")).expect("there");
        assert_eq!(in_file_system(&pids, "/docker/x/y"), Path::new("/sys/fs/cgroup/pids/y"));
        assert_eq!(
            mount_point(MOUNTS, "cgroup2", None).expect("there").1,
            Path::new("/sys/fs/cgroup/unified")
        );
        assert_eq!(mount_point(MOUNTS, "cgroup", Some("cpu")), None);
    }
}
