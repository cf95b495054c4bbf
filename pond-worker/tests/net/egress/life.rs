//! What is told of decisions, and what the end of a proxy ends.

use std::net::IpAddr;
use std::time::Duration;

use pond_core::egress::Verdict;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::world::{Manner, PATIENCE, Place, Setting, World, allow, deny, head, ok, read_to_end, status};

#[tokio::test]
async fn c17_70_each_decision_is_told_and_a_denial_names_what_to_add() {
    let place = Place::on(80, Manner::Answer(ok("hi"))).await;
    let mut setting = Setting {
        rules: vec![allow(".a.test"), deny("no.a.test"), allow("private.test")],
        ..Setting::default()
    };
    setting.lead("x.a.test", &place);
    setting.names.push(("private.test".into(), "10.0.0.1".into()));
    let mut world = World::start(setting);
    let get = |host: &str| format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    for (host, verdict, rule, said) in [
        ("X.A.test", Verdict::Allowed, Some(".a.test"), None),
        ("other.test", Verdict::Denied, None, Some("pond egress set other.test`")),
        (
            "other.test:81",
            Verdict::Denied,
            None,
            Some("pond egress set other.test:81`"),
        ),
        (
            "no.a.test",
            Verdict::Denied,
            Some("no.a.test"),
            Some("pond egress delete no.a.test`"),
        ),
        (
            "private.test",
            Verdict::Denied,
            Some("private.test"),
            Some("private.test:80 with POND_EGRESS_ALLOW_PRIVATE"),
        ),
        ("b@x.a.test", Verdict::Denied, None, Some("no valid host")),
    ] {
        let answer = world.raw(get(host)).await;
        let decision = world.decision().await;
        assert_eq!((decision.verdict, decision.rule.as_deref()), (verdict, rule), "{host}");
        let Some(said) = said else {
            assert_eq!((decision.host.as_str(), decision.port), ("x.a.test", 80));
            assert_eq!(decision.ip, Some(place.address.ip()));
            assert_eq!(decision.bytes_down, ok("hi").len() as u64);
            assert!(decision.reason.is_none() && decision.bytes_up > 0);
            continue;
        };
        assert_eq!(
            (decision.ip, decision.bytes_up, decision.bytes_down),
            (None::<IpAddr>, 0, 0)
        );
        let reason = decision.reason.expect("a reason");
        assert!(reason.contains(said) && !reason.contains('\n'), "{reason}");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a whole answer");
        assert!(
            head.starts_with("HTTP/1.1 403 Forbidden\r\n") && head.contains("text/plain"),
            "{head}"
        );
        assert_eq!(body, format!("{reason}\n"), "the agent reads what the operator reads");
    }
    assert!(world.close().await.is_empty());
}

#[tokio::test]
async fn c17_70_a_full_queue_holds_the_job_up_and_loses_nothing() {
    let mut world = World::start(Setting {
        queue: 1,
        ..Setting::default()
    });
    let mut asking = Vec::new();
    for number in 0..20 {
        let mut stream = world.connect().await;
        asking.push(tokio::spawn(async move {
            let request = format!("GET http://n{number}.test/ HTTP/1.1\r\nHost: n{number}.test\r\n\r\n");
            stream.write_all(request.as_bytes()).await.expect("open");
            read_to_end(&mut stream).await
        }));
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut told = std::collections::BTreeSet::new();
    for _ in 0..20 {
        told.insert(world.decision().await.host);
    }
    assert_eq!(told.len(), 20);
    for asked in asking {
        assert_eq!(status(&asked.await.expect("done")), 403);
    }
}

#[tokio::test]
async fn c17_71_the_end_of_the_proxy_cuts_every_tunnel_and_tells_of_it() {
    let place = Place::on(0, Manner::Echo).await;
    let host = format!("a.test:{}", place.address.port());
    let hosts = [host.as_str()];
    let world = World::start(Setting::hosts(&hosts, &place));
    let mut tunnels = Vec::new();
    for _ in 0..5 {
        let (mut stream, head) = world.tunnel(&host).await;
        assert_eq!(status(&head), 200);
        stream.write_all(b"before").await.expect("open");
        let mut back = [0; 6];
        stream.read_exact(&mut back).await.expect("whole");
        tunnels.push(stream);
    }
    let waiting = world.connect().await;
    let socket = world.socket.clone();
    let told = tokio::time::timeout(PATIENCE, world.close()).await.expect("at once");
    assert_eq!(told.len(), 5);
    for decision in &told {
        assert_eq!(
            (decision.verdict, decision.bytes_up, decision.bytes_down),
            (Verdict::Allowed, 6, 6)
        );
        assert!(
            decision
                .reason
                .as_deref()
                .is_some_and(|reason| reason.starts_with("cut: "))
        );
    }
    tunnels.push(waiting);
    for mut tunnel in tunnels {
        let _ = tunnel.write_all(b"after").await;
        assert_eq!(read_to_end(&mut tunnel).await, "");
    }
    assert!(UnixStream::connect(&socket).await.is_err());
    assert!(place.heard().await.iter().all(|bytes| bytes == "before"));
}

#[tokio::test]
async fn c17_71_a_dropped_proxy_is_told_as_ended() {
    let place = Place::on(0, Manner::Echo).await;
    let host = format!("a.test:{}", place.address.port());
    let hosts = [host.as_str()];
    let mut world = World::start(Setting::hosts(&hosts, &place));
    let proxy = world.proxy.take().expect("running");
    let soon = tokio::time::timeout(Duration::from_millis(20), proxy.ended()).await;
    assert!(soon.is_err(), "it runs");
    let (mut stream, _) = world.tunnel(&host).await;
    drop(proxy);
    assert_eq!(read_to_end(&mut stream).await, "");
    assert_eq!(world.decision().await.verdict, Verdict::Allowed);
}

#[tokio::test]
async fn connections_are_bounded_and_the_rest_waits() {
    let place = Place::on(0, Manner::Echo).await;
    let host = format!("a.test:{}", place.address.port());
    let hosts = [host.as_str()];
    let world = World::start(Setting::hosts(&hosts, &place));
    let mut held = Vec::new();
    for _ in 0..256 {
        held.push(world.tunnel(&host).await.0);
    }
    let mut one_more = world.connect().await;
    let request = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    one_more
        .write_all(request.as_bytes())
        .await
        .expect("queued by the kernel");
    let early = tokio::time::timeout(Duration::from_millis(100), one_more.read_u8()).await;
    assert!(early.is_err(), "it waits");
    drop(held.pop());
    assert_eq!(status(&head(&mut one_more).await), 200);
}
