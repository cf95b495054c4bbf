//! Acts on the network. What they say of themselves is not believed; the marks that they send are looked for.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::{Outcome, sys, told};

const PATIENCE: Duration = Duration::from_secs(2);
/// How long an answer may take that a next step waits for.
const ANSWER: Duration = Duration::from_millis(2500);
/// How long an answer may take that nothing waits for: what was sent must have arrived.
const LAST: Duration = Duration::from_millis(500);
/// How long is waited for more of an answer.
const MORE: Duration = Duration::from_millis(150);

fn bad<E>(_: E) -> io::Error {
    io::Error::from(io::ErrorKind::InvalidInput)
}

fn place(text: &str) -> io::Result<SocketAddr> {
    text.parse().map_err(bad)
}

fn number(text: &str) -> io::Result<i32> {
    text.parse().map_err(bad)
}

/// An address as the kernel reads it.
fn raw_address(at: SocketAddr) -> Vec<u8> {
    match at {
        SocketAddr::V4(at) => {
            let mut raw = 2u16.to_ne_bytes().to_vec();
            raw.extend(at.port().to_be_bytes());
            raw.extend(at.ip().octets());
            raw.extend([0; 8]);
            raw
        }
        SocketAddr::V6(at) => {
            let mut raw = 10u16.to_ne_bytes().to_vec();
            raw.extend(at.port().to_be_bytes());
            raw.extend([0; 4]);
            raw.extend(at.ip().octets());
            raw.extend(at.scope_id().to_ne_bytes());
            raw
        }
    }
}

pub(crate) fn tcp(to: &str, mark: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&place(to)?, PATIENCE)?;
    stream.write_all(format!("GET /{mark} HTTP/1.0\r\n\r\n").as_bytes())?;
    linger(stream)
}

/// Lets what was written arrive before the end.
fn linger(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(MORE))?;
    let _ = stream.read(&mut [0; 512]);
    Ok(())
}

/// Data beside the very first packet.
pub(crate) fn fast_open(to: &str, mark: &str) -> io::Result<()> {
    let to = place(to)?;
    let fd = sys::socket(if to.is_ipv4() { 2 } else { 10 }, 1, 0)?;
    sys::send_to(fd.as_raw_fd(), mark.as_bytes(), 0x2000_0000, &raw_address(to))?;
    linger(TcpStream::from(fd))
}

/// A stream of another transport: SCTP 132, MPTCP 262.
pub(crate) fn tcp_of(protocol: &str, to: &str, mark: &str) -> io::Result<()> {
    let to = place(to)?;
    let fd = sys::socket(if to.is_ipv4() { 2 } else { 10 }, 1, number(protocol)?)?;
    sys::connect(fd.as_raw_fd(), &raw_address(to))?;
    let mut stream = TcpStream::from(fd);
    stream.write_all(mark.as_bytes())?;
    linger(stream)
}

pub(crate) fn udp(to: &str, mark: &str) -> io::Result<()> {
    let to = place(to)?;
    udp_from(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }, &to.to_string(), mark)
}

pub(crate) fn udp_from(from: &str, to: &str, mark: &str) -> io::Result<()> {
    let (socket, to) = (UdpSocket::bind(from)?, place(to)?);
    socket.set_broadcast(true)?;
    if to.ip().is_multicast() && to.is_ipv4() {
        sys::set_option(socket.as_raw_fd(), 0, 32, &[127, 0, 0, 1])?;
    }
    if to.ip().is_multicast() && to.is_ipv6() {
        sys::set_option(socket.as_raw_fd(), 41, 17, &sys::index_of("lo").to_ne_bytes())?;
    }
    socket.send_to(mark.as_bytes(), to).map(drop)
}

pub(crate) fn udplite(to: &str, mark: &str) -> io::Result<()> {
    let to = place(to)?;
    let fd = sys::socket(if to.is_ipv4() { 2 } else { 10 }, 2, 136)?;
    sys::send_to(fd.as_raw_fd(), mark.as_bytes(), 0, &raw_address(to)).map(drop)
}

