//! What a job reaches from inside a container, with the few programs of the test's image.

use pond_core::egress::Verdict;
use serde_json::json;

use super::ends::docker;
use super::reach::{Outside, decisions};

/// Runs one of the image's programs where nothing is in its way.
fn on_the_host(arguments: &[&str]) {
    let ended = std::process::Command::new("/bin/busybox").args(arguments).output();
    let ended = ended.expect("tests/docker makes its image of busybox");
    assert!(ended.status.success(), "{arguments:?}: {ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_65_70_on_docker_nothing_leaves_but_what_the_rules_allow_through_the_proxy() {
    let outside = Outside::start().await;
    let (ip, port, dns) = (outside.at.ip(), outside.at.port(), outside.names.at.port());
    let url = format!("http://{ip}:{port}/control");
    let server = format!("{ip}:{dns}");
    tokio::task::block_in_place(|| {
        on_the_host(&["wget", "-q", "-Y", "off", "-O", "-", &url]);
        on_the_host(&["nslookup", "control.test", &server]);
    });
    let world = outside
        .world_with(&["a.test", "other.test"], |settings| {
            settings.backends.docker = docker();
        })
        .await;
    let script = format!(
        r#"
        try() {{ name=$1; shift; echo "$name: $("$@" 2>&1 | tr '\r\n' '  ')"; }}
        ask() {{ printf 'CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n' $1 $1; sleep 1; }}
        tunnel() {{ (ask $1; printf 'GET /tunnel HTTP/1.1\r\nHost: %s\r\n\r\n' $1; sleep 1) | nc 127.0.0.1 8788; }}
        closed() {{ ask $1 | nc 127.0.0.1 8788; }}
        raw() {{ echo raw | timeout 5 nc -w 2 {ip} {port}; }}
        try allowed wget -q -O - http://a.test:{port}/allowed
        try tunnel tunnel a.test:{port}
        try denied wget -O - http://other.test:{port}/denied
        try closed closed other.test:{port}
        try direct timeout 5 wget -q -Y off -O - http://{ip}:{port}/direct
        try named timeout 5 wget -q -Y off -O - http://a.test:{port}/named
        try raw raw
        try lookup timeout 5 nslookup leak.test {ip}:{dns}
        "#
    );
    let sandbox = json!({"sandbox": {
        "profile": "untrusted-code-write", "backend": "docker", "allow_hosts": [format!("a.test:{port}")]
    }});
    let ended = world.run(&script, sandbox).await;
    ended.is_done();
    let said = |name: &str| {
        let line = ended.lines.iter().find_map(|line| line.line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} {:#?}", ended.lines))
    };
    assert_eq!(said("allowed: ").trim(), "outside");
    let tunnel = said("tunnel: ");
    assert!(
        tunnel.contains(" 200 ") && tunnel.trim_end().ends_with("outside"),
        "{tunnel}"
    );
    assert!(said("denied: ").contains("403"), "{}", said("denied: "));
    let reason = format!("nothing allows other.test:{port}: add other.test:{port} to the stage's allow_hosts");
    let closed = said("closed: ");
    assert!(closed.contains(" 403 ") && closed.contains(&reason), "{closed}");
    for way in ["direct: ", "named: ", "raw: ", "lookup: "] {
        assert!(!said(way).contains("outside"), "{way}{}", said(way));
    }
    let mut heard = outside.heard();
    heard.sort();
    let expected = ["GET /allowed HTTP/1.1", "GET /control HTTP/1.1", "GET /tunnel HTTP/1.1"];
    assert_eq!(heard, expected, "{:#?}", ended.lines);
    assert_eq!(outside.names.asked(), ["a.test", "control.test"]);

    let told = decisions(&world, ended.run.head.id).await;
    let mut told: Vec<_> = told
        .iter()
        .map(|one| (one.host.as_str(), one.verdict, one.rule.clone(), one.ip))
        .collect();
    // Those that were let through are told at their end, perhaps behind a later one.
    told.sort_by_key(|one| one.0);
    let allowed = ("a.test", Verdict::Allowed, Some(format!("a.test:{port}")), Some(ip));
    let denied = ("other.test", Verdict::Denied, None, None);
    assert_eq!(told, [allowed.clone(), allowed, denied.clone(), denied]);
    world.close().await;
}
