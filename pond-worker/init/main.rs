//! The init that runs inside every sandbox: standard library alone, linked statically, embedded into the worker.
//!
//! Its life: the worker starts it with a connected Unix stream as standard input (the *control*), and moves it into the
//! sandbox's control groups while it still waits there (in a container, which inherits no descriptor, it is named a socket
//! instead, and connects to it before anything else runs: the worker takes that one connection and no other). Told to `Launch`, it takes on the job's uid, lays out what will be
//! shown inside, and becomes the confining program (`bwrap`), which starts it a second time, inside, on the same control.
//! Told to `Setup`, it sets limits, writes the home files, opens the loopback ports and answers `Ready`. From then on it
//! runs programs, passes signals on and reaps. The control's end is the sandbox's end: everything is killed. So it is when
//! the time comes that the last `Keep` has named, whatever the worker does meanwhile: a worker that hangs renews no lease,
//! and its agent must be gone before another worker has taken the job.
//!
//! # Wire
//! Frames of `u32 length | u8 kind | body`, big endian, length counting the body, at most [`MAX_FRAME`]. Numbers are u32 or
//! u64, texts and lists carry a u32 count before them. File descriptors travel beside the first bytes of a frame.
//!
//! | to the init | body | descriptors |
//! |---|---|---|
//! | 1 Launch | uid, gid, list of host paths, list of file contents, argv | – |
//! | 2 Setup | home, list of (path, content), list of (resource, u64), list of ports, list of (name, value), seccomp filter or nothing | – |
//! | 3 Exec | id, argv, list of (name, value), cwd | stdin, stdout, stderr |
//! | 4 Signal | id, signal | – |
//! | 5 Space | list of paths | – |
//! | 6 Keep | u64 nanoseconds of the host's boot clock | – |
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
//! or stopped from inside, and its timer is its own; under backend `none` a program of the same uid can end it, which ends the
//! sandbox, or stop it, which puts off the end that `Keep` names. Output does not pass through the init: programs write
//! to the worker's pipes themselves, so a slow reader slows its program and nothing else.

#![expect(unsafe_code, reason = "the system calls of an init have no safe form in the standard library")]

mod control;
mod sys;

use std::collections::HashMap;
use std::ffi::{CString, OsStr, c_int};
use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use control::{Control, Frame};

/// Programs of one sandbox at a time that were started by the worker.
const MAX_PROGRAMS: usize = 256;
/// Where a privileged launch shows what is to be mounted; bwrap's own uid may not reach the real paths.
const STAGE: &str = "/tmp";
/// The first descriptor of the files handed to the confining program.
const FIRST_FILE: RawFd = 10;

fn main() {
    let control = match std::env::args_os().nth(1) {
        None => Control::open(),
        Some(socket) => Control::connect(Path::new(&socket)),
    };
    if let Err(error) = control.and_then(serve) {
        eprintln!("pond-init: {error}");
        std::process::exit(1);
    }
}

/// Answers frames until the control ends or the time is over.
fn serve(control: Control) -> io::Result<()> {
    sys::protect()?;
    let mut init = Init { control, programs: HashMap::new(), base: Vec::new(), children: sys::child_signals()? };
    let outcome = init.run();
    init.end();
    outcome
}

/// The state of one sandbox.
struct Init {
    control: Control,
    /// Session of each program started by the worker, which is its pid too, to the worker's number of it.
    programs: HashMap<c_int, u32>,
    base: Vec<(Vec<u8>, Vec<u8>)>,
    children: OwnedFd,
}

impl Init {
    fn run(&mut self) -> io::Result<()> {
        loop {
            let due = self.control.wait(&self.children)?;
            if due.children {
                self.reap()?;
            }
            if due.frame && !self.answer()? {
                return Ok(());
            }
        }
    }

    /// Reads and carries out one frame; false at the end of the control.
    fn answer(&mut self) -> io::Result<bool> {
        let Some(Frame { kind, body, fds }) = self.control.receive()? else { return Ok(false) };
        let mut body = Body(&body);
        match kind {
            1 => self.launch(&mut body)?,
            2 => {
                let ports = match self.setup(&mut body) {
                    Ok(ports) => ports,
                    Err((what, error)) => return self.failed(0, &error, &what).map(|()| true),
                };
                let raw: Vec<RawFd> = ports.iter().map(AsRawFd::as_raw_fd).collect();
                self.control.send_with(1, &[], &raw)?;
            }
            3 => {
                let id = body.number()?;
                match self.exec(id, &mut body, &fds) {
                    Ok(()) => self.control.send(2, &id.to_be_bytes())?,
                    Err(error) => return self.failed(id, &error, "the program cannot be started").map(|()| true),
                }
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
                self.control.send(5, &answer)?;
            }
            6 => self.control.keep(body.large()?)?,
            other => return Err(io::Error::other(format!("unknown frame {other}"))),
        }
        Ok(true)
    }

    fn failed(&mut self, id: u32, error: &io::Error, what: &str) -> io::Result<()> {
        let mut body = id.to_be_bytes().to_vec();
        body.extend_from_slice(&error.raw_os_error().unwrap_or(0).to_be_bytes());
        put_text(&mut body, what.as_bytes());
        self.control.send(3, &body)
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
        sys::hand_over_control(self.control.fd())?;
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
        let filter = body.text().map_err(told(bad))?;
        if !filter.is_empty() {
            sys::filter_calls(&filter).map_err(told("the filter for system calls cannot be put in force"))?;
        }
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
        let program = sys::Program { candidates: &candidates, argv: &argv, env: &env, cwd: &cwd, stdio };
        let pid = sys::spawn(&program, |verdict| self.control.readable(verdict))?;
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
                self.control.send(4, &body)?;
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
