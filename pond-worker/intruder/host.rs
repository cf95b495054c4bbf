//! Acts on files, processes and the kernel's own files; and the victim, which they are tried on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use crate::{Outcome, sys, told};

/// The key of the victim's shared memory.
const KEY: i32 = 0x706f_6e64;
const MS_BIND: u64 = 4096;

/// Holds a secret wherever another process might look for it, until it is killed.
pub(crate) fn victim(secret: &str, port: &str, name: &str) {
    let held = std::hint::black_box(secret.repeat(64));
    if let Ok((id, memory)) = sys::shared(KEY, 4096, 0o1666) {
        memory[..secret.len()].copy_from_slice(secret.as_bytes());
        // Goes with its last user; until then the key still finds nothing more, so it is let go of at the end alone.
        std::hint::black_box(id);
    }
    for path in ["/tmp/victim-secret", "/dev/shm/victim-secret"] {
        // Made anew: whatever has that name may be a link to a file of the host.
        let _ = fs::remove_file(path);
        if let Ok(mut file) = fs::File::create_new(path) {
            let _ = file.write_all(held.as_bytes());
        }
    }
    let tcp = TcpListener::bind(format!("127.0.0.1:{port}"));
    let unix = std::os::unix::net::SocketAddr::from_abstract_name(name).and_then(|at| UnixListener::bind_addr(&at));
    let answer = secret.to_owned();
    let serving = std::thread::spawn(move || {
        while let Ok((mut stream, _)) = tcp.as_ref().map_or(Err(io::ErrorKind::AddrInUse.into()), TcpListener::accept) {
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    println!("ready");
    while let Ok((mut stream, _)) = unix.as_ref().map_or(Err(io::ErrorKind::AddrInUse.into()), UnixListener::accept) {
        let _ = stream.write_all(secret.as_bytes());
    }
    let _ = serving.join();
    loop {
        std::thread::sleep(Duration::from_secs(60));
        std::hint::black_box(&held);
    }
}

fn head(path: impl AsRef<Path>) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(65536).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

pub(crate) fn read(path: &str) -> io::Result<String> {
    head(path)
}

/// By a symbolic link in a folder of its own.
pub(crate) fn link_read(folder: &str, path: &str) -> io::Result<String> {
    let link = format!("{folder}/link-{}", std::process::id());
    symlink(path, &link)?;
    let got = head(&link);
    let _ = fs::remove_file(&link);
    got
}

/// By a second name of the file.
pub(crate) fn hard_read(folder: &str, path: &str) -> io::Result<String> {
    let link = format!("{folder}/hard-{}", std::process::id());
    fs::hard_link(path, &link)?;
    let got = head(&link);
    let _ = fs::remove_file(&link);
    got
}

pub(crate) fn open_read(path: &str) -> io::Result<()> {
    // Not waiting for what a device has to say.
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().read(true).custom_flags(0o4000).open(path).map(drop)
}

/// Opens and writes nothing: where it is let in, nothing changes.
pub(crate) fn open_write(path: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path).map(drop)
}

/// Makes a device of its own and opens it.
pub(crate) fn node(kind: &str, major: &str, minor: &str) -> io::Result<()> {
    let bad = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let (major, minor): (u64, u64) = (major.parse().map_err(bad)?, minor.parse().map_err(bad)?);
    let mode = if kind == "block" { 0o60_666 } else { 0o20_666 };
    let path = format!("/tmp/node-{}", std::process::id());
    sys::mknod(&path, mode, major << 8 | minor)?;
    let opened = open_read(&path);
    let _ = fs::remove_file(&path);
    opened
}

fn processes() -> Vec<String> {
    let own = std::process::id().to_string();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()) && *name != own).collect()
}

/// Says of every other process what a file of its own in `/proc` holds; a path below one is followed.
pub(crate) fn scan(what: &str) -> Outcome {
    let mut all = String::new();
    let found = processes();
    for pid in &found {
        let path = format!("/proc/{pid}/{what}");
        if let Some(folder) = path.strip_suffix("/*") {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten().take(64) {
                let regular = fs::metadata(entry.path()).is_ok_and(|found| found.is_file());
                all += &regular.then(|| head(entry.path()).unwrap_or_default()).unwrap_or_default();
            }
        } else {
            all += &head(&path).unwrap_or_default();
        }
    }
    // A secret is short; what surrounds it is of no interest.
    let kept: String = all.split(|c: char| !c.is_ascii_graphic()).filter(|word| word.contains("canary")).collect();
    Outcome::Held(format!("{} processes: {kept}", found.len()))
}

