//! Budgets at the broker: between calls and in mid-stream, on every wire, by money, tokens and calls, alone and side by side.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use pond_core::usage::{Account, Amounts, Granted, Pico, Slice, draw};
use pond_worker::broker::{Draws, ModelCall, Purse};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::world::{PATIENCE, Setting, Upstream, World, http, ok, post};

/// The engine's side: one limit and the accounts of the jobs that share it.
#[derive(Clone)]
struct Engine {
    limit: Slice,
    accounts: Arc<Mutex<BTreeMap<usize, Account>>>,
}

/// One job's way to it.
struct Job {
    engine: Engine,
    number: usize,
}

impl Engine {
    fn new(limit: Slice) -> Self {
        Self {
            limit,
            accounts: Arc::default(),
        }
    }

    fn purse(&self, number: usize) -> Arc<Purse> {
        let job = Job {
            engine: self.clone(),
            number,
        };
        Arc::new(Purse::new(self.limit, Box::new(job)))
    }

    fn granted(&self) -> Amounts {
        let accounts = self.accounts.lock().expect("unpoisoned");
        accounts
            .values()
            .fold(Amounts::default(), |sum, account| sum + account.granted)
    }
}

#[async_trait]
impl Draws for Job {
    async fn draw(&self, want: Amounts) -> Result<Granted, String> {
        let mut accounts = self.engine.accounts.lock().expect("unpoisoned");
        let others = accounts.iter().filter(|(number, _)| **number != self.number);
        let others = others.fold(Amounts::default(), |sum, (_, account)| sum + account.granted);
        let own = accounts.entry(self.number).or_default();
        Ok(draw(
            own,
            [(self.engine.limit, others), (Slice::default(), Amounts::default())],
            want,
        ))
    }
}

fn tokens(count: u64) -> Slice {
    Slice {
        tokens: Some(count),
        ..Slice::default()
    }
}

fn calls(count: u64) -> Slice {
    Slice {
        calls: Some(count),
        ..Slice::default()
    }
}

fn usd(pico: i64) -> Slice {
    Slice {
        usd: Some(Pico(pico)),
        ..Slice::default()
    }
}

/// A wire: how it is asked, what it answers of 10 tokens in and 10 out, how it streams a text, and how it
/// tells an error in mid-stream.
struct Wire {
    provider: &'static str,
    path: &'static str,
    stream_path: &'static str,
    answer: &'static str,
    kind: &'static str,
    opening: &'static str,
    event: fn(&str) -> String,
    error: fn(&str) -> String,
}

const EVENTS: &str = "text/event-stream";

fn wires() -> Vec<Wire> {
    let gemini = Wire {
        provider: "gemini",
        path: "/v1beta/models/m:generateContent",
        stream_path: "/v1beta/models/m:streamGenerateContent?alt=sse",
        answer: r#"{"candidates":[],"usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":10}}"#,
        kind: EVENTS,
        opening: "",
        event: |text| format!("data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"{text}\"}}]}}}}]}}\n\n"),
        error: |message| {
            format!(
                "data: {{\"error\":{{\"code\":403,\"details\":[{{\"@type\":\"type.googleapis.com/google.rpc.ErrorInfo\",\"domain\":\"pond\",\"reason\":\"budget_exceeded\"}}],\"message\":\"{message}\",\"status\":\"PERMISSION_DENIED\",\"type\":\"budget_exceeded\"}}}}\n\n"
            )
        },
    };
    vec![
        Wire {
            provider: "anthropic",
            path: "/v1/messages",
            stream_path: "/v1/messages",
            answer: r#"{"type":"message","usage":{"input_tokens":10,"output_tokens":10}}"#,
            kind: EVENTS,
            opening: "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":10,\"output_tokens\":1}}}\n\n",
            event: |text| {
                format!(
                    "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"delta\":{{\"type\":\"text_delta\",\"text\":\"{text}\"}}}}\n\n"
                )
            },
            error: |message| {
                format!(
                    "event: error\ndata: {{\"error\":{{\"message\":\"{message}\",\"type\":\"budget_exceeded\"}},\"type\":\"error\"}}\n\n"
                )
            },
        },
        Wire {
            provider: "openai",
            path: "/v1/responses",
            stream_path: "/v1/responses",
            answer: r#"{"usage":{"input_tokens":10,"output_tokens":10}}"#,
            kind: EVENTS,
            opening: "",
            event: |text| {
                format!(
                    "event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\"delta\":\"{text}\"}}\n\n"
                )
            },
            error: |message| {
                format!(
                    "event: error\ndata: {{\"code\":\"budget_exceeded\",\"message\":\"{message}\",\"param\":null,\"type\":\"error\"}}\n\n"
                )
            },
        },
        Wire {
            provider: "openai_compatible",
            path: "/v1/chat/completions",
            stream_path: "/v1/chat/completions",
            answer: r#"{"usage":{"prompt_tokens":10,"completion_tokens":10}}"#,
            kind: EVENTS,
            opening: "",
            event: |text| format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n"),
            error: |message| {
                format!(
                    "data: {{\"error\":{{\"code\":\"budget_exceeded\",\"message\":\"{message}\",\"param\":null,\"type\":\"budget_exceeded\"}}}}\n\n"
                )
            },
        },
        Wire {
            stream_path: "/v1beta/models/m:streamGenerateContent",
            kind: "application/json",
            opening: "[{\"candidates\":[]}",
            event: |text| format!(",\n{{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"{text}\"}}]}}}}]}}"),
            error: |message| {
                format!(
                    ",\n{{\"error\":{{\"code\":403,\"details\":[{{\"@type\":\"type.googleapis.com/google.rpc.ErrorInfo\",\"domain\":\"pond\",\"reason\":\"budget_exceeded\"}}],\"message\":\"{message}\",\"status\":\"PERMISSION_DENIED\",\"type\":\"budget_exceeded\"}}}}]"
                )
            },
            ..gemini
        },
        gemini,
    ]
}

