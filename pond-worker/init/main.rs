//! The init that runs inside every sandbox: one file, standard library alone, linked statically, embedded into the worker.
//!
//! Its life: the worker starts it with a connected Unix stream as standard input (the *control*), and moves it into the
//! sandbox's control groups while it still waits there. Told to `Launch`, it takes on the job's uid, lays out what will be
//! shown inside, and becomes the confining program (`bwrap`), which starts it a second time, inside, on the same control.
//! Told to `Setup`, it sets limits, writes the home files, opens the loopback ports and answers `Ready`. From then on it
//! runs programs, passes signals on and reaps. The control's end is the sandbox's end: everything is killed.
//!
//! # Wire
//! Frames of `u32 length | u8 kind | body`, big endian, length counting the body, at most [`MAX_FRAME`]. Numbers are u32 or
//! u64, texts and lists carry a u32 count before them. File descriptors travel beside the first bytes of a frame.
//!
//! | to the init | body | descriptors |
//! |---|---|---|
//! | 1 Launch | uid, gid, list of host paths, list of file contents, argv | – |
//! | 2 Setup | home, list of (path, content), list of (resource, u64), list of ports, list of (name, value) | – |
//! | 3 Exec | id, argv, list of (name, value), cwd | stdin, stdout, stderr |
//! | 4 Signal | id, signal | – |
//! | 5 Space | list of paths | – |
//!
//! | from the init | body | descriptors |
//! |---|---|---|
//! | 1 Ready | – | one listening socket per port, in order |
//! | 2 Started | id | – |
//! | 3 Failed | id (0: setup), errno, text | – |
//! | 4 Exited | id, 0 code or 1 signal, value | – |
//! | 5 Space | list of (u64 free, u64 total) bytes | – |
//!
//! # What a program inside can do with it
//! Programs may have the init's uid. The control has no name in any file system, is closed on exec, and cannot be taken
//! from the init, which is not dumpable: there is no way to speak to the worker in its place. As pid 1 it cannot be killed
//! from inside; under backend `none` it can, which ends the sandbox. Output does not pass through the init: programs write
//! to the worker's pipes themselves, so a slow reader slows its program and nothing else.

#![expect(unsafe_code, reason = "the system calls of an init have no safe form in the standard library")]

