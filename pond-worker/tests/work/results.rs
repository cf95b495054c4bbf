//! What is taken from what a job says and leaves.

use std::collections::BTreeMap;
use std::time::Duration;

use pond_core::dispatch::{CredentialRequest, Grant, Job};
use pond_core::logs::LogStream;
use pond_core::pool::JobEnd;
use pond_core::runs::ParseCount;
use pond_core::runs::executors::Shape;
use pond_core::sandbox::Profile;
use pond_core::secret::Secret;

use super::played::{self, Heard, name, parse};

/// A job that is asked for something, and runs this.
async fn asked(script: &str, ask: impl FnOnce(&mut Job)) -> Heard {
    asked_with(script, Grant::default(), ask).await
}

async fn asked_with(script: &str, grant: Grant, ask: impl FnOnce(&mut Job)) -> Heard {
    let mut job = played::job(script, Profile::UntrustedCodeRead, Duration::from_secs(30));
    ask(&mut job);
    played::worked(job, grant).await
}

fn count(heard: &Heard) -> (u64, u64, u64) {
    let ParseCount {
        blocks,
        records,
        invalid,
    } = heard.report.as_ref().and_then(|report| report.parse).expect("counted");
    (blocks, records, invalid)
}

#[track_caller]
fn is_done(heard: &Heard) {
    assert_eq!(
        heard.report.as_ref().map(|report| &report.end),
        Some(&JobEnd::Done),
        "{heard:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_29_records_of_its_output_become_an_artifact_and_bad_ones_are_counted() {
    let script = r#"echo 'here:'; echo '```found'; echo '{"n": 1}'; echo 'not json'; printf '{"n"'; sleep 0.2; echo ': 2}'
        echo '```'; echo '~~~found'; echo '[3]'; echo '~~~' >&2; echo '~~~'; echo '```other'; echo '{"n": 4}'; echo '```'"#;
    let heard = asked(script, |job| job.parse = parse("found", "found.jsonl", Shape::Jsonl)).await;
    is_done(&heard);
    assert_eq!(heard.text("found.jsonl"), "{\"n\": 1}\n{\"n\": 2}\n[3]\n");
    assert_eq!(count(&heard), (2, 3, 1));
    let said = heard
        .lines
        .iter()
        .any(|(stream, line)| (*stream, line.as_str()) == (LogStream::Stdout, "not json"));
    assert!(said, "the log has all of it: {:?}", heard.lines);
    assert!(!heard.artifacts["found.jsonl"].1, "nothing was cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_29_without_a_valid_record_it_fails() {
    let ask = |job: &mut Job| job.parse = parse("found", "found.jsonl", Shape::Jsonl);
    let none = asked("echo '```found'; echo nonsense; echo more; echo '```'", ask).await;
    assert_eq!(none.failure().0, "parse_failed");
    assert!(
        none.failure().1.contains("2 invalid in 1 blocks"),
        "{:?}",
        none.failure()
    );
    assert_eq!(count(&none), (1, 0, 2));
    let silent = asked("echo nothing", ask).await;
    assert_eq!((silent.failure().0, count(&silent)), ("parse_failed", (0, 0, 0)));
    // What it failed of stays what it failed of, and what it said before is kept.
    let script = "echo '```found'; echo 1; echo '```'; exit 4";
    let failed = asked(script, ask).await;
    assert_eq!((failed.failure().0, count(&failed)), ("exit_nonzero", (1, 1, 0)));
    assert_eq!(failed.text("found.jsonl"), "1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_that_it_was_asked_for_is_in_its_output_folder_or_its_last_block() {
    let ask = |job: &mut Job| job.writes_artifact = Some(name("map.json"));
    let file = asked(
        "echo '[1]' > $POND_OUTPUT_DIR/map.json; echo x > $POND_OUTPUT_DIR/more.txt",
        ask,
    )
    .await;
    is_done(&file);
    assert_eq!((file.text("map.json"), file.text("more.txt")), ("[1]\n", "x\n"));
    assert!(file.report.as_ref().is_some_and(|report| report.parse.is_none()));
    let blocks = "echo '```json'; echo 1; echo '```'; echo '```json'; echo '{\"areas\": []}'; echo '```'";
    let block = asked(blocks, ask).await;
    is_done(&block);
    assert_eq!(block.text("map.json"), "{\"areas\": []}\n");
    let both = asked(&format!("{blocks}; echo 7 > $POND_OUTPUT_DIR/map.json"), ask).await;
    assert_eq!(both.text("map.json"), "7\n");
    let labelled = |job: &mut Job| {
        job.parse = parse("found", "found.txt", Shape::Text);
        job.writes_artifact = Some(name("last.txt"));
    };
    let other = asked("echo '```found'; echo 1; echo '```'; echo '```found'; echo 2", labelled).await;
    is_done(&other);
    assert_eq!((other.text("found.txt"), other.text("last.txt")), ("1\n2\n", "2\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_or_malformed_file_is_a_failure() {
    let ask = |job: &mut Job| job.writes_artifact = Some(name("map.json"));
    let missing = asked(
        "echo '```text'; echo 1; echo '```'; mkdir $POND_OUTPUT_DIR/map.json",
        ask,
    )
    .await;
    assert_eq!(missing.failure().0, "artifact_missing");
    let malformed = asked("echo '{' > $POND_OUTPUT_DIR/map.json; echo '```json'; echo 1", ask).await;
    assert_eq!(malformed.failure().0, "artifact_invalid");
    assert_eq!(malformed.text("map.json"), "{\n", "what it left is kept");
    let block = asked("echo '```json'; echo '{\"cut\":'", ask).await;
    assert_eq!(block.failure().0, "artifact_invalid");
    let plain = asked("echo '{' > $POND_OUTPUT_DIR/map.txt", |job| {
        job.writes_artifact = Some(name("map.txt"));
    })
    .await;
    is_done(&plain);
    let failed = asked("exit 3", ask).await;
    assert_eq!(
        failed.failure().0,
        "exit_nonzero",
        "a bad end is not explained by what it did not leave"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_75_no_secret_and_no_name_of_one_is_in_what_is_taken() {
    let secret = "a-very-secret-value";
    let grant = Grant {
        env: BTreeMap::new(),
        secrets: BTreeMap::from([("THE_KEY".to_owned(), Secret::new(secret))]),
    };
    let token = "pond_wk_0123456789abcdef0123456789abcdef";
    let script = format!(
        "echo '```found'; printf '\"a-very'; sleep 0.2; echo '-secret-value\"'; echo '\"{token}\"'; echo '```'
         echo {secret} > $POND_OUTPUT_DIR/f.txt; echo plain > $POND_OUTPUT_DIR/g.txt; echo {token} > $POND_OUTPUT_DIR/t.txt
         echo the-claim-token-of-this-job"
    );
    let ask = |job: &mut Job| {
        job.parse = parse("found", "found.jsonl", Shape::Jsonl);
        job.cred_request = Some(CredentialRequest {
            name: "c".into(),
            project_id: None,
        });
    };
    let heard = asked_with(&script, grant, ask).await;
    is_done(&heard);
    assert_eq!(heard.text("found.jsonl"), "\"[redacted]\"\n\"[redacted]\"\n");
    assert_eq!(heard.text("f.txt"), "[redacted]\n");
    assert_eq!(heard.text("t.txt"), "[redacted]\n");
    let flags = ["found.jsonl", "f.txt", "g.txt", "t.txt"].map(|name| heard.artifacts[name].1);
    assert_eq!(flags, [true, true, false, true]);
    let lines: Vec<&str> = heard.lines.iter().map(|(_, line)| line.as_str()).collect();
    assert!(
        lines.contains(&"\"[redacted:THE_KEY]\"") && lines.contains(&"\"[redacted:token]\""),
        "{lines:?}"
    );
    assert!(lines.contains(&"[redacted:claim]"), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_over_the_cap_are_too_large() {
    let ask = |job: &mut Job| {
        job.parse = parse("found", "found.txt", Shape::Text);
        job.artifact_cap = 10;
    };
    let heard = asked("echo '```found'; echo 0123456789; echo '```'", ask).await;
    assert_eq!(heard.failure().0, "artifact_too_large");
    // The name is Pond's: a file of it is named in the log, and not kept.
    let script = "echo '```found'; echo 1; echo '```'; echo 2 > $POND_OUTPUT_DIR/found.txt";
    let heard = asked(script, |job| job.parse = parse("found", "found.txt", Shape::Text)).await;
    is_done(&heard);
    assert_eq!(heard.text("found.txt"), "1\n");
    assert!(
        heard.lines.iter().any(|(_, line)| line.contains("found.txt")),
        "{:?}",
        heard.lines
    );
}
