//! Linux as the init needs it: the system calls that have no form in the standard library.

use std::ffi::{CString, c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

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
const PR_SET_NO_NEW_PRIVS: c_int = 38;
const PR_SET_SECCOMP: c_int = 22;
const SECCOMP_MODE_FILTER: c_ulong = 2;
const F_DUPFD_CLOEXEC: c_int = 1030;
const F_SETFD: c_int = 2;
const SOL_SOCKET: c_int = 1;
const SCM_RIGHTS: c_int = 1;
pub(super) const POLLIN: i16 = 1;
pub(super) const POLLOUT: i16 = 4;
/// Goes on while the host sleeps, and nobody can set it.
const CLOCK_BOOTTIME: c_int = 7;
const TFD_TIMER_ABSTIME: c_int = 1;
const MSG_DONTWAIT: c_int = 0x40;
const MSG_NOSIGNAL: c_int = 0x4000;
const MSG_CMSG_CLOEXEC: c_int = 0x4000_0000;
/// Descriptors in one frame.
pub(super) const MAX_FDS: usize = 16;

/// `sigset_t`, 1024 bits.
type SignalSet = [u64; 16];

#[repr(C)]
struct PollFd {
    fd: c_int,
    events: i16,
    revents: i16,
}

#[repr(C)]
struct TimeSpec {
    seconds: i64,
    nanoseconds: c_long,
}

#[repr(C)]
struct TimerSpec {
    interval: TimeSpec,
    value: TimeSpec,
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

/// `sock_fprog`.
#[repr(C)]
struct Filter {
    count: u16,
    program: *const u64,
}

const RIGHTS_HEAD: usize = std::mem::offset_of!(Rights, fds);

#[repr(C)]
struct Limit {
    soft: u64,
    hard: u64,
}

unsafe extern "C" {
    fn timerfd_create(clock: c_int, flags: c_int) -> c_int;
    fn timerfd_settime(fd: c_int, flags: c_int, new: *const TimerSpec, old: *mut TimerSpec) -> c_int;
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

/// Puts a filter (a classic BPF program) over the system calls of this process and all it will start, which gain no privileges
/// from then on.
pub(super) fn filter_calls(program: &[u8]) -> io::Result<()> {
    let count = u16::try_from(program.len() / size_of::<u64>()).map_err(|_| io::Error::from_raw_os_error(EINVAL))?;
    // Eight bytes an instruction, in words so that they are aligned as the kernel's structure is.
    let words: Vec<u64> = program
        .chunks_exact(size_of::<u64>())
        .map(|bytes| u64::from_ne_bytes(bytes.try_into().unwrap_or_default()))
        .collect();
    let filter = Filter { count, program: words.as_ptr() };
    // SAFETY: the program lives through the call, and its length is given.
    unsafe {
        checked(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        checked(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, (&raw const filter) as c_ulong, 0, 0)).map(drop)
    }
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

/// A timer that is not set, readable once its time has come.
pub(super) fn timer() -> io::Result<OwnedFd> {
    // SAFETY: no pointer is involved; the new descriptor is owned by nothing else.
    unsafe { Ok(OwnedFd::from_raw_fd(checked(timerfd_create(CLOCK_BOOTTIME, CLOEXEC))?)) }
}

/// Sets a timer to a time since the host's boot, in nanoseconds; one that has passed comes at once.
pub(super) fn set_timer(timer: &OwnedFd, at: u64) -> io::Result<()> {
    const SECOND: u64 = 1_000_000_000;
    // Zero would unset it.
    let at = at.max(1);
    let value = TimeSpec { seconds: (at / SECOND) as i64, nanoseconds: (at % SECOND) as c_long };
    let new = TimerSpec { interval: TimeSpec { seconds: 0, nanoseconds: 0 }, value };
    // SAFETY: the specification lives through the call, and the old one is not asked for.
    checked(unsafe { timerfd_settime(timer.as_raw_fd(), TFD_TIMER_ABSTIME, &raw const new, std::ptr::null_mut()) })
        .map(drop)
}

/// Waits until one of these is as it is wanted, and says which are.
pub(super) fn poll_all(wanted: &[(RawFd, i16)]) -> io::Result<Vec<bool>> {
    let mut fds: Vec<PollFd> = wanted.iter().map(|&(fd, events)| PollFd { fd, events, revents: 0 }).collect();
    // SAFETY: the array lives through the call, and its length is given.
    match checked(unsafe { poll(fds.as_mut_ptr(), fds.len() as c_ulong, -1) }) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(fds.iter().map(|fd| fd.revents != 0).collect()),
    }
}

/// Reads some bytes, and the descriptors beside them.
pub(super) fn receive_some(fd: RawFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut rights = Rights { len: 0, level: 0, kind: 0, fds: [-1; MAX_FDS] };
    let mut iov = IoVec { base: buffer.as_mut_ptr().cast(), len: buffer.len() };
    let mut message = header(&mut iov, &mut rights, size_of::<Rights>());
    // SAFETY: all buffers live through the call with their true lengths.
    let read = unsafe { recvmsg(fd, &raw mut message, MSG_CMSG_CLOEXEC) };
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

/// Sends as many bytes as there is room for now, with descriptors beside them.
pub(super) fn send_some(fd: RawFd, bytes: &[u8], fds: &[RawFd]) -> io::Result<usize> {
    let count = fds.len().min(MAX_FDS);
    let len = if count == 0 { 0 } else { RIGHTS_HEAD + count * size_of::<c_int>() };
    let mut rights = Rights { len, level: SOL_SOCKET, kind: SCM_RIGHTS, fds: [-1; MAX_FDS] };
    rights.fds[..count].copy_from_slice(&fds[..count]);
    let mut iov = IoVec { base: bytes.as_ptr().cast_mut().cast(), len: bytes.len() };
    let message = header(&mut iov, &mut rights, len.next_multiple_of(8));
    // SAFETY: all buffers live through the call with their true lengths; the call does not write to them.
    let sent = unsafe { sendmsg(fd, &raw const message, MSG_DONTWAIT | MSG_NOSIGNAL) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
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
pub(super) fn hand_over_control(control: RawFd) -> io::Result<()> {
    // SAFETY: standard input is not used by this program.
    checked(unsafe { dup2(control, 0) }).map(drop)
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

/// Starts a program as leader of a session of its own; an error when it could not be executed, or when what waits for that
/// is an error.
pub(super) fn spawn(program: &Program<'_>, wait: impl FnOnce(RawFd) -> io::Result<()>) -> io::Result<c_int> {
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
    wait(verdict.as_raw_fd())?;
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