/// The head of a QUIC Initial packet of version 1, then the mark.
pub(crate) fn quic(to: &str, mark: &str) -> io::Result<()> {
    let to = place(to)?;
    let mut packet = vec![0xc3, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0];
    packet.extend(mark.as_bytes());
    packet.resize(1200, 0);
    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect(to)?;
    socket.send(&packet).map(drop)
}

fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut packet = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        packet.push(label.len().min(63) as u8);
        packet.extend(label.bytes().take(63));
    }
    packet.push(0);
    packet.extend(kind.to_be_bytes());
    packet.extend([0, 1]);
    packet
}

pub(crate) fn dns(server: &str, name: &str, kind: &str) -> io::Result<()> {
    let socket = UdpSocket::bind(if place(server)?.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.send_to(&question(name, kind.parse().map_err(bad)?), place(server)?).map(drop)
}

pub(crate) fn dns_tcp(server: &str, name: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&place(server)?, PATIENCE)?;
    let question = question(name, 1);
    let mut framed = (question.len() as u16).to_be_bytes().to_vec();
    framed.extend(question);
    stream.write_all(&framed)?;
    linger(stream)
}

/// Asks whoever the sandbox is set up to ask, and the usual stub resolvers of a host.
pub(crate) fn dns_configured(name: &str) -> Outcome {
    let set_up = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let named = set_up.lines().filter_map(|line| line.strip_prefix("nameserver ")?.trim().parse::<IpAddr>().ok());
    let usual = [[127, 0, 0, 53], [127, 0, 0, 11], [127, 0, 0, 1]].map(|ip| IpAddr::from(Ipv4Addr::from(ip)));
    let servers: Vec<SocketAddr> = named.chain(usual).map(|ip| SocketAddr::new(ip, 53)).collect();
    let asked = servers.iter().filter(|server| dns(&server.to_string(), name, "1").is_ok()).count();
    Outcome::Held(format!("asked {asked} of {}", servers.len()))
}

#[derive(Clone, Copy)]
pub(crate) enum Icmp {
    Raw,
    Datagram,
}

pub(crate) fn icmp(to: &str, mark: &str, how: Icmp) -> io::Result<()> {
    let to = SocketAddr::new(to.parse().map_err(bad)?, 0);
    let (family, protocol, echo) = if to.is_ipv4() { (2, 1, 8) } else { (10, 58, 128) };
    let fd = sys::socket(family, if matches!(how, Icmp::Raw) { 3 } else { 2 }, protocol)?;
    let mut packet = vec![echo, 0, 0, 0, 0, 1, 0, 1];
    packet.extend(mark.as_bytes());
    packet.resize(packet.len().next_multiple_of(2), 0);
    let sum: u32 = packet.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    packet[2..4].copy_from_slice(&sum.to_be_bytes());
    sys::send_to(fd.as_raw_fd(), &packet, 0, &raw_address(to)).map(drop)
}

/// A packet of any protocol number.
pub(crate) fn raw(to: &str, protocol: &str, mark: &str) -> io::Result<()> {
    let to = SocketAddr::new(to.parse().map_err(bad)?, 0);
    let fd = sys::socket(if to.is_ipv4() { 2 } else { 10 }, 3, number(protocol)?)?;
    sys::send_to(fd.as_raw_fd(), mark.as_bytes(), 0, &raw_address(to)).map(drop)
}

