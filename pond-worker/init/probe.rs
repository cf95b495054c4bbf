//! A hostile guest: one static program that tries, by plain system calls, what a confined job must not be able to do, and
//! prints what came of it. The sandbox conformance suite runs it inside.

#![expect(unsafe_code, reason = "it exists to make system calls that the standard library does not offer")]

use std::ffi::{c_int, c_long};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn setsid() -> c_int;
    fn fork() -> c_int;
    fn signal(number: c_int, handler: usize) -> usize;
    fn umask(mask: u32) -> u32;
}

#[cfg(target_arch = "x86_64")]
mod number {
    pub(super) const ALL: [(&str, i64); 14] = [
        ("mount", 165),
        ("umount2", 166),
        ("pivot_root", 155),
        ("chroot", 161),
        ("unshare", 272),
        ("setns", 308),
        ("ptrace", 101),
        ("keyctl", 250),
        ("bpf", 321),
        ("perf_event_open", 298),
        ("userfaultfd", 323),
        ("io_uring_setup", 425),
        ("open_by_handle_at", 304),
        ("init_module", 175),
    ];
    pub(super) const CLONE: i64 = 56;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub(super) const ALL: [(&str, i64); 14] = [
        ("mount", 40),
        ("umount2", 39),
        ("pivot_root", 41),
        ("chroot", 51),
        ("unshare", 97),
        ("setns", 268),
        ("ptrace", 117),
        ("keyctl", 219),
        ("bpf", 280),
        ("perf_event_open", 241),
        ("userfaultfd", 282),
        ("io_uring_setup", 425),
        ("open_by_handle_at", 265),
        ("init_module", 105),
    ];
    pub(super) const CLONE: i64 = 220;
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["calls"] => calls(),
        ["sockets"] => sockets(),
        ["tcp", address] => tell(TcpStream::connect_timeout(&parse(address), Duration::from_secs(2)).map(drop)),
        ["udp", address] => tell(udp(parse(address))),
        ["abstract", name] => {
            tell(std::os::unix::net::SocketAddr::from_abstract_name(name).and_then(|at| UnixStream::connect_addr(&at)).map(drop));
        }
        ["unix", path] => tell(UnixStream::connect(path).map(drop)),
        ["talk", address, text] => talk(parse(address), text),
        ["links"] => links(),
        ["hide", mark] => hide(mark),
        ["memory", mib] => memory(mib.parse().expect("a number")),
        ["fds"] => descriptors(),
        ["forks", count] => forks(count.parse().expect("a number")),
        ["fill", path] => fill(path),
        ["flood", mib] => flood(mib.parse().expect("a number")),
        ["spin"] => loop {
            std::hint::spin_loop();
        },
        _ => std::process::exit(64),
    }
}

fn parse(address: &str) -> SocketAddr {
    address.parse().expect("an address")
}

fn tell(outcome: io::Result<()>) {
    match outcome {
        Ok(()) => println!("ok"),
        Err(error) => println!("refused {}", error.raw_os_error().unwrap_or(0)),
    }
}

/// One line per call: its name, and the error it met, or `done`.
fn calls() {
    let say = |name: &str, answer: c_long| match answer {
        -1 => println!("{name} {}", io::Error::last_os_error().raw_os_error().unwrap_or(0)),
        _ => println!("{name} done"),
    };
    for (name, number) in number::ALL {
        // A user namespace for `unshare`; zeros are enough to be let in, or not, by all the others.
        let first: c_long = if name == "unshare" { 0x1000_0000 } else { 0 };
        // SAFETY: no call of the list reads memory through a null pointer without checking it.
        say(name, unsafe { syscall(number, first, 0 as c_long, 0 as c_long, 0 as c_long, 0 as c_long) });
    }
    // SAFETY: a child that is made after all leaves at once; see below.
    let child = unsafe { syscall(number::CLONE, 0x1000_0000 as c_long | 17, 0 as c_long, 0 as c_long, 0 as c_long, 0 as c_long) };
    if child == 0 {
        std::process::exit(0);
    }
    say("clone_newuser", child);
}

/// Kinds of socket that could pass by an empty network namespace.
fn sockets() {
    for (name, domain, kind) in [("raw", 2, 3), ("raw6", 10, 3), ("packet", 17, 3), ("vsock", 40, 1), ("alg", 38, 5)] {
        // SAFETY: no pointer is involved.
        match unsafe { socket(domain, kind, if domain < 11 { 1 } else { 0 }) } {
            -1 => println!("{name} {}", io::Error::last_os_error().raw_os_error().unwrap_or(0)),
            _ => println!("{name} done"),
        }
    }
}

fn udp(to: SocketAddr) -> io::Result<()> {
    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.send_to(b"x", to).map(drop)
}

/// Sends a text, ends its half, and prints the answer.
fn talk(to: SocketAddr, text: &str) {
    let told = TcpStream::connect_timeout(&to, Duration::from_secs(5)).and_then(|mut stream| {
        stream.write_all(text.as_bytes())?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    });
    match told {
        Ok(answer) => println!("{answer}"),
        Err(error) => println!("refused {}", error.raw_os_error().unwrap_or(0)),
    }
}

/// The network interfaces, one a line.
fn links() {
    let table = std::fs::read_to_string("/proc/net/dev").unwrap_or_default();
    for line in table.lines().skip(2) {
        println!("{}", line.split(':').next().unwrap_or_default().trim());
    }
}

/// Leaves a process that is in a session of its own, has no parent, and takes no request to end; it touches `mark` for ever.
fn hide(mark: &str) {
    // SAFETY: this program has one thread; ignoring signals needs no handler.
    unsafe {
        umask(0);
        if fork() != 0 {
            return;
        }
        setsid();
        for number in [1, 2, 15, 17] {
            signal(number, 1);
        }
        if fork() != 0 {
            std::process::exit(0);
        }
        setsid();
    }
    for beat in 0u64.. {
        let _ = std::fs::write(mark, beat.to_string());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn memory(mib: usize) {
    let mut held = Vec::new();
    for taken in 1..=mib {
        let mut block = vec![0u8; 1 << 20];
        block.iter_mut().step_by(1024).for_each(|byte| *byte = 1);
        held.push(std::hint::black_box(block));
        if taken % 64 == 0 {
            println!("{taken}");
        }
    }
    println!("all");
}

fn descriptors() {
    let mut held = Vec::new();
    loop {
        match std::fs::File::open("/dev/null") {
            Ok(file) => held.push(file),
            Err(error) => {
                println!("{} {}", held.len(), error.raw_os_error().unwrap_or(0));
                return;
            }
        }
    }
}

/// Starts children that stay, and tells how many it got.
fn forks(count: u32) {
    let mut made = 0;
    for _ in 0..count {
        // SAFETY: the child does nothing but sleep.
        match unsafe { fork() } {
            0 => loop {
                std::thread::sleep(Duration::from_secs(60));
            },
            -1 => break,
            _ => made += 1,
        }
    }
    println!("{made}");
}

fn fill(path: &str) {
    let block = vec![7u8; 1 << 20];
    let mut written = 0;
    let outcome = std::fs::File::create(path).and_then(|mut file| {
        loop {
            file.write_all(&block)?;
            written += 1;
        }
    });
    let error: io::Error = match outcome {
        Ok(never) => never,
        Err(error) => error,
    };
    println!("{written} {}", error.raw_os_error().unwrap_or(0));
}

fn flood(mib: usize) {
    let block = vec![b'x'; 1 << 20];
    let mut out = io::stdout().lock();
    for _ in 0..mib {
        if out.write_all(&block).is_err() {
            return;
        }
    }
}
