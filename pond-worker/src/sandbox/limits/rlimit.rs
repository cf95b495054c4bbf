//! Where no control group can be used: limits of each process, set by the init, and a supervisor that sums up the tree and
//! ends it when that is too much.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};
use pond_core::sandbox::{Enforcement, LimitKind, Limits};

use super::{Group, Usage};

/// How often the supervisor looks.
const PERIOD: Duration = Duration::from_millis(50);
const RLIMIT_DATA: u32 = 2;
const RLIMIT_NPROC: u32 = 6;

/// The limits that each process of a sandbox gets where sums cannot be held: no single process may exceed the whole's
/// share. The count of processes is the kernel's count for the uid, so it is set where the uid is the job's alone.
pub(crate) fn per_process(limits: &Limits, own_uid: bool) -> Vec<(u32, u64)> {
    let mut list = vec![(RLIMIT_DATA, limits.memory)];
    if own_uid {
        list.push((RLIMIT_NPROC, limits.pids.into()));
    }
    list
}

/// The tree of processes below one, summed up from the process table.
pub(crate) struct Supervised {
    state: Arc<Mutex<State>>,
    /// Dropping it ends the supervisor.
    watch: Mutex<Option<Sender<()>>>,
}

#[derive(Default)]
struct State {
    root: Option<Root>,
    breached: Vec<LimitKind>,
}

/// A process, told from a later one of its number by when it started.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Root {
    pid: i32,
    started: u64,
}

impl Root {
    fn of(pid: i32) -> Option<Self> {
        Some(Self {
            pid,
            started: stat(pid)?.get(19)?.parse().ok()?,
        })
    }

    /// Its tree; nothing once it has gone.
    fn tree(self) -> Vec<Line> {
        if Self::of(self.pid) == Some(self) {
            tree(self.pid)
        } else {
            Vec::new()
        }
    }
}

impl Supervised {
    pub(super) fn new() -> Self {
        Self {
            state: Arc::default(),
            watch: Mutex::new(None),
        }
    }

    fn tree(&self) -> Vec<Line> {
        let root = self.state.lock().expect("no holder of this lock panics").root;
        root.map(Root::tree).unwrap_or_default()
    }

    /// The job's processes alone: not the launcher's, nor the init.
    fn signal_job(&self, signal: Signal) {
        for line in self.tree().into_iter().filter(|line| line.job) {
            let _ = kill(Pid::from_raw(line.pid), signal);
        }
    }
}

impl Group for Supervised {
    fn add(&self, pid: u32) -> io::Result<()> {
        self.state.lock().expect("no holder of this lock panics").root = i32::try_from(pid).ok().and_then(Root::of);
        Ok(())
    }

    fn limit(&self, limits: &Limits) -> io::Result<()> {
        let (stop, stopped) = channel();
        let (state, limits) = (Arc::clone(&self.state), *limits);
        std::thread::Builder::new()
            .name("pond-supervisor".into())
            .spawn(move || {
                while stopped.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                    judge(&state, &limits);
                }
            })?;
        *self.watch.lock().expect("no holder of this lock panics") = Some(stop);
        Ok(())
    }

    fn usage(&self) -> io::Result<Usage> {
        let tree = self.tree();
        let breached = self
            .state
            .lock()
            .expect("no holder of this lock panics")
            .breached
            .clone();
        Ok(Usage {
            memory: Some(memory_of(&tree)),
            cpu: Some(tree.iter().map(|line| line.cpu).sum()),
            pids: Some(tree.iter().map(|line| line.threads).sum()),
            breached,
        })
    }

    fn freeze(&self) -> io::Result<()> {
        // Twice: what was started while the first pass went on is stopped by the second.
        self.signal_job(Signal::SIGSTOP);
        self.signal_job(Signal::SIGSTOP);
        Ok(())
    }

    fn thaw(&self) -> io::Result<()> {
        self.signal_job(Signal::SIGCONT);
        Ok(())
    }

    fn kill(&self) -> io::Result<usize> {
        // The root is ended by its owner, who knows that its number is still its own; as long as it lives, so does the
        // reach of this tree.
        self.signal_job(Signal::SIGSTOP);
        let job: Vec<Line> = self.tree().into_iter().filter(|line| line.depth > 0).collect();
        for line in &job {
            let _ = kill(Pid::from_raw(line.pid), Signal::SIGKILL);
        }
        Ok(job.len())
    }

    fn remove(&self) -> io::Result<()> {
        self.watch.lock().expect("no holder of this lock panics").take();
        Ok(())
    }

    fn folders(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    fn enforcement(&self) -> Enforcement {
        Enforcement::Rlimits
    }
}

