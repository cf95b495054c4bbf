//! Logs and live events.

use std::time::Duration;

use axum::body::Body;
use futures::StreamExt;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::world::{Answer, PATIENCE, World, definition, endless, noop};

/// Events of a stream: id, type, data.
fn events(text: &str) -> Vec<(i64, String, Value)> {
    let field = |event: &str, name: &str| {
        event
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            .map(ToOwned::to_owned)
    };
    let read = |event: &str| {
        let data = serde_json::from_str(&field(event, "data")?).expect("JSON");
        Some((
            field(event, "id")?.parse().expect("a number"),
            field(event, "event")?,
            data,
        ))
    };
    text.split("\n\n").filter_map(read).collect()
}

async fn follow(world: &World, id: &str, after: Option<i64>) -> Answer {
    let request = World::request("GET", &format!("/v1/runs/{id}/events"));
    let request = after
        .into_iter()
        .fold(request, |request, after| request.header("last-event-id", after));
    world.send(request.body(Body::empty()).expect("a request")).await
}

#[tokio::test]
async fn c17_18_polled_logs_equal_streamed_ones_over_reconnects() {
    let world = World::start().await;
    let id = world
        .ended(&json!({"definition": definition(&[json!({"kind": "noop", "ticks": 120}), json!({"kind": "noop"})])}))
        .await;
    let whole = follow(&world, &id, None).await;
    assert!(whole.header("content-type").starts_with("text/event-stream"));
    let whole = events(&whole.text());
    // Cut after every third event, a hundred times over.
    let (mut resumed, mut after) = (Vec::new(), None);
    while resumed.len() < whole.len() {
        let part: Vec<_> = events(&follow(&world, &id, after).await.text())
            .into_iter()
            .take(3)
            .collect();
        after = part.last().map(|event| event.0);
        resumed.extend(part);
    }
    assert_eq!(resumed, whole);
    assert!(whole.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert_eq!(
        whole.last().map(|event| (event.1.as_str(), &event.2["to"])),
        Some(("status", &json!("done")))
    );
    assert_eq!(
        whole[0].2,
        json!({"scope": "run", "key": null, "from": null, "to": "queued", "error": null})
    );
    let streamed: Vec<Value> = whole
        .into_iter()
        .filter(|event| event.1 == "log")
        .map(|event| event.2)
        .collect();
    let (mut polled, mut since) = (Vec::new(), 0);
    loop {
        let page = world
            .get(&format!("/v1/runs/{id}/logs?since={since}&limit=7"))
            .await
            .json();
        let lines = page["logs"].as_array().expect("lines").clone();
        assert_eq!(
            page["nextCursor"],
            lines.last().map_or(json!(since), |line| line["id"].clone())
        );
        since = page["nextCursor"].as_i64().expect("a number");
        if lines.is_empty() {
            break;
        }
        polled.extend(lines);
    }
    assert_eq!(polled, streamed);
    assert_eq!(polled.len(), 121);
    let request = World::request("GET", &format!("/v1/runs/{id}/logs")).header("accept", "application/x-ndjson");
    let all = world.send(request.body(Body::empty()).expect("a request")).await;
    let lines: Vec<Value> = all
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!((lines, all.header("content-type")), (streamed, "application/x-ndjson"));
}

#[tokio::test]
async fn c17_19_since_and_limit_have_bounds() {
    let world = World::start().await;
    let id = world.ended(&noop()).await;
    for query in ["since=-1", "since=x", "limit=0", "limit=501", "after=1"] {
        world
            .get(&format!("/v1/runs/{id}/logs?{query}"))
            .await
            .is(422, "invalid");
    }
    let end = world
        .get(&format!("/v1/runs/{id}/logs?since=99999&limit="))
        .await
        .json();
    assert_eq!(end, json!({"logs": [], "nextCursor": 99999}));
    assert_eq!(
        world.get(&format!("/v1/runs/{id}/logs?stage=other")).await.json(),
        json!({"logs": [], "nextCursor": null})
    );
    let stage = world.get(&format!("/v1/runs/{id}/logs?stage=s0")).await.json();
    assert_eq!(stage["logs"][0]["line"], "tick 1 of 1");
    let refused = world
        .send(
            World::request("GET", &format!("/v1/runs/{id}/events"))
                .header("last-event-id", "x")
                .body(Body::empty())
                .expect("a request"),
        )
        .await;
    assert_eq!(
        (refused.status, refused.pointers()),
        (422, vec!["Last-Event-ID".to_owned()])
    );
}

#[tokio::test]
async fn a_live_stream_tells_at_once_and_ends_when_the_server_closes() {
    let world = World::start().await;
    let id = world.run(&endless()).await;
    let request = World::request("GET", &format!("/v1/runs/{id}/events")).header("host", "localhost");
    let answer = world
        .app()
        .oneshot(request.body(Body::empty()).expect("a request"))
        .await
        .expect("infallible");
    assert!(!answer.headers().contains_key("content-encoding"));
    let mut body = answer.into_body().into_data_stream();
    let first = tokio::time::timeout(PATIENCE, body.next())
        .await
        .expect("in time")
        .expect("an event")
        .expect("bytes");
    assert_eq!(events(&String::from_utf8_lossy(&first))[0].2["to"], "queued");
    world.state.close_streams();
    let rest = tokio::time::timeout(Duration::from_secs(5), Body::from_stream(body).collect()).await;
    rest.expect("it ends").expect("well");
}
