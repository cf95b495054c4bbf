//! The way to the provider: the client chooses nothing of it, and the key stays on it.

use pond_core::usage::Tokens;
use pond_worker::broker::{Feature, PROVIDERS};
use pond_worker::net::testing::CountingListener;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::world::{KEY, PATIENCE, Setting, Upstream, World, http, ok, post};

const BODY: &str = r#"{"model":"m","messages":[]}"#;
const ANSWER: &str = r#"{"type":"message","usage":{"input_tokens":11,"output_tokens":7}}"#;

#[tokio::test]
async fn the_real_key_replaces_whatever_the_client_sent() {
    let upstream = Upstream::answering(&[&ok(ANSWER)]).await;
    let mut world = World::start(Setting::new("anthropic", upstream.addr));
    let headers = "x-api-key: sk-dummy\r\nauthorization: Bearer dummy\r\ncookie: a=b\r\nproxy-authorization: x\r\n\
                   x-forwarded-host: evil\r\nanthropic-version: 2023-06-01\r\nuser-agent: agent/1\r\naccept-encoding: gzip\r\n\
                   anthropic-organization: o\r\ntransfer-x: y\r\n";
    let answer = world.post("/v1/messages", headers, BODY).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with(ANSWER),
        "{answer}"
    );
    let request = upstream.requests().remove(0);
    let (head, body) = request.split_once("\r\n\r\n").expect("a head");
    let mut lines: Vec<&str> = head.lines().collect();
    lines[1..].sort_unstable();
    let expected = [
        "post /v1/messages http/1.1".to_owned(),
        "accept-encoding: identity".into(),
        "anthropic-version: 2023-06-01".into(),
        format!("content-length: {}", BODY.len()),
        "content-type: application/json".into(),
        format!("host: {}", upstream.addr),
        "user-agent: agent/1".into(),
        format!("x-api-key: {KEY}"),
    ];
    assert_eq!(lines, expected);
    assert_eq!(body, BODY, "what is not edited passes byte for byte");
    let call = world.call().await;
    assert_eq!(
        call.tokens,
        Tokens {
            input: 11,
            output: 7,
            ..Tokens::default()
        }
    );
    assert_eq!(
        (call.status, call.model.as_str(), call.provider),
        (200, "m", "anthropic")
    );
}

#[tokio::test]
async fn a_token_credential_is_sent_as_bearer() {
    let upstream = Upstream::answering(&[&ok(ANSWER)]).await;
    let mut setting = Setting::new("anthropic", upstream.addr);
    setting.credential[0].0 = "ANTHROPIC_AUTH_TOKEN";
    let world = World::start(setting);
    world.post("/v1/messages", "x-api-key: dummy\r\n", BODY).await;
    let request = upstream.requests().remove(0);
    assert!(
        request.contains(&format!("authorization: bearer {KEY}\r\n")) && !request.contains("x-api-key"),
        "{request}"
    );
}

