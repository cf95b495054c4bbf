//! What a tunnel must begin with, and what passes then.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pond_core::egress::Verdict;
use pond_core::outbound::Host;
use pond_worker::egress::{Intercept, Tunnel};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::world::{Manner, Place, Setting, World, allow, read_to_end, status};

/// The record of a ClientHello for this name or address.
fn hello(name: &str) -> Vec<u8> {
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut connection = ClientConnection::new(Arc::new(config), name).expect("a connection");
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).expect("in memory");
    bytes
}

/// The same with one extension more.
fn with_extension(mut record: Vec<u8>, kind: u16, body: &[u8]) -> Vec<u8> {
    // Record head, handshake head, version, random; then the session id, the suites and the compressions, each after its length.
    let mut at = 5 + 4 + 2 + 32;
    at += 1 + usize::from(record[at]);
    at += 2 + usize::from(u16::from_be_bytes([record[at], record[at + 1]]));
    at += 1 + usize::from(record[at]);
    let mut grow = |at: usize, by: usize| {
        let length = u16::from_be_bytes([record[at], record[at + 1]]) + u16::try_from(by).expect("small");
        record[at..at + 2].copy_from_slice(&length.to_be_bytes());
    };
    let by = 4 + body.len();
    grow(at, by);
    grow(5 + 2, by);
    grow(3, by);
    record.extend_from_slice(&kind.to_be_bytes());
    record.extend_from_slice(&u16::try_from(body.len()).expect("small").to_be_bytes());
    record.extend_from_slice(body);
    record
}

/// The message of a record in records of `size` bytes each.
fn in_records(record: &[u8], size: usize) -> Vec<u8> {
    let piece = |piece: &[u8]| {
        let length = u16::try_from(piece.len()).expect("small").to_be_bytes();
        [&record[..3], &length, piece].concat()
    };
    record[5..].chunks(size).flat_map(piece).collect()
}

const ECH: u16 = 0xfe0d;

async fn expect(stream: &mut UnixStream, bytes: &[u8]) {
    let mut back = vec![0; bytes.len()];
    let read = tokio::time::timeout(super::world::PATIENCE, stream.read_exact(&mut back)).await;
    read.expect("in time").expect("whole");
    assert_eq!(back, bytes);
}

#[tokio::test]
async fn c17_69_a_tunnel_to_443_begins_with_a_hello_for_its_host() {
    let place = Place::on(443, Manner::Echo).await;
    let literal = place.ip();
    let mut setting = Setting::hosts(&["a.test"], &place);
    let hosts = ["a.test", literal.as_str()];
    setting.allow_hosts = &hosts;
    setting.private += &format!(",{literal}:443");
    let mut world = World::start(setting);
    let own = hello("a.test");
    // The outer kind, KDF and AEAD, a config, then key and payload, each after its length.
    let sealed = [&[0, 0, 1, 0, 1, 7, 0, 32][..], &[3; 32], &[0, 64], &[5; 64]].concat();
    let ech = |name: &str| with_extension(hello(name), ECH, &sealed);
    let passes: Vec<(&str, Vec<u8>)> = vec![
        ("a.test", own.clone()),
        ("A.TEST.", own.clone()),
        ("a.test", in_records(&own, 7)),
        ("a.test", [own.clone(), b"more after it".to_vec()].concat()),
        ("a.test", ech("a.test")),
        (&literal, hello("127.0.0.1")),
    ];
    for (number, (host, bytes)) in passes.iter().enumerate() {
        let (mut stream, head) = world.tunnel(&format!("{host}:443")).await;
        assert_eq!(status(&head), 200);
        stream.write_all(bytes).await.expect("open");
        expect(&mut stream, bytes).await;
        drop(stream);
        let decision = world.decision().await;
        let length = bytes.len() as u64;
        assert_eq!(decision.verdict, Verdict::Allowed, "{number}");
        assert_eq!((decision.bytes_up, decision.bytes_down), (length, length), "{number}");
    }
    let before = place.heard().await.len();
    let mut no_name = hello("127.0.0.1");
    no_name.extend_from_slice(b"a.test");
    let cut: Vec<(&str, Vec<u8>, &str)> = vec![
        ("a.test", hello("b.test"), "names b.test"),
        ("a.test", hello("x.a.test"), "names x.a.test"),
        ("a.test", in_records(&hello("b.test"), 11), "names b.test"),
        ("a.test", ech("public.test"), "names public.test"),
        ("a.test", no_name, "names no host"),
        (&literal, own.clone(), "names a.test"),
        (
            "a.test",
            b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(),
            "no TLS ClientHello",
        ),
        ("a.test", b"SSH-2.0-x\r\n".to_vec(), "no TLS ClientHello"),
        ("a.test", b"\x05\x01\x00".to_vec(), "no TLS ClientHello"),
        ("a.test", b"\x16\x03\x01\x00\x00\x00".to_vec(), "no TLS ClientHello"),
        ("a.test", vec![0x16; 200 << 10], "no TLS ClientHello"),
        ("a.test", own[..own.len() - 1].to_vec(), "no TLS ClientHello"),
    ];
    for (host, bytes, why) in cut {
        let (mut stream, head) = world.tunnel(&format!("{host}:443")).await;
        assert_eq!(status(&head), 200);
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        assert_eq!(read_to_end(&mut stream).await, "", "{why}");
        let decision = world.decision().await;
        let reason = decision.reason.expect("a reason");
        assert!(
            decision.verdict == Verdict::Denied && reason.contains(why),
            "{why}: {reason}"
        );
        assert_eq!(decision.rule.as_deref(), Some(host));
    }
    let heard = place.heard().await;
    assert!(
        heard[before..].iter().all(String::is_empty),
        "not one byte passed: {heard:?}"
    );
}