use std::collections::HashMap;
use std::ffi::{CString, OsStr, c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// What one frame may hold; the environment and arguments of a program fit in the kernel's own 2 MiB.
const MAX_FRAME: u32 = 16 << 20;
/// Programs of one sandbox at a time that were started by the worker.
const MAX_PROGRAMS: usize = 256;
/// Where a privileged launch shows what is to be mounted; bwrap's own uid may not reach the real paths.
const STAGE: &str = "/tmp";
/// The first descriptor of the files handed to the confining program.
const FIRST_FILE: RawFd = 10;

fn main() {
    let control = sys::control();
    if let Err(error) = serve(control) {
        eprintln!("pond-init: {error}");
        std::process::exit(1);
    }
}

/// Answers frames until the control ends.
fn serve(control: UnixStream) -> io::Result<()> {
    sys::protect()?;
    let mut init = Init { control, programs: HashMap::new(), base: Vec::new(), children: sys::child_signals()? };
    let outcome = init.run();
    init.end();
    outcome
}

/// The state of one sandbox.
struct Init {
    control: UnixStream,
    /// Session of each program started by the worker, which is its pid too, to the worker's number of it.
    programs: HashMap<c_int, u32>,
    base: Vec<(Vec<u8>, Vec<u8>)>,
    children: OwnedFd,
}

impl Init {
    fn run(&mut self) -> io::Result<()> {
        loop {
            let (frame, children) = sys::wait(self.control.as_raw_fd(), self.children.as_raw_fd())?;
            if children {
                self.reap()?;
            }
            if frame && !self.answer()? {
                return Ok(());
            }
        }
    }

    /// Reads and carries out one frame; false at the end of the control.
    fn answer(&mut self) -> io::Result<bool> {
        let Some((kind, body, fds)) = sys::receive(&mut self.control)? else { return Ok(false) };
        let mut body = Body(&body);
        match kind {
            1 => self.launch(&mut body)?,
            2 => {
                let ports = match self.setup(&mut body) {
                    Ok(ports) => ports,
                    Err((what, error)) => return self.failed(0, &error, &what).map(|()| true),
                };
                let raw: Vec<RawFd> = ports.iter().map(AsRawFd::as_raw_fd).collect();
                sys::send(&self.control, &frame(1, &[]), &raw)?;
            }
            3 => {
                let id = body.number()?;
                let answer = match self.exec(id, &mut body, &fds) {
                    Ok(()) => frame(2, &id.to_be_bytes()),
                    Err(error) => return self.failed(id, &error, "the program cannot be started").map(|()| true),
                };
                self.control.write_all(&answer)?;
            }
            4 => self.signal(body.number()?, body.number()? as c_int),
            5 => {
                let paths = body.texts()?;
                let mut answer = (paths.len() as u32).to_be_bytes().to_vec();
                for path in paths {
                    let (free, total) = sys::space(&path);
                    answer.extend_from_slice(&free.to_be_bytes());
                    answer.extend_from_slice(&total.to_be_bytes());
                }
                self.control.write_all(&frame(5, &answer))?;
            }
            other => return Err(io::Error::other(format!("unknown frame {other}"))),
        }
        Ok(true)
    }

    fn failed(&mut self, id: u32, error: &io::Error, what: &str) -> io::Result<()> {
        let mut body = id.to_be_bytes().to_vec();
        body.extend_from_slice(&error.raw_os_error().unwrap_or(0).to_be_bytes());
        put_text(&mut body, what.as_bytes());
        self.control.write_all(&frame(3, &body))
    }

    /// Takes on the job's uid and becomes the confining program, or goes on as it is when none is named.
    fn launch(&mut self, body: &mut Body<'_>) -> io::Result<()> {
        let (uid, gid) = (body.number()?, body.number()?);
        let (sources, files, argv) = (body.texts()?, body.texts()?, body.texts()?);
        if argv.is_empty() {
            return sys::adopt_orphans();
        }
        if uid != u32::MAX {
            stage(&sources)?;
            sys::become_user(uid, gid)?;
        }
        for (number, content) in files.iter().enumerate() {
            sys::hand_over(content, FIRST_FILE + number as RawFd)?;
        }
        sys::hand_over_control(&self.control)?;
        let argv = c_strings(argv)?;
        Err(sys::execute(&argv[0], &argv, &c_strings(vec![b"PATH=/usr/bin:/bin".to_vec()])?))
    }

    /// Limits, home files and loopback ports.
    fn setup(&mut self, body: &mut Body<'_>) -> Result<Vec<TcpListener>, (String, io::Error)> {
        let told = |what: &str| {
            let what = what.to_owned();
            move |error| (what, error)
        };
        let bad = "the set-up frame is malformed";
        sys::quiet().map_err(told("standard output cannot be closed"))?;
        let home = PathBuf::from(OsStr::from_bytes(&body.text().map_err(told(bad))?));
        for (path, content) in body.pairs().map_err(told(bad))? {
            let path = Path::new(OsStr::from_bytes(&path)).to_owned();
            write_private(&home, &path, &content).map_err(told("a home file cannot be written"))?;
        }
        for _ in 0..body.number().map_err(told(bad))? {
            let (resource, value) = (body.number().map_err(told(bad))?, body.large().map_err(told(bad))?);
            sys::limit(resource, value).map_err(told("a resource limit cannot be set"))?;
        }
        let mut ports = Vec::new();
        for _ in 0..body.number().map_err(told(bad))? {
            let port = body.number().map_err(told(bad))? as u16;
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
            ports.push(listener.map_err(told(&format!("loopback port {port} cannot be opened")))?);
        }
        self.base = body.pairs().map_err(told(bad))?;
        Ok(ports)
    }

    /// Starts a program in a session of its own.
    fn exec(&mut self, id: u32, body: &mut Body<'_>, fds: &[OwnedFd]) -> io::Result<()> {
        let argv = body.texts()?;
        let mut env = self.base.clone();
        for (name, value) in body.pairs()? {
            env.retain(|(other, _)| *other != name);
            env.push((name, value));
        }
        let cwd = CString::new(body.text()?)?;
        let (Some(program), [stdin, stdout, stderr]) = (argv.first(), fds) else {
            return Err(io::Error::from_raw_os_error(sys::EINVAL));
        };
        if self.programs.len() >= MAX_PROGRAMS {
            return Err(io::Error::from_raw_os_error(sys::EAGAIN));
        }
        let candidates = c_strings(places(program, &env))?;
        let argv = c_strings(argv)?;
        let env = c_strings(env.into_iter().map(|(name, value)| [name, value].join(&b'=')).collect())?;
        let stdio = [stdin.as_raw_fd(), stdout.as_raw_fd(), stderr.as_raw_fd()];
        let pid = sys::spawn(&sys::Program { candidates: &candidates, argv: &argv, env: &env, cwd: &cwd, stdio })?;
        self.programs.insert(pid, id);
        Ok(())
    }

    /// Sends a signal to every process of a program's session, and to its own group whatever session that is in.
    fn signal(&self, id: u32, signal: c_int) {
        let Some((session, _)) = self.programs.iter().find(|(_, other)| **other == id) else { return };
        sys::kill(-session, signal);
        for process in processes() {
            if process.session == *session && process.group != *session {
                sys::kill(process.pid, signal);
            }
        }
    }

    /// Collects every child that has ended, own and adopted, and tells the worker of its own.
    fn reap(&mut self) -> io::Result<()> {
        sys::drain(&self.children);
        while let Some((pid, signalled, value)) = sys::reap() {
            if let Some(id) = self.programs.remove(&pid) {
                let mut body = id.to_be_bytes().to_vec();
                body.push(u8::from(signalled));
                body.extend_from_slice(&value.to_be_bytes());
                self.control.write_all(&frame(4, &body))?;
            }
        }
        Ok(())
    }

    /// Kills everything. As pid 1, leaving is enough; else all descendants, until none is left.
    fn end(&self) {
        if std::process::id() == 1 {
            return;
        }
        let own = std::process::id() as c_int;
        loop {
            // Stopped first, so that none can start another while it is counted.
            for signal in [sys::SIGSTOP, sys::SIGKILL] {
                for pid in descendants(own) {
                    sys::kill(pid, signal);
                }
            }
            while sys::reap().is_some() {}
            if descendants(own).is_empty() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}

/// Shows each source below [`STAGE`] by its number, in a mount namespace of this process alone.
fn stage(sources: &[Vec<u8>]) -> io::Result<()> {
    sys::own_mounts()?;
    // Opened before the stage hides any of them.
    let opened: Vec<(bool, fs::File)> = sources
        .iter()
        .map(|source| {
            let path = Path::new(OsStr::from_bytes(source));
            let told = |error: io::Error| io::Error::other(format!("{}: {error}", path.display()));
            let file = fs::OpenOptions::new().read(true).custom_flags(sys::O_PATH).open(path).map_err(told)?;
            Ok((fs::metadata(path).map_err(told)?.is_dir(), file))
        })
        .collect::<io::Result<_>>()?;
    sys::mount(Some("tmpfs"), STAGE, Some("tmpfs"), sys::MS_NOSUID | sys::MS_NODEV, Some("mode=0711,size=1m"))?;
    for (number, (is_dir, file)) in opened.iter().enumerate() {
        let place = format!("{STAGE}/{number}");
        if *is_dir {
            fs::create_dir(&place)?;
        } else {
            fs::write(&place, [])?;
        }
        let source = format!("/proc/self/fd/{}", file.as_raw_fd());
        sys::mount(Some(&source), &place, None, sys::MS_BIND | sys::MS_REC, None)?;
    }
    Ok(())
}

/// Writes a file of mode 0600 below `home`, with its folders of mode 0700.
fn write_private(home: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    let plain = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if !plain || path.as_os_str().is_empty() {
        return Err(io::Error::from_raw_os_error(sys::EINVAL));
    }
    let path = home.join(path);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path.parent().unwrap_or(home))?;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(content)
}

/// Where a program may be: as named, or by its name in each folder of the `PATH` it gets.
fn places(program: &[u8], env: &[(Vec<u8>, Vec<u8>)]) -> Vec<Vec<u8>> {
    if program.contains(&b'/') {
        return vec![program.to_vec()];
    }
    let path = env.iter().find(|(name, _)| name == b"PATH").map_or(&b"/usr/bin:/bin"[..], |(_, path)| path);
    let folders = path.split(|byte| *byte == b':').filter(|folder| !folder.is_empty());
    folders.map(|folder| [folder, program].join(&b'/')).collect()
}

/// A line of the process table.
struct ProcessLine {
    pid: c_int,
    parent: c_int,
    group: c_int,
    session: c_int,
}

/// Every process that can be seen.
fn processes() -> Vec<ProcessLine> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(process_line).collect()
}

fn process_line(pid: c_int) -> Option<ProcessLine> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may itself hold some.
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().skip(1).map(str::parse);
    let mut next = || fields.next()?.ok();
    Some(ProcessLine { pid, parent: next()?, group: next()?, session: next()? })
}

