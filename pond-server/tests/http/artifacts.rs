//! Files that a run left.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use axum::body::Body;
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use pond_core::artifacts::{BlobError, BlobStore, ByteStream};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::world::{PATIENCE, World, definition, noop};

const SIZE: u64 = 200 << 20;
const CHUNK: u64 = 64 << 10;

/// A blob of 200 MiB, made as it is read; each byte tells its place.
#[derive(Debug, Default)]
struct Endless {
    made: Arc<AtomicU64>,
}

fn byte(at: u64) -> u8 {
    (at % 251) as u8
}

#[async_trait]
impl BlobStore for Endless {
    async fn put(&self, _: &str, _: ByteStream, _: u64) -> Result<(u64, [u8; 32]), BlobError> {
        Ok((0, [0; 32]))
    }

    async fn get(&self, _: &str, range: Option<Range<u64>>) -> Result<ByteStream, BlobError> {
        let Range { start, end } = range.unwrap_or(0..SIZE);
        let made = self.made.clone();
        Ok(stream::unfold(start, move |at| {
            let made = made.clone();
            async move {
                let next = end.min(at + CHUNK);
                made.fetch_add(next - at, Ordering::Relaxed);
                (at < end).then(|| (Ok(Bytes::from_iter((at..next).map(byte))), next))
            }
        })
        .boxed())
    }

    async fn delete(&self, _: &str) -> Result<(), BlobError> {
        Ok(())
    }

    async fn delete_under(&self, _: &str) -> Result<(), BlobError> {
        Ok(())
    }
}

async fn with_large() -> (World, String, Arc<AtomicU64>) {
    let blobs = Endless::default();
    let made = blobs.made.clone();
    let world = World::with_blobs(Arc::new(blobs)).await;
    let run = world.ended(&noop()).await;
    world.leave(&run, 0, "large.bin", "large", SIZE, [7; 32]).await;
    (world, format!("/v1/runs/{run}/artifacts/large.bin"), made)
}

#[tokio::test]
async fn c17_24_range_etag_and_head_on_200_mib() {
    let (world, path, made) = with_large().await;
    let ask = async |method: &str, headers: &[(&str, &str)]| {
        let request = headers
            .iter()
            .fold(World::request(method, &path), |request, (name, value)| {
                request.header(*name, *value)
            });
        world.send(request.body(Body::empty()).expect("a request")).await
    };
    let etag = format!("\"{}\"", "07".repeat(32));
    let head = ask("HEAD", &[]).await;
    assert_eq!(
        (head.status, head.header("content-length"), head.body.len()),
        (200, "209715200", 0)
    );
    assert_eq!(
        (head.header("etag"), head.header("accept-ranges")),
        (etag.as_str(), "bytes")
    );
    let part = ask("GET", &[("range", "bytes=100000000-100000003")]).await;
    assert_eq!(
        (part.status, part.header("content-range")),
        (206, "bytes 100000000-100000003/209715200")
    );
    assert_eq!(
        part.body,
        [100_000_000, 100_000_001, 100_000_002, 100_000_003].map(byte)
    );
    assert_eq!(
        ask("GET", &[("range", "bytes=-2")]).await.body,
        [SIZE - 2, SIZE - 1].map(byte)
    );
    let outside = ask("GET", &[("range", "bytes=209715200-")]).await;
    outside.is(416, "range_not_satisfiable");
    assert_eq!(outside.header("content-range"), "bytes */209715200");
    assert_eq!(ask("GET", &[("if-none-match", &etag)]).await.status, 304);
    assert_eq!(
        ask("GET", &[("if-range", &etag), ("range", "bytes=0-0")]).await.status,
        206
    );
    let other = ask("HEAD", &[("if-range", "\"other\""), ("range", "bytes=0-0")]).await;
    assert_eq!((other.status, other.header("content-length")), (200, "209715200"));
    // The whole of it is made as it is read, never ahead of its reader.
    let request = World::request("GET", &path)
        .header("host", "localhost")
        .header("accept-encoding", "gzip");
    let answer = world
        .app()
        .oneshot(request.body(Body::empty()).expect("a request"))
        .await
        .expect("infallible");
    assert!(!answer.headers().contains_key("content-encoding"));
    let before = made.load(Ordering::Relaxed);
    let (mut read, mut body) = (0, answer.into_body().into_data_stream());
    while let Some(chunk) = tokio::time::timeout(PATIENCE, body.next()).await.expect("in time") {
        read += chunk.expect("bytes").len() as u64;
        let ahead = made.load(Ordering::Relaxed) - before - read;
        assert!(ahead <= 4 * CHUNK, "{ahead} bytes ahead");
    }
    assert_eq!(read, SIZE);
}

