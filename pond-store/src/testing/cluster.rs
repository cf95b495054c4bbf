//! A throw-away PostgreSQL cluster.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tokio::sync::OnceCell;

/// A maintenance database on the cluster of this process, or on the one it was given.
pub(super) async fn maintenance_url() -> String {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    if let Some(url) = given() {
        return url;
    }
    let started = CLUSTER.get_or_init(|| async {
        let start = tokio::task::spawn_blocking(Cluster::start)
            .await
            .expect("starting does not panic");
        start.unwrap_or_else(|problem| {
            panic!("no PostgreSQL for tests: {problem}; install `postgresql` or set POND_TEST_POSTGRES_URL")
        })
    });
    started.await.url.clone()
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests are told by the environment where their database is"
)]
fn given() -> Option<String> {
    std::env::var("POND_TEST_POSTGRES_URL")
        .ok()
        .filter(|url| !url.is_empty())
}

struct Cluster {
    url: String,
    /// Waits for this process to end, however it does, and then stops the cluster and deletes its folder.
    _keeper: Child,
}

const KEEPER: &str =
    r#"cat > /dev/null; $AS "$BIN/pg_ctl" -D "$FOLDER/data" -m immediate stop > /dev/null 2>&1; rm -rf "$FOLDER""#;

impl Cluster {
    fn start() -> Result<Self, String> {
        let bin = binaries().ok_or("initdb was not found under /usr/lib/postgresql or in PATH")?;
        let folder = tempfile::Builder::new()
            .prefix("pond-pg-")
            .tempdir()
            .map_err(|error| error.to_string())?
            .keep();
        let user = if is_root() { Some("postgres") } else { None };
        let url = Self::start_in(&bin, &folder, user).inspect_err(|_| drop(std::fs::remove_dir_all(&folder)))?;
        let keeper = Command::new("sh")
            .args(["-c", KEEPER])
            .env("AS", user.map_or("", |_| "runuser -u postgres --"))
            .env("BIN", &bin)
            .env("FOLDER", &folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        Ok(Self { url, _keeper: keeper })
    }

    fn start_in(bin: &Path, folder: &Path, user: Option<&str>) -> Result<String, String> {
        let data = folder.join("data");
        if let Some(user) = user {
            run(Command::new("chown").arg(user).arg(folder))?;
        }
        run(command(bin, "initdb", user).arg("-D").arg(&data).args([
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
        ]))?;
        let options = format!(
            "-k {} -c listen_addresses= -c fsync=off -c full_page_writes=off -c max_connections=400",
            folder.display()
        );
        let start = ["-w", "-l"];
        run(command(bin, "pg_ctl", user)
            .arg("-D")
            .arg(&data)
            .args(start)
            .arg(folder.join("log"))
            .args(["-o", &options, "start"]))?;
        Ok(format!("postgres:///postgres?host={}&user=postgres", folder.display()))
    }
}

fn command(bin: &Path, program: &str, user: Option<&str>) -> Command {
    let program = bin.join(program);
    match user {
        None => Command::new(program),
        Some(user) => {
            let mut command = Command::new("runuser");
            command.args(["-u", user, "--"]).arg(program);
            command
        }
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let named = format!("{command:?}");
    // The cluster must not hold on to our standard output; whoever reads that would wait for it.
    let quiet = command
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    match quiet.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{named} ended with {status}")),
        Err(error) => Err(format!("{named}: {error}")),
    }
}

/// The folder of the newest installed version.
fn binaries() -> Option<PathBuf> {
    let installed = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(io::Result::ok);
    let mut versions: Vec<(u32, PathBuf)> = installed
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, bin)| bin.join("initdb").exists())
        .collect();
    versions.sort();
    versions.pop().map(|(_, bin)| bin).or_else(in_path)
}

#[expect(clippy::disallowed_methods, reason = "tests look for programs where a shell would")]
fn in_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find(|folder| folder.join("initdb").exists())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|id| id.stdout.trim_ascii() == b"0")
}
