//! Plain requests: each judged, none smuggled, nothing of the proxy's passed on.

use pond_core::config::EgressAction;
use pond_core::egress::Verdict;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::world::{Manner, PATIENCE, Place, Setting, World, head, ok, read_to_end, rule, status};

/// Reads an answer of a known length.
async fn answer(stream: &mut UnixStream) -> (String, String) {
    let head = head(stream).await;
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    let read = tokio::time::timeout(PATIENCE, stream.read_exact(&mut body)).await;
    read.expect("in time").expect("whole");
    (head, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn each_request_is_judged_sent_on_and_answered() {
    let (a, b) = (
        Place::on(80, Manner::Answer(ok("from a"))).await,
        Place::on(80, Manner::Answer(ok("from b"))).await,
    );
    let mut setting = Setting::hosts(&["a.test"], &a);
    setting.allow_hosts = &["a.test", "b.test"];
    setting.lead("b.test", &b);
    let mut world = World::start(setting);
    let mut stream = world.connect().await;
    for (host, expected) in [("a.test", "from a"), ("b.test", "from b"), ("A.TEST.", "from a")] {
        let request = format!(
            "GET http://{host}/x?y=1 HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: Basic c2VjcmV0\r\nProxy-Connection: \
             keep-alive\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nX-Own: stays\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("kept alive");
        let (head, body) = answer(&mut stream).await;
        assert_eq!((status(&head), body.as_str()), (200, expected), "{head}");
        let decision = world.decision().await;
        assert_eq!(decision.verdict, Verdict::Allowed);
        assert_eq!(decision.bytes_down, ok(expected).len() as u64);
        assert!(decision.bytes_up > 40 && decision.reason.is_none(), "{decision:?}");
    }
    let heard = a.heard().await;
    assert_eq!(heard.len(), 2);
    for request in heard.iter().chain(&b.heard().await) {
        let request = request.to_ascii_lowercase();
        assert!(request.starts_with("get /x?y=1 http/1.1\r\n"), "{request}");
        assert!(
            request.contains("x-own: stays\r\n") && request.contains("connection: close\r\n"),
            "{request}"
        );
        for gone in ["proxy-", "x-hop", "keep-alive", "\r\nte:", "c2vjcmv0"] {
            assert!(!request.contains(gone), "{gone} in {request}");
        }
        assert_eq!(request.matches("\r\nhost: ").count(), 1);
    }
    // Denied in the middle of a connection, and that is its end.
    let request = "GET http://c.test/ HTTP/1.1\r\nHost: c.test\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("kept alive");
    let refusal = read_to_end(&mut stream).await;
    assert!(
        refusal.starts_with("HTTP/1.1 403 ") && refusal.contains("text/plain"),
        "{refusal}"
    );
    assert!(refusal.contains("add c.test to the stage's allow_hosts"), "{refusal}");
}

#[tokio::test]
async fn bodies_pass_both_ways_whatever_their_framing() {
    let chunked = "HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let open_end = "HTTP/1.1 200 OK\r\n\r\nuntil the end";
    let a = Place::on(80, Manner::Answer(chunked.into())).await;
    let b = Place::on(80, Manner::Answer(open_end.into())).await;
    let mut setting = Setting::hosts(&["a.test"], &a);
    setting.allow_hosts = &["a.test", "b.test"];
    setting.lead("b.test", &b);
    let world = World::start(setting);
    let sized = "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";
    let brought = world.raw(sized).await;
    assert!(brought.starts_with("HTTP/1.1 201 Created\r\n"), "{brought}");
    let pieces = brought.split_once("\r\n\r\n").expect("a body").1;
    assert_eq!(
        pieces.replace("5\r\nabcde\r\n", "3\r\nabc\r\n2\r\nde\r\n"),
        "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    );
    let old = world.raw("GET http://b.test HTTP/1.0\r\n\r\n").await;
    assert!(
        old.ends_with("\r\n\r\nuntil the end") && old.contains("connection: close"),
        "{old}"
    );
    let expecting =
        "POST http://b.test/ HTTP/1.1\r\nHost: b.test\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut stream = world.connect().await;
    stream.write_all(expecting.as_bytes()).await.expect("open");
    assert_eq!(status(&head(&mut stream).await), 100);
    stream
        .write_all(b"3\r\nabc\r\n0\r\nx-trailer: 1\r\n\r\n")
        .await
        .expect("open");
    let (answer, _) = answer(&mut stream).await;
    assert_eq!(status(&answer), 200);
    let heard = a.heard().await;
    assert!(
        heard[0].contains("content-length: 5\r\n") && heard[0].ends_with("\r\n\r\nhello"),
        "{heard:?}"
    );
    let heard = b.heard().await;
    assert!(heard[0].starts_with("GET / HTTP/1.1\r\nhost: b.test\r\n"), "{heard:?}");
    assert!(
        heard[1].contains("transfer-encoding: chunked") && !heard[1].contains("expect"),
        "{heard:?}"
    );
}

#[tokio::test]
async fn c17_69_a_changed_host_on_a_kept_connection_is_stopped() {
    let place = Place::on(80, Manner::Answer(ok("hi"))).await;
    let mut setting = Setting::hosts(&["a.test"], &place);
    setting.lead("b.test", &place);
    let mut world = World::start(setting);
    let good = "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n";
    for (bad, code) in [
        ("GET http://a.test/ HTTP/1.1\r\nHost: b.test\r\n\r\n", 403),
        ("GET http://a.test/ HTTP/1.1\r\nHost: a.test:81\r\n\r\n", 403),
        ("GET http://a.test/ HTTP/1.1\r\nHost: a.test@b.test\r\n\r\n", 403),
        ("GET http://b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 403),
        ("GET http://b.test/ HTTP/1.1\r\nHost: b.test\r\n\r\n", 403),
        ("CONNECT b.test:80 HTTP/1.1\r\nHost: b.test:80\r\n\r\n", 403),
        ("GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n", 400),
    ] {
        let before = place.heard().await.len();
        let mut stream = world.connect().await;
        stream.write_all(good.as_bytes()).await.expect("open");
        assert_eq!(answer(&mut stream).await.1, "hi");
        stream.write_all(bad.as_bytes()).await.expect("kept alive");
        assert_eq!(status(&read_to_end(&mut stream).await), code, "{bad}");
        assert_eq!(place.heard().await.len(), before + 1, "{bad}");
        assert_eq!(world.decision().await.verdict, Verdict::Allowed);
        if code == 403 {
            assert_eq!(world.decision().await.verdict, Verdict::Denied);
        }
    }
}

#[tokio::test]
async fn c17_69_a_redirect_is_the_clients_to_ask_for_and_is_judged_anew() {
    let away = "HTTP/1.1 302 Found\r\nlocation: http://b.test/inner\r\ncontent-length: 0\r\n\r\n";
    let (a, b) = (
        Place::on(80, Manner::Answer(away.into())).await,
        Place::on(80, Manner::Answer(ok("no"))).await,
    );
    let mut setting = Setting::hosts(&["a.test"], &a);
    setting.lead("b.test", &b);
    let world = World::start(setting);
    let mut stream = world.connect().await;
    stream
        .write_all(b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await
        .expect("open");
    let (head, _) = answer(&mut stream).await;
    assert!(
        status(&head) == 302 && head.contains("location: http://b.test/inner"),
        "{head}"
    );
    stream
        .write_all(b"GET http://b.test/inner HTTP/1.1\r\nHost: b.test\r\n\r\n")
        .await
        .expect("kept alive");
    assert_eq!(status(&read_to_end(&mut stream).await), 403);
    assert_eq!((a.heard().await.len(), b.heard().await.len()), (1, 0));
}

#[tokio::test]
async fn c17_65_what_is_no_plain_request_and_no_tunnel_is_refused_unread() {
    let place = Place::on(80, Manner::Answer(ok("hi"))).await;
    let world = World::start(Setting::hosts(&["a.test"], &place));
    let get = |rest: &str| format!("GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n{rest}\r\n").into_bytes();
    let post = |rest: &str| format!("POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\n{rest}").into_bytes();
    let smuggled = "GET http://b.test/ HTTP/1.1\r\nHost: b.test\r\n\r\n";
    let cases: Vec<Vec<u8>> = vec![
        // Other protocols.
        b"\x05\x01\x00".to_vec(),
        b"\x04\x01\x00\x50\x7f\x00\x00\x01user\0".to_vec(),
        b"\x05\x01\x00\x03\x06a.test\x00\x50".to_vec(),
        b"\x16\x03\x01\x00\x05hello".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"PROXY TCP4 127.0.0.1 127.0.0.1 1 80\r\nGET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(),
        // Other forms and schemes.
        b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(),
        b"OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(),
        b"GET //a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(),
        b"GET https://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(),
        b"GET ftp://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(),
        b"GET ws://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(),
        b"GET file:///etc/passwd HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(),
        b"GET a.test:80 HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(),
        b"GET http://a.test/\r\n\r\n".to_vec(),
        b"GET http://a.test/ HTTP/2.0\r\nHost: a.test\r\n\r\n".to_vec(),
        b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nContent-Length: 3\r\n\r\nabc".to_vec(),
        // URLs that others read otherwise.
        b"GET http://b.test@a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(),
        b"GET http://@a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(),
        b"GET http://a.test@b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(),
        b"GET http://a.test\\@b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(),
        b"GET http://a.test/\\b.test HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(),
        b"GET http://a.test/#@b.test HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(),
        b"GET http://a.test#b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(),
        b"GET http:///a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(),
        b"GET http://a.test:0/ HTTP/1.1\r\nHost: a.test:0\r\n\r\n".to_vec(),
        b"GET http://a.test\0/ HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(),
        b"GET  http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(),
        b"GET http://a.test/ b HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(),
        // Who is meant.
        b"GET http://a.test/ HTTP/1.1\r\n\r\n".to_vec(),
        get("Host: a.test\r\n"),
        get("hOST: b.test\r\n"),
        get(" folded: b.test\r\n"),
        get("X: y\r\n folded\r\n"),
        get("X: y\r\n\tfolded\r\n"),
        get("X : y\r\n"),
        get("X\0: y\r\n"),
        get("X: y\0\r\n"),
        get("X: y\rHost: b.test\r\n"),
        get("X: y\nHost: b.test\r\n"),
        get("X: y\r\r\n"),
        get(": y\r\n"),
        b"GET http://a.test/ HTTP/1.1\nHost: a.test\n\n\r\n\r\n".to_vec(),
        b"\r\nGET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(),
        // How long it is.
        post(&format!(
            "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"
        )),
        post(&format!(
            "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n{smuggled}"
        )),
        post(&format!("Content-Length: 0\r\nContent-Length: 5\r\n\r\n{smuggled}")),
        post(&format!("Content-Length: 0\r\nContent-Length: 0\r\n\r\n{smuggled}")),
        post(&format!("Content-Length: 0, 5\r\n\r\n{smuggled}")),
        post(&format!("Content-Length: +5\r\n\r\n{smuggled}")),
        post(&format!("Content-Length: -5\r\n\r\n{smuggled}")),
        post(&format!("Content-Length: 0x5\r\n\r\n{smuggled}")),
        post(&format!("Content-Length: 99999999999999999999\r\n\r\n{smuggled}")),
        post(&format!(
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"
        )),
        post(&format!(
            "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{smuggled}"
        )),
        post(&format!("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{smuggled}")),
        post(&format!("Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n{smuggled}")),
        post(&format!("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n{smuggled}")),
        b"POST http://a.test/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
        // How much of it there is.
        get(&format!("X: {}\r\n", "y".repeat(70 << 10))),
        get(&"X: y\r\n".repeat(200)),
    ];
    for request in cases {
        let shown = String::from_utf8_lossy(&request[..request.len().min(200)]).into_owned();
        let answer = world.raw(&request).await;
        assert!(matches!(status(&answer), 400 | 403), "{shown:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{shown:?}: {answer}");
    }
    assert_eq!(place.heard().await, Vec::<String>::new());
    assert_eq!(world.resolver.asked(), 0);
}

#[tokio::test]
async fn c17_69_a_body_that_holds_a_request_is_a_body_alone() {
    let place = Place::on(80, Manner::Answer(ok("hi"))).await;
    let mut setting = Setting::hosts(&["a.test"], &place);
    setting.lead("b.test", &place);
    let world = World::start(setting);
    let inner = "GET http://b.test/ HTTP/1.1\r\nHost: b.test\r\n\r\n";
    let sized = format!(
        "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{inner}",
        inner.len()
    );
    let answer = world.raw(sized).await;
    assert_eq!((status(&answer), answer.matches("HTTP/1.1 ").count()), (200, 1));
    // What follows the body is a request of its own, judged as one.
    let two = format!("POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nab{inner}");
    let answers = world.raw(two).await;
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 2, "{answers}");
    assert!(answers.contains("HTTP/1.1 403 "), "{answers}");
    assert_eq!(place.heard().await.len(), 2);
    // A chunk that does not end where it says.
    let bad = format!(
        "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabX\r\n0\r\n\r\n{inner}"
    );
    let answer = world.raw(bad).await;
    assert_eq!(status(&answer), 400, "{answer}");
    let heard = place.heard().await;
    assert!(
        !heard[2..].iter().any(|bytes| bytes.contains("0\r\n\r\n")),
        "never ended: {heard:?}"
    );
}

#[tokio::test]
async fn c17_69_the_protocol_changes_only_where_the_rule_says_so() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let (a, b) = (
        Place::on(80, Manner::AnswerThenEcho(switch.into())).await,
        Place::on(80, Manner::AnswerThenEcho(switch.into())).await,
    );
    let mut setting = Setting {
        rules: vec![
            rule(EgressAction::Allow, "a.test", true),
            rule(EgressAction::Allow, "b.test", false),
        ],
        ..Setting::default()
    };
    setting.lead("a.test", &a);
    setting.lead("b.test", &b);
    let mut world = World::start(setting);
    let asking = |host: &str| {
        format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    };
    let refusal = world.raw(asking("b.test")).await;
    assert!(status(&refusal) == 403 && refusal.contains("--upgrade"), "{refusal}");
    assert_eq!(b.heard().await.len(), 0);
    assert_eq!(world.decision().await.rule.as_deref(), Some("b.test"));
    // One that changes it unasked is not followed.
    let unasked = world
        .raw("GET http://b.test/ HTTP/1.1\r\nHost: b.test\r\n\r\nafter")
        .await;
    assert_eq!(status(&unasked), 502, "{unasked}");
    world.decision().await;
    let mut stream = world.connect().await;
    stream.write_all(asking("a.test").as_bytes()).await.expect("open");
    let head = head(&mut stream).await;
    assert!(status(&head) == 101 && head.contains("upgrade: websocket"), "{head}");
    stream.write_all(b"frames").await.expect("open");
    let mut back = [0; 6];
    stream.read_exact(&mut back).await.expect("whole");
    assert_eq!(&back, b"frames");
    drop(stream);
    let decision = world.decision().await;
    assert_eq!(decision.verdict, Verdict::Allowed);
    assert_eq!(decision.bytes_down, switch.len() as u64 + 6);
}

#[tokio::test]
async fn what_is_not_there_is_told_and_noted() {
    let place = Place::on(80, Manner::Answer("no HTTP\r\n\r\n".into())).await;
    let mut setting = Setting::hosts(&["a.test"], &place);
    setting.allow_hosts = &["a.test", "missing.test"];
    let mut world = World::start(setting);
    for (host, said) in [("missing.test", "was not found"), ("a.test", "answers no HTTP")] {
        let answer = world
            .raw(format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .await;
        assert!(status(&answer) == 502 && answer.contains(said), "{answer}");
        let decision = world.decision().await;
        assert_eq!(decision.verdict, Verdict::Allowed);
        assert!(decision.reason.expect("a reason").contains(said));
    }
    assert_eq!(world.asked("missing.test:443").await.0, 502);
}
