//! One corpus of rules and names, and properties over all others.

use proptest::prelude::*;

use super::*;

fn pattern(text: &str) -> HostPattern {
    HostPattern::parse(text).unwrap_or_else(|bad| panic!("{text}: {bad}"))
}

/// Whether a rule admits a place as a client spells it; a spelling that is no host is admitted by nothing.
fn admits(rule: &str, host: &str, port: u16) -> bool {
    Host::parse(host).is_ok_and(|host| pattern(rule).admits(&host, port))
}

/// Rule, host, port, whether it is admitted.
const CORPUS: &[(&str, &str, u16, bool)] = &[
    ("example.com", "example.com", 443, true),
    ("example.com", "example.com", 80, true),
    ("example.com", "example.com", 8443, false),
    ("example.com:8443", "example.com", 8443, true),
    ("example.com:8443", "example.com", 443, false),
    ("example.com", "EXAMPLE.com.", 443, true),
    ("Example.COM.", "example.com", 443, true),
    ("example.com", "www.example.com", 443, false),
    (".example.com", "a.example.com", 443, true),
    (".example.com", "a.b.example.com", 443, true),
    (".example.com", "example.com", 443, false),
    (".example.com", "notexample.com", 443, false),
    (".example.com", "example.com.evil.io", 443, false),
    (".example.com", "a.example.com.evil.io", 443, false),
    (".example.com", "A.Example.Com.", 443, true),
    (".example.com", "a.example.com..", 443, false),
    (".example.com", ".example.com", 443, false),
    (".example.com", "a.example.com\0", 443, false),
    (".example.com", "a\0.example.com", 443, false),
    (".example.com", "evil.io\0.example.com", 443, false),
    (".example.com", "evil.io@a.example.com", 443, false),
    (".example.com", "a.example.com@evil.io", 443, false),
    (".example.com", "evil.io/.example.com", 443, false),
    (".example.com", "evil.io#.example.com", 443, false),
    (".example.com", "evil.io%2f.example.com", 443, false),
    (".example.com", "a.example.com:443", 443, false),
    (".example.com", "a .example.com", 443, false),
    (".example.com", "a.example\u{3002}com", 443, true),
    (".example.com:8080", "a.example.com", 8080, true),
    (".example.com:8080", "a.example.com", 80, false),
    ("bücher.example", "xn--bcher-kva.example", 443, true),
    ("xn--bcher-kva.example", "BÜCHER.example", 443, true),
    (".bücher.example", "www.xn--bcher-kva.example", 443, true),
    ("8.8.8.8", "8.8.8.8", 443, true),
    ("8.8.8.8", "134744072", 443, true),
    ("8.8.8.8", "0x08080808", 443, true),
    (".example.com", "8.8.8.8", 443, false),
    ("[2001:4860::8888]:8443", "[2001:4860:0::8888]", 8443, true),
    ("[2001:4860::8888]", "[2001:4860::8888]", 443, true),
];

#[test]
fn c17_66_suffixes_admit_sub_domains_alone_and_tricks_change_nothing() {
    for (rule, host, port, admitted) in CORPUS {
        assert_eq!(admits(rule, host, *port), *admitted, "{rule} on {host:?}:{port}");
        if let Some(suffix) = rule.strip_prefix('.') {
            let star = format!("*.{suffix}");
            assert_eq!(admits(&star, host, *port), *admitted, "{star} on {host:?}:{port}");
            assert_eq!(pattern(&star), pattern(rule), "one rule, two spellings");
        }
    }
}

