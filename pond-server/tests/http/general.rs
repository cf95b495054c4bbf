//! What holds for every route: problems, callers, hosts, bodies, compression, metrics, the document.

use std::io::Read;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use super::world::{TOKEN, World, noop};

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let world = World::start().await;
    world.get("/nothing").await.is(404, "not_found");
    world.get("/v1/runs/x/y/z").await.is(404, "not_found");
    let refused = world.delete("/v1/runs").await;
    refused.is(405, "method_not_allowed");
    assert_eq!(refused.header("allow"), "POST,GET,HEAD");
    world
        .call("OPTIONS", "/v1/runs", "")
        .await
        .is(405, "method_not_allowed");
    world.call("POST", "/health", "{}").await.is(405, "method_not_allowed");
}

#[tokio::test]
async fn c17_113_who_is_answered() {
    let world = World::start().await;
    let send = async |headers: &[(&str, &str)], path: &str| {
        let request = headers.iter().fold(Request::get(path), |request, (name, value)| {
            request.header(*name, *value)
        });
        world.send(request.body(Body::empty()).expect("a request")).await
    };
    let bearer = format!("Bearer {TOKEN}");
    let refused = send(&[], "/v1/runs").await;
    refused.is(401, "unauthenticated");
    assert!(refused.header("www-authenticate").starts_with("Bearer"));
    send(&[("authorization", "Bearer x")], "/v1/runs")
        .await
        .is(403, "forbidden");
    send(&[("authorization", &bearer), ("x-api-key", "x")], "/v1/runs")
        .await
        .is(401, "unauthenticated");
    send(&[("cookie", &format!("session={TOKEN}"))], "/v1/runs")
        .await
        .is(401, "unauthenticated");
    for name in ["token", "access_token", "api_key"] {
        send(&[("authorization", &bearer)], &format!("/v1/runs?{name}={TOKEN}"))
            .await
            .is(401, "unauthenticated");
    }
    send(&[("authorization", &bearer), ("host", "evil.example")], "/v1/runs")
        .await
        .is(421, "misdirected");
    assert_eq!(
        send(&[("x-api-key", TOKEN), ("host", "127.0.0.1:8001")], "/v1/runs")
            .await
            .status,
        200
    );
    // The caller is asked for before its body, its query and the record are looked at.
    let blind = Request::post("/v1/runs?x=1").body(Body::from("{")).expect("a request");
    world.send(blind).await.is(401, "unauthenticated");
}

#[tokio::test]
async fn request_ids_are_taken_over_when_they_are_sane() {
    let world = World::start().await;
    for (sent, kept) in [
        ("abc-1.2_3", true),
        ("a b", false),
        ("x\u{7f}", false),
        (&"a".repeat(200), false),
    ] {
        let Ok(value) = axum::http::HeaderValue::from_str(sent) else {
            continue;
        };
        let request = World::request("GET", "/v1/nothing").header("x-request-id", value);
        let answer = world.send(request.body(Body::empty()).expect("a request")).await;
        assert_eq!(answer.header("x-request-id") == sent, kept, "{sent:?}");
        answer.is(404, "not_found");
    }
}

#[tokio::test]
async fn bodies_are_read_within_their_limits() {
    let world = World::start().await;
    let post = async |path: &str, kind: Option<&str>, body: Vec<u8>| {
        let request = World::request("POST", path);
        let request = kind
            .into_iter()
            .fold(request, |request, kind| request.header("content-type", kind));
        world.send(request.body(Body::from(body)).expect("a request")).await
    };
    let body = noop().to_string().into_bytes();
    for kind in [
        None,
        Some("application/json"),
        Some("application/x-www-form-urlencoded"),
    ] {
        assert_eq!(post("/v1/runs", kind, body.clone()).await.status, 201);
    }
    post("/v1/runs", Some("text/xml"), body.clone())
        .await
        .is(415, "unsupported_media_type");
    post("/v1/runs", None, Vec::new()).await.is(400, "unreadable");
    post("/v1/runs", None, b"{\"definition\":".to_vec())
        .await
        .is(400, "unreadable");
    // c17_07: the larger limit lets an over-long definition get its own answer.
    post("/v1/runs", None, vec![b' '; 5 << 20])
        .await
        .is(413, "body_too_large");
    post("/v1/admin/variables", None, vec![b' '; (1 << 20) + 1])
        .await
        .is(413, "body_too_large");
    let mut padded = noop();
    padded["definition"]["stages"][0]["name"] = Value::from("x".repeat(1_150_000));
    let long = world.post("/v1/runs", &padded).await;
    assert_eq!(long.status, 422);
    assert_eq!(long.pointers(), ["/definition"]);
}