#[tokio::test]
async fn a_hello_may_come_in_pieces_and_before_its_answer() {
    let place = Place::on(443, Manner::Echo).await;
    let world = World::start(Setting::hosts(&["a.test"], &place));
    let own = hello("a.test");
    let mut stream = world.connect().await;
    let early = [
        b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n".as_slice(),
        &own[..50],
    ]
    .concat();
    stream.write_all(&early).await.expect("open");
    assert_eq!(status(&super::world::head(&mut stream).await), 200);
    for piece in own[50..].chunks(40) {
        stream.write_all(piece).await.expect("open");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    expect(&mut stream, &own).await;
}

#[tokio::test]
async fn other_ports_are_spliced_when_a_rule_names_them() {
    let place = Place::on(0, Manner::Echo).await;
    let port = place.address.port();
    let host = format!("a.test:{port}");
    let hosts = [host.as_str(), "a.test"];
    let mut setting = Setting::hosts(&[], &place);
    setting.allow_hosts = &hosts;
    setting.lead("a.test", &place);
    let mut world = World::start(setting);
    let (mut stream, head) = world.tunnel(&host).await;
    assert_eq!(status(&head), 200);
    stream.write_all(b"any bytes").await.expect("open");
    expect(&mut stream, b"any bytes").await;
    // Half an end is passed on as one, and the other half still comes.
    stream.shutdown().await.expect("open");
    assert_eq!(read_to_end(&mut stream).await, "");
    let decision = world.decision().await;
    assert_eq!((decision.bytes_up, decision.bytes_down), (9, 9));
    assert_eq!(
        (decision.rule.as_deref(), decision.ip),
        (Some(host.as_str()), Some(place.address.ip()))
    );
    // Port 80 is for plain requests, unless a rule names it.
    let (status, line) = world.asked("a.test:80").await;
    assert!(status == 403 && line.contains("pond egress set a.test:80"), "{line}");
}

#[tokio::test]
async fn much_passes_and_is_counted() {
    const MUCH: usize = 64 << 20;
    let place = Place::on(0, Manner::Pour(MUCH)).await;
    let host = format!("a.test:{}", place.address.port());
    let hosts = [host.as_str()];
    let mut world = World::start(Setting::hosts(&hosts, &place));
    let (mut stream, _) = world.tunnel(&host).await;
    stream.write_all(b"go").await.expect("open");
    let mut sink = tokio::io::sink();
    let copied = tokio::io::copy(&mut stream, &mut sink).await.expect("whole");
    assert_eq!(copied, MUCH as u64);
    drop(stream);
    let decision = world.decision().await;
    assert_eq!((decision.bytes_up, decision.bytes_down), (2, MUCH as u64));
}

/// Says what it was handed and refuses one thing within.
struct Recording;

#[async_trait]
impl Intercept for Recording {
    fn wants(&self, host: &Host, _: u16) -> bool {
        host.to_string() == "secret.test"
    }

    async fn serve(&self, mut tunnel: Tunnel) -> std::io::Result<()> {
        tunnel.teller.refused("a request in it names another host").await;
        let mut first = [0; 5];
        tunnel.client.read_exact(&mut first).await?;
        tunnel.upstream.write_all(&first).await?;
        tunnel.client.write_all(b"opened").await?;
        tunnel.client.shutdown().await
    }
}

#[tokio::test]
async fn hosts_with_secrets_are_handed_on_from_the_first_byte() {
    let place = Place::on(443, Manner::Echo).await;
    let other = Place::on(0, Manner::Echo).await;
    let port = other.address.port();
    let mut setting = Setting {
        rules: vec![
            allow("secret.test"),
            allow(&format!("secret.test:{port}")),
            allow("a.test"),
        ],
        intercept: Some(Arc::new(Recording)),
        ..Setting::default()
    };
    setting.lead("secret.test", &place);
    setting.lead("a.test", &place);
    let mut world = World::start(setting);
    let (mut stream, _) = world.tunnel("secret.test:443").await;
    let own = hello("secret.test");
    stream.write_all(&own).await.expect("open");
    assert_eq!(read_to_end(&mut stream).await, "opened");
    let within = world.decision().await;
    assert_eq!(within.reason.as_deref(), Some("a request in it names another host"));
    assert_eq!((within.verdict, within.host.as_str()), (Verdict::Denied, "secret.test"));
    let whole = world.decision().await;
    assert_eq!(whole.verdict, Verdict::Allowed);
    assert_eq!((whole.bytes_up, whole.bytes_down), (5, 6));
    assert_ne!(whole.id, within.id);
    let opened = place.heard().await;
    assert_eq!(opened, [String::from_utf8_lossy(&own[..5]).into_owned()]);
    // The others are passed through.
    let (mut stream, _) = world.tunnel("a.test:443").await;
    let own = hello("a.test");
    stream.write_all(&own).await.expect("open");
    expect(&mut stream, &own).await;
}
