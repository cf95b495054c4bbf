//! What a job reaches from inside a real sandbox, told by the listeners outside.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pond_core::egress::{EgressDecision, Verdict};
use pond_core::event::{EventBody, EventNumber};
use pond_core::id::RunId;
use pond_core::outbound::{AllowPrivate, Purpose};
use pond_core::scope::Scope;
use pond_worker::egress::EgressDefaults;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::AbortHandle;

use super::world::{World, napping, quick};

/// What came from somewhere, in order.
type Said = Arc<Mutex<Vec<String>>>;

/// A place off the sandbox: one port for HTTP and for datagrams, and a name server that leads every name to it.
struct Outside {
    at: SocketAddr,
    names: SocketAddr,
    heard: Said,
    asked: Said,
    tasks: Vec<AbortHandle>,
}

impl Outside {
    async fn start() -> Self {
        // Not 127.0.0.1, which programs inside leave the proxy out for.
        let listener = TcpListener::bind("127.0.77.1:0").await.expect("a port");
        let at = listener.local_addr().expect("bound");
        let datagrams = UdpSocket::bind(at).await.expect("the same port");
        let server = UdpSocket::bind("127.0.77.1:0").await.expect("a port");
        let names = server.local_addr().expect("bound");
        let (heard, asked) = (Said::default(), Said::default());
        let (lines, packets, questions) = (Arc::clone(&heard), Arc::clone(&heard), Arc::clone(&asked));
        let http = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&lines)));
            }
        });
        let udp = tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, _)) = datagrams.recv_from(&mut buffer).await {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                packets.lock().expect("unpoisoned").push(format!("udp {text}"));
            }
        });
        let dns = tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, peer)) = server.recv_from(&mut buffer).await {
                let (name, answer) = named(&buffer[..length], at.ip());
                questions.lock().expect("unpoisoned").push(name);
                let _ = server.send_to(&answer, peer).await;
            }
        });
        Self {
            at,
            names,
            heard,
            asked,
            tasks: [http, udp, dns].map(|task| task.abort_handle()).into(),
        }
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().expect("unpoisoned").clone()
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("unpoisoned").clone()
    }

    /// A world whose worker asks this name server, and may dial these names here.
    async fn world(&self, private: &[&str]) -> World {
        let port = self.at.port();
        let private: Vec<String> = private.iter().map(|name| format!("{name}:{port}")).collect();
        let private = AllowPrivate::parse_for(Purpose::Egress, &private.join(",")).expect("exceptions");
        World::with(quick(), |settings| {
            settings.resolver = Some(self.names);
            settings.egress_allow_private = private;
            settings.egress_defaults = EgressDefaults::parse(&format!("registry.test:{port}")).expect("a list");
        })
        .await
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// Records the first line of a request, or what came instead, and answers.
async fn answer(mut stream: TcpStream, heard: Said) {
    let mut buffer = vec![0; 4096];
    let read = stream.read(&mut buffer).await.unwrap_or(0);
    let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
    let line = text.lines().next().unwrap_or_default().to_owned();
    heard.lock().expect("unpoisoned").push(line);
    let _ = stream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\nconnection: close\r\n\r\noutside\n")
        .await;
    let _ = stream.shutdown().await;
}

/// The name of a DNS question, and the answer that it has this IPv4 address and no other.
fn named(question: &[u8], ip: IpAddr) -> (String, Vec<u8>) {
    let (mut at, mut labels) = (12, Vec::new());
    while question[at] != 0 {
        let length = usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..=at + length]).into_owned());
        at += length + 1;
    }
    let asks_v4 = question[at + 1..at + 3] == [0, 1];
    let mut answer = question[..at + 5].to_vec();
    answer[2..4].copy_from_slice(&[0x81, 0x80]);
    answer[4..12].copy_from_slice(&[0, 1, 0, u8::from(asks_v4), 0, 0, 0, 0]);
    if asks_v4 {
        let IpAddr::V4(ip) = ip else { panic!("an IPv4 address") };
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend_from_slice(&Ipv4Addr::octets(&ip));
    }
    (labels.join("."), answer)
}

