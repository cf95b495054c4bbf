//! System calls by number, with arguments that do no harm where the call is let in. `out` means that the kernel looked at the
//! call: it did it, or found another fault with it than that this process may not.

use std::ffi::c_long;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use crate::sys::{self, syscall};
use crate::{Outcome, told};

/// Name, number on x86-64 and on arm64 (-1: not there), arguments.
type Line = (&'static str, i64, i64, [i64; 6]);

/// The table. To add a call: a line.
const CALLS: &[Line] = &[
    ("ptrace", 101, 117, [0; 6]),
    ("process_madvise", 440, 440, [-1, 0, 0, 0, 0, 0]),
    ("pidfd_getfd", 438, 438, [-1, 0, 0, 0, 0, 0]),
    ("kcmp", 312, 272, [-1, -1, 99, 0, 0, 0]),
    ("process_vm_readv", 310, 270, [1, 0, 0, 0, 0, 1]),
    ("process_vm_writev", 311, 271, [1, 0, 0, 0, 0, 1]),
    ("chroot", 161, 51, [0; 6]),
    ("mount", 165, 40, [0; 6]),
    ("umount2", 166, 39, [0; 6]),
    ("pivot_root", 155, 41, [0; 6]),
    ("fsopen", 430, 430, [0; 6]),
    ("fsconfig", 431, 431, [-1, 99, 0, 0, 0, 0]),
    ("fsmount", 432, 432, [-1, 0, 0, 0, 0, 0]),
    ("fspick", 433, 433, [-1, 0, 0, 0, 0, 0]),
    ("open_tree", 428, 428, [-1, 0, 0, 0, 0, 0]),
    ("move_mount", 429, 429, [-1, 0, -1, 0, 0, 0]),
    ("mount_setattr", 442, 442, [-1, 0, 0, 0, 0, 0]),
    ("unshare-user", 272, 97, [0x1000_0000, 0, 0, 0, 0, 0]),
    ("unshare-mount", 272, 97, [0x0002_0000, 0, 0, 0, 0, 0]),
    ("unshare-net", 272, 97, [0x4000_0000, 0, 0, 0, 0, 0]),
    ("unshare-pid", 272, 97, [0x2000_0000, 0, 0, 0, 0, 0]),
    ("unshare-ipc", 272, 97, [0x0800_0000, 0, 0, 0, 0, 0]),
    ("unshare-uts", 272, 97, [0x0400_0000, 0, 0, 0, 0, 0]),
    ("unshare-cgroup", 272, 97, [0x0200_0000, 0, 0, 0, 0, 0]),
    ("setns", 308, 268, [-1, 0, 0, 0, 0, 0]),
    ("keyctl", 250, 219, [0, -3, 1, 0, 0, 0]),
    ("add_key", 248, 217, [0; 6]),
    ("request_key", 249, 218, [0; 6]),
    ("bpf", 321, 280, [0, 0, 0, 0, 0, 0]),
    ("perf_event_open", 298, 241, [0; 6]),
    ("userfaultfd", 323, 282, [1, 0, 0, 0, 0, 0]),
    ("io_uring_setup", 425, 425, [0; 6]),
    ("io_uring_enter", 426, 426, [-1, 0, 0, 0, 0, 0]),
    ("io_uring_register", 427, 427, [-1, 0, 0, 0, 0, 0]),
    ("kexec_load", 246, 104, [0, 0, 0, 0xffff, 0, 0]),
    ("kexec_file_load", 320, 294, [-1, -1, 0, 0, 0xffff, 0]),
    ("init_module", 175, 105, [0; 6]),
    ("finit_module", 313, 273, [-1, 0, 0xffff, 0, 0, 0]),
    ("delete_module", 176, 106, [0, 0, 0, 0, 0, 0]),
    ("open_by_handle_at", 304, 265, [-100, 0, 0, 0, 0, 0]),
    ("name_to_handle_at", 303, 264, [-100, 0, 0, 0, 0, 0]),
    ("fanotify_init", 300, 262, [0; 6]),
    ("quotactl", 179, 60, [0; 6]),
    ("swapon", 167, 224, [0; 6]),
    ("swapoff", 168, 225, [0; 6]),
    ("syslog", 103, 116, [9, 0, 0, 0, 0, 0]),
    ("settimeofday", 164, 170, [0; 6]),
    ("clock_settime", 227, 112, [0; 6]),
    ("adjtimex", 159, 171, [0; 6]),
    ("sethostname", 170, 161, [0, -1, 0, 0, 0, 0]),
    ("setdomainname", 171, 162, [0, -1, 0, 0, 0, 0]),
    ("reboot", 169, 142, [0; 6]),
    ("iopl", 172, -1, [0; 6]),
    ("ioperm", 173, -1, [0; 6]),
    ("modify_ldt", 154, -1, [0; 6]),
];

pub(crate) fn call(name: &str) -> Outcome {
    let special = match name {
        "clone-user" => Some(clone()),
        "clone3-user" => Some(clone3()),
        "narrow" => Some(narrow()),
        "32-bit" => Some(other_abi()),
        "type-ahead" => Some(type_ahead()),
        "setuid" => Some(sys::set_uid(0)),
        "setgid" => Some(sys::set_gid(0)),
        "setgroups" => Some(sys::set_groups(0)),
        _ => None,
    };
    match special {
        Some(Ok(())) => return Outcome::Out("done".into()),
        Some(Err(error)) => return Outcome::Held(told(&error)),
        None => {}
    }
    let Some((_, x86, arm, args)) = CALLS.iter().find(|(own, ..)| *own == name) else {
        return Outcome::Held("no such call".into());
    };
    let number = if cfg!(target_arch = "x86_64") { *x86 } else { *arm };
    if number < 0 {
        return Outcome::Held("errno=38".into());
    }
    judged(invoke(number, args))
}

fn invoke(number: i64, args: &[i64; 6]) -> io::Result<i64> {
    // SAFETY: every pointer among the arguments is null, which the kernel checks.
    let answer = unsafe { syscall(number as c_long, args[0], args[1], args[2], args[3], args[4], args[5]) };
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

fn judged(answer: io::Result<i64>) -> Outcome {
    match answer {
        Ok(answer) => Outcome::Out(format!("done: {answer}")),
        Err(error) if matches!(error.raw_os_error(), Some(1 | 13 | 38)) => Outcome::Held(told(&error)),
        Err(error) => Outcome::Out(format!("let in: {}", told(&error))),
    }
}

fn clone() -> io::Result<()> {
    let number = if cfg!(target_arch = "x86_64") { 56 } else { 220 };
    child(invoke(number, &[0x1000_0000 | 17, 0, 0, 0, 0, 0])?)
}

fn clone3() -> io::Result<()> {
    let arguments: [u64; 11] = [0x1000_0000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0];
    // SAFETY: the arguments live through the call, and their length is given.
    let answer = unsafe { syscall(435, arguments.as_ptr(), size_of_val(&arguments)) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { child(answer as i64) }
}

fn child(answer: i64) -> io::Result<()> {
    if answer == 0 {
        std::process::exit(0);
    }
    Ok(())
}

/// `getpid` of the x32 interface.
fn narrow() -> io::Result<()> {
    if cfg!(target_arch = "x86_64") { invoke(0x4000_0000 | 39, &[0; 6]).map(drop) } else { Err(io::Error::from_raw_os_error(38)) }
}

/// `getpid` by the door of 32-bit programs, whose numbers a filter for 64-bit ones misreads.
#[cfg(target_arch = "x86_64")]
fn other_abi() -> io::Result<()> {
    let mut answer: u64 = 20;
    // SAFETY: the call takes no argument and writes no memory.
    unsafe { std::arch::asm!("int 0x80", inout("rax") answer, out("r8") _, out("r9") _, out("r10") _, out("r11") _) };
    if answer as i32 > 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(38)) }
}

#[cfg(not(target_arch = "x86_64"))]
fn other_abi() -> io::Result<()> {
    Err(io::Error::from_raw_os_error(38))
}

/// Types into a terminal that it controls.
fn type_ahead() -> io::Result<()> {
    let terminal = File::options().read(true).write(true).open("/dev/ptmx")?;
    let mut room = [0u8; 64];
    sys::ioctl(terminal.as_raw_fd(), 0x4004_5431, &mut room)?;
    sys::ioctl(terminal.as_raw_fd(), 0x8004_5430, &mut room)?;
    let number = u32::from_ne_bytes([room[0], room[1], room[2], room[3]]);
    let slave = File::options().read(true).write(true).open(format!("/dev/pts/{number}"))?;
    let _ = sys::ioctl(slave.as_raw_fd(), 0x540e, &mut [0; 64]);
    let typed = sys::ioctl(slave.as_raw_fd(), 0x5412, &mut [b'x'; 64]).map(drop);
    // Hanging up would end this process before it can tell.
    std::mem::forget(terminal);
    typed
}

/// Traces a process, and lets it go.
pub(crate) fn trace(pid: i32) -> io::Result<()> {
    let number = if cfg!(target_arch = "x86_64") { 101 } else { 117 };
    invoke(number, &[16, pid.into(), 0, 0, 0, 0])?;
    sys::wait(pid);
    invoke(number, &[17, pid.into(), 0, 0, 0, 0]).map(drop)
}

/// Enters a namespace.
pub(crate) fn enter(file: &File) -> io::Result<()> {
    let number = if cfg!(target_arch = "x86_64") { 308 } else { 268 };
    invoke(number, &[file.as_raw_fd().into(), 0, 0, 0, 0, 0]).map(drop)
}