/// What it was started with beside its three streams.
pub(crate) fn descriptors() -> Outcome {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        let number: i32 = entry.file_name().to_str().and_then(|name| name.parse().ok()).unwrap_or(0);
        let target = fs::read_link(entry.path()).map(|to| to.display().to_string()).unwrap_or_default();
        if number > 2 && !target.starts_with("/proc/") {
            found.push(format!("{number}:{target}:{}", head(format!("/proc/self/fd/{number}")).unwrap_or_default()));
        }
    }
    if found.is_empty() { Outcome::Held("none".into()) } else { Outcome::Out(found.join(" ")) }
}

pub(crate) fn environment() -> String {
    let all: Vec<String> = std::env::vars_os().map(|(name, value)| format!("{name:?}={value:?}")).collect();
    all.join(" ")
}

/// Looks for secrets in a folder and all below it.
pub(crate) fn tree(root: &str) -> Outcome {
    let (mut waiting, mut seen, mut found) = (vec![root.to_owned()], 0, String::new());
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            seen += 1;
            if seen > 20_000 {
                return Outcome::Held(format!("more than {seen} entries: {found}"));
            }
            let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
            if kind.is_dir() {
                waiting.push(path.display().to_string());
            } else if kind.is_file() && fs::metadata(&path).is_ok_and(|file| file.len() < 8192) {
                let text = head(&path).unwrap_or_default();
                if text.contains("canary") {
                    found += &text;
                }
            }
        }
    }
    Outcome::Held(format!("{seen} entries: {found}"))
}

fn status(line: &str) -> String {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    text.lines().find_map(|own| own.strip_prefix(line)).unwrap_or("?").trim().to_owned()
}

fn sound(sound: bool, told: String) -> Outcome {
    if sound { Outcome::Held(told) } else { Outcome::Out(told) }
}

/// What is true of a confined process.
pub(crate) fn fact(what: &str) -> Outcome {
    match what {
        "CapInh" | "CapPrm" | "CapEff" | "CapBnd" | "CapAmb" => {
            let caps = status(&format!("{what}:"));
            sound(caps.bytes().all(|digit| digit == b'0'), caps)
        }
        "no-new-privileges" => sound(status("NoNewPrivs:") == "1", status("NoNewPrivs:")),
        "seccomp" => sound(status("Seccomp:") == "2", status("Seccomp:")),
        "uid" => sound(!status("Uid:").split_whitespace().any(|id| id == "0"), status("Uid:")),
        "gid" => sound(!status("Gid:").split_whitespace().any(|id| id == "0"), status("Gid:")),
        "core" => sound(sys::limit(4) == [0, 0], format!("{:?}", sys::limit(4))),
        "root" => sound(fs::write("/pond-attest-root", "").is_err(), "the root folder".into()),
        "usr" => {
            let path = "/usr/pond-attest-usr";
            let written = fs::write(path, "").is_ok();
            let _ = fs::remove_file(path);
            sound(!written, "/usr".into())
        }
        "links" => {
            let table = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
            let names: Vec<&str> = table.lines().skip(2).filter_map(|line| Some(line.split(':').next()?.trim())).collect();
            sound(names == ["lo"], names.join(" "))
        }
        "routes" => {
            let table = fs::read_to_string("/proc/self/net/route").unwrap_or_default();
            let six = fs::read_to_string("/proc/self/net/ipv6_route").unwrap_or_default();
            let away = six.lines().filter(|line| !line.ends_with("lo")).count();
            sound(table.lines().count() <= 1 && away == 0, table)
        }
        "first" => sound(!processes().iter().any(|pid| pid.len() > 4), processes().join(" ")),
        "home" => {
            let kept: Vec<_> = fs::read_dir("/home/pond").into_iter().flatten().flatten().map(|e| e.file_name()).collect();
            sound(kept.iter().all(|name| name == ".attest"), format!("{kept:?}"))
        }
        _ => Outcome::Out(format!("no such fact: {what}")),
    }
}

/// Whether a namespace is another than the host's, whose name is given.
pub(crate) fn space(what: &str, other: &str) -> Outcome {
    let own = fs::read_link(format!("/proc/self/ns/{what}")).map(|to| to.display().to_string()).unwrap_or_default();
    sound(own != other && !own.is_empty(), own)
}

