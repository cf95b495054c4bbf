//! The system calls that a confined program does not get, as a classic BPF program for the kernel.
//!
//! Namespaces and dropped capabilities already stop what these calls would reach; the filter takes away the kernel's own
//! attack surface behind them. What is not listed is allowed, but for calls newer than this list, which do not exist.

use pond_core::sandbox::Enforcement;

/// How a sandbox's memory is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// By the kernel, whatever holds it.
    OfTheWhole,
    /// Process by process.
    OfProcesses,
}

impl From<Enforcement> for Memory {
    fn from(enforcement: Enforcement) -> Self {
        match enforcement {
            Enforcement::Rlimits => Self::OfProcesses,
            _ => Self::OfTheWhole,
        }
    }
}

/// What a listed call meets.
#[derive(Debug, Clone, Copy)]
enum Answer {
    /// Not allowed.
    Perm = 1,
    /// No such call: callers then take an older way.
    Nosys = 38,
}

#[cfg(target_arch = "x86_64")]
mod arch {
    pub(super) const AUDIT: u32 = 0xc000_003e;
    /// Calls of the x32 interface carry this bit, under the same architecture number.
    pub(super) const X32: Option<u32> = Some(0x4000_0000);
    pub(super) const CLONE: u32 = 56;
    pub(super) const SOCKET: u32 = 41;
    pub(super) const IOCTL: u32 = 16;
    /// memfd_create, shmget, memfd_secret.
    pub(super) const MEMORY: &[u32] = &[319, 29, 447];
    /// Numbers of the calls of [`super::DENIED`], in its order.
    pub(super) const PERM: &[u32] = &[
        165, 166, 155, 161, 429, 428, 430, 431, 432, 433, 442, 457, 458, 467, 167, 168, // mounts, roots, swap
        272, 308, // unshare, setns
        101, 310, 311, 440, 312, 438, // ptrace, process_vm_*, process_madvise, kcmp, pidfd_getfd
        248, 249, 250, // keys
        321, 298, 323, // bpf, perf_event_open, userfaultfd
        246, 320, 169, 175, 313, 176, 174, 177, 178, // kexec, reboot, modules
        304, 303, // open_by_handle_at, name_to_handle_at
        103, 163, 179, 443, 180, 212, // syslog, acct, quotactl, nfsservctl, lookup_dcookie
        164, 227, 305, 159, // clocks
        170, 171, 172, 173, 153, 154, // host name, ports of the machine, vhangup, modify_ldt
        134, 136, 139, 156, // uselib, ustat, sysfs, _sysctl
        300, 301, // fanotify
    ];
}

#[cfg(target_arch = "aarch64")]
mod arch {
    pub(super) const AUDIT: u32 = 0xc000_00b7;
    pub(super) const X32: Option<u32> = None;
    pub(super) const CLONE: u32 = 220;
    pub(super) const SOCKET: u32 = 198;
    pub(super) const IOCTL: u32 = 29;
    /// memfd_create, shmget, memfd_secret.
    pub(super) const MEMORY: &[u32] = &[279, 194, 447];
    pub(super) const PERM: &[u32] = &[
        40, 39, 41, 51, 429, 428, 430, 431, 432, 433, 442, 457, 458, 467, 224, 225, // mounts, roots, swap
        97, 268, // unshare, setns
        117, 270, 271, 440, 272, 438, // ptrace, process_vm_*, process_madvise, kcmp, pidfd_getfd
        217, 218, 219, // keys
        280, 241, 282, // bpf, perf_event_open, userfaultfd
        104, 294, 142, 105, 273, 106, // kexec, reboot, modules
        265, 264, // open_by_handle_at, name_to_handle_at
        116, 89, 60, 443, 42, 18, // syslog, acct, quotactl, nfsservctl, lookup_dcookie
        170, 112, 266, 171, // clocks
        161, 162, 58, // host name, vhangup
        262, 263, // fanotify
    ];
}