fn descendants(of: c_int) -> Vec<c_int> {
    let table = processes();
    let mut found = vec![of];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        found.extend(table.iter().filter(|line| line.parent == parent).map(|line| line.pid));
        at += 1;
    }
    found.split_off(1)
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame.push(kind);
    frame.extend_from_slice(body);
    frame
}

fn put_text(body: &mut Vec<u8>, text: &[u8]) {
    body.extend_from_slice(&(text.len() as u32).to_be_bytes());
    body.extend_from_slice(text);
}

fn c_strings(texts: Vec<Vec<u8>>) -> io::Result<Vec<CString>> {
    texts.into_iter().map(|text| Ok(CString::new(text)?)).collect()
}

/// A frame's body while it is read.
struct Body<'a>(&'a [u8]);

impl Body<'_> {
    fn take(&mut self, length: usize) -> io::Result<&[u8]> {
        let (head, rest) = self.0.split_at_checked(length).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.0 = rest;
        Ok(head)
    }

    fn number(&mut self) -> io::Result<u32> {
        self.take(4)?.try_into().map(u32::from_be_bytes).map_err(io::Error::other)
    }

    fn large(&mut self) -> io::Result<u64> {
        self.take(8)?.try_into().map(u64::from_be_bytes).map_err(io::Error::other)
    }

    fn text(&mut self) -> io::Result<Vec<u8>> {
        let length = self.number()? as usize;
        self.take(length).map(<[u8]>::to_vec)
    }

    fn texts(&mut self) -> io::Result<Vec<Vec<u8>>> {
        (0..self.number()?).map(|_| self.text()).collect()
    }

    fn pairs(&mut self) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        (0..self.number()?).map(|_| Ok((self.text()?, self.text()?))).collect()
    }
}

