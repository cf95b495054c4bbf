//! The closed world: a network namespace whose one interface is `lo`, on which every address there is leads to this host. So
//! no packet leaves the machine, and whatever is sent anywhere is heard here.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::{sys, told};

const NEW_USER: i32 = 0x1000_0000;
const NEW_NET: i32 = 0x4000_0000;
const NEW_MOUNTS: i32 = 0x0002_0000;
/// Ports whose traffic is that of the controls to their careless proxy, and proves nothing.
const OWN: [u16; 2] = [8787, 8788];
/// The length of a mark: its prefix, the phase, three digits.
const MARK: usize = 4;

/// Makes the world, and becomes the program in it. Comes back with an error alone.
pub(crate) fn enter(folder: &str, uid: &str, prefix: &str, program: &[&str]) -> io::Error {
    match try_enter(folder, uid, prefix) {
        Ok(()) => Command::new(program.first().unwrap_or(&"")).args(program.get(1..).unwrap_or_default()).exec(),
        Err(error) => error,
    }
}

fn try_enter(folder: &str, uid: &str, prefix: &str) -> io::Result<()> {
    if let Ok(uid) = uid.parse::<u32>() {
        if sys::is_root() {
            sys::become_user(uid)?;
            // What changed its user does not own its files in /proc any more.
            sys::control(4, 1)?;
        }
        sys::unshare(NEW_USER | NEW_NET)?;
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
        fs::write("/proc/self/gid_map", format!("{uid} {uid} 1"))?;
    } else {
        sys::unshare(NEW_NET)?;
    }
    let links = fs::read_to_string("/proc/self/net/dev")?;
    if links.lines().skip(2).any(|line| line.split(':').next().is_some_and(|name| name.trim() != "lo")) {
        return Err(io::Error::other(format!("there is more than lo: {links}")));
    }
    up()?;
    route(1)?;
    route6()?;
    // Without them a worker without privileges could not listen on the ports that attacks go to.
    fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")?;
    let gid = uid.parse().unwrap_or(0u32);
    let _ = fs::write("/proc/sys/net/ipv4/ping_group_range", format!("{gid} {gid}"));
    let folder = folder.to_owned();
    background(|told| listen(&format!("{folder}/heard"), prefix, told))?;
    background(|told| serve(&format!("{folder}/control"), told))
}

/// Runs in a process of its own, which ends with this one; comes back once it is ready.
fn background(run: impl FnOnce(io::PipeWriter) -> io::Result<()>) -> io::Result<()> {
    let (mut ready, told) = io::pipe()?;
    if sys::fork()? == 0 {
        sys::control(1, 9)?;
        drop(ready);
        if let Err(error) = run(told) {
            eprintln!("the closed network ends: {error}");
        }
        std::process::exit(1);
    }
    drop(told);
    ready.read_exact(&mut [0])
}

fn up() -> io::Result<()> {
    let fd = sys::socket(2, 2, 0)?;
    let mut request = [0u8; 64];
    request[..2].copy_from_slice(b"lo");
    sys::ioctl(fd.as_raw_fd(), 0x8913, &mut request)?;
    request[16] |= 1;
    sys::ioctl(fd.as_raw_fd(), 0x8914, &mut request).map(drop)
}

/// Leads every IPv4 address to this host. Asked for from inside a sandbox (`scope` 2) it is an attack.
pub(crate) fn route(scope: u8) -> io::Result<()> {
    route_of(2, scope)
}

fn route6() -> io::Result<()> {
    route_of(10, 1)
}

fn route_of(family: u8, scope: u8) -> io::Result<()> {
    let fd = sys::socket(16, 3, 0)?;
    let mut message = Vec::new();
    // RTM_NEWROUTE: request, acknowledge, create.
    message.extend(36u32.to_ne_bytes());
    message.extend(24u16.to_ne_bytes());
    message.extend((1u16 | 4 | 0x400).to_ne_bytes());
    message.extend(1u32.to_ne_bytes());
    message.extend(0u32.to_ne_bytes());
    // Any destination, in the table of local addresses, of the kind that is delivered here.
    let (table, kind) = if scope == 1 { (255, 2) } else { (254, 1) };
    message.extend([family, 0, 0, 0, table, 4, if scope == 1 { 254 } else { 253 }, kind]);
    message.extend(0u32.to_ne_bytes());
    message.extend(8u16.to_ne_bytes());
    message.extend(4u16.to_ne_bytes());
    message.extend(sys::index_of("lo").to_ne_bytes());
    let length = message.len() as u32;
    message[..4].copy_from_slice(&length.to_ne_bytes());
    let kernel = [16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    sys::send_to(fd.as_raw_fd(), &message, 0, &kernel)?;
    let mut answer = [0; 256];
    let read = sys::receive_from(fd.as_raw_fd(), &mut answer, &mut [0; 32])?;
    let errno = (read >= 20).then(|| i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]));
    match errno {
        Some(0) => Ok(()),
        errno => Err(io::Error::from_raw_os_error(-errno.unwrap_or(-5))),
    }
}