#[tokio::test]
async fn c17_22_no_other_name_is_a_file() {
    let world = World::start().await;
    let run = world.ended(&noop()).await;
    let long = "a".repeat(129);
    for name in [
        "../x", "..%2fx", "%2e%2e/x", "%2fx", "a%00b", ".x", "%2e%2e", "a%ff", &long,
    ] {
        world
            .get(&format!("/v1/runs/{run}/artifacts/{name}"))
            .await
            .is(404, "not_found");
    }
}

#[tokio::test]
async fn c17_23_two_stages_may_write_the_same_name() {
    let world = World::start().await;
    let builtin = json!({"kind": "builtin", "name": "todo_scan"});
    let run = world
        .ended(&json!({"definition": definition(&[builtin.clone(), builtin])}))
        .await;
    let list = world.get(&format!("/v1/runs/{run}/artifacts")).await.json();
    let stages: Vec<&Value> = list["artifacts"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| &one["stage"])
        .collect();
    assert_eq!(stages, ["s0", "s1"]);
    assert_eq!(list["nextCursor"], Value::Null);
    // The second stage's blob is told apart by another size.
    world.leave(&run, 1, "later.txt", "none", 0, [1; 32]).await;
    world.leave(&run, 0, "later.txt", "none", 0, [0; 32]).await;
    let head = async |query: &str| {
        let answer = world
            .call("HEAD", &format!("/v1/runs/{run}/artifacts/results.jsonl{query}"), "")
            .await;
        (answer.status, answer.header("content-type").to_owned())
    };
    for query in ["", "?stage=s0", "?stage=s1"] {
        assert_eq!(head(query).await, (200, "application/x-ndjson".into()), "{query}");
    }
    assert_eq!(head("?stage=s2").await.0, 404);
    assert_eq!(head("?substage=area-001").await.0, 404);
    let place = format!("/v1/runs/{run}/artifacts?stage=s1&limit=1");
    let first = world.get(&place).await.json();
    let cursor = first["nextCursor"].as_str().expect("a cursor");
    let second = world.get(&format!("{place}&cursor={cursor}")).await.json();
    assert_eq!(
        (&first["artifacts"][0]["name"], &second["artifacts"][0]["name"]),
        (&json!("later.txt"), &json!("results.jsonl"))
    );
    assert_eq!(second["nextCursor"], Value::Null);
}

#[tokio::test]
async fn the_plain_name_is_the_later_stage() {
    let world = World::with_blobs(Arc::new(Endless::default())).await;
    let run = world
        .ended(&json!({"definition": definition(&[json!({"kind": "noop"}), json!({"kind": "noop"})])}))
        .await;
    for stage in [1, 0] {
        world.leave(&run, stage, "x", "x", SIZE, [stage as u8; 32]).await;
    }
    let etag = async |query: &str| {
        world
            .call("HEAD", &format!("/v1/runs/{run}/artifacts/x{query}"), "")
            .await
            .header("etag")
            .to_owned()
    };
    assert_eq!(etag("").await, format!("\"{}\"", "01".repeat(32)));
    assert_eq!(etag("?stage=s0").await, format!("\"{}\"", "00".repeat(32)));
}

#[tokio::test]
async fn c17_95_what_a_browser_might_run_comes_as_octets() {
    let world = World::with_blobs(Arc::new(Endless::default())).await;
    let run = world.ended(&noop()).await;
    for name in ["x.html", "x.svg", "x.what"] {
        world.leave(&run, 0, name, "x", 10, [1; 32]).await;
        let answer = world
            .call("HEAD", &format!("/v1/runs/{run}/artifacts/{name}"), "")
            .await;
        for (header, value) in [
            ("content-type", "application/octet-stream"),
            ("content-disposition", &format!("attachment; filename=\"{name}\"")),
            ("x-content-type-options", "nosniff"),
            ("content-security-policy", "sandbox; default-src 'none'"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(header), value, "{name}");
        }
    }
}
