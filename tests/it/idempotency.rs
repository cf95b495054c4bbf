//! Requests that are carried out once, on every store and by several servers.

use pond_core::EngineSettings;
use pond_core::idempotency::{Content, Entered, OnceKey, Repeatable};
use pond_core::scope::Scope;
use pond_tests::on_every_store;
use pond_tests::server::answer;
use reqwest::Method;
use serde_json::json;

on_every_store! {
    async fn c17_112_of_a_secret_shown_once_the_id_alone_is_kept(world: World) {
        let server = world.serve().await;
        let body = json!({"name": "k", "scopes": ["runs:read"]});
        let create = async || {
            let request = server.request(Method::POST, "/v1/keys").header("idempotency-key", "one");
            answer(request.json(&body)).await
        };
        let (status, first) = create().await;
        assert_eq!(status, 201, "{first}");
        let (status, again) = create().await;
        assert_eq!((status, &again["code"], &again["id"]), (409, &json!("already_created"), &first["id"]));
        let secret = &first["key"].as_str().unwrap().as_bytes()[16..];
        for (place, bytes) in world.stored_bytes().await {
            assert!(!bytes.windows(secret.len()).any(|part| part == secret), "{place}");
        }
        let (_, keys) = server.get("/v1/keys").await;
        assert_eq!(keys["keys"].as_array().map(Vec::len), Some(1));
    }

    async fn another_engine_knows_the_first_answer(world: World) {
        let other = world.another_engine(EngineSettings::default()).await;
        let key = OnceKey::new("k").unwrap();
        let enter = async |pond: &pond_core::Pond, scope, body: &'static [u8]| {
            pond.idempotency().enter(scope, "POST /x", &key, body).await.unwrap()
        };
        let Entered::First(keeping) = enter(&world.pond, Scope::Org, b"a").await else { panic!("the first") };
        assert!(matches!(enter(&other, Scope::Org, b"a").await, Entered::UnderWay));
        assert!(matches!(enter(&other, Scope::Org, b"b").await, Entered::Mismatch));
        // Another caller's keys are its own.
        let own = Scope::Project(world.project());
        assert!(matches!(enter(&other, own, b"b").await, Entered::First(_)));
        world.pond.idempotency().keep(keeping, 201, None, b"{}", Repeatable::Whole).await.unwrap();
        let Entered::Done(kept) = enter(&other, Scope::Org, b"a").await else { panic!("done") };
        assert_eq!((kept.status, kept.content), (201, Content::Whole(b"{}".to_vec())));
        other.shutdown().await;
    }
}