/// Linux as this program needs it.
mod sys {
    use super::*;

    pub(super) const EINVAL: c_int = 22;
    pub(super) const EAGAIN: c_int = 11;
    pub(super) const SIGKILL: c_int = 9;
    pub(super) const SIGSTOP: c_int = 19;
    pub(super) const O_PATH: c_int = 0o10_000_000;
    pub(super) const MS_NOSUID: c_ulong = 2;
    pub(super) const MS_NODEV: c_ulong = 4;
    pub(super) const MS_BIND: c_ulong = 4096;
    pub(super) const MS_REC: c_ulong = 16384;
    const MS_PRIVATE: c_ulong = 1 << 18;
    const CLONE_NEWNS: c_int = 0x0002_0000;
    const SIGCHLD: c_int = 17;
    const SIGPIPE: c_int = 13;
    const CLOEXEC: c_int = 0o2_000_000;
    const PR_SET_DUMPABLE: c_int = 4;
    const PR_SET_CHILD_SUBREAPER: c_int = 36;
    const F_DUPFD_CLOEXEC: c_int = 1030;
    const F_SETFD: c_int = 2;
    const SOL_SOCKET: c_int = 1;
    const SCM_RIGHTS: c_int = 1;
    const POLLIN: i16 = 1;
    /// Descriptors in one frame.
    const MAX_FDS: usize = 16;

    /// `sigset_t`, 1024 bits.
    type SignalSet = [u64; 16];

    #[repr(C)]
    struct PollFd {
        fd: c_int,
        events: i16,
        revents: i16,
    }

