//! The closed world that git runs in: an empty home, an empty repository, one address, one protocol.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use pond_core::outbound::{Host, OutboundUrl, Purpose};
use pond_core::secret::Secret;
use pond_core::sources::{Git, Limits, SourceError, TreeError};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::super::process::Group;
use super::super::{Dialer, tls};
use super::GitCredential;

/// Where git and its helpers are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How much of what git says is read.
const MAX_OUTPUT: u64 = 64 << 10;

/// Settings that hold for every command.
const CLOSED: [(&str, &str); 24] = [
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.attributesFile", "/dev/null"),
    ("core.askPass", ""),
    // Content over this is streamed, not held in memory.
    ("core.bigFileThreshold", "8m"),
    ("core.alternateRefsCommand", ""),
    // What is mapped counts as memory.
    ("core.packedGitWindowSize", "64m"),
    ("core.packedGitLimit", "256m"),
    ("credential.helper", ""),
    ("fetch.recurseSubmodules", "false"),
    ("fetch.writeCommitGraph", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("http.followRedirects", "false"),
    ("http.proxy", ""),
    ("http.sslVerify", "true"),
    ("http.lowSpeedLimit", "1"),
    ("http.lowSpeedTime", "60"),
    ("http.saveCookies", "false"),
    ("index.threads", "1"),
    ("pack.threads", "1"),
    ("protocol.allow", "never"),
    ("submodule.recurse", "false"),
    ("transfer.bundleURI", "false"),
];

/// One source's repository and how its commands are started; gone when dropped.
pub(super) struct Workshop {
    folder: TempDir,
    program: PathBuf,
    /// The shell line that limits a command and becomes it.
    limited: String,
    settings: Vec<(String, Secret)>,
    /// Shown to the server, and to no command that stays inside.
    credential: Option<(String, Secret)>,
    protocol: &'static str,
    ca_file: Option<PathBuf>,
    pub(super) url: String,
}

/// Whether a command may dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// It works on what is there.
    Inside,
    /// It talks to the repository's server.
    Server,
}

/// What a short command said.
pub(super) struct Said {
    pub(super) ok: bool,
    pub(super) out: Vec<u8>,
}

impl Workshop {
    /// Resolves and judges the place, then makes the repository. Nothing is dialled yet.
    pub(super) async fn open(
        program: &Path,
        scratch: &Path,
        dialer: &Dialer,
        limits: Limits,
        git: &Git,
        credential: Option<&GitCredential>,
    ) -> Result<Self, SourceError> {
        let (url, rule) = (&git.url, Purpose::Git);
        // Settings may have changed since the source was accepted.
        let url = OutboundUrl::parse(url.as_str(), rule, dialer.allow())
            .map_err(|bad| SourceError::Failed(format!("the repository's URL {bad}")))?;
        let addresses = dialer
            .addresses(rule, url.host(), url.port())
            .await
            .map_err(|error| SourceError::Failed(error.to_string()))?;
        let folder = tempfile::Builder::new()
            .prefix("git-")
            .tempdir_in(scratch)
            .map_err(disk)?;
        let protocol = if url.is_https() { "https" } else { "http" };
        let mut settings: Vec<_> = CLOSED
            .iter()
            .map(|(key, value)| ((*key).to_owned(), Secret::new(*value)))
            .collect();
        settings.push((format!("protocol.{protocol}.allow"), Secret::new("always")));
        if let Host::Name(name) = url.host() {
            settings.push((
                "http.curloptResolve".into(),
                Secret::new(pinned(name, url.port(), &addresses)),
            ));
        }
        let credential = credential.map(|credential| ("http.extraHeader".into(), credential.header()));
        let ca_file = match dialer.extra_ca() {
            [] => None,
            extra => Some(trusted(folder.path(), extra)?),
        };
        let workshop = Self {
            folder,
            program: program.to_owned(),
            limited: limited(limits),
            settings,
            credential,
            protocol,
            ca_file,
            url: url.as_str().to_owned(),
        };
        let made = workshop
            .run(Reach::Inside, &["init", "--bare", "--quiet", "--template="])
            .await?;
        if !made.ok {
            return Err(SourceError::Failed("git could not make a repository".into()));
        }
        Ok(workshop)
    }