/// Calls that do not exist, as far as programs inside can tell: io_uring, and clone3, whose flags a filter cannot read.
const NOSYS: &[u32] = &[425, 426, 427, 435];
/// The newest call that this list was made with; both architectures number these alike.
const NEWEST: u32 = 469;
/// Every flag of clone that makes a namespace.
const CLONE_NEW: u32 = 0x7e02_0000;
/// Families of sockets: Unix, both internets, netlink. Others pass by the network namespace (vsock) or are not needed.
const FAMILIES: [u32; 4] = [1, 2, 10, 16];
const EAFNOSUPPORT: u32 = 97;
/// Terminal requests that type on behalf of the terminal's owner.
const IOCTLS: [u32; 2] = [0x5412, 0x541c];

const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
const JUMP_ABOVE: u16 = 0x25;
const JUMP_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;
const ALLOW: u32 = 0x7fff_0000;
const KILL: u32 = 0x8000_0000;
const ERRNO: u32 = 0x0005_0000;
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;
const SECOND_ARGUMENT: u32 = 24;

type Instruction = (u16, u8, u8, u32);

/// The filter, as `bwrap --seccomp` reads it. Where limits are held by summing up processes, memory that belongs to none of them
/// (files in memory, System V segments) could not be counted: the calls that make it do not exist there.
pub(crate) fn filter(memory: Memory) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (code, yes, no, value) in program(memory) {
        bytes.extend_from_slice(&code.to_ne_bytes());
        bytes.extend_from_slice(&[yes, no]);
        bytes.extend_from_slice(&value.to_ne_bytes());
    }
    bytes
}

fn program(memory: Memory) -> Vec<Instruction> {
    let uncounted = match memory {
        Memory::OfProcesses => arch::MEMORY,
        Memory::OfTheWhole => &[],
    };
    let mut program = vec![
        (LOAD, 0, 0, ARCH),
        (JUMP_EQUAL, 1, 0, arch::AUDIT),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
    ];
    if let Some(bit) = arch::X32 {
        program.extend([(JUMP_AT_LEAST, 0, 1, bit), (RETURN, 0, 0, KILL)]);
    }
    program.extend([(JUMP_ABOVE, 0, 1, NEWEST), (RETURN, 0, 0, errno(Answer::Nosys))]);
    for (numbers, answer) in [
        (arch::PERM, Answer::Perm),
        (NOSYS, Answer::Nosys),
        (uncounted, Answer::Nosys),
    ] {
        for number in numbers {
            program.extend([(JUMP_EQUAL, 0, 1, *number), (RETURN, 0, 0, errno(answer))]);
        }
    }
    program.extend(clone_without_namespaces());
    program.extend(known_families());
    program.extend(no_typing());
    program.push((RETURN, 0, 0, ALLOW));
    program
}

fn errno(answer: Answer) -> u32 {
    ERRNO | answer as u32
}

fn clone_without_namespaces() -> [Instruction; 5] {
    [
        (JUMP_EQUAL, 0, 4, arch::CLONE),
        (LOAD, 0, 0, FIRST_ARGUMENT),
        (JUMP_ANY_BIT, 0, 1, CLONE_NEW),
        (RETURN, 0, 0, errno(Answer::Perm)),
        (RETURN, 0, 0, ALLOW),
    ]
}

fn known_families() -> Vec<Instruction> {
    let count = FAMILIES.len() as u8;
    let mut block = vec![(JUMP_EQUAL, 0, count + 3, arch::SOCKET), (LOAD, 0, 0, FIRST_ARGUMENT)];
    for (place, family) in (0..count).zip(FAMILIES) {
        block.push((JUMP_EQUAL, count - place, 0, family));
    }
    block.extend([(RETURN, 0, 0, ERRNO | EAFNOSUPPORT), (RETURN, 0, 0, ALLOW)]);
    block
}