fn world(wire: &Wire, upstream: &Upstream, purse: &Arc<Purse>) -> World {
    World::start(Setting {
        spend: purse.clone(),
        ..Setting::new(wire.provider, upstream.addr)
    })
}

const BODY: &str = r#"{"model":"m"}"#;

#[tokio::test]
async fn c17_74_a_spent_budget_refuses_the_next_call_on_every_wire_and_in_every_kind() {
    // A call of 10 tokens in at 3 and 10 out at 15 USD a million costs 180,000,000 pico-USD.
    for limit in [tokens(20), calls(1), usd(180_000_000)] {
        for wire in wires() {
            let upstream = Upstream::answering(&[&ok(wire.answer)]).await;
            let purse = Engine::new(limit).purse(0);
            let mut world = world(&wire, &upstream, &purse);
            let first = world.post(wire.path, "", BODY).await;
            assert!(first.starts_with("HTTP/1.1 200"), "{}: {first}", wire.provider);
            assert_eq!(purse.exceeded_already(), None);
            world.call().await;
            let second = world.post(wire.path, "", BODY).await;
            assert!(second.starts_with("HTTP/1.1 403"), "{}: {second}", wire.provider);
            assert!(second.contains(r#""type":"budget_exceeded""#), "{second}");
            assert!(second.contains("x-should-retry: false\r\n"), "{second}");
            assert!(
                purse.exceeded().await.message.contains(" of "),
                "it names limit and spend"
            );
            assert_eq!(
                upstream.requests().len(),
                1,
                "{}: nothing more was asked",
                wire.provider
            );
        }
    }
}

/// Streams 100 tokens a time, each when the client has seen the last, and gives what the client saw.
async fn streamed(wire: &Wire, purse: &Arc<Purse>) -> (String, ModelCall) {
    let (say, script) = mpsc::unbounded_channel();
    let upstream = Upstream::start(vec![script]).await;
    let mut world = world(wire, &upstream, purse);
    let mut stream = world.connect().await;
    let body = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#;
    let request = post(wire.stream_path, "", body);
    stream.write_all(request.as_bytes()).await.expect("sent");
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {}\r\nconnection: close\r\n\r\n",
        wire.kind
    );
    say.send(format!("{head}{}", wire.opening).into_bytes()).expect("open");
    let event = (wire.event)(&text());
    let (mut got, mut buffer) = (String::new(), vec![0; 65536]);
    for number in 1..=50 {
        // In two halves, so that an event's beginning may have passed before it is known what it costs.
        let (first, second) = event.split_at(event.len() / 2);
        for half in [first, second] {
            let _ = say.send(half.as_bytes().to_vec());
        }
        while dechunked(&got).len() < wire.opening.len() + number * event.len() {
            let read = tokio::time::timeout(PATIENCE, stream.read(&mut buffer))
                .await
                .expect("in time");
            match read.expect("a whole answer") {
                0 => return (dechunked(&got), world.call().await),
                length => got.push_str(&String::from_utf8_lossy(&buffer[..length])),
            }
        }
    }
    panic!("{}: nothing ended it", wire.provider);
}

/// What estimates take for 100 tokens.
fn text() -> String {
    "w".repeat(400)
}

#[tokio::test]
async fn c17_74_a_stream_that_crosses_the_budget_ends_with_an_error_in_the_providers_shape() {
    // 300 tokens out at 15 USD a million cost 4,500,000,000 pico-USD.
    for limit in [tokens(350), usd(5_000_000_000)] {
        for wire in wires() {
            let purse = Engine::new(limit).purse(0);
            let (body, call) = streamed(&wire, &purse).await;
            let message = purse.exceeded_already().expect("it was cut off").message;
            let whole = format!("{}{}", wire.opening, (wire.event)(&text()).repeat(4));
            assert_eq!(
                body,
                format!("{whole}{}", (wire.error)(&message)),
                "{}: whole events, then the error",
                wire.provider
            );
            if wire.kind != EVENTS {
                serde_json::from_str::<serde_json::Value>(&body).expect("an array to its end");
            }
            assert!(call.estimated && call.status == 200, "{call:?}");
            assert!((400..=425).contains(&call.tokens.output), "{call:?}");
        }
    }
}

/// What has come of the body of an answer that comes in chunks.
fn dechunked(answer: &str) -> String {
    let Some((head, mut rest)) = answer.split_once("\r\n\r\n") else {
        return String::new();
    };
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    let mut body = String::new();
    while let Some((length, more)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).expect("a length");
        let Some(chunk) = more.get(..length) else { break };
        body.push_str(chunk);
        rest = more.get(length + 2..).unwrap_or("");
    }
    body
}