async fn decisions(world: &World, run: RunId) -> Vec<EgressDecision> {
    let events = world
        .pond
        .runs()
        .decisions(Scope::Org, run, EventNumber::default(), 100)
        .await;
    let decision = |event: pond_core::event::NumberedEvent| match event.event.body {
        EventBody::Egress(told) => Some(told.decision),
        _ => None,
    };
    events.expect("decisions").into_iter().filter_map(decision).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_65_nothing_leaves_a_sandbox_but_what_the_rules_allow_through_the_proxy() {
    let outside = Outside::start().await;
    let (ip, port) = (outside.at.ip(), outside.at.port());
    let world = outside.world(&["a.test", "registry.test", "other.test"]).await;
    let script = format!(
        r#"
        try() {{ name=$1; shift; timeout 5 "$@" >out.$name 2>&1; echo "$name: $(cat out.$name | tr '\n' ' ')"; rm -f out.$name; }}
        try allowed curl -sS http://a.test:{port}/allowed
        try tunnel curl -sS -p http://a.test:{port}/tunnel
        try default curl -sS http://registry.test:{port}/default
        try unlisted curl -sS http://other.test:{port}/unlisted
        try literal curl -sS http://{ip}:{port}/literal
        try tunnelled curl -sS -p http://other.test:{port}/tunnelled
        try redirected curl -sS -H 'Host: other.test:{port}' http://a.test:{port}/redirected
        try direct curl -sS --noproxy '*' http://{ip}:{port}/direct
        try named curl -sS --noproxy '*' http://a.test:{port}/named
        try socks5 curl -sS --socks5-hostname 127.0.0.1:8788 http://a.test:{port}/socks5
        try socks4 curl -sS --socks4a 127.0.0.1:8788 http://a.test:{port}/socks4
        try nested curl -sS --preproxy socks5h://127.0.0.1:8788 -x http://{ip}:{port} http://a.test:{port}/nested
        try mapped curl -sS --noproxy '*' 'http://[::ffff:{ip}]:{port}/mapped'
        try broker curl -sS --noproxy '*' http://127.0.0.1:8787/broker
        try raw bash -c 'exec 3<>/dev/tcp/{ip}/{port}; echo raw >&3'
        try udp bash -c 'echo datagram > /dev/udp/{ip}/{port}'
        try dns bash -c 'printf "\0\1\1\0\0\1\0\0\0\0\0\0\4leak\4test\0\0\1\0\1" > /dev/udp/{ip}/{dns}'
        try lookup getent hosts leak.test
        try ping ping -c1 -W1 {ip}
        env | grep -i _proxy= | sort
        "#,
        dns = outside.names.port()
    );
    // That each way works where nothing is in it.
    let mut control = TcpStream::connect(outside.at).await.expect("there");
    control.write_all(b"control\r\n").await.expect("there");
    let mut said = String::new();
    control.read_to_string(&mut said).await.expect("there");
    let packet = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    packet.send_to(b"control", outside.at).await.expect("sent");
    let query = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x07control\x04test\0\0\x01\0\x01";
    packet.send_to(query, outside.names).await.expect("sent");
    packet.recv_from(&mut [0; 512]).await.expect("an answer");

    let hosts = json!([format!("a.test:{port}")]);
    let sandbox = json!({"sandbox": {"profile": "untrusted-code-write", "allow_hosts": hosts}});
    let ended = world.run(&script, sandbox).await;
    ended.is_done();
    for reached in ["allowed", "tunnel", "default"] {
        assert!(
            ended.said(&format!("{reached}: outside")),
            "{reached}: {:#?}",
            ended.lines
        );
    }
    assert!(ended.said("unlisted: nothing allows other.test"), "{:#?}", ended.lines);
    for line in [
        "HTTP_PROXY=http://127.0.0.1:8788",
        "HTTPS_PROXY=http://127.0.0.1:8788",
        "http_proxy=http://127.0.0.1:8788",
        "https_proxy=http://127.0.0.1:8788",
        "NO_PROXY=127.0.0.1,localhost,::1",
    ] {
        assert!(ended.said(line), "{line}: {:#?}", ended.lines);
    }
    let mut heard = outside.heard();
    heard.sort();
    let expected = [
        "GET /allowed HTTP/1.1",
        "GET /default HTTP/1.1",
        "GET /tunnel HTTP/1.1",
        "control",
        "udp control",
    ];
    assert_eq!(heard, expected, "{:#?}", ended.lines);
    let mut asked = outside.asked();
    asked.sort();
    asked.dedup();
    assert_eq!(asked, ["a.test", "control.test", "registry.test"]);

    let told = decisions(&world, ended.run.head.id).await;
    let of = |host: &str, verdict| -> Vec<&EgressDecision> {
        let fits = |one: &&EgressDecision| one.host == host && one.verdict == verdict;
        told.iter().filter(fits).collect()
    };
    let allowed = of("a.test", Verdict::Allowed);
    assert_eq!(allowed.len(), 2, "{told:#?}");
    for decision in allowed {
        assert_eq!(
            (decision.rule.as_deref(), decision.ip),
            (Some(format!("a.test:{port}").as_str()), Some(ip))
        );
        assert!(decision.bytes_up > 0 && decision.bytes_down > 0, "{decision:?}");
    }
    assert_eq!(of("registry.test", Verdict::Allowed).len(), 1);
    assert_eq!(of("other.test", Verdict::Denied).len(), 2);
    assert_eq!(of(&ip.to_string(), Verdict::Denied).len(), 1);
    assert_eq!(of("a.test", Verdict::Denied).len(), 1, "another Host");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_65_a_job_that_only_reads_has_no_proxy() {
    let outside = Outside::start().await;
    let port = outside.at.port();
    let world = outside.world(&["registry.test"]).await;
    let script = format!(
        "env | grep -ic _proxy= ; curl -sS -m 5 -x http://127.0.0.1:8788 http://registry.test:{port}/ || echo \"rc=$?\""
    );
    let ended = world
        .run(&script, json!({"sandbox": {"profile": "untrusted-code-read"}}))
        .await;
    ended.is_done();
    assert!(ended.said("rc=7"), "nothing listens there: {:#?}", ended.lines);
    assert!(ended.lines.iter().any(|line| line.line == "0"), "{:#?}", ended.lines);
    assert_eq!((outside.heard(), outside.asked()), (Vec::new(), Vec::new()));
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_71_an_egress_proxy_that_dies_ends_the_job_with_a_clear_error() {
    let outside = Outside::start().await;
    let port = outside.at.port();
    let world = outside.world(&["registry.test"]).await;
    let script = format!(
        "curl -sS http://registry.test:{port}/before; echo up; sleep 1; while true; do curl -s -m 1 http://registry.test:{port}/after; \
         sleep @72 & sleep 0.1; done"
    );
    let run = world.submit(&script, json!({})).await;
    world.said(run, "up").await;
    std::fs::remove_file(world.job_folder().join("egress.sock")).expect("the proxy's address");
    tokio::time::sleep(Duration::from_millis(50)).await;
    let before = outside.heard().len();
    let ended = world.ended(run).await;
    let (code, message) = ended.failure();
    assert_eq!(code, "internal");
    assert!(message.contains("egress proxy"), "{message}");
    assert_eq!(outside.heard().len(), before, "nothing more left");
    assert_eq!(napping("72"), Vec::<u32>::new());
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_68_rules_of_the_operator_narrow_what_a_stage_asks_for() {
    let outside = Outside::start().await;
    let port = outside.at.port();
    let world = outside.world(&["a.test", "b.test", "registry.test"]).await;
    let config = world.pond.config();
    for rule in [
        json!({"host": format!("b.test:{port}")}),
        json!({"host": "registry.test", "action": "deny"}),
    ] {
        let put = config
            .put::<pond_core::config::EgressRule>(pond_core::config::Owner::Org, &rule)
            .await;
        put.expect("a rule");
    }
    let script = ["a", "b", "registry"]
        .map(|name| format!("curl -sS http://{name}.test:{port}/{name}"))
        .join("; ");
    let hosts = json!([format!("a.test:{port}"), format!("b.test:{port}")]);
    let ended = world
        .run(
            &script,
            json!({"sandbox": {"profile": "untrusted-code-write", "allow_hosts": hosts}}),
        )
        .await;
    ended.is_done();
    assert!(
        ended.said(&format!(
            "allow_hosts is narrowed by the egress rules: without a.test:{port}"
        )),
        "{:#?}",
        ended.lines
    );
    assert!(
        ended.said(&format!("pond egress set a.test:{port}")),
        "{:#?}",
        ended.lines
    );
    assert!(ended.said("pond egress delete registry.test"), "{:#?}", ended.lines);
    assert_eq!(outside.heard(), ["GET /b HTTP/1.1"]);
    world.close().await;
}
