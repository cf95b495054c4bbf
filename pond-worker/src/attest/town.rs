//! What stands in the closed world: listeners on every port that is tried, names and where they lead, and, for the controls,
//! a proxy without any care.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pond_core::outbound::Host;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixListener};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Where allowed names lead.
pub(crate) const GOOD: &str = "20.30.40.50";
/// Where all that is not allowed leads.
const EVIL: &str = "20.30.40.66";
/// Where the model provider is.
pub(crate) const MODEL: &str = "20.30.40.70";
/// Ports that something listens on, on every address.
const PORTS: [u16; 19] = [
    22, 25, 53, 80, 143, 443, 853, 1080, 2375, 3128, 5432, 6379, 6443, 8080, 8443, 9418, 21, 70, 8000,
];
/// The resolver that the worker asks.
pub(crate) const RESOLVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 53);
const PATIENCE: Duration = Duration::from_secs(3);

/// Names that the rules allow, and where they lead.
const NAMES: [(&str, &[&str]); 17] = [
    ("allowed.test", &[GOOD]),
    ("rebind.test", &[GOOD]),
    ("rebind-too.test", &[GOOD]),
    ("bad-private.test", &["10.0.0.5"]),
    ("bad-metadata.test", &["169.254.169.254"]),
    ("bad-loopback.test", &["127.0.0.1"]),
    ("bad-carrier.test", &["100.64.0.1"]),
    ("bad-unspecified.test", &["0.0.0.0"]),
    ("bad-mixed.test", &[GOOD, "169.254.169.254"]),
    ("bad-mixed-six.test", &[GOOD, "fd00:ec2::254"]),
    ("bad-six.test", &["fd00:ec2::254"]),
    ("bad-mapped.test", &["::ffff:10.0.0.5"]),
    ("bad-nat64.test", &["64:ff9b::a9fe:a9fe"]),
    ("bad-sixtofour.test", &["2002:a9fe:a9fe::"]),
    ("bad-link.test", &["fe80::1"]),
    ("bad-azure.test", &["168.63.129.16"]),
    ("model.test", &[MODEL]),
];

/// The host rules of the jobs here.
pub(crate) fn allowed() -> Vec<&'static str> {
    let names = NAMES.iter().map(|(name, _)| *name).filter(|name| *name != "model.test");
    names.chain([".wild.test"]).collect()
}

/// Says where names lead. Those that rebind lead elsewhere from the second question on.
#[derive(Default)]
struct Names(Mutex<HashMap<String, u32>>);

impl Names {
    fn lookup(&self, name: &str) -> Vec<IpAddr> {
        if name.starts_with("rebind") {
            let mut asked = self.0.lock().expect("no holder of this lock panics");
            let count = asked.entry(name.to_owned()).or_default();
            *count += 1;
            if *count > 1 {
                return vec![IpAddr::from([10, 0, 0, 5])];
            }
        }
        let known = NAMES.iter().find(|(own, _)| *own == name).map(|(_, ips)| *ips);
        let ips = match known {
            Some(ips) => ips,
            None if name.ends_with(".wild.test") => &[GOOD],
            None if name == "localhost" => &["127.0.0.1"],
            None => &[EVIL],
        };
        ips.iter().filter_map(|ip| ip.parse().ok()).collect()
    }
}

/// Everything that listens. Dropped, it is gone.
pub(crate) struct Town {
    names: Arc<Names>,
    /// What sockets of the host heard.
    heard: Arc<Mutex<String>>,
    _tasks: JoinSet<()>,
}

impl Town {
    /// Builds it up, with sockets of the host below `folder` and under an abstract name.
    pub(crate) async fn build(folder: &Path, abstract_name: &str) -> io::Result<Self> {
        let (names, heard, mut tasks) = (Arc::new(Names::default()), Arc::default(), JoinSet::new());
        for port in PORTS {
            tasks.spawn(listen(TcpListener::bind(("::", port)).await?));
        }
        let socket = UdpSocket::bind(RESOLVER).await?;
        tasks.spawn(answer(socket, Arc::clone(&names)));
        for name in ["docker.sock", "broker.sock", "proxy.sock"] {
            let path = folder.join(name);
            let listener = UnixListener::bind(&path)?;
            let open = std::os::unix::fs::PermissionsExt::from_mode(0o666);
            std::fs::set_permissions(&path, open)?;
            tasks.spawn(hear(listener, Arc::clone(&heard)));
        }
        let address = std::os::unix::net::SocketAddr::from_abstract_name(abstract_name)?;
        let listener = std::os::unix::net::UnixListener::bind_addr(&address)?;
        listener.set_nonblocking(true)?;
        tasks.spawn(hear(UnixListener::from_std(listener)?, Arc::clone(&heard)));
        Ok(Self {
            names,
            heard,
            _tasks: tasks,
        })
    }