    /// The bare repository.
    pub(super) fn repository(&self) -> PathBuf {
        self.folder.path().join("repository")
    }

    /// A git command in the closed world, its standard streams closed.
    pub(super) fn command(&self, reach: Reach, arguments: &[&str]) -> Command {
        let dials = reach == Reach::Server;
        let settings: Vec<_> = self
            .settings
            .iter()
            .chain(self.credential.iter().filter(|_| dials))
            .collect();
        let mut command = closed(Path::new("/bin/sh"), self.folder.path());
        command
            .args(["-c", &self.limited, "sh"])
            .arg(&self.program)
            .args(arguments)
            .env("GIT_DIR", self.repository())
            .env("GIT_ALLOW_PROTOCOL", if dials { self.protocol } else { "" })
            .env("GIT_CONFIG_COUNT", settings.len().to_string());
        for (index, (key, value)) in settings.into_iter().enumerate() {
            command
                .env(format!("GIT_CONFIG_KEY_{index}"), key)
                .env(format!("GIT_CONFIG_VALUE_{index}"), value.expose());
        }
        if let Some(file) = &self.ca_file {
            command.env("GIT_SSL_CAINFO", file);
        }
        command
    }

    /// Runs a command that says little.
    pub(super) async fn run(&self, reach: Reach, arguments: &[&str]) -> Result<Said, SourceError> {
        said(&mut self.command(reach, arguments)).await
    }
}

/// Bounds that the kernel keeps, against objects that are small on the wire and huge in memory. The size of the repository
/// as a whole is watched besides; the bound per file only stops what outruns the watcher. Where this process has a lower
/// bound already, that one stays. No core is dumped: it would hold the credential.
fn limited(limits: Limits) -> String {
    let memory = limits.bytes.saturating_mul(2).saturating_add(1 << 30) >> 10;
    let file = limits.bytes.saturating_mul(2).saturating_add(64 << 20) >> 9;
    format!("ulimit -c 0; ulimit -v {memory} 2>/dev/null; ulimit -f {file} 2>/dev/null; exec \"$@\"")
}

/// A program that sees nothing of this host.
fn closed(program: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .env("HOME", home)
        .env("XDG_CONFIG_HOME", home)
        .env("TMPDIR", home)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_ATTR_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_PROTOCOL_FROM_USER", "0")
        .env("GIT_NO_LAZY_FETCH", "1")
        .env("GIT_NO_REPLACE_OBJECTS", "1");
    command
}

async fn said(command: &mut Command) -> Result<Said, SourceError> {
    let mut group = Group::spawn(command.stdout(Stdio::piped())).map_err(|error| missing(&error))?;
    let out = group.child.stdout.take();
    let (out, status) = tokio::join!(bounded(out), group.wait());
    Ok(Said {
        ok: status.map_err(disk)?.success(),
        out,
    })
}