/// Writes down every mark on the wire: mark, protocol, address and port.
fn listen(path: &str, prefix: &str, mut ready: io::PipeWriter) -> io::Result<()> {
    let fd = sys::socket(17, 3, 0x0300)?;
    let room = (64i32 << 20).to_ne_bytes();
    if sys::set_option(fd.as_raw_fd(), 1, 33, &room).is_err() {
        sys::set_option(fd.as_raw_fd(), 1, 8, &room)?;
    }
    let mut at = 17u16.to_ne_bytes().to_vec();
    at.extend(3u16.to_be_bytes());
    at.extend(sys::index_of("lo").to_ne_bytes());
    at.extend([0; 12]);
    sys::bind(fd.as_raw_fd(), &at)?;
    let mut log = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    ready.write_all(b"r")?;
    drop(ready);
    let (mut packet, mut from) = (vec![0; 1 << 17], [0; 32]);
    loop {
        let read = sys::receive_from(fd.as_raw_fd(), &mut packet, &mut from)?;
        // Each passes `lo` twice: on its way out and in.
        if from[10] == 4 {
            continue;
        }
        let (place, own) = place_of(&packet[..read]);
        if own {
            continue;
        }
        let mut lines = String::new();
        for mark in marks(&packet[..read], prefix.as_bytes()) {
            lines += &format!("{mark} {place}\n");
            if mark.starts_with('b') {
                let mut counts = [0; 8];
                sys::get_option(fd.as_raw_fd(), 263, 6, &mut counts)?;
                let lost = u32::from_ne_bytes([counts[4], counts[5], counts[6], counts[7]]);
                lines += &format!("lost {lost} -\n");
            }
        }
        log.write_all(lines.as_bytes())?;
    }
}

/// What follows each prefix: the phase, three digits, and, after a dash, a name's number.
fn marks(packet: &[u8], prefix: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for at in 0..packet.len().saturating_sub(prefix.len() + MARK - 1) {
        if !packet[at..at + prefix.len()].eq_ignore_ascii_case(prefix) {
            continue;
        }
        let rest = &packet[at + prefix.len()..];
        let tail = match rest.get(MARK) {
            Some(b'-') => rest[MARK + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count() + 1,
            _ => 0,
        };
        found.push(String::from_utf8_lossy(&rest[..MARK + tail]).to_ascii_lowercase());
    }
    found
}

/// Protocol and destination of a frame, and whether it belongs to the controls themselves.
fn place_of(frame: &[u8]) -> (String, bool) {
    let Some((head, packet)) = frame.split_at_checked(14) else { return ("? -".into(), false) };
    let port = |at: usize| packet.get(at..at + 2).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    let (protocol, to, after) = match (u16::from_be_bytes([head[12], head[13]]), packet.len()) {
        (0x0800, 20..) => {
            let to = std::net::Ipv4Addr::new(packet[16], packet[17], packet[18], packet[19]);
            (packet[9], to.to_string(), usize::from(packet[0] & 15) * 4)
        }
        (0x86dd, 40..) => {
            let to: [u8; 16] = packet[24..40].try_into().unwrap_or_default();
            (packet[6], format!("[{}]", std::net::Ipv6Addr::from(to)), 40)
        }
        _ => return ("frame -".into(), false),
    };
    let (from_port, to_port) = (port(after), port(after + 2));
    let own = protocol == 6 && to == "127.0.0.1" && (OWN.contains(&from_port) || OWN.contains(&to_port));
    (format!("{protocol} {to}:{to_port}"), own)
}

/// Runs plans without a sandbox, for whoever connects: with all the privileges of this world, in mounts of their own.
fn serve(path: &str, mut ready: io::PipeWriter) -> io::Result<()> {
    let listener = UnixListener::bind(path)?;
    ready.write_all(b"r")?;
    drop(ready);
    loop {
        let (stream, _) = listener.accept()?;
        sys::reap();
        if sys::fork()? == 0 {
            sys::replace(stream.as_raw_fd(), 0)?;
            sys::replace(stream.as_raw_fd(), 1)?;
            drop((stream, listener));
            let null = File::options().write(true).open("/dev/null")?;
            sys::replace(null.as_raw_fd(), 2)?;
            // What the operator's shell happens to be limited to is no sandbox.
            sys::raise(7);
            sys::raise(4);
            if let Err(error) = sys::unshare(NEW_MOUNTS).and_then(|()| sys::mount("none", "/", "none", (1 << 18) | (1 << 14))) {
                println!("R\tend\theld\t{}", told(&error));
                std::process::exit(1);
            }
            crate::run();
            std::process::exit(0);
        }
    }
}
