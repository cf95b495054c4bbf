//! Which places the rules let a job reach: told by who was looked up and who was dialled.

use std::sync::Arc;
use std::time::Duration;

use pond_core::egress::Verdict;
use pond_core::testing::ManualClock;

use super::world::{Manner, Place, Setting, World, allow, deny};

#[tokio::test]
async fn c17_66_a_suffix_admits_sub_domains_alone_and_tricks_change_nothing() {
    let place = Place::on(443, Manner::Echo).await;
    for rule in [".example.test", "*.example.test", "*.EXAMPLE.test."] {
        let mut setting = Setting {
            rules: vec![allow(rule), allow("xn--bcher-kva.test")],
            ..Setting::default()
        };
        // All of them lead to the place, if only they are looked up.
        for name in [
            "a.example.test",
            "a.b.example.test",
            "example.test",
            "notexample.test",
            "example.test.evil.test",
            "a.example.test.evil.test",
            "evil.test",
            "xn--bcher-kva.test",
        ] {
            setting.lead(name, &place);
        }
        let world = World::start(setting);
        let before = place.heard().await.len();
        for target in [
            "a.example.test:443",
            "A.Example.TEST.:443",
            "a.b.example.test:443",
            "b\u{fc}cher.test:443",
            "XN--BCHER-KVA.test:443",
        ] {
            // A name of other letters is written in its ASCII form, as every client does.
            let expected = if target.is_ascii() { 200 } else { 403 };
            assert_eq!(world.asked(target).await.0, expected, "{rule} on {target}");
        }
        assert_eq!(place.heard().await.len(), before + 4);
        let looked_up = world.resolver.asked();
        for target in [
            "example.test:443",
            "notexample.test:443",
            "example.test.evil.test:443",
            "a.example.test.evil.test:443",
            "a.example.test..:443",
            ".example.test:443",
            "evil.test@a.example.test:443",
            "a.example.test@evil.test:443",
            "evil.test#.example.test:443",
            "evil.test/.example.test:443",
            "evil.test%2f.example.test:443",
            "evil.test%00.example.test:443",
            "evil.test\\.example.test:443",
            "a.example.test",
            "a.example.test:",
            "a.example.test:0",
            "a.example.test:443:443",
            "a.example.test:+443",
            "a.example.test:00000443",
            "a.example.test:65979",
            "a.example.test:22",
            "a.example.test:8443",
            "a.example.test:80",
            "[a.example.test]:443",
        ] {
            let (status, line) = world.asked(target).await;
            assert!(matches!(status, 400 | 403), "{rule} on {target}: {status} {line}");
        }
        for target in ["evil.test\0.example.test:443", "a.example.test\0:443"] {
            let answer = world
                .raw(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"))
                .await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        }
        let long = format!("{}.example.test:443", "a".repeat(64));
        assert_eq!(world.asked(&long).await.0, 403);
        let longer = format!("{}a.example.test:443", "a.".repeat(150));
        assert_eq!(world.asked(&longer).await.0, 403);
        assert_eq!(world.resolver.asked(), looked_up, "nothing of it was looked up");
        assert_eq!(place.heard().await.len(), before + 4, "and nothing dialled");
        world.close().await;
    }
}

#[tokio::test]
async fn c17_67_private_places_are_reached_by_their_exact_entry_alone() {
    let place = Place::on(443, Manner::Echo).await;
    let other = Place::on(8443, Manner::Echo).await;
    let literal = format!("{}:443", place.ip());
    let mut setting = Setting {
        rules: vec![
            allow("inner.test"),
            allow("inner.test:8443"),
            allow("listed.test"),
            allow("listed.test:8443"),
            allow("mixed.test"),
            allow("metadata.test"),
            allow("embedded.test"),
            allow("169.254.169.254"),
            allow("[fd00:ec2::254]"),
            allow("[::1]"),
            allow("[::ffff:127.0.0.1]"),
            allow("0.0.0.0"),
            allow(&literal),
        ],
        ..Setting::default()
    };
    setting.lead("listed.test", &place);
    // On another address for the other port: the resolver tells one for each name.
    setting.names = vec![
        ("listed.test".into(), place.ip()),
        ("inner.test".into(), place.ip()),
        ("mixed.test".into(), format!("8.8.8.8 {}", place.ip())),
        ("metadata.test".into(), "169.254.169.254".into()),
        ("embedded.test".into(), "64:ff9b::7f00:1".into()),
    ];
    let world = World::start(setting);
    for target in [
        "inner.test:443",
        "inner.test:8443",
        "listed.test:8443",
        "mixed.test:443",
        "metadata.test:443",
        "embedded.test:443",
        "169.254.169.254:443",
        "2852039166:443",
        "0xa9fea9fe:443",
        "[fd00:ec2::254]:443",
        "[::1]:443",
        "[::ffff:127.0.0.1]:443",
        "0:443",
        literal.as_str(),
    ] {
        let (status, line) = world.asked(target).await;
        assert_eq!(status, 403, "{target}: {line}");
        assert!(line.contains("POND_EGRESS_ALLOW_PRIVATE"), "{target}: {line}");
        assert!(!line.contains("loopback") && !line.contains("64:ff9b"), "{line}");
    }
    assert_eq!((place.heard().await.len(), other.heard().await.len()), (0, 0));
    assert_eq!(world.asked("listed.test:443").await.0, 200);
    assert_eq!(world.asked("LISTED.test.:443").await.0, 200);
    assert_eq!((place.heard().await.len(), other.heard().await.len()), (2, 0));
    let denied = world.close().await;
    assert_eq!(
        denied.iter().filter(|one| one.verdict == Verdict::Denied).count(),
        14 + 2
    );
}

#[tokio::test]
async fn c17_68_a_rule_in_scope_makes_the_list_the_operators_own() {
    let place = Place::on(443, Manner::Echo).await;
    let literal = place.ip();
    let world_of = |rules: Vec<pond_core::egress::Ruled>| {
        let mut setting = Setting {
            rules,
            allow_hosts: &["asked.test", "banned.test"],
            defaults: &["registry.test", "banned-registry.test"],
            ..Setting::default()
        };
        for name in ["asked.test", "banned.test", "registry.test", "banned-registry.test"] {
            setting.lead(name, &place);
        }
        setting.private += &format!(",{literal}:443");
        World::start(setting)
    };
    let cases = [
        (vec![], [200, 200, 200, 200, 403]),
        // Banned or not, no `allow_hosts` widens a list that the operator made.
        (vec![deny("elsewhere.test")], [403, 403, 200, 200, 403]),
        (
            vec![deny("banned.test"), allow("banned.test"), deny("banned-registry.test")],
            [403, 403, 200, 403, 403],
        ),
        (vec![allow(&literal)], [403, 403, 200, 200, 200]),
    ];
    for (rules, expected) in cases {
        let world = world_of(rules.clone());
        let before = place.heard().await.len();
        let targets = [
            "asked.test",
            "banned.test",
            "registry.test",
            "banned-registry.test",
            &literal,
        ];
        for (target, expected) in targets.into_iter().zip(expected) {
            let found = world.asked(&format!("{target}:443")).await.0;
            assert_eq!(found, expected, "{target} under {rules:?}");
        }
        let reached = expected.iter().filter(|status| **status == 200).count();
        assert_eq!(place.heard().await.len(), before + reached);
        world.close().await;
    }
}

#[tokio::test]
async fn c17_92_a_name_that_no_rule_allows_is_never_looked_up() {
    let place = Place::on(443, Manner::Echo).await;
    let mut setting = Setting::hosts(&["a.test"], &place);
    setting.lead("data.evil.test", &place);
    let world = World::start(setting);
    for target in ["data.evil.test:443", "b.test:443", "x.a.test:443", "a.test:22"] {
        assert_eq!(world.asked(target).await.0, 403, "{target}");
    }
    let plain = world
        .raw("GET http://data.evil.test/ HTTP/1.1\r\nHost: data.evil.test\r\n\r\n")
        .await;
    assert!(plain.starts_with("HTTP/1.1 403 "), "{plain}");
    assert_eq!(world.resolver.asked(), 0);
    assert_eq!(place.heard().await.len(), 0);
}

#[tokio::test]
async fn c17_92_the_61st_name_of_a_minute_under_suffix_rules_is_denied() {
    let place = Place::on(443, Manner::Echo).await;
    let clock = ManualClock::new();
    let mut setting = Setting {
        rules: vec![allow(".suffix.test"), allow("*.other.test"), allow("own.suffix.test")],
        clock: Some(Arc::clone(&clock)),
        ..Setting::default()
    };
    let name = |number: usize| match number % 2 {
        0 => format!("n{number}.suffix.test"),
        _ => format!("n{number}.other.test"),
    };
    for number in 0..70 {
        setting.names.push((name(number), "127.0.0.1".into()));
    }
    setting.lead("own.suffix.test", &place);
    let world = World::start(setting);
    for number in 0..60 {
        let (_, line) = world.asked(&format!("{}:443", name(number))).await;
        assert!(
            line.contains("POND_EGRESS_ALLOW_PRIVATE"),
            "looked up, and private: {line}"
        );
    }
    assert_eq!(world.resolver.asked(), 60);
    let (status, line) = world.asked("n60.suffix.test:443").await;
    assert!(status == 403 && line.contains("60 names a minute"), "{line}");
    assert!(line.contains("pond egress set n60.suffix.test"), "{line}");
    assert_eq!(world.resolver.asked(), 60, "the 61st was not looked up");
    // Another spelling of one of the 60 is no name more; what has a rule of its own does not count.
    world.asked("N3.OTHER.test.:443").await;
    assert_eq!(world.asked("own.suffix.test:443").await.0, 200);
    assert_eq!(world.resolver.asked(), 62);
    clock.advance(Duration::from_secs(61));
    world.asked("n60.suffix.test:443").await;
    assert_eq!(world.resolver.asked(), 63, "a minute later there is room again");
}
