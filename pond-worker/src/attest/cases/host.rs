//! Cases against the host: its files, processes, kernel and room.

use super::{Group, bounded, lives, refused, secret, serves, slow, unheard, unlisted, unwritten};

/// Files and devices of the host.
pub(super) const FILES: Group = Group {
    name: "files",
    cases: &[
        secret("read-file", "a file of the host by its path", &["read", "{canary}"]),
        secret(
            "read-dots",
            "the same, upwards out of the checkout",
            &["read", "/work/../../../../../..{canary}"],
        ),
        secret(
            "read-symlink",
            "by a symbolic link",
            &["link-read", "/work", "{canary}"],
        ),
        secret(
            "read-hard-link",
            "by a second name",
            &["hard-read", "/work", "{canary}"],
        ),
        secret(
            "read-proc-root",
            "by the first process's root",
            &["read", "/proc/{one}/root{canary}"],
        ),
        secret(
            "read-proc-cwd",
            "by a process's working folder",
            &["read", "/proc/{one}/cwd/{canary-name}"],
        ),
        secret(
            "read-host-root",
            "by the root of a process of the host",
            &["read", "/proc/{pid}/root{canary}"],
        ),
        secret(
            "read-scan-root",
            "by the root of every process",
            &["scan", "root{canary}"],
        ),
        secret(
            "read-bind",
            "by a mount of its folder",
            &["bind", "{folder}", "/work", "canary"],
        ),
        secret(
            "read-state",
            "the worker's state folder",
            &["read", "{folder}/state/canary"],
        ),
        secret(
            "read-tree-state",
            "all below the worker's folder",
            &["tree", "{folder}"],
        ),
        secret("read-tree-tmp", "all below /tmp", &["tree", "/tmp"]),
        secret("read-tree-shm", "all below /dev/shm", &["tree", "/dev/shm"]),
        secret("read-tree-run", "all below /run", &["tree", "/run"])
            .impossible("the canary is not there on every host; what is looked for is any secret of this battery"),
        secret("read-tree-home", "all below /home", &["tree", "/home"])
            .impossible("the canary is not there on every host; what is looked for is any secret of this battery"),
        secret("read-tree-root", "all below /root", &["tree", "/root"])
            .impossible("the canary is not there on every host; what is looked for is any secret of this battery"),
        secret("read-tree-var", "all below /var/tmp", &["tree", "/var/tmp"])
            .impossible("the canary is not there on every host; what is looked for is any secret of this battery"),
        secret("read-tree-work", "all below /mnt", &["tree", "/mnt"])
            .impossible("the canary is not there on every host; what is looked for is any secret of this battery"),
        secret("read-descriptors", "descriptors that were left open", &["descriptors"])
            .impossible("a program that is started without a sandbox has no descriptor beside its streams either"),
        secret(
            "read-environment",
            "the worker's environment, inherited",
            &["environment"],
        ),
        refused("open-shadow", "opening /etc/shadow", &["open-read", "/etc/shadow"]).rooted(),
        refused("open-sudoers", "opening /etc/sudoers", &["open-read", "/etc/sudoers"]).rooted(),
        refused("open-kmsg", "opening /dev/kmsg", &["open-read", "/dev/kmsg"]).rooted(),
        refused("open-mem", "opening /dev/mem", &["open-read", "/dev/mem"]).rooted(),
        refused("open-kcore", "opening /proc/kcore", &["open-read", "/proc/kcore"]).rooted(),
        refused("open-tun", "opening /dev/net/tun", &["open-read", "/dev/net/tun"]).rooted(),
        refused("open-fuse", "opening /dev/fuse", &["open-read", "/dev/fuse"]).rooted(),
        refused(
            "open-loop",
            "opening /dev/loop-control",
            &["open-read", "/dev/loop-control"],
        )
        .rooted(),
        refused("open-kvm", "opening /dev/kvm", &["open-read", "/dev/kvm"]).rooted(),
        refused(
            "open-sysfs",
            "opening /sys/kernel/uevent_seqnum",
            &["open-read", "/sys/kernel/uevent_seqnum"],
        )
        .rooted(),
        refused(
            "open-cgroup",
            "opening /sys/fs/cgroup/cgroup.procs",
            &["open-read", "/sys/fs/cgroup/cgroup.procs"],
        )
        .rooted(),
        refused(
            "open-debugfs",
            "opening /sys/kernel/debug",
            &["open-read", "/sys/kernel/debug"],
        )
        .rooted(),
        refused(
            "open-boot",
            "opening /proc/sysrq-trigger",
            &["open-write", "/proc/sysrq-trigger"],
        )
        .rooted(),
        unwritten(
            "write-host",
            "writing a file of the host",
            &["write", "{folder}/written", "{m}"],
        ),
        unwritten(
            "write-host-root",
            "writing it by the first process's root",
            &["write", "/proc/{one}/root{folder}/written", "{m}"],
        ),
        unwritten(
            "write-dots",
            "writing it upwards out of the checkout",
            &["write", "/work/../../../../..{folder}/written", "{m}"],
        ),
        refused("write-root", "writing the root folder", &["fact", "root"]).rooted(),
        refused("write-usr", "writing the system", &["fact", "usr"]).rooted(),
        refused("set-uid", "a program of root's made by hand", &["set-uid", "/tmp"]).rooted(),
        refused("node-mem", "a device for all memory", &["node", "char", "1", "1"]).rooted(),
        refused(
            "node-kmsg",
            "a device for the kernel's log",
            &["node", "char", "1", "11"],
        )
        .rooted(),
        refused("node-disk", "a device for a disk", &["node", "block", "7", "0"]).rooted(),
        refused("devices", "devices that a job has no use for", &["devices"]).rooted(),
    ],
};