fn no_typing() -> Vec<Instruction> {
    let count = IOCTLS.len() as u8;
    let mut block = vec![(JUMP_EQUAL, 0, count + 3, arch::IOCTL), (LOAD, 0, 0, SECOND_ARGUMENT)];
    for (place, request) in (0..count).zip(IOCTLS) {
        block.push((JUMP_EQUAL, count - place, 0, request));
    }
    block.extend([(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, errno(Answer::Perm))]);
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the filter as the kernel would, on little-endian arguments.
    fn judge(audit: u32, number: u32, arguments: [u32; 2], memory: Memory) -> u32 {
        let program = program(memory);
        let (mut at, mut register) = (0, 0u32);
        loop {
            let (code, yes, no, value) = program[at];
            let jump = |taken: bool| at + 1 + usize::from(if taken { yes } else { no });
            at = match code {
                RETURN => return value,
                LOAD => {
                    register = match value {
                        NUMBER => number,
                        ARCH => audit,
                        FIRST_ARGUMENT => arguments[0],
                        SECOND_ARGUMENT => arguments[1],
                        other => panic!("load of {other}"),
                    };
                    at + 1
                }
                JUMP_EQUAL => jump(register == value),
                JUMP_AT_LEAST => jump(register >= value),
                JUMP_ABOVE => jump(register > value),
                JUMP_ANY_BIT => jump(register & value != 0),
                other => panic!("instruction {other}"),
            };
        }
    }

    fn here(number: u32, arguments: [u32; 2]) -> u32 {
        judge(arch::AUDIT, number, arguments, Memory::OfTheWhole)
    }

    #[test]
    fn other_architectures_are_killed() {
        assert_eq!(judge(0x4000_0003, 1, [0, 0], Memory::OfTheWhole), KILL);
        if let Some(bit) = arch::X32 {
            assert_eq!(here(bit | 1, [0, 0]), KILL);
        }
    }

    #[test]
    fn each_listed_call_is_denied_and_no_other_but_the_newest() {
        for number in 0..=NEWEST {
            let expected = match number {
                number if arch::PERM.contains(&number) => errno(Answer::Perm),
                number if NOSYS.contains(&number) => errno(Answer::Nosys),
                // Family 0 is none.
                arch::SOCKET => ERRNO | EAFNOSUPPORT,
                _ => ALLOW,
            };
            assert_eq!(here(number, [0, 0]), expected, "call {number}");
        }
        assert_eq!(here(NEWEST + 1, [0, 0]), errno(Answer::Nosys));
    }

    #[test]
    fn memory_of_nobody_is_not_to_be_had_where_it_is_counted_by_process() {
        for number in arch::MEMORY {
            let by_process = judge(arch::AUDIT, *number, [0, 0], Memory::OfProcesses);
            assert_eq!(
                (by_process, here(*number, [0, 0])),
                (errno(Answer::Nosys), ALLOW),
                "call {number}"
            );
        }
    }

    #[test]
    fn arguments_decide_about_clone_socket_and_ioctl() {
        assert_eq!(here(arch::CLONE, [17, 0]), ALLOW);
        for bit in [
            0x2_0000,
            0x200_0000,
            0x400_0000,
            0x800_0000,
            0x1000_0000,
            0x2000_0000,
            0x4000_0000,
        ] {
            assert_eq!(here(arch::CLONE, [bit | 17, 0]), errno(Answer::Perm), "{bit:x}");
        }
        for family in 0..60 {
            let allowed = if FAMILIES.contains(&family) {
                ALLOW
            } else {
                ERRNO | EAFNOSUPPORT
            };
            assert_eq!(here(arch::SOCKET, [family, 0]), allowed, "family {family}");
        }
        assert_eq!(here(arch::IOCTL, [0, 0x5413]), ALLOW);
        for request in IOCTLS {
            assert_eq!(here(arch::IOCTL, [0, request]), errno(Answer::Perm));
        }
    }
}
