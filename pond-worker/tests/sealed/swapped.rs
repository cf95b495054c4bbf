//! What the far side gets, and what the sandbox gets back.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Version;
use pond_core::config::EgressAction;
use pond_core::egress::EgressPolicy;
use pond_core::secret::Secret;

use super::far::{Authority, BOTH, Far};
use super::world::{Job, NAMES, hosts, request, rule, ruled};

const VALUE: &str = "s3cr3t/value+of=\"A\"";

fn policy(hosts_of_run: &[String]) -> EgressPolicy {
    EgressPolicy::new([], &hosts(hosts_of_run), &[])
}

fn at(host: &str, far: &Far) -> String {
    format!("{host}:{}", far.port())
}

#[tokio::test]
async fn agents_22_53_the_value_goes_where_in_says_and_comes_back_as_the_token() {
    let authority = Authority::new();
    for alpn in BOTH {
        let far = Far::start(&authority, &NAMES, &BOTH).await;
        let hosts = vec![at("x.test", &far)];
        let secrets = [
            ("A", VALUE, hosts.clone(), &["header"][..]),
            ("OWN", "the-value-of-own", hosts.clone(), &["header:X-Own"]),
            ("BODY", "the-value-of-body", hosts.clone(), &["body"]),
        ];
        let job = Job::start(&authority, &[far.port()], policy(&hosts), &secrets);
        let [a, own, body] = ["A", "OWN", "BODY"].map(|name| job.token(name));
        let mut client = job.client("x.test", far.port(), alpn).await;
        let all = format!("{a} {own} {body}");
        let headers = [
            ("authorization", &*all),
            ("x-own", &all),
            ("x-other", &all),
            ("proxy-authorization", &all),
            ("accept-encoding", "gzip"),
        ];
        let answer = client
            .ask(request("POST", &format!("/echo?t={a}"), &headers, &all))
            .await
            .unwrap();
        let seen = far.last();
        assert_eq!(seen.version == Version::HTTP_2, alpn == "h2");
        assert_eq!(seen.header("authorization"), Some(&*format!("{VALUE} {own} {body}")));
        assert_eq!(seen.header("x-own"), Some(&*format!("{a} the-value-of-own {body}")));
        for untouched in ["x-other", "proxy-authorization"] {
            assert_eq!(seen.header(untouched), Some(&*all), "{untouched}");
        }
        assert_eq!(seen.header("accept-encoding"), None);
        let sent = format!("{a} {own} the-value-of-body");
        assert_eq!(
            (&*seen.body, seen.header("content-length")),
            (&*sent, Some(&*sent.len().to_string()))
        );
        assert!(seen.target.ends_with(&format!("/echo?t={a}")), "{}", seen.target);

        assert_eq!(answer.headers["x-echo-authorization"], all);
        assert!(
            answer.body.ends_with(&all) && answer.body.contains(&format!("authorization: {all}")),
            "{answer:?}"
        );
        assert_eq!(answer.headers["content-length"], answer.body.len().to_string());
        let whole = format!("{answer:?}");
        assert!(
            ["s3cr3t", "the-value-of"].iter().all(|value| !whole.contains(value)),
            "{whole}"
        );
    }
}

#[tokio::test]
async fn agents_22_26_another_host_gets_the_token_in_its_own_untouched_tls() {
    let authority = Authority::new();
    let far = Far::start(&authority, &NAMES, &BOTH).await;
    let (secret, other) = (at("x.test", &far), at("other.test", &far));
    let secrets = [("A", VALUE, vec![secret.clone()], &["header", "body"][..])];
    let job = Job::start(&authority, &[far.port()], policy(&[secret, other]), &secrets);
    let tls = job
        .tls(authority.der(), ("other.test", far.port()), "other.test", &["h2"])
        .await;
    assert!(tls.is_ok(), "its own certificate");
    let forged = job
        .tls(job.trusted(), ("other.test", far.port()), "other.test", &["h2"])
        .await;
    assert!(forged.is_err(), "none of the sandbox's");
    assert!(
        job.tls(authority.der(), ("x.test", far.port()), "x.test", &["h2"])
            .await
            .is_err()
    );

    // Another sandbox does not trust this one's authority.
    let second = Job::start(&authority, &[far.port()], policy(&[at("x.test", &far)]), &secrets);
    let crossed = second
        .tls(job.trusted(), ("x.test", far.port()), "x.test", &["h2"])
        .await;
    assert!(crossed.is_err());
}

