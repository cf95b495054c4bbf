//! Programs that people use, in a real sandbox: they trust the bundle that is laid there, and their requests carry the value.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pond_core::egress::EgressPolicy;
use pond_core::sandbox::{
    Access, BackendKind, Bridge, Exec, Exit, HomeFile, Limits, Mount, Output, Profile, Running, Spec,
};
use pond_core::secret::Secret;
use pond_worker::egress::{Trust, on_the_host};
use pond_worker::sandbox::{BackendSettings, Host, HostSettings, open};

use super::far::{Authority, BOTH, Far};
use super::world::{Job, NAMES, hosts};

const UIDS: RangeInclusive<u32> = 200_000..=265_535;
const PORT: u16 = 8788;
const VALUE: &str = "the-value-of-A";

/// A job in its sandbox.
struct World {
    far: Far,
    job: Job,
    env: Vec<(String, String)>,
    running: Box<dyn Running>,
    host: Arc<Host>,
    _folder: tempfile::TempDir,
}

impl World {
    async fn start(files: &[(&str, &str)]) -> Self {
        let authority = Authority::new();
        let far = Far::start(&authority, &NAMES, &BOTH).await;
        let allowed = [format!("x.test:{}", far.port()), format!("other.test:{}", far.port())];
        let policy = EgressPolicy::new([], &hosts(&allowed), &[]);
        let secrets = [("A", VALUE, allowed[..1].to_vec(), &["header"][..])];
        // As a job's is, whose hosts do not change: what is written there must be understood by all of the tools.
        let named = hosts(&[allowed[0].clone(), "*.below.test".into()]);
        let job = Job::with_named(&authority, &[far.port()], policy, &secrets, &named);
        let folder = tempfile::tempdir().unwrap();
        let laid = folder.path().join("trust");
        std::fs::create_dir(&laid).unwrap();
        let laid = Trust::new(&job.ca, job.dialer.extra_ca())
            .lay(&laid, on_the_host)
            .unwrap();
        let host = Host::open(HostSettings {
            state: folder.path().join("state"),
            uid_range: nix::unistd::geteuid().is_root().then_some(UIDS),
            means: None,
        })
        .unwrap();
        let sandbox = open(BackendKind::Bubblewrap, &host, &BackendSettings::default());
        let running = sandbox.start(spec(&job, folder.path(), laid.mounts, files, &far));
        let running = running
            .await
            .expect("bubblewrap works on this host: tests/run installs it");
        let proxy = format!("http://127.0.0.1:{PORT}");
        let named = [
            ("HTTPS_PROXY".to_owned(), proxy.clone()),
            ("https_proxy".to_owned(), proxy),
            ("A".to_owned(), job.token("A")),
            ("X".to_owned(), format!("https://x.test:{}", far.port())),
            ("OTHER".to_owned(), format!("https://other.test:{}", far.port())),
        ];
        Self {
            env: laid.env.into_iter().chain(named).collect(),
            far,
            job,
            running,
            host,
            _folder: folder,
        }
    }

    /// What a shell command says, and how it ends.
    async fn sh(&self, command: &str) -> (String, Exit) {
        let exec = Exec {
            argv: ["sh", "-c", command].map(str::to_owned).to_vec(),
            env: self
                .env
                .iter()
                .map(|(name, value)| (name.clone(), Secret::new(value)))
                .collect(),
            ..Exec::default()
        };
        let mut process = self.running.exec(exec).await.expect("runs");
        let mut said = Vec::new();
        loop {
            match process.output.recv().await.expect("an end") {
                Output::Bytes(_, bytes) => said.extend_from_slice(&bytes),
                Output::Exited(exit) => return (String::from_utf8_lossy(&said).into_owned(), exit),
            }
        }
    }

    async fn end(self) {
        self.running.kill().await.unwrap();
        self.host.close().unwrap();
    }
}

fn spec(job: &Job, folder: &Path, trust: Vec<Mount>, files: &[(&str, &str)], far: &Far) -> Spec {
    let work = folder.join("work");
    std::fs::create_dir(&work).unwrap();
    let work = Mount {
        host: work,
        inside: "/work".into(),
        access: Access::Write,
    };
    let file = |(path, content): &(&str, &str)| HomeFile {
        path: PathBuf::from(path),
        content: Secret::new(content.replace("PORT", &far.port().to_string())),
    };
    Spec {
        name: "sealed".into(),
        profile: Profile::UntrustedCodeWrite,
        mounts: [work].into_iter().chain(trust).collect(),
        home: files.iter().map(file).collect(),
        bridges: vec![Bridge {
            port: PORT,
            socket: job.socket.clone(),
        }],
        limits: Limits {
            memory: 2 << 30,
            tmpfs: 256 << 20,
            ..Limits::default()
        },
        image: None,
    }
}

fn basic(user: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{VALUE}")))
}