/// Processes, namespaces and sockets of the host and of other jobs.
pub(super) const PROCESSES: Group = Group {
    name: "processes",
    cases: &[
        secret(
            "victim-environ",
            "the environment of every process",
            &["scan", "environ"],
        ),
        secret("victim-cmdline", "the arguments of every process", &["scan", "cmdline"]),
        secret("victim-cwd-files", "files where processes are", &["scan", "cwd/canary"]),
        secret("victim-fds", "files that processes hold open", &["scan", "fd/*"]),
        secret(
            "victim-memory",
            "the memory of a process of the host",
            &["peek", "{pid}"],
        ),
        secret(
            "victim-loopback",
            "another job's loopback port",
            &["talk", "127.0.0.1:7777"],
        ),
        secret(
            "victim-abstract",
            "another job's abstract socket",
            &["talk-abstract", "pond-attest-{world}"],
        ),
        secret("victim-shared", "another job's shared memory", &["shm"]),
        secret(
            "victim-tmp",
            "another job's file in /tmp",
            &["read", "/tmp/victim-secret"],
        ),
        secret(
            "victim-shm-file",
            "another job's file in /dev/shm",
            &["read", "/dev/shm/victim-secret"],
        ),
        secret(
            "victim-home",
            "another job's home",
            &["read", "/home/pond/victim-secret"],
        )
        .impossible("without a sandbox there is no such folder"),
        refused("victim-attach", "tracing a process of the host", &["attach", "{pid}"]),
        lives("victim-stop", "stopping a process of the host", &["stop", "{prey}"]),
        lives("victim-kill", "killing a process of the host", &["kill", "{prey}"]),
        unlisted(
            "secret-listed",
            "a secret of a job in the host's process list",
            &["nothing"],
        ),
        serves("first-kill", "killing the init", &["kill", "1"])
            .impossible("without a sandbox the first process is the host's own"),
        serves("first-stop", "stopping the init", &["stop", "1"])
            .impossible("without a sandbox the first process is the host's own"),
        secret("first-memory", "the memory of the init", &["peek", "{one}"]),
        secret("first-fds", "descriptors of the init", &["scan", "fd/*"]),
        refused("first-attach", "tracing the init", &["attach", "{one}"]),
        refused(
            "own-user",
            "whether the user namespace is the host's",
            &["space", "user", "{ns-user}"],
        ),
        refused(
            "own-net",
            "whether the net namespace is the host's",
            &["space", "net", "{ns-net}"],
        ),
        refused(
            "own-mnt",
            "whether the mnt namespace is the host's",
            &["space", "mnt", "{ns-mnt}"],
        )
        .impossible("controls run in mounts of their own"),
        refused(
            "own-pid",
            "whether the pid namespace is the host's",
            &["space", "pid", "{ns-pid}"],
        ),
        refused(
            "own-ipc",
            "whether the ipc namespace is the host's",
            &["space", "ipc", "{ns-ipc}"],
        ),
        refused(
            "own-uts",
            "whether the uts namespace is the host's",
            &["space", "uts", "{ns-uts}"],
        ),
        refused(
            "own-cgroup",
            "whether the cgroup namespace is the host's",
            &["space", "cgroup", "{ns-cgroup}"],
        ),
        refused(
            "enter-mnt",
            "entering the mnt namespace of the first process",
            &["enter", "{one}", "mnt"],
        )
        .rooted(),
        refused(
            "enter-net",
            "entering the net namespace of the first process",
            &["enter", "{one}", "net"],
        )
        .rooted(),
        refused(
            "enter-pid",
            "entering the pid namespace of the first process",
            &["enter", "{one}", "pid"],
        )
        .rooted(),
        refused(
            "enter-ipc",
            "entering the ipc namespace of the first process",
            &["enter", "{one}", "ipc"],
        )
        .rooted(),
        refused(
            "enter-uts",
            "entering the uts namespace of the first process",
            &["enter", "{one}", "uts"],
        )
        .rooted(),
        refused(
            "enter-user",
            "entering the user namespace of the first process",
            &["enter", "{one}", "user"],
        )
        .impossible("nobody may enter the user namespace that he is in"),
        unheard(
            "socket-docker",
            "a container engine's socket",
            &["unix", "{folder}/docker.sock", "{m}"],
        ),
        unheard(
            "socket-broker",
            "the broker of another run",
            &["unix", "{folder}/broker.sock", "{m}"],
        ),
        unheard(
            "socket-proxy",
            "the proxy of another run",
            &["unix", "{folder}/proxy.sock", "{m}"],
        ),
        unheard(
            "socket-proc-root",
            "a socket by the first process's root",
            &["unix", "/proc/{one}/root{folder}/docker.sock", "{m}"],
        ),
        unheard(
            "socket-abstract",
            "an abstract socket of the worker",
            &["abstract", "pond-attest-worker-{world}", "{m}"],
        ),
        refused("has-CapInh", "inheritable capabilities", &["fact", "CapInh"])
            .impossible("a program that is started without a sandbox has none of these either"),
        refused("has-CapPrm", "permitted capabilities", &["fact", "CapPrm"]),
        refused("has-CapEff", "capabilities in force", &["fact", "CapEff"]),
        refused("has-CapBnd", "capabilities to be had", &["fact", "CapBnd"]),
        refused("has-CapAmb", "ambient capabilities", &["fact", "CapAmb"])
            .impossible("a program that is started without a sandbox has none of these either"),
        refused(
            "has-no-new-privileges",
            "privileges to be gained by programs",
            &["fact", "no-new-privileges"],
        ),
        refused("has-seccomp", "every system call", &["fact", "seccomp"]),
        refused("has-uid", "uid 0", &["fact", "uid"]).rooted(),
        refused("has-gid", "gid 0", &["fact", "gid"]).rooted(),
        refused("has-core", "core files", &["fact", "core"]).impossible("core files may be off on the host too"),
        refused("has-links", "a network interface beside lo", &["fact", "links"])
            .impossible("the closed network has none either"),
        refused("has-routes", "a route", &["fact", "routes"])
            .impossible("the routes of the closed network stand in the table of local addresses"),
        refused("has-first", "processes of the host", &["fact", "first"]),
        refused("has-home", "somebody else's home", &["fact", "home"])
            .impossible("without a sandbox there is no such folder"),
    ],
};

