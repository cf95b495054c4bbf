//! Secrets planted in every place that takes one, in a system of real processes; then everything that comes out of it or stays
//! behind is searched for them: answers, logs, events, artifacts, the database, blobs, the folders of servers, orchestrator and
//! worker, their logs, and what a job sees from inside.

use std::io::Read;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use pond_server::demo::{Sample, ScriptedModel, fixing_script};
use pond_tests::fleet::{Fleet, Program, text};
use pond_worker::net::testing::{GitBehaviour, GitServer};
use reqwest::Method;
use serde_json::{Value, json};

/// With characters that encodings change.
const GIT: &str = "canary/git+7c1e~Zq9==x4fT0m";
const WRONG: &str = "canary/wrong+51aa~Lk2==w8Rb3u";
const TRACKER: &str = "canary/tracker+90d4~Hv6==p1Sy5c";
const REFUSED: &str = "canary/refused+e38b~Nd7==j6Wz2q";

/// Forms in which a secret could turn up.
fn forms(secret: &str) -> Vec<(String, Vec<u8>)> {
    let bytes = secret.as_bytes();
    let mut forms = vec![
        ("as it is".to_owned(), bytes.to_vec()),
        ("in hex".to_owned(), hex::encode(bytes).into_bytes()),
        ("in capital hex".to_owned(), hex::encode_upper(bytes).into_bytes()),
        (
            "percent-encoded".to_owned(),
            utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string().into_bytes(),
        ),
        (
            "with escaped slashes".to_owned(),
            secret.replace('/', "\\/").into_bytes(),
        ),
        ("backwards".to_owned(), bytes.iter().rev().copied().collect()),
    ];
    for shift in 0..3usize {
        let padded = [&b"xx"[..shift], bytes].concat();
        // The letters that no neighbour has a part in.
        let (from, to) = ((shift * 8).div_ceil(6), padded.len() * 8 / 6);
        for (name, text) in [
            ("base64", STANDARD_NO_PAD.encode(&padded)),
            ("url base64", URL_SAFE_NO_PAD.encode(&padded)),
        ] {
            forms.push((format!("{name} shifted by {shift}"), text.as_bytes()[from..to].to_vec()));
        }
    }
    forms
}

/// The bytes, and what they unpack to.
fn layers(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut layers = vec![bytes.to_vec()];
    let mut unpacked = Vec::new();
    if bytes.starts_with(&[0x1f, 0x8b]) && flate2::read::GzDecoder::new(bytes).read_to_end(&mut unpacked).is_ok() {
        layers.push(unpacked);
    }
    layers
}

fn holds(bytes: &[u8], form: &[u8]) -> bool {
    bytes.windows(form.len()).any(|window| window == form)
}

/// That none of the secrets is in any of these.
fn clean(secrets: &[&str], all: &[(String, Vec<u8>)]) {
    let wanted: Vec<_> = secrets.iter().flat_map(|secret| forms(secret)).collect();
    for (name, bytes) in all {
        for layer in layers(bytes) {
            for (how, form) in &wanted {
                assert!(!holds(&layer, form), "{name} holds a secret {how}");
            }
        }
    }
}

/// What a job can see of its own place, and of others'.
const PRY: &str = r"
env; cat ~/.key; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\0' '\n'
find / -xdev -type f -size -64k -not -path '/proc/*' -not -path '/sys/*' -not -path '/usr/*' -not -path '/lib*' -exec cat {} + 2>/dev/null
curl -sS --max-time 5 $BROKER_URL/v1/models; curl -sS --max-time 5 https://tracker.test/ 2>&1
true";

