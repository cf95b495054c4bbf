//! The attack battery, run as an operator runs it: on bubblewrap, by a worker that is root and by one without privileges; and
//! that it finds what is broken.

use std::path::PathBuf;
use std::process::{Command, Output};

use pond_core::pool::WorkerKeys;
use pond_core::sandbox::BackendKind;
use pond_worker::attest::{Order, Report, attest};
use serde_json::Value;

fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_pond-worker").into()
}

/// The backends that are tried here. Another one is one line.
const BACKENDS: [BackendKind; 1] = [BackendKind::Bubblewrap];

async fn battery(groups: &[&str]) -> Report {
    let order = Order {
        program: program(),
        backends: BACKENDS.to_vec(),
        shown: Vec::new(),
        groups: groups.iter().map(|&group| group.to_owned()).collect(),
    };
    attest(&order).await.expect("the battery runs")
}

fn all_held(report: &Report) {
    let broken: Vec<_> = report.cases.iter().filter(|finding| !finding.held).collect();
    assert!(report.all_held(), "{broken:#?}");
    let privileges = if nix::unistd::geteuid().is_root() { 2 } else { 1 };
    let of = |name: &str| report.cases.iter().filter(|finding| finding.name == name).count();
    let first = &report.cases[0].name;
    assert!(of(first) >= privileges * BACKENDS.len(), "{first}");
    // Most cases are shown to be attacks at all; why the others are not is said of each.
    assert!(report.shown > 2 * report.not_shown.len(), "{:#?}", report.not_shown);
}

#[tokio::test]
async fn c17_63_no_host_file_process_privilege_or_kernel_call_is_had_from_inside() {
    all_held(&battery(&["files", "processes", "kernel"]).await);
}

#[tokio::test]
async fn c17_64_what_takes_too_much_does_not_get_it() {
    all_held(&battery(&["bombs"]).await);
}

#[tokio::test]
async fn c17_65_nothing_leaves_but_through_the_proxy() {
    all_held(&battery(&["direct", "addresses", "udp", "dns", "raw", "broker"]).await);
}

#[tokio::test]
async fn c17_66_c17_69_no_trick_gets_by_the_proxy() {
    let groups = [
        "names",
        "spellings",
        "literals",
        "ports",
        "answers",
        "tls",
        "http",
        "nested",
        "gone",
    ];
    let groups: Vec<String> = groups.iter().map(|group| format!("proxy-{group}")).collect();
    all_held(&battery(&groups.iter().map(String::as_str).collect::<Vec<_>>()).await);
}

fn run(words: &[&str]) -> Output {
    let output = Command::new(program()).args(words).output();
    output.expect("the program starts")
}

#[test]
fn c17_117_attest_fails_where_a_sandbox_does_not_hold() {
    // No sandbox at all.
    let open = run(&["worker", "attest", "--backend", "none", "--groups", "direct,files"]);
    let said = String::from_utf8_lossy(&open.stdout);
    assert_eq!(
        open.status.code(),
        Some(1),
        "{said} {}",
        String::from_utf8_lossy(&open.stderr)
    );
    for case in ["direct/tcp-http", "files/read-file", "files/write-host"] {
        let broken = |line: &str| line.starts_with("BROKEN none") && line.contains(case);
        assert!(said.lines().any(broken), "{case}: {said}");
    }
    let unknown = run(&["attest", "--groups", "no-such-group"]);
    assert_eq!(unknown.status.code(), Some(2));
    // What is not started in a closed network refuses to try anything.
    let folder = tempfile::tempdir().expect("a folder");
    let bare = run(&["worker", "attest", "--within", folder.path().to_str().expect("text")]);
    assert_eq!(bare.status.code(), Some(2));
}

#[tokio::test]
async fn c17_117_attest_finds_a_host_folder_in_a_sandbox() {
    let hole = tempfile::Builder::new()
        .prefix("hole-")
        .tempdir_in("/tmp")
        .expect("a folder");
    std::fs::set_permissions(hole.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("own folder");
    std::fs::write(hole.path().join("left"), "canary-of-the-host").expect("own folder");
    let order = Order {
        program: program(),
        backends: vec![BackendKind::Bubblewrap],
        shown: vec![hole.path().to_owned()],
        groups: vec!["files".into()],
    };
    let report = attest(&order).await.expect("the battery runs");
    let broken: Vec<&str> = report
        .cases
        .iter()
        .filter(|f| !f.held)
        .map(|f| f.name.as_str())
        .collect();
    assert!(!report.all_held() && broken.contains(&"read-tree-tmp"), "{broken:?}");
}

#[test]
fn c17_117_attest_signs_with_the_workers_key() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let state = tempfile::tempdir().expect("a folder");
    let entropy = pond_core::testing::SeededEntropy::new(7);
    let identity = pond_worker::link::Identity::open(state.path(), &entropy).expect("made");
    let keys: WorkerKeys = identity.keys().public();
    let state = state.path().to_str().expect("text");
    let output = run(&[
        "attest",
        "--json",
        "--backend",
        "bubblewrap",
        "--groups",
        "dns",
        "--state-dir",
        state,
    ]);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut document: Value = serde_json::from_slice(&output.stdout).expect("one document");
    assert!(document["cases"].as_array().is_some_and(|cases| !cases.is_empty()));
    let signature = document
        .as_object_mut()
        .and_then(|fields| fields.remove("signature"))
        .expect("signed");
    let value = STANDARD
        .decode(signature["value"].as_str().expect("text"))
        .expect("base64");
    let bytes = serde_json_canonicalizer::to_vec(&document).expect("canonical");
    assert!(keys.attests(&bytes, &value));
    document["cases"][0]["held"] = Value::Bool(false);
    let forged = serde_json_canonicalizer::to_vec(&document).expect("canonical");
    assert!(!keys.attests(&forged, &value));
}
