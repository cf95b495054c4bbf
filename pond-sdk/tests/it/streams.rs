//! Events and logs over connections that break: none is lost, none comes twice.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use pond_sdk::api::{Event, EventBody, RunStatus};
use pond_sdk::{Client, Error, RetryPolicy, Secret};
use proptest::prelude::*;

use crate::samples::{self, RUN, detail, ended, line};
use crate::scripted::{self, Scripted};

fn client(url: &str) -> Client {
    let retry = RetryPolicy {
        base: Duration::from_millis(1),
        ..RetryPolicy::default()
    };
    Client::builder(url)
        .token(Secret::new("t"))
        .retry(retry)
        .build()
        .expect("a client")
}

async fn ids(client: &Client, after: Option<u64>) -> Vec<u64> {
    let events: Vec<Event> = client
        .runs()
        .events(RUN, after)
        .try_collect()
        .await
        .expect("events to the end");
    events.iter().map(|event| event.id).collect()
}

fn log(id: u64) -> String {
    samples::sse(id, "log", &line(id, "x"))
}

fn end(id: u64) -> String {
    samples::sse(id, "status", &ended("done"))
}

#[tokio::test]
async fn a_whole_stream_ends_with_the_run() {
    let server = Scripted::play(vec![scripted::sse(&[log(1), log(4), end(5), log(6)].concat())]).await;
    assert_eq!(ids(&client(&server.url), None).await, [1, 4, 5, 6]);
    assert!(!server.requests()[0].contains("last-event-id"));
}

#[tokio::test]
async fn a_broken_stream_goes_on_after_the_last_event() {
    let torn = format!("{}id: 3\nevent: log\ndata: {{\"id\"", [log(1), log(2)].concat());
    let server = Scripted::play(vec![
        scripted::sse_cut(&torn),
        // A server that repeats is no reason to.
        scripted::sse(&[log(2), log(3), end(7)].concat()),
    ])
    .await;
    assert_eq!(ids(&client(&server.url), None).await, [1, 2, 3, 7]);
    assert!(
        server.requests()[1].contains("last-event-id: 2"),
        "{:?}",
        server.requests()
    );
}

#[tokio::test]
async fn a_server_that_closes_early_is_asked_whether_the_run_has_ended() {
    let server = Scripted::play(vec![
        scripted::sse(&log(1)),
        scripted::json("200 OK", &detail("running")),
        scripted::sse(&log(2)),
        scripted::json("200 OK", &detail("done")),
        scripted::sse(&[log(3), end(4)].concat()),
    ])
    .await;
    assert_eq!(ids(&client(&server.url), None).await, [1, 2, 3, 4]);
}

#[tokio::test]
async fn after_the_last_event_nothing_comes_and_that_is_no_error() {
    let server = Scripted::play(vec![
        scripted::sse(": heartbeat\n\n"),
        scripted::json("200 OK", &detail("done")),
        scripted::sse(""),
    ])
    .await;
    assert_eq!(ids(&client(&server.url), Some(9)).await, [0; 0]);
    assert!(server.requests()[2].contains("last-event-id: 9"));
}

#[tokio::test]
async fn a_server_that_stays_away_is_given_up() {
    let retry = RetryPolicy {
        reconnects: 2,
        base: Duration::from_millis(1),
        ..RetryPolicy::none()
    };
    let server = Scripted::play(vec![
        scripted::sse_cut(""),
        scripted::sse_cut(""),
        scripted::sse_cut(""),
    ])
    .await;
    let client = Client::builder(&server.url).retry(retry).build().expect("a client");
    let mut events = client.runs().events(RUN, None);
    assert!(matches!(events.next().await, Some(Err(Error::Unreachable { .. }))));
    assert!(events.next().await.is_none(), "nothing follows an error");
}

