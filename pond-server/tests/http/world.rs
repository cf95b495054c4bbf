//! A server on the store in memory, and a caller of it.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use http_body_util::BodyExt;
use pond_core::Pond;
use pond_core::artifacts::{Artifact, ArtifactName, BlobStore};
use pond_core::clock::{Clock, SystemClock};
use pond_core::id::RunId;
use pond_core::runs::Append;
use pond_core::scope::Scope;
use pond_core::secret::Secret;
use pond_core::store::SharedStore;
use pond_server::{AppSettings, AppState, HostRule, app};
use serde_json::{Value, json};
use tower::ServiceExt;

pub(crate) const TOKEN: &str = "service-token-of-the-tests";
/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(crate) pond: Pond,
    pub(crate) state: AppState,
    store: SharedStore,
    app: Router,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    /// Pointers of its field errors.
    pub(crate) fn pointers(&self) -> Vec<String> {
        let errors = self.json()["errors"].as_array().cloned().unwrap_or_default();
        errors
            .iter()
            .map(|error| error["pointer"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// Asserts that it is a problem of this status and code.
    #[track_caller]
    pub(crate) fn is(&self, status: u16, code: &str) -> &Self {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json");
        let body = self.json();
        assert_eq!(body["code"], code, "{body}");
        assert_eq!(body["type"], format!("urn:pond:problem:{code}"));
        assert_eq!(body["request_id"], self.header("x-request-id"));
        self
    }
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with_blobs(pond_store::blobs_in_memory()).await
    }

    pub(crate) async fn with_blobs(blobs: Arc<dyn BlobStore>) -> Self {
        let store = pond_store::memory();
        let pond = Pond::builder(store.clone(), blobs).start().await.expect("an engine");
        let settings = AppSettings {
            label: "test".into(),
            service_token: Secret::new(TOKEN),
            hosts: HostRule::Loopback(None),
            open_metrics: true,
            proxies: Default::default(),
        };
        let state = AppState::new(pond.clone(), settings);
        let app = app(state.clone());
        Self {
            pond,
            state,
            store,
            app,
        }
    }

    pub(crate) fn app(&self) -> Router {
        self.app.clone()
    }

    /// Sends a request as it is, but for a `Host` where it has none.
    pub(crate) async fn send(&self, mut request: Request<Body>) -> Answer {
        let host = axum::http::HeaderValue::from_static("localhost");
        request.headers_mut().entry("host").or_insert(host);
        let answer = self.app.clone().oneshot(request).await.expect("infallible");
        let (head, body) = answer.into_parts();
        let body = tokio::time::timeout(PATIENCE, body.collect())
            .await
            .expect("an end in time");
        let body = body.expect("a whole body").to_bytes().to_vec();
        Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
        }
    }

    pub(crate) fn request(method: &str, path: &str) -> axum::http::request::Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {TOKEN}"))
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: impl Into<Body>) -> Answer {
        self.send(Self::request(method, path).body(body.into()).expect("a request"))
            .await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, Body::empty()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call("POST", path, body.to_string()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, Body::empty()).await
    }

    /// Records an artifact whose bytes are in the blob store under `blob`.
    pub(crate) async fn leave(&self, run: &str, stage: u32, name: &str, blob: &str, size: u64, sha256: [u8; 32]) {
        let artifact = Artifact {
            stage,
            stage_key: format!("s{stage}"),
            substage: None,
            name: ArtifactName::new(name).expect("a name"),
            size,
            sha256,
            redacted: false,
            created_at: SystemClock.now(),
            blob: blob.into(),
        };
        let run = run.parse().expect("a UUID");
        let append = Append {
            run,
            events: Vec::new(),
            log_bytes: 0,
            guard: None,
            piece: None,
            ids: Vec::new(),
            artifacts: vec![artifact],
            usage: Vec::new(),
        };
        self.store.append_events(append).await.expect("it is stored");
    }

    /// Creates a run and gives its id.
    pub(crate) async fn run(&self, body: &Value) -> String {
        let created = self.post("/v1/runs", body).await;
        assert_eq!(created.status, 201, "{}", created.text());
        created.json()["id"].as_str().expect("an id at top level").to_owned()
    }

    /// Creates a run and waits until it has ended.
    pub(crate) async fn ended(&self, body: &Value) -> String {
        let id = self.run(body).await;
        self.wait(&id).await;
        id
    }

    pub(crate) async fn wait(&self, id: &str) {
        let id: RunId = id.parse().expect("a UUID");
        let ended = tokio::time::timeout(PATIENCE, self.pond.runs().wait(Scope::Org, id)).await;
        ended.expect("an end in time").expect("a run");
    }
}

/// One stage that does nothing.
pub(crate) fn noop() -> Value {
    json!({"definition": definition(&[json!({"kind": "noop"})])})
}

/// A stage that goes on until it is cancelled.
pub(crate) fn endless() -> Value {
    json!({"definition": definition(&[json!({"kind": "noop", "ticks": 1, "interval_sec": 3600})])})
}

/// Stages `s0`, `s1` … of these executors, one after the other.
pub(crate) fn definition(executors: &[Value]) -> Value {
    let stages = executors.iter().enumerate();
    let stages: Vec<Value> = stages
        .map(|(index, executor)| json!({"key": format!("s{index}"), "name": "Stage", "executor": executor}))
        .collect();
    let edges: Vec<Value> = (1..executors.len())
        .map(|to| json!({"from": format!("s{}", to - 1), "to": format!("s{to}")}))
        .collect();
    json!({"stages": stages, "edges": edges})
}
