//! New tunnels per second and bytes per second through the egress proxy, beside a bare splice that judges nothing and beside
//! proxies that run already.
//!
//! ```text
//! cargo bench -p pond-worker --bench egress -- [--seconds N] [--rival NAME=HOST:PORT]...
//! ```
//! All lead to one place on loopback, on a port that the rules name. Ours and the bare one listen on Unix sockets, as in a job; a
//! rival is asked by `CONNECT` over TCP and must allow that. CPU is this process's, place and clients with it, so only its
//! difference between ours and the bare one says something.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pond_core::clock::SystemClock;
use pond_core::egress::EgressPolicy;
use pond_core::entropy::SystemEntropy;
use pond_core::outbound::{AllowPrivate, HostPattern, Purpose};
use pond_worker::egress::{Parts, Proxy};
use pond_worker::net::{Dialer, DialerSettings};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc;

/// Clients that open tunnels one after the other.
const CLIENTS: usize = 32;
/// Tunnels that carry much.
const STREAMS: usize = 4;
const PIECE: usize = 64 << 10;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A way to the place.
#[derive(Clone)]
enum Way {
    Socket(PathBuf),
    Port(String),
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

impl Way {
    async fn open(&self, place: &str) -> Result<Box<dyn Io>, Failure> {
        let mut stream: Box<dyn Io> = match self {
            Self::Socket(path) => Box::new(UnixStream::connect(path).await?),
            Self::Port(address) => {
                let tcp = TcpStream::connect(address).await?;
                tcp.set_nodelay(true)?;
                Box::new(tcp)
            }
        };
        let request = format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        let mut byte = [0; 1024];
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte).await? {
                0 => return Err("the proxy closed".into()),
                read => head.extend_from_slice(&byte[..read]),
            }
        }
        match head.get(9..12) {
            Some(b"200") => Ok(stream),
            _ => Err(format!("refused: {}", String::from_utf8_lossy(&head)).into()),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    // `cargo bench` adds an argument of its own.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let (mut seconds, mut rivals) = (5, Vec::new());
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.next()) {
            ("--seconds", Some(value)) => seconds = value.parse()?,
            ("--rival", Some(value)) => {
                let (name, address) = value.split_once('=').ok_or("expected NAME=HOST:PORT")?;
                rivals.push((name.to_owned(), Way::Port(address.to_owned())));
            }
            _ => return Err("usage: egress [--seconds N] [--rival NAME=HOST:PORT]...".into()),
        }
    }
    let span = Duration::from_secs(seconds);
    let folder = tempfile::tempdir()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let place = listener.local_addr()?.to_string();
    tokio::spawn(serve(listener));
    let bare_path = folder.path().join("bare.sock");
    tokio::spawn(bare(UnixListener::bind(&bare_path)?, place.clone()));
    let own_path = folder.path().join("own.sock");
    let (_proxy, told) = own(&own_path, &place)?;
    let mut ways = vec![
        ("bare".to_owned(), Way::Socket(bare_path)),
        ("pond".to_owned(), Way::Socket(own_path)),
    ];
    ways.extend(rivals);
    println!(
        "{:<10} {:>12} {:>14} {:>10}",
        "proxy", "tunnels/s", "cpu µs/tunnel", "Gbit/s"
    );
    for (name, way) in &ways {
        let before = cpu()?;
        let opened = tunnels(way, &place, span).await?;
        let spent = (cpu()? - before).as_micros() as f64 / opened.max(1) as f64;
        let carried = carry(way, &place, span).await?;
        let (per_second, gigabits) = (
            opened as f64 / span.as_secs_f64(),
            carried as f64 * 8.0 / 1e9 / span.as_secs_f64(),
        );
        println!("{name:<10} {per_second:>12.0} {spent:>14.0} {gigabits:>10.2}");
    }
    println!("decisions told: {}", told.load(Ordering::Relaxed));
    Ok(())
}

/// Ours, with a rule for the place; the decisions are counted.
fn own(socket: &Path, place: &str) -> Result<(pond_worker::egress::ProxyHandle, Arc<AtomicU64>), Failure> {
    let dialer = Dialer::new(DialerSettings {
        allow: AllowPrivate::parse_for(Purpose::Egress, place)?,
        ..DialerSettings::default()
    })?;
    let policy = EgressPolicy::new([], &[HostPattern::parse(place)?], &[]);
    let parts = Parts {
        dialer,
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        intercept: None,
    };
    let (sender, mut decisions) = mpsc::channel(1024);
    let told = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&told);
    tokio::spawn(async move {
        while decisions.recv().await.is_some() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    Ok((Proxy::start(UnixListener::bind(socket)?, policy, parts, sender), told))
}

/// Takes whatever comes; answers the first of it, so that a tunnel is known to stand.
async fn serve(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut buffer = vec![0; PIECE];
            if matches!(stream.read(&mut buffer).await, Ok(1..)) && stream.write_all(b"!").await.is_ok() {
                while matches!(stream.read(&mut buffer).await, Ok(1..)) {}
            }
        });
    }
}

/// Answers each CONNECT with a connection to the place, whatever was asked for.
async fn bare(listener: UnixListener, place: String) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let place = place.clone();
        tokio::spawn(async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                if stream.read_buf(&mut head).await? == 0 {
                    return Ok((0, 0));
                }
            }
            let mut other = TcpStream::connect(place).await?;
            other.set_nodelay(true)?;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            tokio::io::copy_bidirectional_with_sizes(&mut stream, &mut other, PIECE, PIECE).await
        });
    }
}

/// How many tunnels are opened, used and closed in the time.
async fn tunnels(way: &Way, place: &str, span: Duration) -> Result<u64, Failure> {
    let until = Instant::now() + span;
    let clients = (0..CLIENTS).map(|_| {
        let (way, place) = (way.clone(), place.to_owned());
        tokio::spawn(async move {
            let mut opened = 0u64;
            while Instant::now() < until {
                let mut stream = way.open(&place).await?;
                stream.write_all(b"?").await?;
                stream.read_u8().await?;
                opened += 1;
            }
            Ok::<_, Failure>(opened)
        })
    });
    let mut opened = 0;
    for client in clients.collect::<Vec<_>>() {
        opened += client.await??;
    }
    Ok(opened)
}

/// How many bytes are written into tunnels in the time.
async fn carry(way: &Way, place: &str, span: Duration) -> Result<u64, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let mut stream = way.open(place).await?;
        let stop = Arc::clone(&stop);
        streams.push(tokio::spawn(async move {
            let (piece, mut carried) = (vec![b'x'; PIECE], 0u64);
            while !stop.load(Ordering::Relaxed) {
                stream.write_all(&piece).await?;
                carried += piece.len() as u64;
            }
            Ok::<_, Failure>(carried)
        }));
    }
    tokio::time::sleep(span).await;
    stop.store(true, Ordering::Relaxed);
    let mut carried = 0;
    for stream in streams {
        carried += stream.await??;
    }
    Ok(carried)
}

/// The CPU time of this process so far.
fn cpu() -> Result<Duration, Failure> {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF)?;
    let span = |time: nix::sys::time::TimeVal| {
        Duration::from_secs(u64::try_from(time.tv_sec()).unwrap_or(0))
            + Duration::from_micros(u64::try_from(time.tv_usec()).unwrap_or(0))
    };
    Ok(span(usage.user_time()) + span(usage.system_time()))
}