#[tokio::test]
async fn agents_26_an_authority_that_names_its_hosts_is_trusted_for_no_other() {
    let authority = Authority::new();
    let far = Far::start(&authority, &["x.test", "y.test", "a.b.x.test", "127.0.0.1"], &BOTH).await;
    let places: Vec<String> = ["x.test", "y.test", "a.b.x.test", "127.0.0.1"]
        .map(|host| at(host, &far))
        .to_vec();
    let secrets = [("A", VALUE, places.clone(), &["header"][..])];
    for (named, trusted) in [
        (vec!["x.test:8443"], ["x.test", "a.b.x.test"].as_slice()),
        (vec!["*.x.test"], &["x.test", "a.b.x.test"]),
        (vec!["y.test", "127.0.0.1"], &["y.test", "127.0.0.1"]),
        (vec!["127.0.0.1"], &["127.0.0.1"]),
        (vec![], &["x.test", "y.test", "a.b.x.test", "127.0.0.1"]),
    ] {
        let named: Vec<String> = named.into_iter().map(str::to_owned).collect();
        let job = Job::with_named(&authority, &[far.port()], policy(&places), &secrets, &hosts(&named));
        for host in ["x.test", "y.test", "a.b.x.test", "127.0.0.1"] {
            let tls = job.tls(job.trusted(), (host, far.port()), host, &["h2"]).await;
            assert_eq!(
                tls.is_ok(),
                trusted.contains(&host),
                "{host} by {named:?}: {:?}",
                tls.err()
            );
        }
    }
}

#[tokio::test]
async fn agents_25_another_sandboxes_token_means_nothing() {
    let authority = Authority::new();
    let far = Far::start(&authority, &NAMES, &BOTH).await;
    let host = vec![at("x.test", &far)];
    let secrets = [("A", VALUE, host.clone(), &["header", "body"][..])];
    let [one, other] = [(); 2].map(|()| Job::start(&authority, &[far.port()], policy(&host), &secrets));
    let (own, foreign) = (one.token("A"), other.token("A"));
    assert_ne!(own, foreign);
    let mut client = one.client("x.test", far.port(), "h2").await;
    let both = format!("{own} {foreign}");
    client
        .ask(request("POST", "/", &[("authorization", &both)], &both))
        .await
        .unwrap();
    let expected = format!("{VALUE} {foreign}");
    assert_eq!(
        (far.last().header("authorization"), &*far.last().body),
        (Some(&*expected), &*expected)
    );
}

#[tokio::test]
async fn agents_24_query_and_other_base64_are_left_and_basic_is_not() {
    let authority = Authority::new();
    for alpn in BOTH {
        let far = Far::start(&authority, &NAMES, &BOTH).await;
        let host = vec![at("x.test", &far)];
        let secrets = [("A", VALUE, host.clone(), &["header", "body"][..])];
        let job = Job::start(&authority, &[far.port()], policy(&host), &secrets);
        let token = job.token("A");
        let mut client = job.client("x.test", far.port(), alpn).await;
        let encoded = STANDARD.encode(format!("user:{token}"));
        let basic = format!("Basic {encoded}");
        let sent = request(
            "POST",
            &format!("/echo?q={token}&b={encoded}"),
            &[("authorization", &basic), ("x-api-key", &basic)],
            &basic,
        );
        let answer = client.ask(sent).await.unwrap();
        let seen = far.last();
        let expected = format!("Basic {}", STANDARD.encode(format!("user:{VALUE}")));
        assert_eq!(seen.header("authorization"), Some(&*expected));
        assert_eq!((seen.header("x-api-key"), &*seen.body), (Some(&*basic), &*basic));
        assert!(seen.target.ends_with(&format!("q={token}&b={encoded}")));
        // What it echoes holds the value in base64: that is taken out too.
        assert!(
            !answer.body.contains(&expected) && answer.body.contains(&token),
            "{}",
            answer.body
        );

        // A compressed body is left alone.
        let sent = request("POST", "/", &[("content-encoding", "gzip")], &token);
        client.ask(sent).await.unwrap();
        assert_eq!(far.last().body, token);
    }
}