/// An Ethernet frame out of every interface.
pub(crate) fn frame(mark: &str) -> io::Result<()> {
    let fd = sys::socket(17, 3, 0x0300)?;
    let mut frame = vec![0xff; 12];
    frame.extend([0x88, 0xb5]);
    frame.extend(mark.as_bytes());
    frame.resize(64, 0);
    let mut to = 17u16.to_ne_bytes().to_vec();
    to.extend(0x88b5u16.to_be_bytes());
    to.extend(sys::index_of("lo").to_ne_bytes());
    to.extend([0, 0, 0, 6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);
    sys::send_to(fd.as_raw_fd(), &frame, 0, &to).map(drop)
}

pub(crate) fn socket(family: &str, kind: &str, protocol: &str) -> io::Result<()> {
    sys::socket(number(family)?, number(kind)?, number(protocol)?).map(drop)
}

/// Through another process of the sandbox, which dials for this one.
pub(crate) fn relay(to: &str, mark: &str) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let at = listener.local_addr()?;
    if sys::fork()? == 0 {
        sys::setsid();
        let passed = listener.accept().and_then(|(mut inside, _)| {
            let mut out = TcpStream::connect_timeout(&place(to)?, PATIENCE)?;
            io::copy(&mut inside, &mut out)?;
            linger(out)
        });
        std::process::exit(i32::from(passed.is_err()));
    }
    drop(listener);
    let mut stream = TcpStream::connect(at)?;
    stream.write_all(mark.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let _ = stream.read(&mut [0; 16]);
    Ok(())
}

/// Gives `lo` another address.
pub(crate) fn add_address(address: &str) -> io::Result<()> {
    let ip: Ipv4Addr = address.parse().map_err(bad)?;
    let fd = sys::socket(2, 2, 0)?;
    let mut request = [0u8; 64];
    request[..4].copy_from_slice(b"lo:9");
    request[16..18].copy_from_slice(&2u16.to_ne_bytes());
    request[20..24].copy_from_slice(&ip.octets());
    sys::ioctl(fd.as_raw_fd(), 0x8916, &mut request).map(drop)
}

/// A route for everything, by netlink.
pub(crate) fn add_route() -> io::Result<()> {
    crate::world::route(2)
}

pub(crate) fn unix(path: &str, mark: &str) -> io::Result<()> {
    let mut stream = UnixStream::connect(path)?;
    stream.write_all(format!("GET /{mark} HTTP/1.0\r\n\r\n").as_bytes())
}

fn abstractly(name: &str) -> io::Result<UnixStream> {
    UnixStream::connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?)
}

pub(crate) fn abstract_name(name: &str, mark: &str) -> io::Result<()> {
    abstractly(name)?.write_all(mark.as_bytes())
}

/// Reads what somebody else's listener says.
pub(crate) fn talk(to: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&place(to)?, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}

pub(crate) fn talk_abstract(name: &str) -> io::Result<String> {
    let mut stream = abstractly(name)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}

/// Sends literal bytes to a loopback port, part by part, each after some answer to the one before. `@hello NAME MARK` is a
/// ClientHello, `@many N TEXT` a text many times.
pub(crate) fn say(port: &str, parts: &[&[u8]]) -> Outcome {
    match converse(port, parts) {
        Ok(heard) => {
            let heard = String::from_utf8_lossy(&heard).into_owned();
            if heard.starts_with("HTTP/1.1 2") { Outcome::Out(heard) } else { Outcome::Held(heard) }
        }
        Err(error) => Outcome::Held(told(&error)),
    }
}

/// One connection after the other: the first part alone, then the rest.
pub(crate) fn again(port: &str, parts: &[&[u8]]) -> Outcome {
    let _ = converse(port, &parts[..1]);
    say(port, &parts[1..])
}

