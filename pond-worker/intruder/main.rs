//! The hostile guest of the attack battery, and the closed world that it is let loose in: one static program, standard library
//! alone, laid into the sandboxes of `worker attest` and into no other.
//!
//! | called as | it |
//! |---|---|
//! | `run` | reads a plan from standard input, tries it line by line and reports |
//! | `victim SECRET PORT NAME` | is another job: holds a secret in memory, arguments, shared memory and behind sockets |
//! | `world FOLDER UID PREFIX PROGRAM…` | makes a network namespace that has nothing but `lo`, listens to all of it, serves controls, and becomes the program |
//!
//! A line of a plan is a number, the name of an act, and its arguments, with tabs between them. A report is `R`, the number,
//! `out` or `held`, and what came of it. Nobody believes a report about the network: the world's ear is asked instead.

#![expect(unsafe_code, reason = "it exists to make system calls that the standard library does not offer")]

mod bombs;
mod calls;
mod host;
mod net;
mod sys;
mod world;

use std::collections::HashMap;
use std::io::{self, Read, Write};

/// Acts at a time; most of them wait.
const AT_ONCE: usize = 8;

/// What came of an act.
pub(crate) enum Outcome {
    /// It got what it should not.
    Out(String),
    /// It did not.
    Held(String),
}

impl Outcome {
    /// Out when it worked.
    pub(crate) fn of<T: std::fmt::Debug>(result: io::Result<T>) -> Self {
        match result {
            Ok(got) => Self::Out(format!("{got:?}")),
            Err(error) => Self::Held(told(&error)),
        }
    }
}

pub(crate) fn told(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => format!("errno={number}"),
        None => format!("{error}"),
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["run"] => run(),
        ["victim", secret, port, name] => host::victim(secret, port, name),
        ["world", folder, uid, prefix, ref program @ ..] => {
            let error = world::enter(folder, uid, prefix, program);
            eprintln!("no closed network can be made here: {error}");
            std::process::exit(2);
        }
        _ => std::process::exit(64),
    }
}

/// Tries a plan, each line in a process of its own, which may be killed for it.
pub(crate) fn run() {
    let mut plan = String::new();
    if io::stdin().read_to_string(&mut plan).is_err() {
        std::process::exit(65);
    }
    let mut running = HashMap::new();
    for line in plan.lines() {
        let mut words = line.split('\t');
        let (Some(number), Some(act)) = (words.next(), words.next()) else { continue };
        let args: Vec<Vec<u8>> = words.map(unescape).collect();
        if running.len() >= AT_ONCE {
            end(&mut running);
        }
        match sys::fork() {
            Ok(0) => {
                sys::setsid();
                sys::alarm(20);
                let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
                match act_on(act, &args) {
                    Outcome::Out(told) => report(number, "out", &told),
                    Outcome::Held(told) => report(number, "held", &told),
                }
                std::process::exit(0);
            }
            Ok(child) => drop(running.insert(child, number.to_owned())),
            Err(error) => report(number, "held", &format!("no process: {}", told(&error))),
        }
    }
    while !running.is_empty() {
        end(&mut running);
    }
    report("end", "held", "");
}

/// Waits for one of them to end.
fn end(running: &mut HashMap<i32, String>) {
    let Some((child, how)) = sys::wait_any() else { return running.clear() };
    if let Some(number) = running.remove(&child) {
        if let Some(how) = how {
            report(&number, "held", &how);
        }
        // What it started may not disturb others.
        sys::kill(-child, 9);
    }
}

fn report(number: &str, verdict: &str, told: &str) {
    // Short enough to be written whole beside others.
    let told: String = told.escape_default().take(3500).collect();
    let line = format!("R\t{number}\t{verdict}\t{told}\n");
    let _ = io::stdout().lock().write_all(line.as_bytes());
}

/// `\r \n \t \0 \\ \xHH` are read; every other byte stands for itself.
fn unescape(word: &str) -> Vec<u8> {
    let bytes = word.as_bytes();
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let escaped = (bytes[at] == b'\\').then(|| bytes.get(at + 1)).flatten();
        let (byte, length) = match escaped {
            Some(b'r') => (b'\r', 2),
            Some(b'n') => (b'\n', 2),
            Some(b't') => (b'\t', 2),
            Some(b'0') => (0, 2),
            Some(b'x') => {
                let hex = word.get(at + 2..at + 4).and_then(|hex| u8::from_str_radix(hex, 16).ok());
                (hex.unwrap_or(b'?'), 4)
            }
            Some(other) => (*other, 2),
            None => (bytes[at], 1),
        };
        out.push(byte);
        at += length;
    }
    out
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or("?")
}

