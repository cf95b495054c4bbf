//! No connection but to a judged address, told by a listener that counts.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::{Request, StatusCode};
use pond_core::outbound::{AllowPrivate, Host, Purpose, Refused};
use pond_worker::net::testing::{CountingListener, ScriptedResolver};
use pond_worker::net::{DialError, Dialer, DialerSettings, Protocols, SendError, client, empty_body};
use wiremock::matchers::path;
use wiremock::{Mock, MockServer, ResponseTemplate};

const SOON: Duration = Duration::from_secs(10);

fn dialer(allow: &str, resolver: ScriptedResolver) -> (Dialer, Arc<ScriptedResolver>) {
    let resolver = Arc::new(resolver);
    let settings = DialerSettings {
        allow: AllowPrivate::parse(allow).unwrap(),
        ..DialerSettings::default()
    };
    (
        Dialer::with_resolver(settings, Arc::clone(&resolver) as _).unwrap(),
        resolver,
    )
}

#[tokio::test]
async fn c17_35_blocked_places_are_never_dialled() {
    let listener = CountingListener::on("127.0.0.1").await;
    let port = listener.address().port();
    let names = ScriptedResolver::new()
        .answer("loop.test", &["127.0.0.1"])
        .answer("mixed.test", &["8.8.8.8", "127.0.0.1"])
        .answer("mixed6.test", &["2606:4700::1", "::ffff:127.0.0.1"])
        .answer("embedded.test", &["64:ff9b::7f00:1"])
        .answer("metadata.test", &["169.254.169.254"]);
    // The list opens other uses, ports and hosts, not these.
    let (dialer, _) = dialer(
        &format!("webhook=127.0.0.1:{port},git=127.0.0.1:1,git=localhost:{port}"),
        names,
    );

    for (host, why) in [
        ("127.0.0.1", Refused::Loopback),
        ("10.0.0.1", Refused::Private),
        ("169.254.169.254", Refused::Metadata),
        ("[::ffff:127.0.0.1]", Refused::Loopback),
        ("2130706433", Refused::Loopback),
        ("0x7f.1", Refused::Loopback),
        ("0177.0.0.1", Refused::Loopback),
        ("127.1", Refused::Loopback),
        ("0", Refused::Unspecified),
        ("[::1]", Refused::Loopback),
        ("loop.test", Refused::Loopback),
        ("LOOP.test.", Refused::Loopback),
        ("mixed.test", Refused::Loopback),
        ("mixed6.test", Refused::Loopback),
        ("embedded.test", Refused::Loopback),
        ("metadata.test", Refused::Metadata),
    ] {
        let parsed = Host::parse(host).unwrap();
        let error = dialer.connect(Purpose::Git, &parsed, port).await.expect_err(host);
        assert!(
            matches!(error, DialError::Refused { why: found, .. } if found == why),
            "{host}: {error:?}"
        );
        assert!(
            !error.to_string().contains("loopback"),
            "an error tells nothing of the network inside: {error}"
        );
    }
    assert_eq!(listener.count().await, 0);
}

#[tokio::test]
async fn c17_35_a_name_that_rebinds_is_judged_on_each_connection() {
    let listener = CountingListener::on("127.0.0.1").await;
    let port = listener.address().port();
    let names = ScriptedResolver::new()
        .answer("rebind.test", &["8.8.8.8"])
        .answer("rebind.test", &["127.0.0.1"]);
    let (dialer, resolver) = dialer("", names);
    let host = Host::parse("rebind.test").unwrap();

    let first = dialer.addresses(Purpose::Git, &host, port).await.unwrap();
    assert_eq!(
        first,
        ["8.8.8.8"
            .parse::<std::net::IpAddr>()
            .map(|ip| (ip, port).into())
            .unwrap()]
    );
    let second = dialer.connect(Purpose::Git, &host, port).await;

    assert!(matches!(second, Err(DialError::Refused { .. })), "{second:?}");
    assert_eq!(
        resolver.asked(),
        2,
        "one question per connection: what was judged is what is dialled"
    );
    assert_eq!(listener.count().await, 0);
}