/// The kernel's own surface.
pub(super) const KERNEL: Group = Group {
    name: "kernel",
    cases: &[
        refused("call-ptrace", "the system call ptrace", &["call", "ptrace"]),
        refused(
            "call-process_madvise",
            "the system call process_madvise",
            &["call", "process_madvise"],
        ),
        refused(
            "call-pidfd_getfd",
            "the system call pidfd_getfd",
            &["call", "pidfd_getfd"],
        ),
        refused("call-kcmp", "the system call kcmp", &["call", "kcmp"]),
        refused(
            "call-process_vm_readv",
            "the system call process_vm_readv",
            &["call", "process_vm_readv"],
        ),
        refused(
            "call-process_vm_writev",
            "the system call process_vm_writev",
            &["call", "process_vm_writev"],
        ),
        refused("call-chroot", "the system call chroot", &["call", "chroot"]),
        refused("call-mount", "the system call mount", &["call", "mount"]),
        refused("call-umount2", "the system call umount2", &["call", "umount2"]),
        refused("call-pivot_root", "the system call pivot_root", &["call", "pivot_root"]),
        refused("call-fsopen", "the system call fsopen", &["call", "fsopen"]),
        refused("call-fsconfig", "the system call fsconfig", &["call", "fsconfig"]),
        refused("call-fsmount", "the system call fsmount", &["call", "fsmount"]),
        refused("call-fspick", "the system call fspick", &["call", "fspick"]),
        refused("call-open_tree", "the system call open_tree", &["call", "open_tree"]),
        refused("call-move_mount", "the system call move_mount", &["call", "move_mount"]),
        refused(
            "call-mount_setattr",
            "the system call mount_setattr",
            &["call", "mount_setattr"],
        ),
        refused(
            "call-unshare-user",
            "the system call unshare-user",
            &["call", "unshare-user"],
        ),
        refused(
            "call-unshare-mount",
            "the system call unshare-mount",
            &["call", "unshare-mount"],
        ),
        refused(
            "call-unshare-net",
            "the system call unshare-net",
            &["call", "unshare-net"],
        ),
        refused(
            "call-unshare-pid",
            "the system call unshare-pid",
            &["call", "unshare-pid"],
        ),
        refused(
            "call-unshare-ipc",
            "the system call unshare-ipc",
            &["call", "unshare-ipc"],
        ),
        refused(
            "call-unshare-uts",
            "the system call unshare-uts",
            &["call", "unshare-uts"],
        ),
        refused(
            "call-unshare-cgroup",
            "the system call unshare-cgroup",
            &["call", "unshare-cgroup"],
        ),
        refused("call-setns", "the system call setns", &["call", "setns"]),
        refused("call-clone-user", "the system call clone-user", &["call", "clone-user"]),
        refused(
            "call-clone3-user",
            "the system call clone3-user",
            &["call", "clone3-user"],
        ),
        refused("call-keyctl", "the system call keyctl", &["call", "keyctl"]),
        refused("call-add_key", "the system call add_key", &["call", "add_key"]),
        refused(
            "call-request_key",
            "the system call request_key",
            &["call", "request_key"],
        ),
        refused("call-bpf", "the system call bpf", &["call", "bpf"]).rooted(),
        refused(
            "call-perf_event_open",
            "the system call perf_event_open",
            &["call", "perf_event_open"],
        ),
        refused(
            "call-userfaultfd",
            "the system call userfaultfd",
            &["call", "userfaultfd"],
        ),
        refused(
            "call-io_uring_setup",
            "the system call io_uring_setup",
            &["call", "io_uring_setup"],
        ),
        refused(
            "call-io_uring_enter",
            "the system call io_uring_enter",
            &["call", "io_uring_enter"],
        ),
        refused(
            "call-io_uring_register",
            "the system call io_uring_register",
            &["call", "io_uring_register"],
        ),
        refused("call-kexec_load", "the system call kexec_load", &["call", "kexec_load"]).rooted(),
        refused(
            "call-kexec_file_load",
            "the system call kexec_file_load",
            &["call", "kexec_file_load"],
        )
        .rooted(),
        refused(
            "call-init_module",
            "the system call init_module",
            &["call", "init_module"],
        )
        .rooted(),
        refused(
            "call-finit_module",
            "the system call finit_module",
            &["call", "finit_module"],
        )
        .rooted(),
        refused(
            "call-delete_module",
            "the system call delete_module",
            &["call", "delete_module"],
        )
        .rooted(),
        refused(
            "call-open_by_handle_at",
            "the system call open_by_handle_at",
            &["call", "open_by_handle_at"],
        )
        .rooted(),
        refused(
            "call-name_to_handle_at",
            "the system call name_to_handle_at",
            &["call", "name_to_handle_at"],
        ),
        refused(
            "call-fanotify_init",
            "the system call fanotify_init",
            &["call", "fanotify_init"],
        )
        .rooted(),
        refused("call-quotactl", "the system call quotactl", &["call", "quotactl"]),
        refused("call-swapon", "the system call swapon", &["call", "swapon"]).rooted(),
        refused("call-swapoff", "the system call swapoff", &["call", "swapoff"]).rooted(),
        refused("call-syslog", "the system call syslog", &["call", "syslog"]).rooted(),
        refused(
            "call-settimeofday",
            "the system call settimeofday",
            &["call", "settimeofday"],
        )
        .rooted(),
        refused(
            "call-clock_settime",
            "the system call clock_settime",
            &["call", "clock_settime"],
        ),
        refused("call-adjtimex", "the system call adjtimex", &["call", "adjtimex"]),
        refused(
            "call-sethostname",
            "the system call sethostname",
            &["call", "sethostname"],
        )
        .rooted(),
        refused(
            "call-setdomainname",
            "the system call setdomainname",
            &["call", "setdomainname"],
        )
        .rooted(),
        refused("call-reboot", "the system call reboot", &["call", "reboot"]).rooted(),
        refused("call-iopl", "the system call iopl", &["call", "iopl"]),
        refused("call-ioperm", "the system call ioperm", &["call", "ioperm"]),
        refused("call-modify_ldt", "the system call modify_ldt", &["call", "modify_ldt"]),
        refused("call-narrow", "the system call narrow", &["call", "narrow"]),
        refused("call-32-bit", "the system call 32-bit", &["call", "32-bit"]),
        refused("call-type-ahead", "the system call type-ahead", &["call", "type-ahead"]),
        refused("call-setuid", "the system call setuid", &["call", "setuid"]).rooted(),
        refused("call-setgid", "the system call setgid", &["call", "setgid"]).rooted(),
        refused("call-setgroups", "the system call setgroups", &["call", "setgroups"]).rooted(),
        refused("mount-tmpfs", "a mount: tmpfs", &["mount", "tmpfs", "/tmp"]).rooted(),
        refused("mount-proc", "a mount: proc", &["mount", "proc", "/tmp"]).rooted(),
        refused("mount-sysfs", "a mount: sysfs", &["mount", "sysfs", "/tmp"]).rooted(),
        refused("mount-ramfs", "a mount: ramfs", &["mount", "ramfs", "/tmp"]).rooted(),
        refused("mount-remount", "a mount: remount", &["mount", "remount", "/tmp"]).rooted(),
        refused("mount-cgroup2", "a mount: cgroup2", &["mount", "cgroup2", "/tmp"]).rooted(),
        refused("mount-devpts", "a mount: devpts", &["mount", "devpts", "/tmp"]).rooted(),
        refused("mount-mqueue", "a mount: mqueue", &["mount", "mqueue", "/tmp"]).rooted(),
        refused(
            "tune-core-pattern",
            "opening /proc/sys/kernel/core_pattern to write",
            &["open-write", "/proc/sys/kernel/core_pattern"],
        )
        .rooted(),
        refused(
            "tune-modprobe",
            "opening /proc/sys/kernel/modprobe to write",
            &["open-write", "/proc/sys/kernel/modprobe"],
        )
        .rooted(),
        refused(
            "tune-hostname",
            "opening /proc/sys/kernel/hostname to write",
            &["open-write", "/proc/sys/kernel/hostname"],
        )
        .rooted(),
        refused(
            "tune-panic",
            "opening /proc/sys/vm/panic_on_oom to write",
            &["open-write", "/proc/sys/vm/panic_on_oom"],
        )
        .rooted(),
        refused(
            "tune-release-agent",
            "opening /sys/fs/cgroup/memory/release_agent to write",
            &["open-write", "/sys/fs/cgroup/memory/release_agent"],
        )
        .rooted(),
        refused(
            "tune-cgroup-procs",
            "opening /sys/fs/cgroup/cgroup.procs to write",
            &["open-write", "/sys/fs/cgroup/cgroup.procs"],
        )
        .rooted(),
        refused(
            "tune-uevent",
            "opening /sys/kernel/uevent_helper to write",
            &["open-write", "/sys/kernel/uevent_helper"],
        )
        .rooted(),
        refused(
            "tune-randomize",
            "opening /proc/sys/kernel/randomize_va_space to write",
            &["open-write", "/proc/sys/kernel/randomize_va_space"],
        )
        .rooted(),
        refused(
            "tune-ip-forward",
            "opening /proc/sys/net/ipv4/ip_forward to write",
            &["open-write", "/proc/sys/net/ipv4/ip_forward"],
        )
        .rooted(),
        refused(
            "tune-namespaces",
            "opening /proc/sys/user/max_user_namespaces to write",
            &["open-write", "/proc/sys/user/max_user_namespaces"],
        )
        .rooted(),
        refused(
            "tune-irq",
            "opening /proc/irq/default_smp_affinity to write",
            &["open-write", "/proc/irq/default_smp_affinity"],
        )
        .rooted(),
        refused(
            "tune-bpf-jit",
            "opening /proc/sys/net/core/bpf_jit_enable to write",
            &["open-write", "/proc/sys/net/core/bpf_jit_enable"],
        )
        .rooted(),
        refused(
            "tune-oom",
            "opening /proc/{one}/oom_score_adj to write",
            &["open-write", "/proc/{one}/oom_score_adj"],
        )
        .rooted(),
        refused(
            "tune-first-mem",
            "opening /proc/{one}/mem to write",
            &["open-write", "/proc/{one}/mem"],
        )
        .rooted(),
    ],
};