#[tokio::test]
async fn agents_23_51_54_hosts_ports_and_the_defaults() {
    let authority = Authority::new();
    let far = Far::start(&authority, &NAMES, &BOTH).await;
    let second = Far::start(&authority, &NAMES, &BOTH).await;
    let registry = hosts(&[at("registry.test", &far)]);
    let admins = [ruled(EgressAction::Allow, &at("y.test", &far), false)];
    let below = [
        ruled(EgressAction::Allow, &at(".x.test", &far), false),
        ruled(EgressAction::Allow, &at("x.test", &far), false),
        ruled(EgressAction::Allow, &at("x.test", &second), false),
    ];
    let policy = EgressPolicy::new(admins.into_iter().chain(below), &[], &registry);
    let secrets = [
        ("EVERYWHERE", "everywhere-value", Vec::new(), &["header"][..]),
        ("BELOW", "the-value-below", vec![at("*.X.test", &far)], &["header"]),
        ("PORT", "the-value-port", vec![at("x.test", &second)], &["header"]),
    ];
    let job = Job::start(&authority, &[far.port(), second.port()], policy, &secrets);
    let all = ["EVERYWHERE", "BELOW", "PORT"].map(|name| job.token(name));
    let told = all.join(" ");
    for (host, server, values) in [
        ("y.test", &far, [true, false, false]),
        ("a.b.x.test", &far, [true, true, false]),
        ("x.test", &far, [true, false, false]),
        ("x.test", &second, [true, false, true]),
    ] {
        let mut client = job.client(host, server.port(), "h2").await;
        client.get("/", &[("authorization", &told)]).await;
        let got = server.last().header("authorization").unwrap().to_owned();
        for ((value, token), swapped) in ["everywhere-value", "the-value-below", "the-value-port"]
            .iter()
            .zip(&all)
            .zip(values)
        {
            assert_eq!(
                (got.contains(value), got.contains(token)),
                (swapped, !swapped),
                "{host}: {got}"
            );
        }
    }
    // The registry of the defaults gets no secret: its TLS is its own.
    let own = job
        .tls(authority.der(), ("registry.test", far.port()), "registry.test", &["h2"])
        .await;
    assert!(own.is_ok());
}

#[tokio::test]
async fn agents_27_a_new_value_and_new_hosts_hold_for_the_next_request() {
    let authority = Authority::new();
    let far = Far::start(&authority, &NAMES, &BOTH).await;
    let allowed = [at("x.test", &far), at("y.test", &far)];
    let secrets = [("A", VALUE, vec![at("x.test", &far)], &["header"][..])];
    let job = Job::start(&authority, &[far.port()], policy(&allowed), &secrets);
    let token = job.token("A");
    let mut client = job.client("x.test", far.port(), "http/1.1").await;
    let sent = [("authorization", &*token)];
    client.get("/", &sent).await;
    assert_eq!(far.last().header("authorization"), Some(VALUE));

    assert!(
        job.secrets
            .update(rule("A", &allowed[..1], &["header"]), Secret::new("the-next-value"))
    );
    let answer = client.ask(request("POST", "/", &sent, VALUE)).await.unwrap();
    assert_eq!(far.last().header("authorization"), Some("the-next-value"));
    assert!(!answer.body.contains(VALUE), "the former one is taken out still");

    assert!(
        job.secrets
            .update(rule("A", &allowed[1..], &["header"]), Secret::new("the-next-value"))
    );
    client.get("/", &sent).await;
    assert_eq!(
        far.last().header("authorization"),
        Some(&*token),
        "no more for this host"
    );
    let mut other = job.client("y.test", far.port(), "h2").await;
    other.get("/", &sent).await;
    assert_eq!(far.last().header("authorization"), Some("the-next-value"));

    assert!(job.secrets.remove("A"));
    other.get("/", &sent).await;
    assert_eq!(far.last().header("authorization"), Some(&*token));
    let own = job
        .tls(authority.der(), ("y.test", far.port()), "y.test", &["h2"])
        .await;
    assert!(own.is_ok(), "new tunnels are not opened");
}

#[tokio::test]
async fn agents_28_a_host_that_the_rules_refuse_stays_refused() {
    let authority = Authority::new();
    let far = Far::start(&authority, &NAMES, &BOTH).await;
    let both = [at("x.test", &far), at("y.test", &far)];
    let secrets = [("A", VALUE, both.to_vec(), &["header"][..])];
    let free = Job::start(&authority, &[far.port()], policy(&both), &secrets);
    assert!(free.tunnel("x.test", far.port()).await.is_ok());
    assert_eq!(free.tunnel("other.test", far.port()).await.err(), Some(403));

    let rules = [
        ruled(EgressAction::Allow, &both[0], false),
        ruled(EgressAction::Deny, &both[1], false),
    ];
    let policy = EgressPolicy::new(rules, &hosts(&both), &[]);
    let mut ruled = Job::start(&authority, &[far.port()], policy, &secrets);
    let mut client = ruled.client("x.test", far.port(), "h2").await;
    client.get("/", &[("authorization", &ruled.token("A"))]).await;
    assert_eq!(far.last().header("authorization"), Some(VALUE));
    assert_eq!(ruled.tunnel("y.test", far.port()).await.err(), Some(403));
    let reasons = ruled.refused().await;
    assert!(reasons.contains("y.test"), "{reasons}");
}