#[tokio::test]
async fn an_unknown_run_and_unreadable_data_are_errors() {
    let missing = serde_json::json!({"status": 404, "code": "not_found", "title": "no such run"});
    let server = Scripted::play(vec![scripted::json("404 Not Found", &missing)]).await;
    let error = client(&server.url)
        .runs()
        .events(RUN, None)
        .try_next()
        .await
        .expect_err("no such run");
    assert_eq!(error.code(), Some("not_found"));
    let server = Scripted::play(vec![scripted::sse("id: 1\nevent: log\ndata: no JSON\n\n")]).await;
    let error = client(&server.url)
        .runs()
        .events(RUN, None)
        .try_next()
        .await
        .expect_err("no JSON");
    assert!(matches!(error, Error::Decode { .. }));
}

#[tokio::test]
async fn unknown_types_of_events_are_handed_on() {
    let server = Scripted::play(vec![scripted::sse(
        &["id: 1\nevent: new\ndata: {}\n\n", &end(2)].concat(),
    )])
    .await;
    let events: Vec<Event> = client(&server.url)
        .runs()
        .events(RUN, None)
        .try_collect()
        .await
        .expect("events");
    assert!(matches!(&events[0].body, EventBody::Other { kind, .. } if kind == "new"));
}

#[tokio::test]
async fn waiting_follows_and_falls_back_to_looking() {
    let server = Scripted::play(vec![
        scripted::json("200 OK", &detail("running")),
        scripted::sse(&end(1)),
        scripted::json("200 OK", &detail("done")),
    ])
    .await;
    let ended = client(&server.url).runs().wait(RUN).await.expect("an end");
    assert_eq!(ended.run.status, RunStatus::Done);
    let gone = serde_json::json!({"status": 405, "code": "method_not_allowed"});
    let server = Scripted::play(vec![
        scripted::json("200 OK", &detail("running")),
        scripted::json("405 Method Not Allowed", &gone),
        scripted::json("200 OK", &detail("failed")),
    ])
    .await;
    let ended = client(&server.url).runs().wait(RUN).await.expect("an end");
    assert_eq!(ended.run.status, RunStatus::Failed);
}

#[tokio::test]
async fn a_broken_log_goes_on_after_the_last_line() {
    let ndjson = |body: &str, whole| scripted::chunked("application/x-ndjson", body, whole);
    let server = Scripted::play(vec![
        ndjson(&format!("{}\n{}\n{{\"id\": 3", line(1, "a"), line(2, "b")), false),
        ndjson(&format!("{}\n\n{}", line(2, "b"), line(3, "c")), true),
    ])
    .await;
    let lines = client(&server.url).runs().logs(RUN).stage("a b").stream();
    let lines: Vec<String> = lines.map_ok(|line| line.line).try_collect().await.expect("lines");
    assert_eq!(lines, ["a", "b", "c"]);
    let requests = server.requests();
    assert!(requests[0].contains("/logs?stage=a+b ") && requests[0].contains("accept: application/x-ndjson"));
    assert!(requests[1].contains("/logs?since=2&stage=a+b "), "{requests:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Wherever a stream breaks, the events are those of a whole one.
    #[test]
    fn breaks_do_not_matter(cuts in prop::collection::vec(0_usize..900, 0..4)) {
        let events: Vec<String> = (1..=4).map(log).chain([end(5)]).collect();
        let whole = events.concat();
        // What a server would replay: each answer begins after what the one before has brought in full.
        let mut answers = Vec::new();
        let mut rest = &whole[..];
        for cut in cuts {
            let cut = cut.min(rest.len());
            answers.push(scripted::sse_cut(&rest[..cut]));
            let brought = rest[..cut].rfind("\n\n").map_or(0, |at| at + 2);
            rest = &rest[brought..];
        }
        answers.push(scripted::sse(rest));
        // In case the last break came after the end.
        answers.push(scripted::json("200 OK", &detail("done")));
        answers.push(scripted::sse(""));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let ids = runtime.block_on(async {
            let server = Scripted::play(answers).await;
            ids(&client(&server.url), None).await
        });
        prop_assert_eq!(ids, [1, 2, 3, 4, 5]);
    }
}