/// Devices that a program of a job has no use for.
pub(crate) fn devices() -> Outcome {
    const USUAL: [&str; 10] =
        ["null", "zero", "full", "random", "urandom", "tty", "ptmx", "console", "pts", "shm"];
    let entries = fs::read_dir("/dev").into_iter().flatten().flatten();
    let odd: Vec<String> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_char_device() || kind.is_block_device()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !USUAL.contains(&name.as_str()))
        .collect();
    sound(odd.is_empty(), odd.join(" "))
}

fn pid(text: &str) -> io::Result<i32> {
    text.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

pub(crate) fn signal(to: &str, number: i32) -> io::Result<()> {
    if sys::kill(pid(to)?, number) { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Traces a process, and lets it go.
pub(crate) fn attach(to: &str) -> io::Result<()> {
    let to = pid(to)?;
    crate::calls::trace(to)
}

/// Reads the secret out of a process's memory.
pub(crate) fn peek(of: &str) -> Outcome {
    let maps = fs::read_to_string(format!("/proc/{of}/maps")).unwrap_or_default();
    let memory = match File::open(format!("/proc/{of}/mem")) {
        Ok(memory) => memory,
        Err(error) => return Outcome::Held(told(&error)),
    };
    let mut found = String::new();
    for line in maps.lines().filter(|line| line.contains("rw-p")) {
        let range = line.split_whitespace().next().and_then(|range| range.split_once('-'));
        let Some((from, to)) = range else { continue };
        let (Ok(from), Ok(to)) = (u64::from_str_radix(from, 16), u64::from_str_radix(to, 16)) else { continue };
        let mut bytes = vec![0; (to - from).min(1 << 20) as usize];
        if std::os::unix::fs::FileExt::read_at(&memory, &mut bytes, from).is_ok()
            && let Some(at) = bytes.windows(6).position(|window| window == b"canary")
        {
            found = String::from_utf8_lossy(&bytes[at..(at + 64).min(bytes.len())]).into_owned();
            break;
        }
    }
    Outcome::Held(format!("{} bytes of maps: {found}", maps.len()))
}

pub(crate) fn shared_memory() -> Outcome {
    match sys::shared(KEY, 4096, 0) {
        Ok((_, memory)) => Outcome::Out(String::from_utf8_lossy(&memory[..64]).into_owned()),
        Err(error) => Outcome::Held(told(&error)),
    }
}

/// A copy of this program that belongs to root and says so; outside, only where this process is root already.
pub(crate) fn set_uid(folder: &str) -> Outcome {
    let copy = format!("{folder}/set-uid");
    let made = fs::copy("/proc/self/exe", &copy)
        .and_then(|_| std::os::unix::fs::chown(&copy, Some(0), Some(0)))
        .and_then(|()| fs::set_permissions(&copy, fs::Permissions::from_mode(0o4755)));
    let owner = fs::metadata(&copy).map(|found| (found.uid(), found.mode())).unwrap_or_default();
    let _ = fs::remove_file(&copy);
    match made {
        Ok(()) if owner.0 == 0 && owner.1 & 0o4000 != 0 => Outcome::Out(format!("{owner:?}")),
        Ok(()) => Outcome::Held(format!("{owner:?}")),
        Err(error) => Outcome::Held(told(&error)),
    }
}

/// Mounts a file system, and takes it off again.
pub(crate) fn mount(kind: &str, folder: &str) -> io::Result<()> {
    let at = format!("{folder}/mount-{}", std::process::id());
    fs::create_dir(&at)?;
    let mounted = match kind {
        "remount" => sys::mount("none", "/", "none", 32 | MS_BIND),
        "private" => sys::mount("none", "/", "none", 1 << 18),
        kind => sys::mount(kind, &at, kind, 0),
    };
    if mounted.is_ok() && !matches!(kind, "remount" | "private") {
        let _ = sys::umount(&at);
    }
    let _ = fs::remove_dir(&at);
    mounted
}

/// Binds a folder to another, and reads a file there.
pub(crate) fn bind(from: &str, folder: &str, file: &str) -> io::Result<String> {
    let at = format!("{folder}/bind-{}", std::process::id());
    fs::create_dir(&at)?;
    let got = sys::mount(from, &at, "none", MS_BIND).and_then(|()| {
        let got = head(format!("{at}/{file}"));
        let _ = sys::umount(&at);
        got
    });
    let _ = fs::remove_dir(&at);
    got
}

/// Enters a namespace of another process.
pub(crate) fn enter(of: &str, which: &str) -> io::Result<()> {
    crate::calls::enter(&File::open(format!("/proc/{of}/ns/{which}"))?)
}
