//! Bodies that come in pieces: both ways, with trailers, of known and unknown length, and heads that ask first.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::header::HeaderMap;
use hyper::{Request, StatusCode};
use pond_core::egress::EgressPolicy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::far::{Authority, BOTH, Far};
use super::world::{Job, NAMES, Sending, hosts, request};

const VALUE: &str = "the-value-of-A";

async fn world(places: &[&str]) -> (Authority, Far, Job) {
    let authority = Authority::new();
    let far = Far::start(&authority, &NAMES, &BOTH).await;
    let host = vec![format!("x.test:{}", far.port())];
    let policy = EgressPolicy::new([], &hosts(&host), &[]);
    let job = Job::start(&authority, &[far.port()], policy, &[("A", VALUE, host, places)]);
    (authority, far, job)
}

fn streamed(path: &str) -> (mpsc::Sender<Frame<Bytes>>, Request<Sending>) {
    let (sender, frames) = mpsc::channel(16);
    let frames = ReceiverStream::new(frames).map(Ok::<_, std::io::Error>);
    let request = Request::post(path).header("trailer", "x-last").header("te", "trailers");
    (sender, request.body(StreamBody::new(frames).boxed_unsync()).unwrap())
}

fn data(text: &str) -> Frame<Bytes> {
    Frame::data(Bytes::from(text.to_owned()))
}

#[tokio::test]
async fn agents_24_a_token_split_over_chunks_is_swapped() {
    let (_authority, far, job) = world(&["body"]).await;
    let token = job.token("A");
    for alpn in BOTH {
        let mut client = job.client("x.test", far.port(), alpn).await;
        let (sender, request) = streamed("/");
        let answering = client.ask(request);
        let sending = async {
            for part in ["one ", &token[..7], &token[7..20], &token[20..], " two ", &token[..9]] {
                sender.send(data(part)).await.unwrap();
                tokio::task::yield_now().await;
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("x-last", "said".parse().unwrap());
            sender.send(Frame::trailers(trailers)).await.unwrap();
            drop(sender);
        };
        let (answer, ()) = tokio::join!(answering, sending);
        assert_eq!(answer.unwrap().status, StatusCode::OK);
        let seen = far.last();
        assert_eq!(seen.body, format!("one {VALUE} two {}", &token[..9]), "{alpn}");
        assert_eq!(seen.trailers.expect("trailers")["x-last"], "said", "{alpn}");
        assert_eq!(seen.headers.get("content-length"), None);
    }
}

#[tokio::test]
async fn agents_24_the_length_of_a_body_is_right_or_not_told() {
    let (_authority, far, job) = world(&["body"]).await;
    let token = job.token("A");
    for alpn in BOTH {
        let mut client = job.client("x.test", far.port(), alpn).await;
        let short = format!("{}{token}", "a".repeat(70_000));
        client.ask(request("POST", "/quiet", &[], &short)).await.unwrap();
        let length = 70_000 + VALUE.len();
        assert_eq!(
            far.last().header("content-length"),
            Some(&*length.to_string()),
            "{alpn}"
        );
        assert_eq!(far.last().body.len(), length);

        // Too long to be kept: it passes as it comes.
        let long = format!("{}{token}", "a".repeat(5 << 20));
        let answer = client.ask(request("POST", "/quiet", &[], &long)).await.unwrap();
        assert_eq!(far.last().header("content-length"), None, "{alpn}");
        assert!(far.last().body.ends_with(&format!("a{VALUE}")));
        assert_eq!(far.last().body.len(), (5 << 20) + VALUE.len());
        assert!(answer.body.ends_with(&format!("a{token}")), "and back");
        assert_eq!(answer.headers.get("content-length"), None);
    }
}

#[tokio::test]
async fn agents_53_values_are_taken_out_over_chunk_borders_and_in_trailers() {
    let (_authority, far, job) = world(&["header"]).await;
    let token = job.token("A");
    for alpn in BOTH {
        let mut client = job.client("x.test", far.port(), alpn).await;
        let answer = client
            .get("/bytes", &[("authorization", &token), ("te", "trailers")])
            .await;
        assert_eq!(far.last().header("authorization"), Some(VALUE));
        assert!(
            answer.body.contains(&format!("authorization: {token}")),
            "{}",
            answer.body
        );
        assert_eq!(answer.trailers.expect("trailers")["x-last"], token, "{alpn}");
    }
}

#[tokio::test]
async fn both_ways_stream_at_once() {
    let (_authority, far, job) = world(&["header", "body"]).await;
    let token = job.token("A");
    for alpn in BOTH {
        let mut client = job.client("x.test", far.port(), alpn).await;
        let (sender, request) = streamed("/relay");
        let mut answer = client.send(request).await.unwrap();
        // Each part is back before the next one is sent: nothing is kept for later.
        for part in ["first\n", &format!("second {token}\n"), "third\n"] {
            sender.send(data(part)).await.unwrap();
            let frame = tokio::time::timeout(Duration::from_secs(10), answer.frame()).await;
            let back = frame.expect("in time").unwrap().unwrap().into_data().unwrap();
            assert_eq!(back, part, "{alpn}");
        }
        drop(sender);
        assert!(
            answer
                .frame()
                .await
                .is_none_or(|last| last.unwrap().into_data().is_ok_and(|data| data.is_empty()))
        );
    }
    assert_eq!(far.seen().len(), 2);
}

#[tokio::test]
async fn a_body_that_asks_first_is_not_sent_when_it_is_unwanted() {
    let (_authority, far, job) = world(&["header"]).await;
    for (path, wanted) in [("/denied", false), ("/", true)] {
        let mut tls = job
            .tls(job.trusted(), ("x.test", far.port()), "x.test", &["http/1.1"])
            .await
            .unwrap();
        let host = format!("x.test:{}", far.port());
        let head = format!("PUT {path} HTTP/1.1\r\nHost: {host}\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
        tls.write_all(head.as_bytes()).await.unwrap();
        let mut told = vec![0; 12];
        tls.read_exact(&mut told).await.unwrap();
        let told = String::from_utf8(told).unwrap();
        assert_eq!(told, if wanted { "HTTP/1.1 100" } else { "HTTP/1.1 401" });
        if wanted {
            tls.write_all(b"body").await.unwrap();
            let mut rest = String::new();
            while !rest.contains("HTTP/1.1 200") {
                rest.push(char::from(tls.read_u8().await.expect("an answer")));
            }
            assert_eq!(far.last().body, "body");
        }
    }
}

#[tokio::test]
async fn a_connection_serves_many_requests_and_ends_with_the_far_sides() {
    let (_authority, far, job) = world(&["header"]).await;
    let mut client = job.client("x.test", far.port(), "http/1.1").await;
    for _ in 0..5 {
        assert_eq!(client.get("/", &[]).await.status, StatusCode::OK);
    }
    let last = client.get("/close", &[]).await;
    assert_eq!(last.headers["connection"], "close");
    assert!(client.ask(request("GET", "/", &[], "")).await.is_err());
    let mut client = job.client("x.test", far.port(), "h2").await;
    for _ in 0..5 {
        assert_eq!(client.get("/", &[]).await.status, StatusCode::OK);
    }
    assert_eq!(far.seen().len(), 11);
}
