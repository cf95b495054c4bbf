//! The closed world that git runs in: an empty home, an empty repository, one server, one protocol.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use pond_core::outbound::{OutboundUrl, Purpose};
use pond_core::secret::Secret;
use pond_core::sources::{Git, GitKey, Limits, SourceError, TreeError};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::super::Dialer;
use super::super::process::Group;
use super::relay::Relay;

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
    /// The one server that git knows, and the way out.
    pub(super) relay: Relay,
    /// The repository, as the relay serves it.
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
        key: Option<&GitKey>,
    ) -> Result<Self, SourceError> {
        let (url, rule) = (&git.url, Purpose::Git);
        // Settings may have changed since the source was accepted.
        let url = OutboundUrl::parse(url.as_str(), rule, dialer.allow())
            .map_err(|bad| SourceError::Failed(format!("the repository's URL {bad}")))?;
        // The relay judges each connection again; here the answer is one that a user can read.
        dialer
            .addresses(rule, url.host(), url.port())
            .await
            .map_err(|error| SourceError::Failed(error.to_string()))?;
        let folder = tempfile::Builder::new()
            .prefix("git-")
            .tempdir_in(scratch)
            .map_err(disk)?;
        let relay = Relay::start(dialer, &url, key).await.map_err(disk)?;
        let workshop = Self {
            folder,
            program: program.to_owned(),
            limited: limited(limits),
            url: relay.url(),
            relay,
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
        let mut settings: Vec<(&str, Secret)> = CLOSED.iter().map(|(key, value)| (*key, Secret::new(*value))).collect();
        if dials {
            // The relay is of this host, and plain; the way from there on is its own.
            settings.push(("protocol.http.allow", Secret::new("always")));
            settings.push(("http.extraHeader", self.relay.header()));
        }
        let mut command = closed(Path::new("/bin/sh"), self.folder.path());
        command
            .args(["-c", &self.limited, "sh"])
            .arg(&self.program)
            .args(arguments)
            .env("GIT_DIR", self.repository())
            .env("GIT_ALLOW_PROTOCOL", if dials { "http" } else { "" })
            .env("GIT_CONFIG_COUNT", settings.len().to_string());
        for (index, (key, value)) in settings.into_iter().enumerate() {
            command
                .env(format!("GIT_CONFIG_KEY_{index}"), key)
                .env(format!("GIT_CONFIG_VALUE_{index}"), value.expose());
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
/// bound already, that one stays. No core is dumped: it would hold the word that opens the relay.
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
        assert!(version("git version 2.30.9").unwrap() < super::super::OLDEST);
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
        let key = GitKey {
            username: "me".into(),
            token: Secret::new("s3cret"),
        };
        let shop = Workshop::open(Path::new("git"), scratch.path(), &dialer, limits, &git, Some(&key))
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
        let word = shop.relay.header();
        assert!(!inside.contains("pond-relay") && server.contains(word.expose()));
        for token in ["s3cret", "Authorization", "bWU6czNjcmV0"] {
            assert!(
                !inside.contains(token) && !server.contains(token),
                "git never holds the credential"
            );
        }
        assert!(server.contains("GIT_ALLOW_PROTOCOL=http\n") && inside.contains("GIT_ALLOW_PROTOCOL=\n"));
        let home = format!("HOME={}", scratch.path().display());
        assert!(inside.lines().any(|line| line.starts_with(&home)), "{inside}");
        assert!(
            !inside.contains("CARGO"),
            "nothing of this process's environment: {inside}"
        );
    }
}
