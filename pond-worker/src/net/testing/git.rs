//! A smart-HTTP git server on loopback (`git http-backend` behind a few lines of HTTP), and repositories to serve.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// A repository made by hand.
#[derive(Debug)]
pub struct GitRepo {
    folder: PathBuf,
}

impl GitRepo {
    /// Makes an empty repository `name` beneath `root`, its branch called `main`.
    ///
    /// # Panics
    /// If git is not there or fails.
    pub fn init(root: &Path, name: &str) -> Self {
        let repo = Self {
            folder: root.join(name),
        };
        std::fs::create_dir_all(&repo.folder).expect("a folder for the repository");
        repo.git(&["init", "--quiet", "--initial-branch=main"]);
        repo
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs git in it and returns what it said, trimmed.
    ///
    /// # Panics
    /// If git is not there or fails.
    pub fn git(&self, arguments: &[&str]) -> String {
        let output = std::process::Command::new("git")
            .args(arguments)
            .current_dir(&self.folder)
            .env_clear()
            .envs(CLOSED)
            .env("HOME", &self.folder)
            .output()
            .expect("the tests need the git program");
        assert!(
            output.status.success(),
            "git {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Writes the files and commits everything; returns the commit.
    ///
    /// # Panics
    /// If a file cannot be written or git fails.
    pub fn commit(&self, files: &[(&str, &str)]) -> String {
        for (path, content) in files {
            let path = self.folder.join(path);
            std::fs::create_dir_all(path.parent().expect("a file in a folder")).expect("a folder");
            std::fs::write(path, content).expect("a file");
        }
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", "a change"]);
        self.git(&["rev-parse", "HEAD"])
    }
}

const CLOSED: [(&str, &str); 9] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_AUTHOR_NAME", "A"),
    ("GIT_AUTHOR_EMAIL", "a@example.com"),
    ("GIT_COMMITTER_NAME", "A"),
    ("GIT_COMMITTER_EMAIL", "a@example.com"),
    ("GIT_AUTHOR_DATE", "2026-01-01T00:00:00Z"),
    ("GIT_COMMITTER_DATE", "2026-01-01T00:00:00Z"),
];

/// How the server behaves.
#[derive(Debug, Clone, Default)]
pub struct GitBehaviour {
    /// Speak protocol version 0, in which a server hands out no commit that no reference names, unless told to.
    pub old_protocol: bool,
    /// Answer every request with a redirect to this origin.
    pub redirect_to: Option<String>,
    /// Ask for this `Authorization` header.
    pub authorization: Option<String>,
}

/// Serves one connection.
async fn serve<S>(stream: S, root: PathBuf, rule: Arc<Mutex<GitBehaviour>>, count: Arc<AtomicUsize>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        count.fetch_add(1, Ordering::SeqCst);
        let (root, rule) = (root.clone(), Arc::clone(&rule));
        async move {
            let rule = rule.lock().await.clone();
            Ok::<_, Infallible>(answer(&root, &rule, request).await)
        }
    });
    // A client that hangs up is its own affair.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// The server; stops when dropped.
#[derive(Debug)]
pub struct GitServer {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    behaviour: Arc<Mutex<GitBehaviour>>,
    task: JoinHandle<()>,
}

impl GitServer {
    /// Serves the repositories beneath `root` on a free loopback port.
    ///
    /// # Panics
    /// If it cannot listen.
    pub async fn start(root: &Path, behaviour: GitBehaviour) -> Self {
        Self::begin(root, behaviour, None).await
    }

    /// The same over TLS.
    ///
    /// # Panics
    /// If it cannot listen.
    pub async fn start_tls(root: &Path, behaviour: GitBehaviour, tls: Arc<rustls::ServerConfig>) -> Self {
        Self::begin(root, behaviour, Some(TlsAcceptor::from(tls))).await
    }

    async fn begin(root: &Path, behaviour: GitBehaviour, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let address = listener.local_addr().expect("a bound listener");
        let requests = Arc::new(AtomicUsize::new(0));
        let behaviour = Arc::new(Mutex::new(behaviour));
        let (root, count, rule) = (root.to_owned(), Arc::clone(&requests), Arc::clone(&behaviour));
        let task = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (root, count, rule) = (root.clone(), Arc::clone(&count), Arc::clone(&rule));
                let tls = tls.clone();
                tokio::spawn(async move {
                    match tls {
                        None => serve(tcp, root, rule, count).await,
                        Some(tls) => {
                            if let Ok(tls) = tls.accept(tcp).await {
                                serve(tls, root, rule, count).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            address,
            requests,
            behaviour,
            task,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The plain URL of a repository.
    pub fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    /// How many requests it got.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Behaves otherwise from now on.
    pub async fn behave(&self, behaviour: GitBehaviour) {
        *self.behaviour.lock().await = behaviour;
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(root: &Path, rule: &GitBehaviour, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let plain = |status: u16| Response::builder().status(status);
    if let Some(origin) = &rule.redirect_to {
        let place = format!("{origin}{}", request.uri());
        return plain(302)
            .header("location", place)
            .body(Full::default())
            .expect("a valid answer");
    }
    if let Some(wanted) = &rule.authorization
        && request.headers().get("authorization").is_none_or(|sent| sent != wanted)
    {
        return plain(401)
            .header("www-authenticate", "Basic")
            .body(Full::default())
            .expect("a valid answer");
    }
    backend(root, rule, request).await
}

/// Runs `git http-backend` as CGI.
async fn backend(root: &Path, rule: &GitBehaviour, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let header = |name: &str| {
        head.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let mut command = Command::new("git");
    command
        .arg("http-backend")
        .env_clear()
        .envs(CLOSED)
        .env("HOME", root)
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", head.uri.path())
        .env("QUERY_STRING", head.uri.query().unwrap_or_default())
        .env("REQUEST_METHOD", head.method.as_str())
        .env("CONTENT_TYPE", header("content-type"))
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("REMOTE_ADDR", "127.0.0.1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    if !rule.old_protocol {
        command.env("GIT_PROTOCOL", header("git-protocol"));
    }
    let mut child = command.spawn().expect("the tests need the git program");
    let mut stdin = child.stdin.take().expect("a piped stream");
    let send = async move {
        // The backend may end without reading it all.
        let _ = stdin.write_all(&body).await;
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), send);
    from_cgi(&output.expect("the backend runs").stdout)
}

fn from_cgi(output: &[u8]) -> Response<Full<Bytes>> {
    let end = output
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap_or(output.len());
    let mut response = Response::builder();
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        match line.split_once(": ") {
            Some(("Status", status)) => response = response.status(status.split(' ').next().unwrap_or("500")),
            Some((name, value)) => response = response.header(name, value),
            None => {}
        }
    }
    let body = Bytes::copy_from_slice(output.get(end + 4..).unwrap_or_default());
    response.body(Full::new(body)).expect("a valid answer")
}