#[tokio::test]
async fn a_stream_within_its_budget_passes_as_it_came_however_small_its_slices() {
    for wire in wires() {
        let engine = Engine::new(tokens(1_000_000));
        // Others hold most of it, so that slices are small.
        let _ = engine.accounts.lock().expect("unpoisoned").insert(
            9,
            Account {
                granted: tokens(990_000).amounts(),
                spent: Amounts::default(),
            },
        );
        let purse = engine.purse(0);
        let (say, script) = mpsc::unbounded_channel();
        let upstream = Upstream::start(vec![script]).await;
        let world = world(&wire, &upstream, &purse);
        let events = (wire.event)("words and words").repeat(200);
        let end = if wire.kind == EVENTS { "" } else { "]" };
        let told = format!("{}{events}{end}", wire.opening);
        let kind = format!("content-type: {}\r\n", wire.kind);
        say.send(http("200 OK", &kind, &told).into_bytes()).expect("open");
        drop(say);
        let body = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#;
        let answer = world.post(wire.stream_path, "", body).await;
        assert!(answer.contains("HTTP/1.1 200"), "{answer:.200}");
        assert_eq!(dechunked(&answer), told, "{}", wire.provider);
        assert_eq!(purse.exceeded_already(), None);
    }
}

#[tokio::test]
async fn c17_107_ten_jobs_share_one_budget_and_overspend_by_the_calls_in_flight_at_most() {
    const JOBS: usize = 10;
    const LIMIT: u64 = 1000;
    let wire = wires().remove(0);
    // Each call uses 20 tokens; ten jobs that never stop by themselves.
    let engine = Engine::new(tokens(LIMIT));
    let jobs = (0..JOBS).map(|number| {
        let (purse, answer) = (engine.purse(number), ok(wire.answer));
        let (provider, path) = (wire.provider, wire.path);
        tokio::spawn(async move {
            let answers: Vec<&str> = std::iter::repeat_n(answer.as_str(), 100).collect();
            let upstream = Upstream::answering(&answers).await;
            let mut world = World::start(Setting {
                spend: purse.clone(),
                ..Setting::new(provider, upstream.addr)
            });
            let mut spent = 0;
            while world.post(path, "", BODY).await.starts_with("HTTP/1.1 200") {
                spent += world.call().await.tokens.total();
            }
            assert!(purse.exceeded_already().is_some());
            spent
        })
    });
    let jobs: Vec<_> = jobs.collect();
    let mut spent = Vec::new();
    for job in jobs {
        spent.push(job.await.expect("no panic"));
    }
    let total: u64 = spent.iter().sum();
    assert!(spent.iter().all(|spent| *spent > 0), "nobody starves: {spent:?}");
    assert!(total <= LIMIT + 20 * JOBS as u64, "{total}");
    assert!(total >= LIMIT - 20 * JOBS as u64, "{total} of {LIMIT} were used");
    assert!(engine.granted().tokens <= LIMIT);
}

#[tokio::test]
async fn without_an_answer_from_the_engine_no_call_is_paid_for() {
    struct Mute;
    #[async_trait]
    impl Draws for Mute {
        async fn draw(&self, _: Amounts) -> Result<Granted, String> {
            Err("not now".into())
        }
    }
    let wire = wires().remove(0);
    let upstream = Upstream::answering(&[]).await;
    let purse = Arc::new(Purse::new(calls(5), Box::new(Mute)));
    let world = world(&wire, &upstream, &purse);
    let answer = world.post(wire.path, "", BODY).await;
    assert!(
        answer.starts_with("HTTP/1.1 403") && answer.contains("not now"),
        "{answer}"
    );
    assert_eq!(upstream.requests(), Vec::<String>::new());
}