    #[repr(C)]
    struct IoVec {
        base: *mut c_void,
        len: usize,
    }

    #[repr(C)]
    struct MessageHeader {
        name: *mut c_void,
        name_len: u32,
        iov: *mut IoVec,
        iov_len: usize,
        control: *mut c_void,
        control_len: usize,
        flags: c_int,
    }

    /// A control message with room for [`MAX_FDS`] descriptors.
    #[repr(C, align(8))]
    struct Rights {
        len: usize,
        level: c_int,
        kind: c_int,
        fds: [c_int; MAX_FDS],
    }

    const RIGHTS_HEAD: usize = std::mem::offset_of!(Rights, fds);

    #[repr(C)]
    struct Limit {
        soft: u64,
        hard: u64,
    }

    unsafe extern "C" {
        fn poll(fds: *mut PollFd, count: c_ulong, timeout: c_int) -> c_int;
        fn signalfd(fd: c_int, mask: *const SignalSet, flags: c_int) -> c_int;
        fn sigprocmask(how: c_int, set: *const SignalSet, old: *mut SignalSet) -> c_int;
        fn signal(number: c_int, handler: usize) -> usize;
        fn prctl(option: c_int, a: c_ulong, b: c_ulong, c: c_ulong, d: c_ulong) -> c_int;
        fn getrlimit(resource: c_uint, limit: *mut Limit) -> c_int;
        fn setrlimit(resource: c_uint, limit: *const Limit) -> c_int;
        fn setsid() -> c_int;
        #[link_name = "kill"]
        fn c_kill(pid: c_int, signal: c_int) -> c_int;
        fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
        fn fork() -> c_int;
        fn dup2(old: c_int, new: c_int) -> c_int;
        fn fcntl(fd: c_int, command: c_int, argument: c_long) -> c_int;
        fn execve(path: *const c_char, argv: *const *const c_char, env: *const *const c_char) -> c_int;
        fn _exit(code: c_int) -> !;
        fn chdir(path: *const c_char) -> c_int;
        fn umask(mask: c_uint) -> c_uint;
        fn unshare(flags: c_int) -> c_int;
        #[link_name = "mount"]
        fn c_mount(
            source: *const c_char,
            target: *const c_char,
            kind: *const c_char,
            flags: c_ulong,
            data: *const c_char,
        ) -> c_int;
        fn setgroups(count: usize, groups: *const u32) -> c_int;
        fn setresgid(real: u32, effective: u32, saved: u32) -> c_int;
        fn setresuid(real: u32, effective: u32, saved: u32) -> c_int;
        fn memfd_create(name: *const c_char, flags: c_uint) -> c_int;
        fn sendmsg(fd: c_int, message: *const MessageHeader, flags: c_int) -> isize;
        fn recvmsg(fd: c_int, message: *mut MessageHeader, flags: c_int) -> isize;
        fn statvfs(path: *const c_char, answer: *mut [u64; 32]) -> c_int;
    }

    fn checked(answer: c_int) -> io::Result<c_int> {
        if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
    }

    /// Takes standard input for the control, off the numbers that programs get.
    pub(super) fn control() -> UnixStream {
        // SAFETY: plain system calls on a descriptor number; the copy is owned by nothing else.
        unsafe {
            let copy = fcntl(0, F_DUPFD_CLOEXEC, 100);
            if copy < 0 {
                _exit(2);
            }
            UnixStream::from_raw_fd(copy)
        }
    }