#[tokio::test]
async fn text_is_compressed_both_ways() {
    let world = World::start().await;
    let request = World::request("GET", "/openapi.json").header("accept-encoding", "gzip");
    let answer = world.send(request.body(Body::empty()).expect("a request")).await;
    assert_eq!(answer.header("content-encoding"), "gzip");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&*answer.body)
        .read_to_string(&mut text)
        .expect("gzip");
    assert!(text.starts_with("{\"openapi\":\"3.1"));
    let mut packed =
        flate2::read::GzEncoder::new(std::io::Cursor::new(noop().to_string()), flate2::Compression::fast());
    let mut body = Vec::new();
    packed.read_to_end(&mut body).expect("gzip");
    let request = World::request("POST", "/v1/runs").header("content-encoding", "gzip");
    assert_eq!(
        world
            .send(request.body(Body::from(body)).expect("a request"))
            .await
            .status,
        201
    );
    let request = World::request("POST", "/v1/runs").header("content-encoding", "gzip");
    world
        .send(request.body(Body::from("{}")).expect("a request"))
        .await
        .is(400, "unreadable");
    let request = World::request("POST", "/v1/runs").header("content-encoding", "br");
    world
        .send(request.body(Body::from("{}")).expect("a request"))
        .await
        .is(415, "unsupported_media_type");
}

#[tokio::test]
async fn who_is_asked_before_how_a_body_is_packed() {
    let world = World::start().await;
    let ask = async |method: &str, path: &str, token: &str| {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-encoding", "br");
        let request = match token {
            "" => request,
            token => request.header("authorization", format!("Bearer {token}")),
        };
        world
            .send(request.body(Body::from("{}")).expect("a request"))
            .await
            .status
    };
    assert_eq!(ask("POST", "/v1/runs", "").await, 401);
    assert_eq!(ask("POST", "/v1/runs", "wrong").await, 403);
    assert_eq!(ask("POST", "/v1/admin/variables", "").await, 401);
    assert_eq!(ask("GET", "/v1/runs", "").await, 401);
    assert_eq!(ask("GET", "/health", "").await, 200);
    assert_eq!(ask("POST", "/nothing/here", "").await, 404);
    assert_eq!(ask("POST", "/v1/runs", TOKEN).await, 415);
}

#[tokio::test]
async fn health_whoami_and_docs_answer() {
    let world = World::start().await;
    for path in ["/health", "/health/live", "/health/ready"] {
        let answer = world
            .send(Request::get(path).body(Body::empty()).expect("a request"))
            .await;
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            answer.json(),
            json!({"status": "ok", "label": "test", "version": version}),
            "{path}"
        );
    }
    let whoami = world.get("/v1/whoami").await.json();
    assert_eq!(whoami["principal"], json!({"kind": "service"}));
    let docs = world.get("/docs").await;
    assert!(
        docs.text().contains("/v1/runs/{id}/artifacts/{name}") && docs.header("content-type").starts_with("text/html")
    );
    world.get("/health?x=1").await.is(422, "invalid");
    world.pond.shutdown().await;
    let gone = world.get("/health/ready").await;
    gone.is(503, "unavailable");
    assert_eq!(gone.header("retry-after"), "1");
}

#[tokio::test]
async fn the_document_holds_every_reference_it_makes() {
    let world = World::start().await;
    let document = world.get("/openapi.json").await.json();
    let text = document.to_string();
    assert!(document["paths"]["/v1/runs"]["post"]["requestBody"].is_object());
    assert_eq!(
        document["paths"]["/v1/runs"]["get"]["parameters"]
            .as_array()
            .map(Vec::len),
        Some(6)
    );
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    for reference in text.split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().expect("a name");
        assert!(schemas.contains_key(name), "{name} is not there");
    }
}

#[tokio::test]
async fn c17_99_triggers_make_no_series() {
    let world = World::start().await;
    let series = async || {
        world
            .get("/metrics")
            .await
            .text()
            .lines()
            .filter(|line| !line.starts_with('#'))
            .count()
    };
    world.ended(&noop()).await;
    let _ = series().await;
    let before = series().await;
    for number in 0..10_000 {
        let mut body = noop();
        body["trigger"] = format!("t{number}").into();
        body["definition"]["stages"][0]["key"] = format!("k{number}").into();
        world.run(&body).await;
    }
    assert_eq!(series().await, before);
    let text = world.get("/metrics").await.text();
    assert!(
        text.contains("pond_runs_started_total{trigger=\"other\"} 10000"),
        "{text}"
    );
    assert!(
        text.contains("pond_http_requests_total{method=\"POST\",route=\"/v1/runs\",status=\"201\"} 10001"),
        "{text}"
    );
}
