//! Artifacts in a bucket that several servers share.

use std::sync::Arc;

use pond_core::runs::RunStatus;
use pond_core::scope::Scope;
use pond_core::secret::SecretBytes;
use pond_core::{EngineSettings, Pond, Takeover};
use pond_store::testing::{TestDatabase, test_bucket};
use pond_tests::Server;
use pond_tests::world::{body, stage};
use serde_json::json;

/// What two servers are set to alike.
struct Shared {
    database: TestDatabase,
    place: pond_store::S3Place,
}

impl Shared {
    async fn server(&self) -> (Pond, Server) {
        let store = pond_store::open(&self.database.url()).await.unwrap();
        let blobs = pond_store::blobs_in_bucket(&self.place).unwrap();
        let settings = EngineSettings {
            takeover: Takeover::Silent(None),
            ..EngineSettings::default()
        };
        let builder = Pond::builder(store, Arc::clone(&blobs)).root_key(SecretBytes::new(vec![7; 32]));
        let pond = builder.settings(settings).start().await.unwrap();
        (pond.clone(), Server::over(pond).await)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c17_109_an_artifact_stored_by_one_server_is_read_from_another() {
    let shared = Shared {
        database: TestDatabase::create().await,
        place: test_bucket(),
    };
    let ((one, first), (_other, second)) = (shared.server().await, shared.server().await);
    let submission = body(&[stage("todos", &json!({"kind": "builtin", "name": "todo_scan"}))]);
    let (status, run) = first.post("/v1/runs", &submission).await;
    assert_eq!(status, 201, "{run}");
    let id = run["id"].as_str().unwrap().parse().unwrap();
    let ended = one.runs().wait(Scope::Org, id).await.unwrap();
    assert_eq!(
        ended.head.state.phase.status(),
        RunStatus::Done,
        "{:?}",
        ended.head.state
    );
    let path = format!("/v1/runs/{id}/artifacts/results.jsonl");
    let (here, there) = (first.bytes(&path).await, second.bytes(&path).await);
    assert_eq!((here.0, &here), (200, &there));
}