#[test]
fn c17_48_what_is_no_host_rule_is_refused() {
    let long = format!(".{}example.com", "a.".repeat(130));
    for text in [
        "",
        "*",
        "*:443",
        ".",
        "*.",
        "..",
        ".com",
        "*.com",
        ".com:443",
        "*com",
        "a.*.com",
        "*.*.example.com",
        "**.example.com",
        "..example.com",
        "10.0.0.0/8",
        "https://x",
        "https://example.com",
        "x/y",
        "example.com/",
        "x:99999",
        "x:0",
        "x:",
        "x:+80",
        "x:80:80",
        "x:000080",
        "user@example.com",
        "a b.example",
        "a\0.example",
        "[::1",
        "::1",
        ".8.8.8.8",
        "*.8.8.8.8",
        "[::1]x",
        &long,
    ] {
        assert!(
            HostPattern::parse(text).is_err(),
            "{text:?} is {:?}",
            HostPattern::parse(text)
        );
    }
    assert_eq!(HostPattern::parse_exact(".example.com"), Err(BadPattern::NotExact));
    assert!(HostPattern::parse_exact("example.com:8443").is_ok());
}

#[test]
fn a_deny_without_a_port_covers_every_port() {
    let host = Host::parse("a.example.com").unwrap();
    assert!(pattern(".example.com").forbids(&host, 9) && !pattern(".example.com").admits(&host, 9));
    assert!(pattern("a.example.com:9").forbids(&host, 9) && !pattern("a.example.com:9").forbids(&host, 443));
}

#[test]
fn one_rule_lies_within_another() {
    for (wide, narrow, within) in [
        ("example.com", "example.com", true),
        ("example.com", "example.com:443", true),
        ("example.com", "example.com:8443", false),
        ("example.com:443", "example.com", false),
        (".example.com", "a.example.com", true),
        (".example.com", ".b.example.com", true),
        (".example.com", ".example.com", true),
        (".example.com", "example.com", false),
        ("a.example.com", ".example.com", false),
        (".b.example.com", ".example.com", false),
    ] {
        assert_eq!(
            pattern(wide).admits_all_of(&pattern(narrow)),
            within,
            "{narrow} within {wide}"
        );
    }
    assert!(pattern("example.com").forbids_all_of(&pattern("example.com:9")));
    assert!(!pattern("example.com:9").forbids_all_of(&pattern("example.com")));
}

fn name() -> impl Strategy<Value = String> {
    proptest::collection::vec("[a-z]{1,3}", 2..5).prop_map(|labels| labels.join("."))
}

proptest! {
    #[test]
    fn c17_123_a_rule_prints_as_it_reads_and_any_text_is_judged(text in "\\PC{0,40}") {
        if let Ok(pattern) = HostPattern::parse(&text) {
            prop_assert_eq!(HostPattern::parse(pattern.as_str()), Ok(pattern.clone()));
            let stored = serde_json::to_string(&pattern).unwrap();
            prop_assert_eq!(serde_json::from_str::<HostPattern>(&stored).unwrap(), pattern);
        }
    }

    #[test]
    fn c17_123_spellings_of_rule_and_name_do_not_matter(
        rule in name(), name in name(), suffix: bool, dot: bool, upper: bool, port in prop::sample::select(vec![80u16, 443, 8443]),
    ) {
        let spell = |text: &str| {
            let text = if upper { text.to_uppercase() } else { text.to_owned() };
            if dot { format!("{text}.") } else { text }
        };
        let plain = if suffix { format!(".{rule}") } else { rule.clone() };
        let odd = if suffix { format!("*.{}", spell(&rule)) } else { spell(&rule) };
        prop_assert_eq!(admits(&plain, &name, port), admits(&odd, &spell(&name), port));
        let expected = if suffix { name.ends_with(&format!(".{rule}")) } else { name == rule };
        prop_assert_eq!(admits(&plain, &name, port), expected && port != 8443);
    }

    #[test]
    fn what_lies_within_admits_no_more(wide in name(), narrow in name(), wide_suffix: bool, narrow_suffix: bool, host in name(), port in prop::sample::select(vec![80u16, 443, 8443])) {
        let spell = |name: &str, suffix: bool| pattern(&if suffix { format!(".{name}") } else { name.to_owned() });
        let (wide, narrow) = (spell(&wide, wide_suffix), spell(&narrow, narrow_suffix));
        let host = Host::parse(&host).unwrap();
        if wide.admits_all_of(&narrow) && narrow.admits(&host, port) {
            prop_assert!(wide.admits(&host, port));
        }
    }
}