    /// What sockets of the host heard so far.
    pub(crate) fn heard(&self) -> String {
        self.heard.lock().expect("no holder of this lock panics").clone()
    }

    /// Names lead where they led at first.
    pub(crate) fn forget(&self) {
        self.names.0.lock().expect("no holder of this lock panics").clear();
    }

    /// The proxy and the broker without care, until they are dropped.
    pub(crate) async fn careless(&self) -> io::Result<JoinSet<()>> {
        let mut tasks = JoinSet::new();
        for (port, model) in [(8788, false), (8787, true)] {
            let listener = TcpListener::bind(("127.0.0.1", port)).await?;
            let names = Arc::clone(&self.names);
            tasks.spawn(async move {
                let mut connections = JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    let names = Arc::clone(&names);
                    connections.spawn(async move { drop(carry(stream, model, &names).await) });
                }
            });
        }
        Ok(tasks)
    }
}

async fn hear(listener: UnixListener, heard: Arc<Mutex<String>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let heard = Arc::clone(&heard);
        tokio::spawn(async move {
            let mut said = Vec::new();
            let _ = timeout(PATIENCE, stream.take(4096).read_to_end(&mut said)).await;
            *heard.lock().expect("no holder of this lock panics") += &String::from_utf8_lossy(&said);
        });
    }
}

async fn listen(listener: TcpListener) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(async move { drop(timeout(Duration::from_secs(10), serve(stream)).await) });
        while connections.try_join_next().is_some() {}
    }
}

/// Answers what looks like HTTP, and listens to the rest.
async fn serve(mut stream: TcpStream) -> io::Result<()> {
    let (mut buffer, mut head) = (vec![0; 16384], Vec::new());
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        head.extend_from_slice(&buffer[..read]);
        if head.windows(4).any(|end| end == b"\r\n\r\n") {
            let answer = match String::from_utf8_lossy(&head) {
                head if head.contains("/redirect") => {
                    "HTTP/1.1 302 Found\r\nlocation: http://evil.test/\r\ncontent-length: 0\r\n\r\n"
                }
                head if head.contains("/upgrade") => {
                    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
                }
                _ => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            };
            stream.write_all(answer.as_bytes()).await?;
            head.clear();
        }
    }
}

/// Answers questions for addresses; nothing is to be kept by whoever asks.
async fn answer(socket: UdpSocket, names: Arc<Names>) {
    let mut packet = [0; 1500];
    while let Ok((read, from)) = socket.recv_from(&mut packet).await {
        if let Some(answer) = answer_to(&packet[..read], &names) {
            let _ = socket.send_to(&answer, from).await;
        }
    }
}

fn answer_to(question: &[u8], names: &Names) -> Option<Vec<u8>> {
    let (mut at, mut name) = (12, String::new());
    loop {
        let length = usize::from(*question.get(at)?);
        let label = question.get(at + 1..at + 1 + length)?;
        at += 1 + length;
        if length == 0 {
            break;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name += &String::from_utf8_lossy(label).to_ascii_lowercase();
    }
    let kind = u16::from_be_bytes([*question.get(at)?, *question.get(at + 1)?]);
    let wanted = |ip: &IpAddr| matches!((kind, ip), (1, IpAddr::V4(_)) | (28, IpAddr::V6(_)));
    // Both kinds are asked for at once, and count once.
    let found = if kind == 1 || !name.starts_with("rebind") {
        names.lookup(&name)
    } else {
        Vec::new()
    };
    let ips: Vec<IpAddr> = found.into_iter().filter(wanted).collect();
    let mut answer = question.get(..2)?.to_vec();
    answer.extend([0x85, 0x80, 0, 1, 0, u8::try_from(ips.len()).ok()?, 0, 0, 0, 0]);
    answer.extend(question.get(12..at + 4)?);
    for ip in ips {
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 0]);
        match ip {
            IpAddr::V4(ip) => answer.extend([&[0, 4][..], &ip.octets()].concat()),
            IpAddr::V6(ip) => answer.extend([&[0, 16][..], &ip.octets()].concat()),
        }
    }
    Some(answer)
}

