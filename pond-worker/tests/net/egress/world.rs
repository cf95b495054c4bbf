//! Places that record every byte, and a proxy before them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pond_core::clock::Clock;
use pond_core::config::{EgressAction, EgressRule};
use pond_core::egress::{EgressDecision, EgressPolicy, Origin, Ruled};
use pond_core::outbound::{AllowPrivate, HostPattern, Purpose};
use pond_core::testing::{ManualClock, SeededEntropy};
use pond_worker::egress::{Intercept, Parts, Proxy, ProxyHandle};
use pond_worker::net::testing::ScriptedResolver;
use pond_worker::net::{Dialer, DialerSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// What a place does with its connections.
#[derive(Clone)]
pub(super) enum Manner {
    /// Sends back what comes.
    Echo,
    /// Answers each head with these bytes, and closes.
    Answer(String),
    /// Answers each head with these bytes, then sends back what comes.
    AnswerThenEcho(String),
    /// Sends this many bytes and closes once a byte has come.
    Pour(usize),
}

/// A listener that records what it hears.
pub(super) struct Place {
    pub(super) address: SocketAddr,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
    task: JoinHandle<()>,
}

impl Place {
    /// Listens on this port of a loopback address of its own.
    pub(super) async fn on(port: u16, manner: Manner) -> Self {
        let listener = listener(port).await;
        let address = listener.local_addr().expect("bound");
        let heard: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let record = Arc::clone(&heard);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = {
                    let mut heard = record.lock().expect("unpoisoned");
                    heard.push(Vec::new());
                    heard.len() - 1
                };
                tokio::spawn(serve(stream, manner.clone(), Arc::clone(&record), number));
            }
        });
        Self { address, heard, task }
    }

    pub(super) fn ip(&self) -> String {
        self.address.ip().to_string()
    }

    /// What came over each connection so far, as text. Connections are accepted in order, so this makes one itself and waits
    /// for it: none is missed.
    pub(super) async fn heard(&self) -> Vec<String> {
        const PROBE: &[u8] = b"\0probe\r\n\r\n";
        let mut own = TcpStream::connect(self.address).await.expect("it listens");
        own.write_all(PROBE).await.expect("it listens");
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let heard = self.heard.lock().expect("unpoisoned").clone();
            if heard.iter().any(|bytes| bytes == PROBE) {
                self.heard.lock().expect("unpoisoned").retain(|bytes| bytes != PROBE);
                let others = heard.iter().filter(|bytes| *bytes != PROBE);
                return others
                    .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
                    .collect();
            }
            assert!(tokio::time::Instant::now() < deadline, "the listener has gone");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A loopback address that no other test has taken, on this port.
async fn listener(port: u16) -> TcpListener {
    for _ in 0..100 {
        let mut bytes = [0u8; 3];
        pond_core::entropy::Entropy::fill(&pond_core::entropy::SystemEntropy, &mut bytes);
        let ip = IpAddr::V4(Ipv4Addr::new(127, 64 + bytes[0] % 64, bytes[1], bytes[2]));
        match TcpListener::bind((ip, port)).await {
            Ok(listener) => return listener,
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
            Err(error) => panic!("no listener on port {port} of {ip}: {error}"),
        }
    }
    panic!("no free loopback address");
}

async fn serve(mut stream: TcpStream, manner: Manner, record: Arc<Mutex<Vec<Vec<u8>>>>, number: usize) {
    let mut buffer = vec![0; 65536];
    let mut answered = false;
    let mut all = Vec::new();
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        all.extend_from_slice(&buffer[..read]);
        if let Some(heard) = record.lock().expect("unpoisoned").get_mut(number) {
            heard.extend_from_slice(&buffer[..read]);
        }
        let ended = all.windows(4).any(|end| end == b"\r\n\r\n");
        let said = match &manner {
            Manner::Echo => stream.write_all(&buffer[..read]).await,
            Manner::AnswerThenEcho(_) if answered => stream.write_all(&buffer[..read]).await,
            Manner::Answer(answer) | Manner::AnswerThenEcho(answer) if ended && !answered => {
                answered = true;
                stream.write_all(answer.as_bytes()).await
            }
            Manner::Answer(_) | Manner::AnswerThenEcho(_) => Ok(()),
            Manner::Pour(bytes) => {
                let _ = stream.write_all(&vec![b'x'; *bytes]).await;
                return;
            }
        };
        if said.is_err() || (answered && matches!(manner, Manner::Answer(_))) {
            return;
        }
    }
}

/// An answer with its length.
pub(super) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// A rule of the org.
pub(super) fn rule(action: EgressAction, host: &str, upgrade: bool) -> Ruled {
    let rule = EgressRule {
        host: pattern(host),
        action,
        upgrade,
    };
    Ruled {
        rule,
        from: Origin::Org,
    }
}

pub(super) fn allow(host: &str) -> Ruled {
    rule(EgressAction::Allow, host, false)
}

pub(super) fn deny(host: &str) -> Ruled {
    rule(EgressAction::Deny, host, false)
}

fn pattern(host: &str) -> HostPattern {
    HostPattern::parse(host).expect("a host rule")
}

