//! What the judge decides, over the same names and rules as everybody else who asks.

use pond_core::config::EgressRule;
use pond_core::egress::SealedRule;
use pond_core::outbound::{AllowPrivate, HostPattern, OutboundUrl, Purpose};
use proptest::prelude::*;

use super::super::head::Head;
use super::*;

fn rule(action: EgressAction, host: &str) -> Ruled {
    let rule = EgressRule {
        host: HostPattern::parse(host).expect("a rule"),
        action,
        upgrade: false,
    };
    Ruled {
        rule,
        from: Origin::Org,
    }
}

/// Whether the proxy opens a tunnel to what stands in a request, under one rule.
fn tunnels(rule: &HostPattern, target: &str) -> bool {
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    let Ok(head) = Head::parse(request.as_bytes()) else {
        return false;
    };
    let judge = Judge::new(EgressPolicy::new([], std::slice::from_ref(rule), &[]));
    let judged = judge.judge(&head.place, Way::Tunnel, Timestamp::from_millis(0));
    matches!(judged, Judged::Allowed { .. })
}

/// Whether the proxy sends a plain request there.
fn sends(rule: &HostPattern, host: &str, port: u16) -> bool {
    let request = format!("GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
    let Ok(head) = Head::parse(request.as_bytes()) else {
        return false;
    };
    let judge = Judge::new(EgressPolicy::new([rule_of(rule)], &[], &[]));
    let judged = judge.judge(&head.place, Way::Plain { upgrade: false }, Timestamp::from_millis(0));
    matches!(judged, Judged::Allowed { .. })
}

fn rule_of(host: &HostPattern) -> Ruled {
    rule(EgressAction::Allow, host.as_str())
}

/// Whether a sealed secret may go there by its own list.
fn sealed(rule: &HostPattern, host: &Host, port: u16) -> bool {
    let sealed = SealedRule {
        name: "KEY".into(),
        hosts: vec![rule.clone()],
        places: Vec::new(),
    };
    sealed.hosts.iter().any(|own| own.admits(host, port))
}

/// Rules and hosts close to each other, in odd spellings.
fn odd_host() -> impl Strategy<Value = String> {
    let label = prop_oneof![
        "[a-c]{1,2}",
        "xn--bcher-kva",
        "[A-C]{1,2}",
        "a_b",
        "[0-9]{1,3}",
        "0x[0-9a-f]{1,2}"
    ];
    let name = proptest::collection::vec(label, 1..5).prop_map(|labels| labels.join("."));
    let end = prop_oneof![9 => Just(""), 1 => Just("."), 1 => Just(".."), 1 => Just("@b.c"), 1 => Just("#x"), 1 => Just("%00"), 1 => Just("\\x")];
    let address = prop_oneof![
        Just("127.0.0.1".to_owned()),
        Just("[::1]".to_owned()),
        Just("[::ffff:8.8.8.8]".to_owned()),
        Just("134744072".to_owned()),
        Just("8.8.8.8".to_owned()),
    ];
    prop_oneof![8 => (name, end).prop_map(|(name, end)| format!("{name}{end}")), 1 => address]
}

fn odd_rule() -> impl Strategy<Value = HostPattern> {
    let start = prop_oneof![Just(""), Just("."), Just("*.")];
    let port = prop_oneof![Just(""), Just(":443"), Just(":80"), Just(":8443")];
    (start, odd_host(), port).prop_filter_map("a rule", |(start, host, port)| {
        HostPattern::parse(&format!("{start}{host}{port}")).ok()
    })
}

/// A host that often falls under the rule.
fn near(rule: &HostPattern) -> impl Strategy<Value = String> + use<> {
    let text = rule.as_str().to_owned();
    let bare = match rule.port() {
        Some(port) => text.trim_end_matches(&format!(":{port}")).to_owned(),
        None => text,
    };
    let (apex, upper) = (
        bare.trim_start_matches('.').to_owned(),
        bare.trim_start_matches('.').to_uppercase(),
    );
    prop_oneof![
        Just(apex.clone()),
        Just(upper),
        Just(format!("{apex}.")),
        Just(format!("a.{apex}")),
        Just(format!("A.b.{apex}.")),
        Just(format!("a{apex}")),
        Just(format!("{apex}.a.b")),
        odd_host(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn c17_123_one_answer_in_proxy_urls_and_sealed_tokens(
        (rule, host) in odd_rule().prop_flat_map(|rule| { let host = near(&rule); (Just(rule), host) }),
        port in prop::sample::select(vec![80u16, 443, 8443]),
    ) {
        let expected = Host::parse(&host).is_ok_and(|host| rule.admits(&host, port));
        // Port 443 is for tunnels; every other one needs a rule that names it.
        let tunnel = expected && (port == 443 || rule.port() == Some(port));
        prop_assert_eq!(tunnels(&rule, &format!("{host}:{port}")), tunnel, "{} on {}:{}", rule, host, port);
        prop_assert_eq!(sends(&rule, &host, port), expected, "{} on http {}:{}", rule, host, port);
        // Broker, sources and credentials read hosts out of URLs.
        let allow = AllowPrivate::parse_for(Purpose::Model, &format!("127.0.0.1:{port},[::1]:{port}")).expect("a list");
        if let Ok(url) = OutboundUrl::parse(&format!("https://{host}:{port}/"), Purpose::Model, &allow) {
            prop_assert_eq!(rule.admits(url.host(), url.port()), expected, "{} on https {}:{}", rule, host, port);
            prop_assert_eq!(sealed(&rule, url.host(), url.port()), expected);
            // A credential's hosts are exact ones.
            if let Ok(exact) = HostPattern::parse_exact(rule.as_str()) {
                prop_assert_eq!(exact.admits(url.host(), url.port()), expected);
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let whole = [&bytes[..], b"\r\n\r\n"].concat();
        let _ = Head::parse(&whole);
        let placed = [b"CONNECT ", &bytes[..], b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        let _ = Head::parse(&placed);
    }

    #[test]
    fn what_is_read_names_one_host(host in odd_host(), other in odd_host()) {
        let request = format!("GET http://{host}/ HTTP/1.1\r\nHost: {other}\r\n\r\n");
        if let Ok(head) = Head::parse(request.as_bytes()) {
            prop_assert_eq!(Host::parse(&host), Ok(head.place.host.clone()));
            prop_assert_eq!(Host::parse(&other), Ok(head.place.host));
        }
    }
}

#[test]
fn a_rule_of_the_host_itself_is_told_before_one_of_its_suffix() {
    let rules = [
        rule(EgressAction::Allow, ".a.test"),
        rule(EgressAction::Allow, "b.a.test"),
    ];
    let judge = Judge::new(EgressPolicy::new(rules, &[], &[]));
    let judged = |host: &str| {
        let place = Place {
            host: Host::parse(host).expect("a host"),
            port: 443,
        };
        match judge.judge(&place, Way::Tunnel, Timestamp::from_millis(0)) {
            Judged::Allowed { rule, .. } => rule,
            Judged::Denied { reason, .. } => panic!("{reason}"),
        }
    };
    assert_eq!(
        (judged("b.a.test").as_str(), judged("c.a.test").as_str()),
        ("b.a.test", ".a.test")
    );
}