/// Carries a connection wherever it is asked to, by the most careless reading of what asks for it.
async fn carry(mut stream: TcpStream, model: bool, names: &Names) -> io::Result<()> {
    let (mut head, mut buffer) = (Vec::new(), [0; 4096]);
    let ready = |head: &[u8]| matches!(head.first(), Some(4 | 5)) || head.windows(4).any(|end| end == b"\r\n\r\n");
    while !ready(&head) {
        match timeout(PATIENCE, stream.read(&mut buffer)).await {
            Ok(Ok(read @ 1..)) => head.extend_from_slice(&buffer[..read]),
            // What never ends is carried as it is.
            _ => break,
        }
    }
    let connect = head.starts_with(b"CONNECT ");
    let socks = matches!(head.first(), Some(4 | 5));
    let place = if model && !connect {
        (MODEL.to_owned(), 80)
    } else {
        asked(&head)
    };
    let mut out = TcpStream::connect(resolve(&place.0, place.1, names).await).await?;
    if socks {
        stream.write_all(&[5, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    } else if connect {
        stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
        let end = head
            .windows(4)
            .position(|end| end == b"\r\n\r\n")
            .map_or(head.len(), |at| at + 4);
        out.write_all(&head[end..]).await?;
    } else {
        out.write_all(&head).await?;
    }
    copy_bidirectional(&mut stream, &mut out).await.map(drop)
}

/// Host and port, as somebody would read them who looks for what an attacker means.
fn asked(head: &[u8]) -> (String, u16) {
    if matches!(head.first(), Some(4 | 5)) {
        let letters = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'.' || *byte == b'-';
        let host: Vec<u8> = head
            .iter()
            .copied()
            .skip_while(|byte| !byte.is_ascii_lowercase() || *byte == b'u')
            .collect();
        let host: String = host
            .iter()
            .take_while(|byte| letters(byte))
            .map(|byte| char::from(*byte))
            .collect();
        return (host, 443);
    }
    let text = String::from_utf8_lossy(head);
    let line = text.split_once(" HTTP/1").map_or(&*text, |(line, _)| line);
    let target = line.split_once(' ').map_or(line, |(_, target)| target);
    let (scheme, rest) = target.split_once("://").unwrap_or(("", target));
    let rest = match rest.starts_with('/') {
        true => text
            .split("Host: ")
            .nth(1)
            .and_then(|host| host.lines().next())
            .unwrap_or(rest),
        false => rest,
    };
    let usual = if scheme == "http" { 80 } else { 443 };
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    let cut = ['\0', '#', '/', '\\', '?', ' ', '\t', '%', ',', ';', '\r', '\u{fffd}'];
    let host = rest.split(cut).next().unwrap_or(rest);
    let port = rest
        .split('/')
        .next()
        .unwrap_or(rest)
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse().ok());
    let host = match (host.starts_with('['), host.rsplit_once(':')) {
        (true, _) => host.split_inclusive(']').next().unwrap_or(host),
        (false, Some((host, _))) => host,
        (false, None) => host,
    };
    (host.trim_end_matches('.').to_owned(), port.unwrap_or(usual))
}

async fn resolve(host: &str, port: u16, names: &Names) -> SocketAddr {
    let evil = || IpAddr::V4(EVIL.parse().expect("an address"));
    let ip = match Host::parse(host) {
        Ok(Host::Address(ip)) => ip,
        // A name with an address that leads inside is taken there.
        Ok(Host::Name(name)) => {
            ask(&name).await;
            names.lookup(&name).pop().unwrap_or_else(evil)
        }
        Err(_) => evil(),
    };
    SocketAddr::new(ip, port)
}

/// Puts a question for a name on the wire.
async fn ask(name: &str) {
    let mut packet = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        packet.push(label.len().min(63) as u8);
        packet.extend(label.bytes().take(63));
    }
    // Of a type that is not answered with an address, so that it changes nothing.
    packet.extend([0, 0, 16, 0, 1]);
    if let Ok(socket) = UdpSocket::bind("127.0.0.1:0").await {
        let _ = socket.send_to(&packet, RESOLVER).await;
    }
}
