//! Every store passes the same cases: no list is shorter than the others.

use std::collections::BTreeSet;
use std::process::Command;

use pond_core::testing::conformance::store::STORE_CASES;

#[test]
fn every_store_runs_every_case() {
    let listed = Command::new(std::env::current_exe().unwrap())
        .args(["--list", "--format", "terse"])
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let cases: BTreeSet<&str> = STORE_CASES.iter().copied().collect();
    assert_eq!(cases.len(), STORE_CASES.len());
    for store in ["memory", "sqlite", "postgres"] {
        let prefix = format!("conformance::{store}::");
        let run = listed
            .lines()
            .filter_map(|line| line.strip_prefix(&prefix)?.strip_suffix(": test"));
        assert_eq!(run.collect::<BTreeSet<_>>(), cases, "{store}");
    }
}