/// What a proxy goes by.
#[derive(Default)]
pub(super) struct Setting<'s> {
    pub(super) rules: Vec<Ruled>,
    pub(super) allow_hosts: &'s [&'s str],
    pub(super) defaults: &'s [&'s str],
    /// Names and where they lead.
    pub(super) names: Vec<(String, String)>,
    /// What of the private network may be dialled.
    pub(super) private: String,
    pub(super) intercept: Option<Arc<dyn Intercept>>,
    /// Room for decisions; 0 is enough for all.
    pub(super) queue: usize,
    pub(super) clock: Option<Arc<ManualClock>>,
}

impl<'s> Setting<'s> {
    /// Hosts of a stage, each leading to this place, which may be dialled by those names on its port.
    pub(super) fn hosts(hosts: &'s [&'s str], place: &Place) -> Self {
        let mut setting = Self {
            allow_hosts: hosts,
            ..Self::default()
        };
        for host in hosts {
            setting.lead(host.split(':').next().expect("a name"), place);
        }
        setting
    }

    /// Lets a name lead to a place, and be dialled there.
    pub(super) fn lead(&mut self, name: &str, place: &Place) {
        self.names.push((name.to_owned(), place.ip()));
        let comma = if self.private.is_empty() { "" } else { "," };
        self.private += &format!("{comma}{name}:{}", place.address.port());
    }
}

pub(super) struct World {
    pub(super) socket: PathBuf,
    pub(super) proxy: Option<ProxyHandle>,
    pub(super) decisions: mpsc::Receiver<EgressDecision>,
    pub(super) resolver: Arc<ScriptedResolver>,
    _folder: tempfile::TempDir,
}

impl World {
    pub(super) fn start(setting: Setting<'_>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("e.sock");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let mut resolver = ScriptedResolver::new();
        for (name, ips) in &setting.names {
            resolver = resolver.answer(name, &ips.split(' ').collect::<Vec<_>>());
        }
        let resolver = Arc::new(resolver);
        let settings = DialerSettings {
            allow: AllowPrivate::parse_for(Purpose::Egress, &setting.private).expect("exceptions"),
            ..DialerSettings::default()
        };
        let patterns = |hosts: &[&str]| hosts.iter().map(|host| pattern(host)).collect::<Vec<_>>();
        let policy = EgressPolicy::new(
            setting.rules,
            &patterns(setting.allow_hosts),
            &patterns(setting.defaults),
        );
        let clock: Arc<dyn Clock> = match setting.clock {
            Some(clock) => clock,
            None => Arc::new(pond_core::clock::SystemClock),
        };
        let parts = Parts {
            dialer: Dialer::with_resolver(settings, Arc::clone(&resolver) as _).expect("a dialer"),
            clock,
            entropy: Arc::new(SeededEntropy::new(1)),
            intercept: setting.intercept,
        };
        let (sender, decisions) = mpsc::channel(if setting.queue == 0 { 4096 } else { setting.queue });
        let proxy = Proxy::start(listener, policy, parts, sender);
        Self {
            socket,
            proxy: Some(proxy),
            decisions,
            resolver,
            _folder: folder,
        }
    }

    pub(super) async fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.socket).await.expect("the proxy listens")
    }

    /// Sends raw bytes and reads until the proxy closes.
    pub(super) async fn raw(&self, request: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        // A refusal may come, and the connection close, before all is sent.
        let _ = stream.write_all(request.as_ref()).await;
        read_to_end(&mut stream).await
    }

    /// Asks for a tunnel; the head of the answer.
    pub(super) async fn tunnel(&self, target: &str) -> (UnixStream, String) {
        let mut stream = self.connect().await;
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        let _ = stream.write_all(request.as_bytes()).await;
        let head = head(&mut stream).await;
        (stream, head)
    }

    /// The status that a tunnel is answered with, and the rest of that answer when it is refused.
    pub(super) async fn asked(&self, target: &str) -> (u16, String) {
        let (mut stream, head) = self.tunnel(target).await;
        let status = status(&head);
        match status {
            200 => (status, String::new()),
            _ => (status, read_to_end(&mut stream).await),
        }
    }

    pub(super) async fn decision(&mut self) -> EgressDecision {
        tokio::time::timeout(PATIENCE, self.decisions.recv())
            .await
            .expect("in time")
            .expect("the proxy runs")
    }

    /// Ends the proxy; the decisions that are left.
    pub(super) async fn close(mut self) -> Vec<EgressDecision> {
        self.proxy.take().expect("running").close().await;
        let mut left = Vec::new();
        while let Some(decision) = self.decisions.recv().await {
            left.push(decision);
        }
        left
    }
}

/// All that comes until the end, or until the connection breaks.
pub(super) async fn read_to_end(stream: &mut UnixStream) -> String {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    let _ = read.expect("in time");
    String::from_utf8_lossy(&answer).into_owned()
}

/// The head of an answer, byte by byte so that nothing after it is taken.
pub(super) async fn head(stream: &mut UnixStream) -> String {
    let mut head = Vec::new();
    let read = async {
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("in time");
    String::from_utf8_lossy(&head).into_owned()
}

/// The status of an answer; 0 when there is none.
pub(super) fn status(answer: &str) -> u16 {
    let word = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    word.and_then(|word| word.parse().ok()).unwrap_or(0)
}