    /// Closes what a parent may have left open, keeps other processes of this uid away from this one's memory and
    /// descriptors, and forbids core files.
    pub(super) fn protect() -> io::Result<()> {
        for entry in fs::read_dir("/proc/self/fd")?.flatten() {
            if let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse::<c_int>().ok())
                && fd > 2
            {
                // SAFETY: setting a flag on a number that may not be open is an error without effect.
                unsafe { fcntl(fd, F_SETFD, 1) };
            }
        }
        limit(4, 0)?;
        // SAFETY: no pointer is involved.
        checked(unsafe { prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) }).map(drop)
    }

    /// Sends standard input, output and error to nowhere.
    pub(super) fn quiet() -> io::Result<()> {
        let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
        for fd in 0..3 {
            // SAFETY: replaces descriptors that nothing in this program uses any more.
            checked(unsafe { dup2(null.as_raw_fd(), fd) })?;
        }
        Ok(())
    }

    /// Makes orphans of this process's descendants its children.
    pub(super) fn adopt_orphans() -> io::Result<()> {
        // SAFETY: no pointer is involved.
        checked(unsafe { prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
    }

    /// A descriptor that is readable when a child has ended.
    pub(super) fn child_signals() -> io::Result<OwnedFd> {
        let mut set: SignalSet = [0; 16];
        set[0] = 1 << (SIGCHLD - 1);
        // SAFETY: the set lives through both calls; the new descriptor is owned by nothing else.
        unsafe {
            checked(sigprocmask(0, &raw const set, std::ptr::null_mut()))?;
            Ok(OwnedFd::from_raw_fd(checked(signalfd(-1, &raw const set, CLOEXEC | 0o4000))?))
        }
    }

    /// Empties the descriptor of [`child_signals`].
    pub(super) fn drain(signals: &OwnedFd) {
        if let Ok(copy) = signals.try_clone() {
            let mut file = fs::File::from(copy);
            let mut buffer = [0; 128 * 8];
            while file.read(&mut buffer).is_ok_and(|read| read == buffer.len()) {}
        }
    }

    /// Waits for a frame or a child's end, and says which.
    pub(super) fn wait(control: RawFd, children: RawFd) -> io::Result<(bool, bool)> {
        let mut fds = [control, children].map(|fd| PollFd { fd, events: POLLIN, revents: 0 });
        // SAFETY: the array lives through the call, and its length is given.
        match checked(unsafe { poll(fds.as_mut_ptr(), 2, -1) }) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok((fds[0].revents != 0, fds[1].revents != 0)),
        }
    }

    /// Reads one frame and the descriptors beside it; nothing at the end.
    #[expect(clippy::type_complexity, reason = "read in one place")]
    pub(super) fn receive(control: &mut UnixStream) -> io::Result<Option<(u8, Vec<u8>, Vec<OwnedFd>)>> {
        let mut head = [0u8; 5];
        let (read, fds) = receive_some(control.as_raw_fd(), &mut head)?;
        if read == 0 {
            return Ok(None);
        }
        if let Err(error) = control.read_exact(&mut head[read..]) {
            return if error.kind() == io::ErrorKind::UnexpectedEof { Ok(None) } else { Err(error) };
        }
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        if length > MAX_FRAME {
            return Err(io::Error::other("the frame is too long"));
        }
        let mut body = vec![0; length as usize];
        match control.read_exact(&mut body) {
            Ok(()) => Ok(Some((head[4], body, fds))),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn receive_some(fd: RawFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        let mut rights = Rights { len: 0, level: 0, kind: 0, fds: [-1; MAX_FDS] };
        let mut iov = IoVec { base: buffer.as_mut_ptr().cast(), len: buffer.len() };
        let mut message = header(&mut iov, &mut rights, size_of::<Rights>());
        // SAFETY: all buffers live through the call with their true lengths.
        let read = unsafe { recvmsg(fd, &raw mut message, 0x4000_0000) };
        if read < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::ConnectionReset { Ok((0, Vec::new())) } else { Err(error) };
        }
        let mut fds = Vec::new();
        if message.control_len >= RIGHTS_HEAD && (rights.level, rights.kind) == (SOL_SOCKET, SCM_RIGHTS) {
            let count = (rights.len.saturating_sub(RIGHTS_HEAD) / size_of::<c_int>()).min(MAX_FDS);
            // SAFETY: the kernel made these descriptors for this process in this very call.
            fds.extend(rights.fds[..count].iter().map(|fd| unsafe { OwnedFd::from_raw_fd(*fd) }));
        }
        Ok((read as usize, fds))
    }

    fn header(iov: &mut IoVec, rights: &mut Rights, control_len: usize) -> MessageHeader {
        let control = if control_len == 0 { std::ptr::null_mut() } else { (&raw mut *rights).cast() };
        let name = std::ptr::null_mut();
        MessageHeader { name, name_len: 0, iov: &raw mut *iov, iov_len: 1, control, control_len, flags: 0 }
    }

    /// Sends a short frame with descriptors beside it.
    pub(super) fn send(control: &UnixStream, frame: &[u8], fds: &[RawFd]) -> io::Result<()> {
        let count = fds.len().min(MAX_FDS);
        let len = if count == 0 { 0 } else { RIGHTS_HEAD + count * size_of::<c_int>() };
        let mut rights = Rights { len, level: SOL_SOCKET, kind: SCM_RIGHTS, fds: [-1; MAX_FDS] };
        rights.fds[..count].copy_from_slice(&fds[..count]);
        let mut iov = IoVec { base: frame.as_ptr().cast_mut().cast(), len: frame.len() };
        let message = header(&mut iov, &mut rights, len.next_multiple_of(8));
        // SAFETY: all buffers live through the call with their true lengths; the call does not write to them.
        let sent = unsafe { sendmsg(control.as_raw_fd(), &raw const message, 0) };
        match sent {
            sent if sent < 0 => Err(io::Error::last_os_error()),
            sent if sent as usize == frame.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    /// Sets both limits of a resource, never above the hard limit there is.
    pub(super) fn limit(resource: u32, value: u64) -> io::Result<()> {
        let mut now = Limit { soft: 0, hard: 0 };
        // SAFETY: the pointers are to live values of the right layout.
        unsafe {
            checked(getrlimit(resource, &raw mut now))?;
            let value = value.min(now.hard);
            checked(setrlimit(resource, &raw const *&Limit { soft: value, hard: value })).map(drop)
        }
    }

    /// A mount namespace of this process's own, from which nothing spreads.
    pub(super) fn own_mounts() -> io::Result<()> {
        // SAFETY: no pointer is involved.
        checked(unsafe { unshare(CLONE_NEWNS) })?;
        mount(None, "/", None, MS_REC | MS_PRIVATE, None)
    }

    pub(super) fn mount(
        source: Option<&str>,
        target: &str,
        kind: Option<&str>,
        flags: c_ulong,
        data: Option<&str>,
    ) -> io::Result<()> {
        let text = |text: Option<&str>| text.map(CString::new).transpose();
        let (source, target, kind, data) = (text(source)?, CString::new(target)?, text(kind)?, text(data)?);
        let raw = |text: &Option<CString>| text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr());
        // SAFETY: every pointer is null or to a text that lives through the call.
        checked(unsafe { c_mount(raw(&source), target.as_ptr(), raw(&kind), flags, raw(&data)) }).map(drop)
    }

    /// Gives up the worker's identity for good.
    pub(super) fn become_user(uid: u32, gid: u32) -> io::Result<()> {
        // SAFETY: an empty list needs no pointer.
        unsafe {
            checked(setgroups(0, std::ptr::null()))?;
            checked(setresgid(gid, gid, gid))?;
            checked(setresuid(uid, uid, uid)).map(drop)
        }
    }

    /// Puts content into a memory file that the next program finds under `number`.
    pub(super) fn hand_over(content: &[u8], number: RawFd) -> io::Result<()> {
        // SAFETY: the name is a literal; the new descriptor is owned by nothing else.
        let mut file = unsafe { fs::File::from_raw_fd(checked(memfd_create(c"pond".as_ptr(), 1))?) };
        file.write_all(content)?;
        io::Seek::rewind(&mut file)?;
        // SAFETY: the number is one of ours, not in use by any owner in this program.
        checked(unsafe { dup2(file.as_raw_fd(), number) }).map(drop)
    }

    /// Makes the control the next program's standard input again.
    pub(super) fn hand_over_control(control: &UnixStream) -> io::Result<()> {
        // SAFETY: standard input is not used by this program.
        checked(unsafe { dup2(control.as_raw_fd(), 0) }).map(drop)
    }

    fn pointers(texts: &[CString]) -> Vec<*const c_char> {
        texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    }

    /// Becomes another program; comes back only with an error.
    pub(super) fn execute(path: &CString, argv: &[CString], env: &[CString]) -> io::Error {
        unblock();
        // SAFETY: the lists end in null and their texts live through the call.
        unsafe { execve(path.as_ptr(), pointers(argv).as_ptr(), pointers(env).as_ptr()) };
        io::Error::last_os_error()
    }

    /// Signals as a fresh program expects them.
    fn unblock() {
        let set: SignalSet = [0; 16];
        // SAFETY: the set lives through the call; the default action of SIGPIPE needs no handler.
        unsafe {
            sigprocmask(2, &raw const set, std::ptr::null_mut());
            signal(SIGPIPE, 0);
        }
    }

    /// What to start, all of it made before the fork.
    pub(super) struct Program<'a> {
        pub(super) candidates: &'a [CString],
        pub(super) argv: &'a [CString],
        pub(super) env: &'a [CString],
        pub(super) cwd: &'a CString,
        pub(super) stdio: [RawFd; 3],
    }

    /// Starts a program as leader of a session of its own; an error when it could not be executed.
    pub(super) fn spawn(program: &Program<'_>) -> io::Result<c_int> {
        let (argv, env) = (pointers(program.argv), pointers(program.env));
        let (mut verdict, report) = io::pipe()?;
        let report = report.into_raw_fd();
        // SAFETY: this process has one thread, so the child may do whatever it could.
        let pid = checked(unsafe { fork() })?;
        if pid == 0 {
            let errno = become_program(program, &argv, &env);
            // SAFETY: the pipe's end is this process's own, which ends here.
            unsafe {
                let mut report = fs::File::from_raw_fd(report);
                let _ = report.write_all(&errno.to_be_bytes());
                _exit(127);
            }
        }
        // SAFETY: the descriptor was taken out of its owner above, and is closed here once.
        drop(unsafe { OwnedFd::from_raw_fd(report) });
        let mut errno = [0; 4];
        match verdict.read_exact(&mut errno) {
            Ok(()) => {
                // SAFETY: waits for the child that has just reported its end.
                unsafe { waitpid(pid, std::ptr::null_mut(), 0) };
                Err(io::Error::from_raw_os_error(i32::from_be_bytes(errno)))
            }
            Err(_) => Ok(pid),
        }
    }

    /// The child's part of [`spawn`]; comes back with the reason only.
    fn become_program(program: &Program<'_>, argv: &[*const c_char], env: &[*const c_char]) -> c_int {
        let errno = || io::Error::last_os_error().raw_os_error().unwrap_or(EINVAL);
        unblock();
        // SAFETY: only this child's own state is changed, with texts and lists made before the fork.
        unsafe {
            setsid();
            umask(0o022);
            for (number, fd) in program.stdio.iter().enumerate() {
                if dup2(*fd, number as c_int) < 0 {
                    return errno();
                }
            }
            if chdir(program.cwd.as_ptr()) < 0 {
                return errno();
            }
            let mut told = 2;
            for candidate in program.candidates {
                execve(candidate.as_ptr(), argv.as_ptr(), env.as_ptr());
                let now = errno();
                // Not being in one folder of several tells less than being there without the right to run.
                if now != 2 && now != 20 {
                    told = now;
                }
            }
            told
        }
    }

    /// Sends a signal; one that no longer reaches anybody is no matter.
    pub(super) fn kill(pid: c_int, number: c_int) {
        // SAFETY: no pointer is involved.
        unsafe { c_kill(pid, number) };
    }

    /// Collects one child that has ended: its pid, whether by a signal, and which code or signal.
    pub(super) fn reap() -> Option<(c_int, bool, c_int)> {
        let mut status = 0;
        // SAFETY: the status lives through the call.
        let pid = unsafe { waitpid(-1, &raw mut status, 1) };
        let signal = status & 0x7f;
        (pid > 0).then(|| if signal == 0 { (pid, false, (status >> 8) & 0xff) } else { (pid, true, signal) })
    }

    /// Free and total bytes of the file system at a path; zero total where that is not known.
    pub(super) fn space(path: &[u8]) -> (u64, u64) {
        let Ok(path) = CString::new(path) else { return (0, 0) };
        let mut answer = [0u64; 32];
        // SAFETY: the answer is larger than the C structure, whose first five members are u64 on 64-bit targets.
        if unsafe { statvfs(path.as_ptr(), &raw mut answer) } < 0 {
            return (0, 0);
        }
        (answer[4].saturating_mul(answer[1]), answer[2].saturating_mul(answer[1]))
    }
}
