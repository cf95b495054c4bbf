//! Linux without a library: what the acts need and the standard library does not have.

use std::ffi::{CString, c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

unsafe extern "C" {
    pub(crate) fn syscall(number: c_long, ...) -> c_long;
    #[link_name = "socket"]
    fn c_socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn sendto(fd: c_int, data: *const c_void, len: usize, flags: c_int, to: *const c_void, to_len: c_uint) -> isize;
    #[link_name = "setsockopt"]
    fn c_setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void, len: c_uint) -> c_int;
    #[link_name = "getsockopt"]
    fn c_getsockopt(fd: c_int, level: c_int, name: c_int, value: *mut c_void, len: *mut c_uint) -> c_int;
    #[link_name = "bind"]
    fn c_bind(fd: c_int, address: *const c_void, len: c_uint) -> c_int;
    #[link_name = "connect"]
    fn c_connect(fd: c_int, address: *const c_void, len: c_uint) -> c_int;
    fn recvfrom(fd: c_int, data: *mut c_void, len: usize, flags: c_int, from: *mut c_void, from_len: *mut c_uint) -> isize;
    #[link_name = "ioctl"]
    fn c_ioctl(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int;
    #[link_name = "fork"]
    fn c_fork() -> c_int;
    #[link_name = "setsid"]
    fn c_setsid() -> c_int;
    #[link_name = "alarm"]
    fn c_alarm(seconds: c_uint) -> c_uint;
    #[link_name = "kill"]
    fn c_kill(pid: c_int, signal: c_int) -> c_int;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    #[link_name = "unshare"]
    fn c_unshare(flags: c_int) -> c_int;
    #[link_name = "mount"]
    fn c_mount(from: *const c_char, to: *const c_char, kind: *const c_char, flags: c_ulong, data: *const c_void) -> c_int;
    #[link_name = "umount2"]
    fn c_umount2(target: *const c_char, flags: c_int) -> c_int;
    fn setgroups(count: usize, groups: *const u32) -> c_int;
    #[link_name = "setresgid"]
    fn c_setresgid(real: u32, effective: u32, saved: u32) -> c_int;
    #[link_name = "setresuid"]
    fn c_setresuid(real: u32, effective: u32, saved: u32) -> c_int;
    fn prctl(option: c_int, a: c_ulong, b: c_ulong, c: c_ulong, d: c_ulong) -> c_int;
    fn setrlimit(resource: c_uint, limit: *const [u64; 2]) -> c_int;
    fn getrlimit(resource: c_uint, limit: *mut [u64; 2]) -> c_int;
    #[link_name = "mknod"]
    fn c_mknod(path: *const c_char, mode: c_uint, device: u64) -> c_int;
    #[link_name = "mmap"]
    fn c_mmap(at: *mut c_void, len: usize, prot: c_int, flags: c_int, fd: c_int, offset: i64) -> *mut c_void;
    #[link_name = "dup2"]
    fn c_dup2(old: c_int, new: c_int) -> c_int;
    fn if_nametoindex(name: *const c_char) -> c_uint;
    fn shmget(key: c_int, size: usize, flags: c_int) -> c_int;
    fn shmat(id: c_int, at: *const c_void, flags: c_int) -> *mut c_void;
    fn shmctl(id: c_int, command: c_int, argument: *mut c_void) -> c_int;
    fn geteuid() -> c_uint;
    fn memfd_create(name: *const c_char, flags: c_uint) -> c_int;
}

pub(crate) fn checked(answer: c_int) -> io::Result<c_int> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

pub(crate) fn socket(domain: c_int, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    // SAFETY: no pointer is involved; the descriptor is new.
    unsafe { Ok(OwnedFd::from_raw_fd(checked(c_socket(domain, kind | 0o2_000_000, protocol))?)) }
}

pub(crate) fn send_to(fd: c_int, data: &[u8], flags: c_int, to: &[u8]) -> io::Result<usize> {
    // SAFETY: both slices live through the call, and their lengths are given.
    let sent = unsafe { sendto(fd, data.as_ptr().cast(), data.len(), flags | 0x4000, to.as_ptr().cast(), to.len() as c_uint) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
}

/// Receives a packet and the address beside it.
pub(crate) fn receive_from(fd: c_int, data: &mut [u8], from: &mut [u8; 32]) -> io::Result<usize> {
    let mut len = from.len() as c_uint;
    // SAFETY: both buffers live through the call, and their lengths are given.
    let read = unsafe { recvfrom(fd, data.as_mut_ptr().cast(), data.len(), 0, from.as_mut_ptr().cast(), &raw mut len) };
    if read < 0 { Err(io::Error::last_os_error()) } else { Ok(read as usize) }
}

pub(crate) fn set_option(fd: c_int, level: c_int, name: c_int, value: &[u8]) -> io::Result<()> {
    // SAFETY: the value lives through the call.
    checked(unsafe { c_setsockopt(fd, level, name, value.as_ptr().cast(), value.len() as c_uint) }).map(drop)
}

pub(crate) fn get_option(fd: c_int, level: c_int, name: c_int, value: &mut [u8]) -> io::Result<()> {
    let mut len = value.len() as c_uint;
    // SAFETY: the value lives through the call.
    checked(unsafe { c_getsockopt(fd, level, name, value.as_mut_ptr().cast(), &raw mut len) }).map(drop)
}

pub(crate) fn bind(fd: c_int, address: &[u8]) -> io::Result<()> {
    // SAFETY: the address lives through the call.
    checked(unsafe { c_bind(fd, address.as_ptr().cast(), address.len() as c_uint) }).map(drop)
}

pub(crate) fn connect(fd: c_int, address: &[u8]) -> io::Result<()> {
    // SAFETY: the address lives through the call.
    checked(unsafe { c_connect(fd, address.as_ptr().cast(), address.len() as c_uint) }).map(drop)
}

pub(crate) fn ioctl(fd: c_int, request: c_ulong, argument: &mut [u8]) -> io::Result<c_int> {
    // SAFETY: the requests used here read and write less than the 64 bytes that every caller gives.
    checked(unsafe { c_ioctl(fd, request, argument.as_mut_ptr().cast()) })
}

pub(crate) fn fork() -> io::Result<c_int> {
    // SAFETY: this program forks while it has one thread.
    checked(unsafe { c_fork() })
}

pub(crate) fn setsid() {
    // SAFETY: no pointer is involved.
    unsafe { c_setsid() };
}

pub(crate) fn alarm(seconds: u32) {
    // SAFETY: no pointer is involved; its default action ends this process.
    unsafe { c_alarm(seconds) };
}

pub(crate) fn kill(pid: c_int, signal: c_int) -> bool {
    // SAFETY: no pointer is involved.
    unsafe { c_kill(pid, signal) == 0 }
}

/// Waits for a child; how it ended, when not well.
pub(crate) fn wait(pid: c_int) -> Option<String> {
    let mut status = 0;
    // SAFETY: the status lives through the call.
    while unsafe { waitpid(pid, &raw mut status, 0) } < 0 {
        if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return Some("lost".into());
        }
    }
    ended(status)
}

/// Waits for any child: which, and how it ended, when not well. Nothing when there is none.
pub(crate) fn wait_any() -> Option<(c_int, Option<String>)> {
    let mut status = 0;
    // SAFETY: the status lives through the call.
    let pid = unsafe { waitpid(-1, &raw mut status, 0) };
    (pid > 0).then(|| (pid, ended(status)))
}

fn ended(status: c_int) -> Option<String> {
    (status != 0).then(|| format!("ended by signal {} with code {}", status & 0x7f, (status >> 8) & 0xff))
}

/// Collects children that have ended, without waiting.
pub(crate) fn reap() {
    // SAFETY: no status is asked for.
    while unsafe { waitpid(-1, std::ptr::null_mut(), 1) } > 0 {}
}

pub(crate) fn unshare(flags: c_int) -> io::Result<()> {
    // SAFETY: no pointer is involved.
    checked(unsafe { c_unshare(flags) }).map(drop)
}

pub(crate) fn mount(from: &str, to: &str, kind: &str, flags: c_ulong) -> io::Result<()> {
    let (from, to, kind) = (CString::new(from)?, CString::new(to)?, CString::new(kind)?);
    // SAFETY: the texts live through the call.
    checked(unsafe { c_mount(from.as_ptr(), to.as_ptr(), kind.as_ptr(), flags, std::ptr::null()) }).map(drop)
}

pub(crate) fn umount(target: &str) -> io::Result<()> {
    let target = CString::new(target)?;
    // SAFETY: the text lives through the call; 2 is MNT_DETACH.
    checked(unsafe { c_umount2(target.as_ptr(), 2) }).map(drop)
}

pub(crate) fn become_user(uid: u32) -> io::Result<()> {
    // SAFETY: an empty list needs no pointer.
    unsafe {
        checked(setgroups(0, std::ptr::null()))?;
        checked(c_setresgid(uid, uid, uid))?;
        checked(c_setresuid(uid, uid, uid)).map(drop)
    }
}

pub(crate) fn set_uid(uid: u32) -> io::Result<()> {
    // SAFETY: no pointer is involved.
    checked(unsafe { c_setresuid(uid, uid, uid) }).map(drop)
}

pub(crate) fn set_gid(gid: u32) -> io::Result<()> {
    // SAFETY: no pointer is involved.
    checked(unsafe { c_setresgid(gid, gid, gid) }).map(drop)
}

pub(crate) fn set_groups(group: u32) -> io::Result<()> {
    // SAFETY: the list lives through the call.
    checked(unsafe { setgroups(1, &raw const group) }).map(drop)
}

pub(crate) fn control(option: c_int, value: c_ulong) -> io::Result<c_int> {
    // SAFETY: the options used here take numbers.
    checked(unsafe { prctl(option, value, 0, 0, 0) })
}

pub(crate) fn limit(resource: c_uint) -> [u64; 2] {
    let mut limit = [0; 2];
    // SAFETY: the limit lives through the call, and is two u64 on 64-bit targets.
    unsafe { getrlimit(resource, &raw mut limit) };
    limit
}

/// Up to the hard limit.
pub(crate) fn raise(resource: c_uint) {
    let [_, hard] = limit(resource);
    // SAFETY: the limit lives through the call.
    unsafe { setrlimit(resource, &raw const *&[hard, hard]) };
}

pub(crate) fn mknod(path: &str, mode: u32, device: u64) -> io::Result<()> {
    let path = CString::new(path)?;
    // SAFETY: the text lives through the call.
    checked(unsafe { c_mknod(path.as_ptr(), mode, device) }).map(drop)
}

/// New memory of this process, never given back.
pub(crate) fn map(bytes: usize, flags: c_int, fd: c_int) -> io::Result<&'static mut [u8]> {
    // SAFETY: a new mapping where the kernel wants it; readable and writable for its whole length.
    unsafe {
        let at = c_mmap(std::ptr::null_mut(), bytes, 3, flags, fd, 0);
        if at as isize == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(std::slice::from_raw_parts_mut(at.cast(), bytes))
    }
}