/// One act. To add one: a line here, and its function.
fn act_on(act: &str, args: &[&[u8]]) -> Outcome {
    let words: Vec<&str> = args.iter().map(|arg| text(arg)).collect();
    match (act, &words[..]) {
        ("tcp", [to, mark]) => Outcome::of(net::tcp(to, mark)),
        ("fast", [to, mark]) => Outcome::of(net::fast_open(to, mark)),
        ("tcp-proto", [proto, to, mark]) => Outcome::of(net::tcp_of(proto, to, mark)),
        ("udp", [to, mark]) => Outcome::of(net::udp(to, mark)),
        ("udp-from", [from, to, mark]) => Outcome::of(net::udp_from(from, to, mark)),
        ("udplite", [to, mark]) => Outcome::of(net::udplite(to, mark)),
        ("quic", [to, mark]) => Outcome::of(net::quic(to, mark)),
        ("dns", [server, name]) => Outcome::of(net::dns(server, name, "1")),
        ("dns-of", [kind, server, name]) => Outcome::of(net::dns(server, name, kind)),
        ("dns-tcp", [server, name]) => Outcome::of(net::dns_tcp(server, name)),
        ("dns-configured", [name]) => net::dns_configured(name),
        ("ping", [to, mark]) => Outcome::of(net::icmp(to, mark, net::Icmp::Datagram)),
        ("icmp", [to, mark]) => Outcome::of(net::icmp(to, mark, net::Icmp::Raw)),
        ("raw", [to, proto, mark]) => Outcome::of(net::raw(to, proto, mark)),
        ("frame", [mark]) => Outcome::of(net::frame(mark)),
        ("socket", [family, kind, proto]) => Outcome::of(net::socket(family, kind, proto)),
        ("relay", [to, mark]) => Outcome::of(net::relay(to, mark)),
        ("address", [address]) => Outcome::of(net::add_address(address)),
        ("route", []) => Outcome::of(net::add_route()),
        ("unix", [path, mark]) => Outcome::of(net::unix(path, mark)),
        ("abstract", [name, mark]) => Outcome::of(net::abstract_name(name, mark)),
        ("say", _) if args.len() >= 2 => net::say(words[0], &args[1..]),
        ("again", _) if args.len() >= 3 => net::again(words[0], &args[1..]),
        ("redirect", [first, mark]) => net::redirect(first, mark),
        ("names", [count, suffix, mark]) => net::names(count, suffix, mark),
        ("socks", [version, host, mark]) => net::socks(version, args[1], host, mark),
        ("call", [name]) => calls::call(name),
        ("read", [path]) => Outcome::of(host::read(path)),
        ("link-read", [folder, path]) => Outcome::of(host::link_read(folder, path)),
        ("hard-read", [folder, path]) => Outcome::of(host::hard_read(folder, path)),
        ("open-read", [path]) => Outcome::of(host::open_read(path)),
        ("open-write", [path]) => Outcome::of(host::open_write(path)),
        ("write", [path, mark]) => Outcome::of(std::fs::write(path, mark)),
        ("node", [kind, major, minor]) => Outcome::of(host::node(kind, major, minor)),
        ("scan", [what]) => host::scan(what),
        ("descriptors", []) => host::descriptors(),
        ("environment", []) => Outcome::Out(host::environment()),
        ("tree", [root]) => host::tree(root),
        ("fact", [what]) => host::fact(what),
        ("space", [what, other]) => host::space(what, other),
        ("devices", []) => host::devices(),
        ("kill", [pid]) => Outcome::of(host::signal(pid, 9)),
        ("stop", [pid]) => Outcome::of(host::signal(pid, 19)),
        ("attach", [pid]) => Outcome::of(host::attach(pid)),
        ("peek", [pid]) => host::peek(pid),
        ("shm", []) => host::shared_memory(),
        ("talk", [to]) => Outcome::of(net::talk(to)),
        ("talk-abstract", [name]) => Outcome::of(net::talk_abstract(name)),
        ("set-uid", [folder]) => host::set_uid(folder),
        ("mount", [kind, folder]) => Outcome::of(host::mount(kind, folder)),
        ("bind", [from, folder, file]) => Outcome::of(host::bind(from, folder, file)),
        ("enter", [pid, which]) => Outcome::of(host::enter(pid, which)),
        ("forks", [count]) => bombs::forks(count),
        ("threads", [count]) => bombs::threads(count),
        ("memory", [mib]) => bombs::memory(mib),
        ("map", [mib]) => bombs::map(mib),
        ("memfd", [mib]) => bombs::memfd(mib),
        ("shm-bomb", [mib]) => bombs::shm(mib),
        ("fill", [path, mib]) => bombs::fill(path, mib),
        ("large-file", [path, gib]) => bombs::large_file(path, gib),
        ("fds", [count]) => bombs::fds(count),
        ("flood", [path, mib]) => bombs::flood(path, mib),
        ("nothing", _) => Outcome::Held("nothing to do inside".into()),
        _ => Outcome::Held(format!("no such act: {act}")),
    }
}