/// Ends the tree when its sum is above a limit.
fn judge(state: &Mutex<State>, limits: &Limits) {
    let Some(root) = state.lock().expect("no holder of this lock panics").root else {
        return;
    };
    let tree = root.tree();
    let memory = memory_of(&tree);
    let pids: u32 = tree.iter().map(|line| line.threads).sum();
    let breach = if memory > limits.memory {
        LimitKind::Memory
    } else if pids > limits.pids {
        LimitKind::Pids
    } else {
        return;
    };
    let mut state = state.lock().expect("no holder of this lock panics");
    if !state.breached.contains(&breach) {
        state.breached.push(breach);
    }
    for line in tree.iter().filter(|line| line.job) {
        let _ = kill(Pid::from_raw(line.pid), Signal::SIGKILL);
    }
}

/// A process of a tree.
struct Line {
    pid: i32,
    depth: usize,
    /// Whether it is the job's, not the launcher or the init: those stay when the job is stopped.
    job: bool,
    memory: u64,
    /// Memory that it may share with others.
    shared: u64,
    threads: u32,
    cpu: Duration,
}

/// What a tree uses: what each process has for itself, and the most that one of them maps of shared memory, as its relatives
/// mostly map the same.
fn memory_of(tree: &[Line]) -> u64 {
    let own: u64 = tree.iter().map(|line| line.memory).sum();
    own + tree.iter().map(|line| line.shared).max().unwrap_or(0)
}

/// Bytes of shared memory, files left out, that a process has mapped.
fn shared(pid: i32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssShmem:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

/// The process `root` and all below it.
fn tree(root: i32) -> Vec<Line> {
    let mut by_parent: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        if let Some(parent) = stat(pid).and_then(|fields| fields.get(1)?.parse().ok()) {
            by_parent.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![(root, 0)];
    let mut at = 0;
    while let Some((pid, depth)) = found.get(at).copied() {
        found.extend(
            by_parent
                .get(&pid)
                .into_iter()
                .flatten()
                .map(|child| (*child, depth + 1)),
        );
        at += 1;
    }
    // The root is the init itself, or the confining program around it.
    let around = usize::from(name(root).is_none_or(|name| name != super::super::launch::INIT_NAME));
    found
        .into_iter()
        .filter_map(|(pid, depth)| line(pid, depth, depth > around))
        .collect()
}

/// The fields behind the name: state, parent, and so on.
fn stat(pid: i32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields = text[text.rfind(')')? + 1..].split_ascii_whitespace();
    Some(fields.map(str::to_owned).collect())
}

fn name(pid: i32) -> Option<String> {
    Some(
        fs::read_to_string(format!("/proc/{pid}/comm"))
            .ok()?
            .trim_end()
            .to_owned(),
    )
}

fn line(pid: i32, depth: usize, job: bool) -> Option<Line> {
    let fields = stat(pid)?;
    let field = |number: usize| fields.get(number)?.parse::<u64>().ok();
    if fields[0] == "Z" {
        return None;
    }
    let ticks = field(11)? + field(12)? + field(13)? + field(14)?;
    let per_second = sysconf(SysconfVar::CLK_TCK)
        .ok()
        .flatten()
        .map_or(100, i64::unsigned_abs);
    let page = sysconf(SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .map_or(4096, i64::unsigned_abs);
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let mut pages = statm.split(' ').skip(1).map_while(|number| number.parse::<u64>().ok());
    let (resident, files_and_shared) = (pages.next()?, pages.next()?);
    Some(Line {
        pid,
        depth,
        job,
        memory: resident.saturating_sub(files_and_shared) * page,
        shared: shared(pid).unwrap_or(0),
        threads: field(17)? as u32,
        cpu: Duration::from_millis(ticks * 1000 / per_second),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_is_measured() {
        let own = line(std::process::id() as i32, 0, true).expect("this process lives");
        assert!(
            own.memory > 0 && own.threads > 0,
            "{} bytes, {} threads",
            own.memory,
            own.threads
        );
    }

    #[test]
    fn processes_are_counted_by_the_kernel_only_for_a_uid_of_the_jobs_own() {
        let limits = Limits::default();
        assert_eq!(per_process(&limits, false), [(RLIMIT_DATA, limits.memory)]);
        assert_eq!(per_process(&limits, true).len(), 2);
    }
}