#[tokio::test]
async fn agents_21_22_curl_sends_the_token_and_the_host_gets_the_value() {
    let world = World::start(&[]).await;
    for version in ["--http1.1", "--http2"] {
        let command = format!("curl -sS {version} -H \"Authorization: Bearer $A\" -d \"$A\" $X/echo");
        let (said, exit) = world.sh(&command).await;
        assert_eq!(exit, Exit::Code(0), "{said}");
        assert_eq!(
            world.far.last().header("authorization"),
            Some(&*format!("Bearer {VALUE}"))
        );
        assert_eq!(world.far.last().body, world.job.token("A"));
        assert!(
            said.contains(&format!("authorization: Bearer {}", world.job.token("A"))),
            "{said}"
        );
        assert!(!said.contains(VALUE));
    }
    // By the system's own bundle, without a word of the environment.
    let (said, exit) = world
        .sh("unset SSL_CERT_FILE CURL_CA_BUNDLE; curl -sS -H \"Authorization: Bearer $A\" $X/echo")
        .await;
    let covered = on_the_host(Path::new("/etc/ssl/certs/ca-certificates.crt"));
    assert_eq!(exit == Exit::Code(0), covered, "{said}");
    // Another host's TLS is its own: the certificate is the far side's, which the operator trusts, and so does the sandbox.
    let (said, exit) = world.sh("curl -sSv -H \"Authorization: Bearer $A\" $OTHER/echo").await;
    assert_eq!(exit, Exit::Code(0), "{said}");
    assert!(said.contains("the far side's authority"), "{said}");
    assert_eq!(
        world.far.last().header("authorization"),
        Some(&*format!("Bearer {}", world.job.token("A")))
    );
    world.end().await;
}

#[tokio::test]
async fn agents_52_git_sends_basic_credentials_made_of_the_token() {
    let world = World::start(&[]).await;
    let (said, exit) = world.sh("git ls-remote https://user:$A@${X#https://}/git").await;
    assert_eq!(exit, Exit::Code(0), "{said}");
    assert!(said.contains("refs/heads/main"), "{said}");
    assert_eq!(world.far.last().header("authorization"), Some(&*basic("user")));
    world.end().await;
}

#[tokio::test]
async fn agents_52_python_and_pip_send_the_value() {
    let world = World::start(&[]).await;
    let program = "import os, urllib.request as u\n\
        r = u.Request(os.environ['X'] + '/echo', headers={'X-Api-Key': os.environ['A']})\n\
        print(u.urlopen(r).read().decode())";
    let (said, exit) = world.sh(&format!("python3 -c \"{program}\"")).await;
    assert_eq!(exit, Exit::Code(0), "{said}");
    assert_eq!(world.far.last().header("x-api-key"), Some(VALUE));
    assert!(said.contains(&world.job.token("A")), "{said}");

    let pip = "python3 -m venv $HOME/v && $HOME/v/bin/pip --disable-pip-version-check download --no-deps \
        --index-url https://user:$A@${X#https://}/simple thing";
    let (said, _) = world.sh(pip).await;
    let asked = world
        .far
        .seen()
        .into_iter()
        .find(|seen| seen.target.contains("/simple/thing"));
    let asked = asked.unwrap_or_else(|| panic!("pip asks: {said}"));
    assert_eq!(asked.header("authorization"), Some(&*basic("user")), "{said}");
    world.end().await;
}

#[tokio::test]
async fn agents_52_node_and_npm_send_the_value() {
    let npmrc =
        "//x.test:PORT/:_authToken=${A}\nregistry=https://x.test:PORT/\nfetch-retries=0\nupdate-notifier=false\n";
    let mut world = World::start(&[(".npmrc", npmrc)]).await;
    let program = "const [host, port] = process.env.X.slice(8).split(':');\
        require('http').request({host: '127.0.0.1', port: PORT, method: 'CONNECT', path: host + ':' + port, headers: {host: host + ':' + port}})\
        .on('connect', (_, socket) => require('https').get({socket, servername: host, host, port, agent: false, path: '/echo',\
        headers: {'x-api-key': process.env.A}}, answer => answer.pipe(process.stdout))).end();";
    let program = program.replace("PORT", &PORT.to_string());
    let (said, exit) = world.sh(&format!("node -e \"{program}\"")).await;
    let said = said + &world.job.refused().await;
    assert_eq!(exit, Exit::Code(0), "{said}");
    assert_eq!(world.far.last().header("x-api-key"), Some(VALUE), "{said}");
    assert!(said.contains(&world.job.token("A")), "{said}");

    let (said, exit) = world.sh("npm view thing version").await;
    assert_eq!((said.trim(), exit), ("1.0.0", Exit::Code(0)));
    assert_eq!(
        world.far.last().header("authorization"),
        Some(&*format!("Bearer {VALUE}"))
    );
    world.end().await;
}