/// More than there is to be had.
pub(super) const BOMBS: Group = Group {
    name: "bombs",
    cases: &[
        bounded("bomb-forks", "a fork bomb", &["forks", "400"]).alone(),
        bounded("bomb-threads", "a bomb of threads", &["threads", "400"]).alone(),
        bounded("bomb-memory", "a memory bomb", &["memory", "320"]).alone(),
        bounded("bomb-mapped", "one of shared memory", &["map", "320"]).alone(),
        bounded("bomb-memfd", "one of memory files", &["memfd", "320"]).alone(),
        bounded("bomb-sysv", "one of System V memory", &["shm-bomb", "320"]).alone(),
        bounded("bomb-fill-tmp", "filling /tmp", &["fill", "/tmp/fill", "64"]).alone(),
        bounded("bomb-fill-home", "filling home", &["fill", "{home}/fill", "64"]).alone(),
        bounded("bomb-fill-shm", "filling /dev/shm", &["fill", "/dev/shm/fill", "96"]).alone(),
        bounded(
            "bomb-sparse",
            "a file of a great length",
            &["large-file", "/work/sparse", "64"],
        )
        .alone(),
        bounded("bomb-fds", "descriptors without end", &["fds", "19000"]).alone(),
        bounded("bomb-fds-many", "more descriptors than a job gets", &["fds", "8500"]).alone(),
        slow(
            "bomb-output",
            "output that nobody reads",
            &["flood", "{output}/progress", "64"],
        )
        .alone(),
    ],
};