/// Reads to the end, keeping the beginning.
pub(super) async fn bounded(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    if let Some(mut stream) = stream {
        // What breaks the stream also ends the process, whose status tells.
        let _ = (&mut stream).take(MAX_OUTPUT).read_to_end(&mut kept).await;
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
    kept
}

/// curl's way to say it: no other address of the name is ever asked for or dialled.
fn pinned(name: &str, port: u16, addresses: &[SocketAddr]) -> String {
    let list: Vec<_> = addresses
        .iter()
        .map(|address| match address {
            SocketAddr::V4(address) => address.ip().to_string(),
            SocketAddr::V6(address) => format!("[{}]", address.ip()),
        })
        .collect();
    format!("{name}:{port}:{}", list.join(","))
}

/// A file of everybody who is trusted, since git takes one file in place of the system's.
fn trusted(folder: &Path, extra: &[rustls::pki_types::CertificateDer<'static>]) -> Result<PathBuf, SourceError> {
    let path = folder.join("trusted.pem");
    std::fs::write(&path, tls::pem_with_system(extra)).map_err(disk)?;
    Ok(path)
}

/// Whether the program is there and new enough.
pub(super) async fn check_version(program: &Path, oldest: (u32, u32)) -> Result<(), SourceError> {
    let mut command = closed(program, Path::new("/"));
    command.arg("version");
    let said = tokio::time::timeout(Duration::from_secs(10), said(&mut command)).await;
    let text = said
        .map_err(|_| SourceError::Failed("git does not answer".into()))??
        .out;
    match version(&String::from_utf8_lossy(&text)) {
        Some(found) if found >= oldest => Ok(()),
        _ => Err(SourceError::Failed(format!(
            "git {}.{} or newer is needed to fetch sources",
            oldest.0, oldest.1
        ))),
    }
}

fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix("git version ")?.split('.');
    let mut next = || numbers.next()?.trim().parse().ok();
    Some((next()?, next()?))
}

pub(super) fn disk(error: std::io::Error) -> SourceError {
    TreeError::Io(error).into()
}

fn missing(error: &std::io::Error) -> SourceError {
    SourceError::Failed(format!("the git program cannot be started: {}", error.kind()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::DialerSettings;
    use crate::net::testing::ScriptedResolver;
    use pond_core::outbound::AllowPrivate;
    use std::sync::Arc;

    #[test]
    fn versions_are_read() {
        assert_eq!(version("git version 2.47.3\n"), Some((2, 47)));
        assert_eq!(version("git version 2.39.5 (Apple Git-154)\n"), Some((2, 39)));
        assert_eq!(version("git version 2.50.0.rc1\n"), Some((2, 50)));
        assert_eq!(version("nonsense"), None);
        assert!(version("git version 2.36.9").unwrap() < super::super::OLDEST);
    }

    #[tokio::test]
    async fn commands_are_limited_and_see_a_closed_world() {
        let scratch = tempfile::tempdir().unwrap();
        let allow = AllowPrivate::parse("git=127.0.0.1:1").unwrap();
        let url = OutboundUrl::parse("http://127.0.0.1:1/app", Purpose::Git, &allow).unwrap();
        let dialer = Dialer::with_resolver(
            DialerSettings {
                allow,
                ..DialerSettings::default()
            },
            Arc::new(ScriptedResolver::new()),
        )
        .unwrap();
        let git = Git {
            url,
            reference: None,
            credential: None,
        };
        let limits = Limits {
            bytes: 1 << 30,
            files: 10,
        };
        let credential = GitCredential::new(None, Secret::new("s3cret"));
        let shop = Workshop::open(
            Path::new("git"),
            scratch.path(),
            &dialer,
            limits,
            &git,
            Some(&credential),
        )
        .await
        .unwrap();
        let ask = async |reach, line: &str| {
            let said = shop
                .run(reach, &["-c", &format!("alias.ask=!{line}"), "ask"])
                .await
                .unwrap();
            assert!(said.ok, "{line}");
            String::from_utf8(said.out).unwrap()
        };

        assert_eq!(ask(Reach::Inside, "ulimit -c; ulimit -v").await, "0\n3145728\n");
        assert!(ask(Reach::Inside, "ulimit -f").await.trim().parse::<u64>().unwrap() >= 2 << 20);
        let inside = ask(Reach::Inside, "env").await;
        let server = ask(Reach::Server, "env").await;
        assert!(!inside.contains("Authorization") && server.contains("Authorization: Basic"));
        assert!(server.contains("GIT_ALLOW_PROTOCOL=http\n") && inside.contains("GIT_ALLOW_PROTOCOL=\n"));
        let home = format!("HOME={}", scratch.path().display());
        assert!(inside.lines().any(|line| line.starts_with(&home)), "{inside}");
        assert!(
            !inside.contains("CARGO"),
            "nothing of this process's environment: {inside}"
        );
    }

    #[test]
    fn every_judged_address_is_pinned() {
        let addresses = ["8.8.8.8:443".parse().unwrap(), "[2606:4700::1]:443".parse().unwrap()];
        assert_eq!(pinned("h.test", 443, &addresses), "h.test:443:8.8.8.8,[2606:4700::1]");
    }
}