pub(crate) fn memory_file() -> io::Result<OwnedFd> {
    // SAFETY: the name is a literal; the descriptor is new.
    unsafe { Ok(OwnedFd::from_raw_fd(checked(memfd_create(c"x".as_ptr(), 1))?)) }
}

pub(crate) fn replace(old: c_int, new: c_int) -> io::Result<()> {
    // SAFETY: standard descriptors alone are replaced, which no owner of this program holds.
    checked(unsafe { c_dup2(old, new) }).map(drop)
}

pub(crate) fn index_of(name: &str) -> u32 {
    // SAFETY: the text lives through the call.
    CString::new(name).map_or(0, |name| unsafe { if_nametoindex(name.as_ptr()) })
}

/// A segment of shared memory; made, when `flags` say so.
pub(crate) fn shared(key: c_int, size: usize, flags: c_int) -> io::Result<(c_int, &'static mut [u8])> {
    // SAFETY: an attached segment is at least as large as was asked for, and stays.
    unsafe {
        let id = checked(shmget(key, size, flags))?;
        let at = shmat(id, std::ptr::null(), 0);
        if at as isize == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok((id, std::slice::from_raw_parts_mut(at.cast(), size)))
    }
}

/// Lets a segment go with its last user.
pub(crate) fn unshared(id: c_int) {
    // SAFETY: removing takes no argument.
    unsafe { shmctl(id, 0, std::ptr::null_mut()) };
}

pub(crate) fn is_root() -> bool {
    // SAFETY: no pointer is involved.
    unsafe { geteuid() == 0 }
}
