//! The programs as their users run them: real processes, their output, and their end.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// The `pond` program that this build made.
///
/// # Panics
/// When it was not built; `cargo build --bins` makes it.
pub fn pond_program() -> PathBuf {
    program("pond")
}

/// A program that this build made.
///
/// # Panics
/// When it was not built; `cargo build --bins` makes it.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test program has a path");
    let folder = test
        .ancestors()
        .nth(2)
        .expect("test programs stand two folders below the others");
    let program = folder.join(name);
    assert!(
        program.is_file(),
        "{} was not built: cargo build --workspace --bins",
        program.display()
    );
    program
}

/// A command of `pond` with nothing of this process's environment but `PATH`.
pub fn pond(folder: &Path) -> Command {
    bare(&pond_program(), folder)
}

/// A command with nothing of this process's environment but `PATH`.
pub fn bare(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir(folder);
    command.stdin(Stdio::null());
    command
}

/// A `pond up` that runs in a folder of its own.
pub struct Up {
    /// Its address.
    pub url: String,
    /// How long it took until it was ready.
    pub ready_in: Duration,
    folder: PathBuf,
    child: Child,
}

impl Up {
    /// Starts it and waits until it answers that it is ready.
    ///
    /// # Panics
    /// When it is not ready within a minute; with what it said.
    pub fn start(folder: &Path, settings: &[(&str, &str)]) -> Self {
        let port = free_port();
        let bind = format!("127.0.0.1:{port}");
        let log = |name: &str| {
            let options = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(folder.join(name));
            Stdio::from(options.expect("a log file can be made"))
        };
        let started = Instant::now();
        let mut command = pond(folder);
        command.arg("up").env("POND_BIND", &bind).envs(settings.iter().copied());
        let child = command
            .stdout(log("up.out"))
            .stderr(log("up.err"))
            .spawn()
            .expect("pond starts");
        let mut up = Self {
            url: format!("http://{bind}"),
            ready_in: Duration::ZERO,
            folder: folder.to_owned(),
            child,
        };
        while !up.answers() {
            let gone = up.child.try_wait().expect("a child can be waited for");
            assert!(
                gone.is_none() && started.elapsed() < Duration::from_secs(60),
                "{gone:?} {}",
                up.said()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        up.ready_in = started.elapsed();
        up
    }

    fn answers(&self) -> bool {
        let address = self.url.trim_start_matches("http://").parse().expect("an address");
        let Ok(mut stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)) else {
            return false;
        };
        let request = format!("GET /health/ready HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        let mut answer = String::new();
        std::io::Write::write_all(&mut stream, request.as_bytes()).is_ok()
            && std::io::Read::read_to_string(&mut stream, &mut answer).is_ok()
            && answer.starts_with("HTTP/1.1 200")
    }

    /// What it wrote to standard output and error, in all of its lives in this folder.
    pub fn said(&self) -> String {
        let read = |name| std::fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        format!("{}{}", read("up.out"), read("up.err"))
    }

    /// Runs a client verb against it.
    pub fn client(&self, arguments: &[&str]) -> Output {
        let mut command = pond(&self.folder);
        let token = self.folder.join(".pond-state/service-token");
        command
            .env("POND_URL", &self.url)
            .env("POND_TOKEN_FILE", token)
            .args(arguments);
        command.output().expect("pond runs")
    }

    /// Runs a client verb with `--json`; what it printed.
    ///
    /// # Panics
    /// When it fails or prints no JSON.
    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.client(&[arguments, &["--json"]].concat());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{arguments:?}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{arguments:?} printed no JSON: {text}"))
    }

    /// A file of its state folder.
    pub fn state(&self, name: &str) -> PathBuf {
        self.folder.join(".pond-state").join(name)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it without a word.
    pub fn kill(mut self) {
        self.child.kill().expect("our own child can be killed");
        self.child.wait().expect("our own child can be waited for");
    }

    /// Asks it to end, and gives how it did.
    pub fn stop(mut self) -> ExitStatus {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("our own child can be signalled");
        self.child.wait().expect("our own child can be waited for")
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // Ended already, or a test that failed: nothing may outlive it.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A loopback port that nobody listens on.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    listener.local_addr().expect("a bound port has an address").port()
}

/// Whether any process of this host has `mark` in its arguments.
pub fn anyone_runs(mark: &str) -> bool {
    let entries = std::fs::read_dir("/proc").expect("/proc is there").flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit()))
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .any(|arguments| String::from_utf8_lossy(&arguments).contains(mark))
}

/// Waits until `condition` holds, at most `patience`.
pub fn eventually(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if started.elapsed() > patience {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
