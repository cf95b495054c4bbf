//! What does not pass an opened tunnel.

use hyper::{Method, StatusCode};
use pond_core::config::EgressAction;
use pond_core::egress::EgressPolicy;
use pond_core::secret::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::far::{Authority, BOTH, Far};
use super::world::{Job, NAMES, request, rule, ruled};

const VALUE: &str = "the-value-of-A";

async fn job(authority: &Authority, far: &Far, upgrade: bool) -> Job {
    let host = format!("x.test:{}", far.port());
    let policy = EgressPolicy::new([ruled(EgressAction::Allow, &host, upgrade)], &[], &[]);
    let secrets = [("A", VALUE, vec![host], &["header", "body"][..])];
    Job::start(authority, &[far.port()], policy, &secrets)
}

#[tokio::test]
async fn agents_25_c17_69_another_host_within_the_tunnel_is_refused_and_cut() {
    let authority = Authority::new();
    let far = Far::start(&authority, &NAMES, &BOTH).await;
    let mut job = job(&authority, &far, false).await;
    let token = job.token("A");
    for alpn in BOTH {
        let mut client = job.client("x.test", far.port(), alpn).await;
        assert_eq!(client.get("/", &[]).await.status, StatusCode::OK);
        let before = far.seen().len();
        let foreign = match alpn {
            "h2" => request(
                "GET",
                &format!("https://y.test:{}/", far.port()),
                &[("authorization", &token)],
                "",
            ),
            _ => request("GET", "/", &[("host", "y.test"), ("authorization", &token)], ""),
        };
        let answer = client.ask(foreign).await.unwrap();
        assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST, "{alpn}");
        assert!(
            client.ask(request("GET", "/", &[], "")).await.is_err(),
            "the tunnel is cut: {alpn}"
        );
        assert_eq!(far.seen().len(), before, "{alpn}");
    }
    let reasons = job.refused().await;
    assert_eq!(reasons.matches("is for another host").count(), 2, "{reasons}");
    // A name in TLS that is not the tunnel's.
    assert!(
        job.tls(job.trusted(), ("x.test", far.port()), "y.test", &["h2"])
            .await
            .is_err()
    );
}

#[tokio::test]
async fn agents_25_an_untrusted_upstream_certificate_is_refused_with_nothing_sent() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let untrusted = Far::start(&stranger, &NAMES, &BOTH).await;
    let misnamed = Far::start(&authority, &["y.test"], &BOTH).await;
    for (far, alpn) in [(&untrusted, "h2"), (&untrusted, "http/1.1"), (&misnamed, "h2")] {
        let mut job = job(&authority, far, false).await;
        let mut client = job.client("x.test", far.port(), alpn).await;
        let answer = client.get("/", &[("authorization", &job.token("A"))]).await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
        assert!(answer.body.contains("certificate"), "{}", answer.body);
        assert_eq!(far.seen().len(), 0);
        let reasons = job.refused().await;
        assert!(reasons.contains("certificate"), "{reasons}");
    }
}

#[tokio::test]
async fn agents_53_trace_and_upgrades_are_refused_without_the_rules_word() {
    let authority = Authority::new();
    let far = Far::start(&authority, &NAMES, &BOTH).await;
    let job = job(&authority, &far, false).await;
    let changing = [("connection", "upgrade"), ("upgrade", "echo")];
    for alpn in BOTH {
        let mut client = job.client("x.test", far.port(), alpn).await;
        let traced = client.ask(request("TRACE", "/", &[], "")).await.unwrap();
        assert_eq!(traced.status, StatusCode::METHOD_NOT_ALLOWED);
        if alpn != "h2" {
            let refused = client.get("/upgrade", &changing).await;
            assert_eq!(refused.status, StatusCode::FORBIDDEN);
            assert!(refused.body.contains("upgrade: true"), "{}", refused.body);
        }
        let before = far.seen().len();
        assert_eq!(client.get("/", &[]).await.status, StatusCode::OK, "the tunnel goes on");
        assert!(far.seen()[before..].iter().all(|seen| seen.target.ends_with('/')) && far.seen().len() == before + 1);
        assert_eq!(
            before,
            if alpn == "h2" { 0 } else { 1 },
            "nothing that was refused was sent"
        );
    }
}

#[tokio::test]
async fn agents_53_an_upgrade_passes_where_the_rule_says_so() {
    let authority = Authority::new();
    let far = Far::start(&authority, &NAMES, &BOTH).await;
    let job = job(&authority, &far, true).await;
    let mut client = job.client("x.test", far.port(), "http/1.1").await;
    let token = job.token("A");
    let headers = [
        ("connection", "upgrade"),
        ("upgrade", "echo"),
        ("authorization", &*token),
    ];
    let mut answer = client.send(request("GET", "/upgrade", &headers, "")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut io = hyper_util::rt::TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
    io.write_all(b"no http").await.unwrap();
    let mut echoed = [0; 7];
    io.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"no http");
    assert_eq!(far.last().header("authorization"), Some(VALUE));
    assert_eq!(far.last().header("upgrade"), Some("echo"));
}

#[tokio::test]
async fn agents_53_compressed_answers_are_opened_or_refused() {
    let authority = Authority::new();
    let far = Far::start(&authority, &NAMES, &BOTH).await;
    let job = job(&authority, &far, false).await;
    let token = job.token("A");
    for alpn in BOTH {
        let mut client = job.client("x.test", far.port(), alpn).await;
        let sent = [("authorization", &*token), ("accept-encoding", "gzip, br")];
        let answer = client.get("/gzip", &sent).await;
        assert!(
            answer.body.contains(&format!("authorization: {token}")),
            "{}",
            answer.body
        );
        assert!(!answer.headers.contains_key("content-encoding"));
        let unknown = client.get("/br", &sent).await;
        assert_eq!(unknown.status, StatusCode::BAD_GATEWAY);
        assert!(unknown.body.contains("compressed"), "{}", unknown.body);
        let head = client
            .ask(request(Method::HEAD.as_str(), "/gzip", &sent, ""))
            .await
            .unwrap();
        assert_eq!(head.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_value_that_fits_in_no_header_is_refused_by_name() {
    let authority = Authority::new();
    let far = Far::start(&authority, &NAMES, &BOTH).await;
    let job = job(&authority, &far, false).await;
    job.secrets
        .update(rule("A", &[], &["header"]), Secret::new("two\nlines"));
    let mut client = job.client("x.test", far.port(), "h2").await;
    let answer = client.get("/", &[("authorization", &job.token("A"))]).await;
    assert_eq!((answer.status, far.seen().len()), (StatusCode::FORBIDDEN, 0));
}

#[tokio::test]
async fn what_is_no_http_does_not_pass() {
    let authority = Authority::new();
    let far = Far::start(&authority, &NAMES, &BOTH).await;
    let job = job(&authority, &far, false).await;
    let mut tls = job
        .tls(job.trusted(), ("x.test", far.port()), "x.test", &[])
        .await
        .unwrap();
    tls.write_all(b"* OK IMAP\r\n\r\n").await.unwrap();
    let mut told = Vec::new();
    let _ = tls.read_to_end(&mut told).await;
    let told = String::from_utf8_lossy(&told);
    assert!(told.is_empty() || told.starts_with("HTTP/1.1 400"), "{told}");
    assert_eq!(far.seen().len(), 0);
    let strange = job
        .tls(job.trusted(), ("x.test", far.port()), "x.test", &["imap"])
        .await;
    assert!(strange.is_err());
}