fn converse(port: &str, parts: &[&[u8]]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&place(&format!("127.0.0.1:{port}"))?, PATIENCE)?;
    let mut heard = Vec::new();
    for (place, part) in parts.iter().enumerate() {
        if stream.write_all(&spelt(part)).is_err() {
            break;
        }
        let patience = if place + 1 == parts.len() { LAST } else { ANSWER };
        if !listen(&mut stream, &mut heard, patience)? {
            return Ok(heard);
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
    listen(&mut stream, &mut heard, MORE)?;
    Ok(heard)
}

/// Reads until there is no more for a moment; false at the end.
fn listen(stream: &mut TcpStream, heard: &mut Vec<u8>, first: Duration) -> io::Result<bool> {
    let mut buffer = [0; 4096];
    let mut wait = first;
    loop {
        stream.set_read_timeout(Some(wait))?;
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(read) => heard.extend(&buffer[..read]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => return Ok(true),
            Err(_) => return Ok(false),
        }
        wait = Duration::from_millis(15);
        if heard.len() > 65536 {
            return Ok(true);
        }
    }
}

fn spelt(part: &[u8]) -> Vec<u8> {
    let Some(text) = std::str::from_utf8(part).ok().and_then(|text| text.strip_prefix('@')) else {
        return part.to_vec();
    };
    let words: Vec<&str> = text.split(' ').collect();
    match words[..] {
        ["hello", mark] => hello(None, mark),
        ["hello", name, mark] => hello(Some(name), mark),
        ["hello-twice", first, second, mark] => [hello(Some(first), mark), hello(Some(second), mark)].concat(),
        ["sslv2", mark] => [&[0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10][..], mark.as_bytes()].concat(),
        ["many", count, word] => word.repeat(count.parse().unwrap_or(1)).into_bytes(),
        _ => part.to_vec(),
    }
}

/// A ClientHello of TLS 1.2 and 1.3 that carries the mark as a protocol name.
fn hello(name: Option<&str>, mark: &str) -> Vec<u8> {
    let sized = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    let extension = |number: u16, body: &[u8]| [&number.to_be_bytes()[..], &sized(body)].concat();
    let mut extensions = Vec::new();
    if let Some(name) = name {
        let entry = [&[0][..], &sized(name.as_bytes())].concat();
        extensions.extend(extension(0, &sized(&entry)));
    }
    let protocol = [&[mark.len() as u8][..], mark.as_bytes()].concat();
    extensions.extend(extension(16, &sized(&protocol)));
    extensions.extend(extension(10, &sized(&[0, 29, 0, 23])));
    extensions.extend(extension(13, &sized(&[4, 3, 8, 4, 4, 1])));
    extensions.extend(extension(43, &[2, 3, 4]));
    extensions.extend(extension(51, &sized(&[&[0, 29, 0, 32][..], &[9; 32]].concat())));
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend(sized(&[0x13, 1, 0x13, 2, 0xc0, 0x2f]));
    body.extend([1, 0]);
    body.extend(sized(&extensions));
    let length = (body.len() as u32).to_be_bytes();
    let message = [&[1][..], &length[1..], &body].concat();
    [&[22, 3, 1][..], &sized(&message)].concat()
}

/// Asks the proxy for a URL and follows where its answer sends it, as a client would.
pub(crate) fn redirect(first: &str, mark: &str) -> Outcome {
    let ask = |url: &str| {
        let host = url.split('/').nth(2).unwrap_or_default();
        let request = format!("GET {url} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        converse("8788", &[request.as_bytes()]).unwrap_or_default()
    };
    let answer = String::from_utf8_lossy(&ask(first)).into_owned();
    let to = answer.lines().find_map(|line| line.strip_prefix("location: ").or_else(|| line.strip_prefix("Location: ")));
    let Some(to) = to else { return Outcome::Held(format!("no redirect: {answer}")) };
    Outcome::Held(String::from_utf8_lossy(&ask(&format!("{to}{mark}"))).into_owned())
}

/// Tunnels to ever new names below a suffix, each of which carries data in its label.
pub(crate) fn names(count: &str, suffix: &str, mark: &str) -> Outcome {
    for name in 0..count.parse().unwrap_or(0) {
        let host = format!("{mark}-{name}.{suffix}:443");
        let request = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let answered = TcpStream::connect(("127.0.0.1", 8788)).and_then(|mut stream| {
            stream.write_all(request.as_bytes())?;
            stream.set_read_timeout(Some(ANSWER))?;
            stream.read(&mut [0; 64])
        });
        if answered.is_err() {
            return Outcome::Held(format!("no answer to name {name}"));
        }
    }
    Outcome::Held("asked for all".into())
}

/// SOCKS at the proxy's port.
pub(crate) fn socks(version: &str, raw: &[u8], host: &str, mark: &str) -> Outcome {
    let target: Vec<u8> = match version {
        "4" => [&[4, 1, 1, 187, 20, 30, 40, 66][..], b"u\0"].concat(),
        "4a" => [&[4, 1, 1, 187, 0, 0, 0, 1][..], b"u\0", raw, b"\0"].concat(),
        _ => [&[5, 1, 0][..], &[5, 1, 0, 3, host.len() as u8], raw, &[1, 187]].concat(),
    };
    say("8788", &[&target, mark.as_bytes()])
}