#[tokio::test]
async fn an_exact_entry_opens_its_place_for_its_use() {
    let listener = CountingListener::on("127.0.0.1").await;
    let port = listener.address().port();
    let names = ScriptedResolver::new()
        .answer("inner.test", &["127.0.0.1"])
        .answer("other.test", &["127.0.0.1"]);
    let (dialer, _) = dialer(&format!("git=inner.test:{port},tool=127.0.0.1:{port}"), names);

    dialer
        .connect(Purpose::Git, &Host::parse("inner.test").unwrap(), port)
        .await
        .expect("the listed name");
    dialer
        .connect(Purpose::Tool, &Host::parse("127.0.0.1").unwrap(), port)
        .await
        .expect("the listed address");
    assert_eq!(listener.count().await, 2);
    for (purpose, host) in [
        (Purpose::Tarball, "inner.test"),
        (Purpose::Git, "127.0.0.1"),
        (Purpose::Tool, "other.test"),
    ] {
        let result = dialer.connect(purpose, &Host::parse(host).unwrap(), port).await;
        assert!(
            matches!(result, Err(DialError::Refused { .. })),
            "{purpose} {host}: {result:?}"
        );
    }
    assert_eq!(listener.count().await, 2);
}

#[tokio::test]
async fn the_http_client_holds_to_the_rule_and_follows_no_redirect() {
    let inner = CountingListener::on("127.0.0.1").await;
    let server = MockServer::start().await;
    let elsewhere = format!("http://{}/", inner.address());
    Mock::given(path("/jump"))
        .respond_with(ResponseTemplate::new(302).insert_header("location", elsewhere.as_str()))
        .mount(&server)
        .await;
    Mock::given(path("/body"))
        .respond_with(ResponseTemplate::new(200).set_body_string("hello"))
        .mount(&server)
        .await;
    let (dialer, _) = dialer(&format!("tarball={}", server.address()), ScriptedResolver::new());
    let http = client(dialer.clone(), Purpose::Tarball, Protocols::Http1);
    let get = |url: &str| Request::get(url).body(empty_body()).unwrap();

    let answer = http.send(get(&format!("{}/body", server.uri())), SOON).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "hello");
    let answer = http.send(get(&format!("{}/jump", server.uri())), SOON).await.unwrap();
    assert_eq!(answer.status(), StatusCode::FOUND);

    for url in [
        elsewhere.as_str(),
        "http://[::ffff:7f00:1]/",
        "http://2130706433/",
        "https://127.0.0.1/",
    ] {
        let error = http.send(get(url), SOON).await.expect_err(url);
        assert!(
            matches!(error, SendError::Dial(DialError::BadUrl(_))),
            "{url}: {error:?}"
        );
    }
    let webhook = client(dialer, Purpose::Webhook, Protocols::Http1);
    let error = webhook
        .send(get(&format!("{}/body", server.uri())), SOON)
        .await
        .unwrap_err();
    assert!(matches!(error, SendError::Dial(DialError::BadUrl(_))), "{error:?}");
    assert_eq!(inner.count().await, 0);
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let silent = CountingListener::on("127.0.0.1").await;
    let (dialer, _) = dialer(&format!("tool={}", silent.address()), ScriptedResolver::new());
    let http = client(dialer, Purpose::Tool, Protocols::Http1);
    let request = Request::get(format!("http://{}/", silent.address()))
        .body(empty_body())
        .unwrap();

    let error = http.send(request, Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, SendError::Timeout), "{error:?}");
}

#[tokio::test]
async fn what_is_not_there_is_told_by_meaning() {
    let (dialer, _) = dialer("tool=127.0.0.1:9", ScriptedResolver::new());
    let missing = dialer
        .connect(Purpose::Tool, &Host::parse("missing.test").unwrap(), 443)
        .await;
    assert!(matches!(missing, Err(DialError::NotFound { .. })), "{missing:?}");
    let closed = dialer
        .connect(Purpose::Tool, &Host::parse("127.0.0.1").unwrap(), 9)
        .await;
    assert!(matches!(closed, Err(DialError::Io { .. })), "{closed:?}");
}