async fn tell(fleet: &Fleet, name: &str, path: &str, into: &mut Vec<(String, Vec<u8>)>) -> Value {
    let (status, answer) = fleet.get(path).await;
    assert_eq!(status, 200, "{path}: {answer}");
    into.push((format!("{name} {path}"), answer.to_string().into_bytes()));
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planted_secret_comes_out_nowhere() {
    let sources = tempfile::tempdir().unwrap();
    Sample::write(&sources.path().join("app")).unwrap();
    let basic = format!("Basic {}", STANDARD.encode(format!("x-access-token:{GIT}")));
    let behaviour = GitBehaviour {
        authorization: Some(basic),
        ..GitBehaviour::default()
    };
    let git = GitServer::start(sources.path(), behaviour).await;
    let allow = format!("git={}", git.address());
    let mut fleet = Fleet::start(&[("POND_OUTBOUND_ALLOW_PRIVATE", &allow)]).await;
    let model = ScriptedModel::start(fixing_script()).await.unwrap();
    let secrets = [GIT, WRONG, TRACKER, REFUSED, model.key()];
    let mut seen: Vec<(String, Vec<u8>)> = Vec::new();

    // Planted, rightly and wrongly.
    let place = git.address().to_string();
    for (name, token) in [("repo", GIT), ("wrong", WRONG)] {
        let body = json!({"name": name, "provider": "git", "hosts": [place], "secrets": {"GIT_TOKEN": token}});
        let told = fleet.made("/v1/admin/credentials", &body).await;
        seen.push((format!("the answer to {name}"), told.to_string().into_bytes()));
    }
    let body = json!({"name": "model", "provider": "anthropic", "env": {"ANTHROPIC_BASE_URL": model.base_url()},
        "hosts": ["tracker.test"], "secrets": {"ANTHROPIC_API_KEY": model.key(), "TRACKER_TOKEN": TRACKER}});
    fleet.made("/v1/admin/credentials", &body).await;
    let entry = json!({"key": "m", "provider": "anthropic", "model_id": "scripted-1", "credential_name": "model"});
    fleet.made("/v1/admin/models", &entry).await;
    fleet
        .made("/v1/admin/harnesses/from-preset", &json!({"preset": "mini"}))
        .await;
    let prying = json!({"key": "prying", "command_template": ["/bin/sh", "-c", format!("({PRY}) > $POND_OUTPUT_DIR/pry.txt; cat $POND_OUTPUT_DIR/pry.txt | head -c 200000")],
        "files": [{"path": ".key", "content": "{{MODEL}} {{SECRET:ANTHROPIC_API_KEY}} {{SECRET:TRACKER_TOKEN}}"}]});
    fleet.made("/v1/admin/harnesses", &prying).await;
    for (path, body) in [
        (
            "/v1/admin/credentials",
            json!({"name": "x", "provider": "git", "secrets": {"GIT_TOKEN": REFUSED}}),
        ),
        (
            "/v1/admin/credentials",
            json!({"name": REFUSED, "provider": "s3", "secrets": {REFUSED: REFUSED}, "nonsense": REFUSED}),
        ),
        (
            "/v1/admin/credentials",
            json!({"name": "x", "secrets": [REFUSED], "hosts": [format!("https://u:{REFUSED}@h")]}),
        ),
        ("/v1/admin/egress", json!({"host": format!("u:{REFUSED}@h")})),
        (
            "/v1/runs",
            json!({"definition": {"stages": []}, "sources": [{"label": "a", "kind": "git_https",
            "config": {"url": format!("https://u:{REFUSED}@h/x")}}]}),
        ),
    ] {
        let (status, told) = fleet.call(&fleet.url, Method::POST, path, Some(&body)).await;
        assert_eq!(status, 422, "{told}");
        seen.push((format!("a refusal of {path}"), told.to_string().into_bytes()));
    }

    // Used: by a job that looks around, by an agent, by a fetch that is refused.
    let url = fleet.url.clone();
    let orchestrator = fleet.orchestrator(&url, &[]).await;
    let worker = fleet
        .worker("worker", &["harness.mini", "harness.prying", "sandbox.bubblewrap"])
        .await;
    let at = model.base_url().trim_start_matches("http://").to_owned();
    let worker = worker
        .with("POND_MODEL_ALLOW_PRIVATE", &at)
        .with("POND_EGRESS_DEFAULTS", "none")
        .up();
    let swarm = |harness: &str| {
        json!({"kind": "swarm", "harness": harness, "model": "m", "prompt": "Find and fix the failing test.",
        "sandbox": {"profile": "untrusted-code-write"}})
    };
    let body = |credential: &str| {
        json!({
            "sources": [{"label": "app", "kind": "git_https", "config": {"url": git.url("app"), "credential": credential}}],
            "definition": {"stages": [
                {"key": "pry", "name": "Pry", "executor": swarm("prying")},
                {"key": "fix", "name": "Fix", "executor": swarm("mini")},
            ]},
        })
    };
    let good = text(&fleet.made("/v1/runs", &body("repo")).await["id"]).to_owned();
    let bad = text(&fleet.made("/v1/runs", &body("wrong")).await["id"]).to_owned();
    let ended = fleet.ended(&good).await;
    assert_eq!(ended["run"]["status"], "done", "{ended:#} {}", worker.said());
    let refused = fleet.ended(&bad).await;
    assert_eq!(refused["run"]["error"]["code"], "source_failed", "{refused:#}");

    // Looked for.
    for id in [&good, &bad] {
        for what in ["", "/logs", "/usage", "/artifacts", "/egress", "/reach"] {
            tell(&fleet, "run", &format!("/v1/runs/{id}{what}"), &mut seen).await;
        }
        let log = fleet.log(id).await;
        seen.push(("the log".into(), Value::from(log).to_string().into_bytes()));
        seen.push((
            "the events".into(),
            format!("{:?}", fleet.events(id).await).into_bytes(),
        ));
    }
    for path in [
        "/v1/runs",
        "/v1/admin/credentials",
        "/v1/admin/harnesses",
        "/v1/admin/models",
        "/v1/admin/audit?limit=500",
        "/v1/admin/pool/orchestrators",
        "/v1/admin/pool/workers",
        "/v1/keys",
        "/health",
    ] {
        tell(&fleet, "list", path, &mut seen).await;
    }
    let pried = fleet
        .get(&format!("/v1/runs/{good}/logs?stage=pry&limit=500"))
        .await
        .1
        .to_string();
    // It did look, and found what stands in their place.
    assert!(
        pried.contains("pond_sealed_") && pried.contains("scripted-1"),
        "{pried}"
    );
    let kept = fleet.kept().await;
    assert!(kept.iter().any(|(name, _)| name.contains("/blobs/")) && kept.iter().any(|(name, _)| name == "segments"));
    clean(&secrets, &seen);
    clean(&secrets, &kept);
    // Nor would their memory be kept.
    for program in [&fleet.server, &orchestrator, &worker] {
        no_core(program);
    }
}

fn no_core(program: &Program) {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", program.pid())).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    let limits: Vec<&str> = core.split_whitespace().skip(4).take(2).collect();
    assert_eq!(limits, ["0", "0"], "{core}");
}

#[test]
fn the_search_finds_what_is_there() {
    let hidden = format!("a{GIT}");
    for encoded in [
        GIT.to_owned(),
        hex::encode(GIT),
        STANDARD.encode(&hidden),
        STANDARD.encode(format!("ab{GIT}z")),
        URL_SAFE_NO_PAD.encode(format!("{GIT}?")),
        utf8_percent_encode(GIT, NON_ALPHANUMERIC).to_string(),
    ] {
        let found = forms(GIT).iter().any(|(_, form)| holds(encoded.as_bytes(), form));
        assert!(found, "{encoded}");
    }
    let mut packed = flate2::read::GzEncoder::new(GIT.as_bytes(), flate2::Compression::fast());
    let mut gzip = Vec::new();
    packed.read_to_end(&mut gzip).unwrap();
    assert!(layers(&gzip).iter().any(|layer| holds(layer, GIT.as_bytes())));
}
