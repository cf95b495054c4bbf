//! Requests that are carried out once.

use std::sync::Arc;

use axum::body::Body;
use serde_json::{Value, json};

use super::world::{Answer, World, definition, noop};

async fn post(world: &World, path: &str, key: &str, body: &Value) -> Answer {
    let request = World::request("POST", path).header("idempotency-key", key);
    world
        .send(request.body(Body::from(body.to_string())).expect("a request"))
        .await
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer_and_another_body_does_not() {
    let world = World::start().await;
    let first = post(&world, "/v1/runs", "k1", &noop()).await;
    assert_eq!(first.status, 201);
    let again = post(&world, "/v1/runs", "k1", &noop()).await;
    assert_eq!((again.status, &again.body), (201, &first.body));
    assert_eq!(again.header("location"), first.header("location"));
    assert_eq!(
        (
            first.header("idempotency-replayed"),
            again.header("idempotency-replayed")
        ),
        ("", "true")
    );
    assert_eq!(
        world.get("/v1/runs").await.json()["runs"].as_array().map(Vec::len),
        Some(1)
    );
    let other = json!({"definition": definition(&[json!({"kind": "noop", "ticks": 2})])});
    post(&world, "/v1/runs", "k1", &other)
        .await
        .is(422, "idempotency_mismatch");
    // Another route, another key: another request.
    assert_eq!(post(&world, "/v1/runs", "k2", &noop()).await.status, 201);
    let id = first.json()["id"].as_str().expect("an id").to_owned();
    world.wait(&id).await;
    let retry = post(&world, &format!("/v1/runs/{id}/retry"), "k1", &json!({})).await;
    assert_eq!((retry.status, &retry.json()["retryOf"]), (201, &json!(id)));
    assert_eq!(
        world.get("/v1/runs").await.json()["runs"].as_array().map(Vec::len),
        Some(3)
    );
    for bad in ["", &"x".repeat(256), "a b"] {
        let refused = post(&world, "/v1/runs", bad, &noop()).await;
        assert_eq!(
            (refused.status, refused.pointers()),
            (422, vec!["Idempotency-Key".to_owned()]),
            "{bad:?}"
        );
    }
}

#[tokio::test]
async fn what_was_refused_may_be_tried_again() {
    let world = World::start().await;
    let bad = json!({"name": "1", "value": "v"});
    for _ in 0..2 {
        assert_eq!(post(&world, "/v1/admin/variables", "k", &bad).await.status, 422);
    }
    let good = json!({"name": "A", "value": "v"});
    assert_eq!(post(&world, "/v1/admin/variables", "k", &good).await.status, 201);
    assert_eq!(
        post(&world, "/v1/admin/variables", "k", &good).await.status,
        201,
        "the first answer, not an upsert's 200"
    );
}

#[tokio::test]
async fn of_racing_requests_one_is_carried_out() {
    let world = Arc::new(World::start().await);
    let requests = (0..8).map(|_| {
        let world = world.clone();
        tokio::spawn(async move { post(&world, "/v1/runs", "k", &noop()).await })
    });
    for answer in futures::future::join_all(requests).await {
        let answer = answer.expect("an answer");
        if answer.status != 201 {
            answer.is(409, "idempotency_in_flight");
            assert_eq!(answer.header("retry-after"), "1");
        }
    }
    assert_eq!(
        world.get("/v1/runs").await.json()["runs"].as_array().map(Vec::len),
        Some(1)
    );
}