#[tokio::test]
async fn c17_73_host_absolute_url_and_query_do_not_move_the_upstream() {
    let evil = CountingListener::on("127.0.0.1").await;
    let to = evil.address();
    let upstream = Upstream::answering(&[&ok(ANSWER), &ok(ANSWER), &ok(ANSWER)]).await;
    let world = World::start(Setting::new("anthropic", upstream.addr));
    let by_host = post("/v1/messages", "", BODY).replace("localhost", &to.to_string());
    let by_url = post(&format!("http://{to}/v1/messages"), "", BODY);
    let by_query = post(
        &format!("/v1/messages?beta=true&base_url=http://{to}&beta=a%20b"),
        "",
        BODY,
    );
    for request in [by_host, by_url, by_query] {
        let answer = world.raw(request).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let requests = upstream.requests();
    assert!(
        requests[..2]
            .iter()
            .all(|request| request.starts_with("post /v1/messages http/1.1")),
        "{requests:?}"
    );
    assert!(
        requests[2].starts_with("post /v1/messages?beta=true http/1.1"),
        "{}",
        requests[2]
    );
    assert!(
        requests
            .iter()
            .all(|request| request.contains(&format!("host: {}", upstream.addr)))
    );
    assert_eq!(evil.count().await, 0);
}

#[tokio::test]
async fn c17_73_a_gemini_key_goes_in_a_header_and_no_query_moves_anything() {
    let upstream = Upstream::answering(&[&ok("[]"), &ok("{}")]).await;
    let world = World::start(Setting::new("gemini", upstream.addr));
    let query = "key=mine&alt=sse&alt=proto&$alt=sse&fields=candidates&access_token=x";
    let target = format!("/v1beta/models/m:streamGenerateContent?{query}");
    let answer = world
        .post(&target, "x-goog-api-key: dummy\r\n", r#"{"contents":[]}"#)
        .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let get = "GET /v1beta/models?pageSize=5&key=mine HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert!(world.raw(get).await.starts_with("HTTP/1.1 200"));
    let requests = upstream.requests();
    let [asked, listed] = &requests[..] else {
        panic!("{requests:?}")
    };
    let line = "post /v1beta/models/m:streamgeneratecontent?alt=sse http/1.1\r\n";
    assert!(asked.starts_with(line), "{asked}");
    assert!(
        listed.starts_with("get /v1beta/models?pagesize=5 http/1.1\r\n"),
        "{listed}"
    );
    for request in &requests {
        assert!(request.contains(&format!("x-goog-api-key: {KEY}\r\n")), "{request}");
        assert!(!request.contains("mine") && !request.contains("dummy"), "{request}");
    }
    let refused = world.post("/v1beta/models/x:generateContent", "", "{}").await;
    assert!(
        refused.starts_with("HTTP/1.1 403") && refused.contains(r#""type":"model_not_allowed""#),
        "{refused}"
    );
    assert!(refused.contains(r#""status":"PERMISSION_DENIED""#), "{refused}");
    for target in ["/v1beta/models/m:embedContent", "/v1beta/cachedContents", "/v1/models"] {
        let refused = world.post(target, "", "{}").await;
        assert!(refused.contains("path_not_allowed"), "{target}: {refused}");
    }
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test]
async fn c17_73_other_paths_are_refused_however_spelt() {
    let upstream = Upstream::answering(&[]).await;
    let anthropic = World::start(Setting::new("anthropic", upstream.addr));
    let openai = World::start(Setting::new("openai", upstream.addr));
    let targets = [
        "/",
        "//v1/messages",
        "/v1//messages",
        "/v1/messages/",
        "/v1/./messages",
        "/v1/x/../messages",
        "/v1/%6dessages",
        "/v1%2fmessages",
        "/v1/messages%00",
        "/v1/messages;x",
        "/V1/messages",
        "/v1/files",
        "/v1/messages/batches",
        "/v1/responses",
        "/messages",
        "/v1/models",
        "/v1/organizations",
        "http://evil/v1/files",
        "/v1/messages%3fbeta",
    ];
    for target in targets {
        let answer = anthropic.post(target, "", BODY).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{target}: {answer}");
        assert!(
            answer.contains(r#"{"error":{"message":"#) && answer.contains(r#""type":"path_not_allowed""#),
            "{answer}"
        );
        assert!(
            answer.contains("POST /v1/messages"),
            "the refusal names what is expected: {answer}"
        );
    }
    for target in [
        "/v1/messages",
        "/v1/v1/responses",
        "/v1/threads",
        "/v1/responses/resp_1",
        "/v1/files",
    ] {
        let answer = openai.post(target, "", r#"{"model":"m"}"#).await;
        assert!(
            answer.starts_with("HTTP/1.1 403") && answer.contains("path_not_allowed"),
            "{target}: {answer}"
        );
    }
    for request in [
        "GET /v1/messages HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(),
        "DELETE /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(),
        format!(
            "CONNECT {} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
            upstream.addr
        ),
        "OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(),
    ] {
        let answer = anthropic.raw(&request).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{request}: {answer}");
    }
    assert_eq!(upstream.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn c17_73_a_redirect_is_not_followed() {
    let evil = CountingListener::on("127.0.0.1").await;
    for status in ["301 Moved Permanently", "307 Temporary Redirect"] {
        let location = format!("location: http://{}/v1/messages\r\n", evil.address());
        let upstream = Upstream::answering(&[&http(status, &location, "")]).await;
        let mut world = World::start(Setting::new("anthropic", upstream.addr));
        let answer = world.post("/v1/messages", "", BODY).await;
        assert!(
            answer.starts_with("HTTP/1.1 502") && !answer.contains(&evil.address().to_string()),
            "{answer}"
        );
        assert!(answer.contains(r#""type":"upstream_failed""#), "{answer}");
        let call = world.call().await;
        assert_eq!((call.status, call.tokens), (502, Tokens::default()));
    }
    assert_eq!(evil.count().await, 0);
}

#[tokio::test]
async fn refusals_come_in_the_providers_shape_and_nothing_is_sent() {
    let upstream = Upstream::answering(&[]).await;
    let anthropic = World::start(Setting::new("anthropic", upstream.addr));
    let openai = World::start(Setting::new("openai", upstream.addr));
    let answer = anthropic.post("/v1/messages", "", r#"{"model":"x"}"#).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(
        answer.ends_with(r#"{"error":{"message":"this job may use: m","type":"model_not_allowed"},"type":"error"}"#),
        "{answer}"
    );
    assert!(answer.contains("x-should-retry: false\r\n"), "{answer}");
    let answer = openai.post("/v1/responses", "", r#"{"model":"x"}"#).await;
    let shape = r#"{"error":{"code":"model_not_allowed","message":"this job may use: m","param":null,"type":"model_not_allowed"}}"#;
    assert!(answer.ends_with(shape), "{answer}");
    for (headers, body, status) in [
        ("", r#"{"model":"m","model":"x"}"#, 400),
        ("", r#"{"model":"m""#, 400),
        ("", "[]", 400),
        ("", "", 400),
        ("content-encoding: gzip\r\n", BODY, 415),
        ("anthropic-beta: mcp-client-2025-11-20\r\n", BODY, 403),
    ] {
        let answer = anthropic.post("/v1/messages", headers, body).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{body}: {answer}");
    }
    assert_eq!(upstream.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn beta_values_pass_by_a_list() {
    let upstream = Upstream::answering(&[&ok(ANSWER), &ok(ANSWER), &ok("{}")]).await;
    let betas = "anthropic-beta: interleaved-thinking-2025-05-14, teleport-2030-01-01,claude-code-20250219\r\n";
    let world = World::start(Setting::new("anthropic", upstream.addr));
    world.post("/v1/messages", betas, BODY).await;
    let sent = "anthropic-beta: interleaved-thinking-2025-05-14,claude-code-20250219\r\n";
    assert!(upstream.requests()[0].contains(sent), "{}", upstream.requests()[0]);

    let world = World::start(Setting {
        features: vec![Feature::Mcp],
        ..Setting::new("anthropic", upstream.addr)
    });
    world
        .post("/v1/messages", "anthropic-beta: mcp-client-2025-11-20\r\n", BODY)
        .await;
    assert!(upstream.requests()[1].contains("anthropic-beta: mcp-client-2025-11-20\r\n"));

    let world = World::start(Setting::new("openai", upstream.addr));
    world
        .post(
            "/responses",
            "openai-beta: assistants=v2\r\nopenai-organization: o\r\n",
            r#"{"model":"m"}"#,
        )
        .await;
    let request = &upstream.requests()[2];
    assert!(
        request.starts_with("post /v1/responses ") && !request.contains("openai-"),
        "{request}"
    );
    assert!(request.ends_with(r#"{"model":"m","store":false}"#), "{request}");
}

#[tokio::test]
async fn nothing_the_provider_tells_back_holds_the_key() {
    let body = format!(r#"{{"error":{{"message":"bad key {KEY}","sent":"Bearer {KEY}"}}}}"#);
    let headers = format!("x-request-id: {KEY}\r\nset-cookie: a=b\r\nopenai-organization: acme\r\nretry-after: 3\r\n");
    let upstream = Upstream::answering(&[&http("401 Unauthorized", &headers, &body)]).await;
    let world = World::start(Setting::new("openai", upstream.addr));
    let answer = world.post("/v1/responses", "", r#"{"model":"m"}"#).await;
    assert!(
        answer.starts_with("HTTP/1.1 401") && answer.contains("bad key [redacted]"),
        "{answer}"
    );
    assert!(
        !answer.contains(KEY) && !answer.contains("acme") && !answer.contains("set-cookie"),
        "{answer}"
    );
    assert!(answer.contains("retry-after: 3"), "{answer}");
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_is_a_bad_gateway_without_inner_words() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = closed.local_addr().expect("bound");
    drop(closed);
    let listening = CountingListener::on("127.0.0.1").await;
    let unlisted = Setting {
        allow: None,
        ..Setting::new("anthropic", listening.address())
    };
    for setting in [Setting::new("anthropic", addr), unlisted] {
        let mut world = World::start(setting);
        let answer = world.post("/v1/messages", "", BODY).await;
        assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
        assert!(answer.contains("x-should-retry: true\r\n"), "{answer}");
        let body = answer.split_once("\r\n\r\n").expect("a body").1;
        let text = "the model provider cannot be reached";
        assert_eq!(
            body,
            format!(r#"{{"error":{{"message":"{text}","type":"upstream_failed"}},"type":"error"}}"#)
        );
        let call = world.call().await;
        assert_eq!(
            (call.status, call.tokens, call.estimated),
            (502, Tokens::default(), false)
        );
    }
    assert_eq!(
        listening.count().await,
        0,
        "a private upstream that is not named is not dialled"
    );
}

#[tokio::test]
async fn bodies_have_a_bound_with_and_without_a_length() {
    let upstream = Upstream::answering(&[]).await;
    let world = World::start(Setting::new("anthropic", upstream.addr));
    let long = format!(r#"{{"model":"m","x":"{}"}}"#, "x".repeat(33 << 20));
    let answer = world.post("/v1/messages", "", &long).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let chunk = format!("{:x}\r\n{long}\r\n0\r\n\r\n", long.len());
    let head = "POST /v1/messages HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    let answer = world.raw(format!("{head}{chunk}")).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn a_large_body_passes_whole() {
    let upstream = Upstream::answering(&[&ok(ANSWER)]).await;
    let world = World::start(Setting::new("anthropic", upstream.addr));
    let body = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"{}"}}]}}"#,
        "y".repeat(3 << 20)
    );
    let answer = world.post("/v1/messages", "", &body).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(upstream.requests()[0].ends_with(&body));
}

/// Reads until `text` has come.
async fn until(stream: &mut UnixStream, got: &mut String, text: &str) {
    let mut buffer = [0; 4096];
    while !got.contains(text) {
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut buffer))
            .await
            .expect("in time")
            .expect("bytes");
        assert!(read > 0, "it ended with {got}");
        got.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
}

#[tokio::test]
async fn the_first_streamed_byte_is_passed_before_the_second_is_sent() {
    let (say, script) = mpsc::unbounded_channel();
    let upstream = Upstream::start(vec![script]).await;
    let mut world = World::start(Setting::new("anthropic", upstream.addr));
    let mut stream = world.connect().await;
    stream
        .write_all(post("/v1/messages", "", r#"{"model":"m","stream":true}"#).as_bytes())
        .await
        .expect("sent");
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    say.send(head.as_bytes().to_vec()).expect("open");
    let mut got = String::new();
    until(&mut stream, &mut got, "\r\n\r\n").await;
    for (sent, seen) in [
        ("1\r\ne\r\n", "\r\ne\r\n"),
        ("1\r\nv\r\n", "\r\nv\r\n"),
        ("4\r\nent:\r\n", "\r\nent:\r\n"),
    ] {
        say.send(sent.as_bytes().to_vec()).expect("open");
        until(&mut stream, &mut got, seen).await;
    }
    drop(stream);
    let call = world.call().await;
    assert!(call.estimated && call.status == 200, "{call:?}");
}

#[tokio::test]
async fn an_event_is_passed_at_once_also_while_usage_is_hidden() {
    let (say, script) = mpsc::unbounded_channel();
    let upstream = Upstream::start(vec![script]).await;
    let world = World::start(Setting::new("openai", upstream.addr));
    let mut stream = world.connect().await;
    stream
        .write_all(post("/v1/chat/completions", "", r#"{"model":"m","stream":true}"#).as_bytes())
        .await
        .expect("sent");
    say.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n".to_vec())
        .expect("open");
    let mut got = String::new();
    for word in ["one", "two"] {
        let event = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{word}\"}}}}]}}\n\n");
        say.send(event.clone().into_bytes()).expect("open");
        until(&mut stream, &mut got, &event).await;
    }
    assert!(upstream.requests()[0].ends_with(r#""stream_options":{"include_usage":true}}"#));
}

#[tokio::test]
async fn the_address_dies_with_the_handle_and_calls_under_way_are_told() {
    let (say, script) = mpsc::unbounded_channel();
    let upstream = Upstream::start(vec![script]).await;
    let mut world = World::start(Setting::new("anthropic", upstream.addr));
    let mut stream = world.connect().await;
    stream
        .write_all(post("/v1/messages", "", BODY).as_bytes())
        .await
        .expect("sent");
    say.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc".to_vec())
        .expect("open");
    let mut got = String::new();
    until(&mut stream, &mut got, "abc").await;
    world.broker.close().await;
    assert!(world.calls.try_recv().expect("told").estimated);
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert_eq!(rest, b"", "the connection is gone");
    assert!(UnixStream::connect(&world.socket).await.is_err());
}

#[tokio::test]
async fn a_closed_queue_of_records_lets_no_call_through() {
    let upstream = Upstream::answering(&[]).await;
    let mut world = World::start(Setting::new("anthropic", upstream.addr));
    world.calls.close();
    assert!(world.post("/v1/messages", "", BODY).await.starts_with("HTTP/1.1 502"));
    assert_eq!(upstream.requests(), Vec::<String>::new());
}

#[test]
fn dummy_keys_have_the_shape_and_open_nothing() {
    let shapes = [
        ("anthropic", "sk-ant-api03-"),
        ("openai", "sk-proj-"),
        ("openrouter", "sk-or-v1-"),
        ("gemini", "AIza"),
    ];
    for provider in PROVIDERS {
        let shape = shapes
            .iter()
            .find(|(name, _)| *name == provider.name)
            .map_or("sk-", |(_, shape)| shape);
        assert!(
            provider.dummy_key.starts_with(shape) && provider.dummy_key.len() > 38,
            "{provider:?}"
        );
        assert!(
            provider
                .dummy_key
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        );
    }
}
