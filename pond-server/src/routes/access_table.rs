//! The table principal × route, as a test: each caller on each route, with the status of the conventions. A route without a
//! line here fails.

use std::collections::BTreeSet;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use pond_core::Pond;
use pond_core::clock::Timestamp;
use pond_core::keys::{ApiKey, KeyScope};
use pond_core::scope::Scope;
use pond_core::secret::Secret;
use pond_core::store::SharedStore;
use pond_core::testing::Samples;
use serde_json::{Value, json};
use tower::ServiceExt;

use self::Opens::{Anyone, Callers, Keys, Orchestrators, Service};
use super::{app, endpoints};
use crate::hosts::HostRule;
use crate::state::{AppSettings, AppState};

const SERVICE: &str = "service-token-of-the-table";
const NOWHERE: &str = "0197a000-0000-7000-8000-00000000dead";

/// Whom a route lets in beside the service token, which opens every one.
enum Opens {
    /// Whoever asks.
    Anyone,
    /// Whoever has a good token.
    Callers,
    /// Keys with one of these scopes; the first is told to those who lack it.
    Keys(&'static [&'static str]),
    /// Nobody else.
    Service,
    /// Paired orchestrators alone, by their own tokens; not even the service token.
    Orchestrators,
}

const READ: Opens = Keys(&["runs:read", "runs:write"]);
const WRITE: Opens = Keys(&["runs:write"]);

#[rustfmt::skip]
const TABLE: &[(&str, Opens)] = &[
    ("POST /v1/runs", WRITE),
    ("GET /v1/runs", READ),
    ("POST /v1/runs/preflight", WRITE),
    ("GET /v1/runs/{id}", READ),
    ("GET /v1/runs/{id}/logs", READ),
    ("GET /v1/runs/{id}/events", READ),
    ("GET /v1/runs/{id}/usage", READ),
    ("GET /v1/runs/{id}/egress", READ),
    ("GET /v1/runs/{id}/reach", READ),
    ("GET /v1/runs/{id}/artifacts", READ),
    ("GET /v1/runs/{id}/artifacts/{name}", READ),
    ("POST /v1/runs/{id}/cancel", WRITE),
    ("POST /v1/runs/{id}/retry", WRITE),
    ("POST /v1/admin/credentials", Service),
    ("GET /v1/admin/credentials", Service),
    ("GET /v1/admin/credentials/{name}", Service),
    ("DELETE /v1/admin/credentials/{name}", Service),
    ("POST /v1/admin/harnesses", Service),
    ("GET /v1/admin/harnesses", Service),
    ("GET /v1/admin/harnesses/{name}", Service),
    ("DELETE /v1/admin/harnesses/{name}", Service),
    ("POST /v1/admin/harnesses/from-preset", Service),
    ("GET /v1/admin/harness-presets", Service),
    ("POST /v1/admin/models", Service),
    ("GET /v1/admin/models", Service),
    ("GET /v1/admin/models/{name}", Service),
    ("DELETE /v1/admin/models/{name}", Service),
    ("POST /v1/admin/variables", Service),
    ("GET /v1/admin/variables", Service),
    ("GET /v1/admin/variables/{name}", Service),
    ("DELETE /v1/admin/variables/{name}", Service),
    ("POST /v1/admin/egress", Service),
    ("GET /v1/admin/egress", Service),
    ("GET /v1/admin/egress/{name}", Service),
    ("DELETE /v1/admin/egress/{name}", Service),
    ("POST /v1/admin/pool/pairing-codes", Service),
    ("GET /v1/admin/pool/orchestrators", Service),
    ("DELETE /v1/admin/pool/orchestrators/{id}", Service),
    ("POST /v1/admin/pool/enrollment-codes", Service),
    ("GET /v1/admin/pool/workers", Service),
    ("POST /v1/admin/pool/workers/{id}/drain", Service),
    ("DELETE /v1/admin/pool/workers/{id}", Service),
    ("POST /v1/orch/pair", Anyone),
    ("GET /v1/orch/whoami", Orchestrators),
    ("POST /v1/orch/poll", Orchestrators),
    ("POST /v1/orch/heartbeats", Orchestrators),
    ("POST /v1/orch/workers/snapshot", Orchestrators),
    ("POST /v1/orch/enrollment/consume", Orchestrators),
    ("POST /v1/orch/jobs/{id}/state", Orchestrators),
    ("POST /v1/orch/jobs/{id}/chunk", Orchestrators),
    ("POST /v1/orch/jobs/{id}/budget", Orchestrators),
    ("POST /v1/orch/jobs/{id}/telemetry", Orchestrators),
    ("POST /v1/orch/jobs/{id}/artifacts", Orchestrators),
    ("POST /v1/orch/seal", Orchestrators),
    ("POST /v1/orch/bundle/token", Orchestrators),
    ("POST /v1/orch/bundle/redeem", Orchestrators),
    ("GET /v1/orch/bundles/{id}", Orchestrators),
    ("POST /v1/admin/projects", Service),
    ("GET /v1/admin/projects", Service),
    ("DELETE /v1/admin/projects/{id}", Service),
    ("POST /v1/keys", Service),
    ("GET /v1/keys", Service),
    ("DELETE /v1/keys/{id}", Service),
    ("GET /v1/admin/audit", Service),
    ("GET /v1/admin/audit/verify", Service),
    ("GET /v1/whoami", Callers),
    ("GET /health", Anyone),
    ("GET /health/live", Anyone),
    ("GET /health/ready", Anyone),
    ("GET /metrics", Service),
    ("GET /openapi.json", Anyone),
    ("GET /docs", Anyone),
];

/// A caller: what it sends, and what it is.
struct Caller {
    token: Option<String>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Nobody,
    Stranger,
    Service,
    Key(&'static str),
}

/// What a caller is told.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    /// It was let in; what then came of the call is another matter.
    In,
    /// Refused: status, code, and the scope that it lacks.
    Out(u16, String, Option<String>),
}

fn out(status: u16, code: &str, scope: Option<&str>) -> Told {
    Told::Out(status, code.into(), scope.map(ToOwned::to_owned))
}

fn expected(opens: &Opens, caller: Kind) -> Told {
    match (opens, caller) {
        (Anyone, _) => Told::In,
        (_, Kind::Nobody) => out(401, "unauthenticated", None),
        (_, Kind::Stranger) | (Orchestrators, _) => out(403, "forbidden", None),
        (_, Kind::Service) | (Callers, Kind::Key(_)) => Told::In,
        (Keys(scopes), Kind::Key(scope)) if scopes.contains(&scope) => Told::In,
        (Keys(scopes), Kind::Key(_)) => out(403, "missing_scope", Some(scopes[0])),
        (Service, Kind::Key(_)) => out(403, "missing_scope", Some("admin")),
    }
}

async fn asked(app: &Router, route: &str, run: &str, caller: &Caller) -> Told {
    let (method, path) = route.split_once(' ').expect("method and path");
    let id = if path.starts_with("/v1/runs/") { run } else { NOWHERE };
    let path = path.replace("{id}", id).replace("{name}", "x");
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
    if let Some(token) = &caller.token {
        request = request.header("x-api-key", token);
    }
    let answer = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let status = answer.status().as_u16();
    if !matches!(status, 401 | 403) {
        return Told::In;
    }
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    out(
        status,
        body["code"].as_str().unwrap(),
        body["required_scopes"][0].as_str(),
    )
}

/// Tokens that once were good, or never.
async fn strangers(pond: &Pond, store: &SharedStore) -> Vec<String> {
    let project = pond.projects().default_project();
    let expired = format!("pond_pk_{}", "e".repeat(64));
    let key = ApiKey {
        hash: pond_core::token::hash(&Secret::new(expired.clone())),
        expires_at: Some(Timestamp::from_millis(1)),
        ..Samples::new(1).key(project)
    };
    assert!(store.add_key(key).await.unwrap());
    let body = json!({"name": "revoked", "scopes": ["runs:write"]});
    let revoked = pond.keys().create(&body).await.unwrap();
    pond.keys().revoke(Scope::Org, revoked.key.id).await.unwrap();
    let unknown = format!("pond_pk_{}", "0".repeat(64));
    vec![
        expired,
        revoked.token.expose().to_owned(),
        unknown,
        "pond_pk_x".into(),
        "x".into(),
    ]
}

async fn callers(pond: &Pond, store: &SharedStore) -> Vec<Caller> {
    let mut callers = vec![
        Caller {
            token: None,
            kind: Kind::Nobody,
        },
        Caller {
            token: Some(SERVICE.into()),
            kind: Kind::Service,
        },
    ];
    let strangers = strangers(pond, store).await.into_iter();
    callers.extend(strangers.map(|token| Caller {
        token: Some(token),
        kind: Kind::Stranger,
    }));
    for scope in KeyScope::ALL.map(KeyScope::as_str) {
        let minted = pond
            .keys()
            .create(&json!({"name": scope, "scopes": [scope]}))
            .await
            .unwrap();
        let token = Some(minted.token.expose().to_owned());
        callers.push(Caller {
            token,
            kind: Kind::Key(scope),
        });
    }
    callers
}

#[tokio::test]
async fn c17_114_every_route_lets_in_whom_the_table_says_and_nobody_else() {
    let store = pond_store::memory();
    let pond = Pond::builder(store.clone(), pond_store::blobs_in_memory())
        .start()
        .await
        .unwrap();
    let settings = AppSettings {
        label: "table".into(),
        service_token: Secret::new(SERVICE),
        hosts: HostRule::Loopback(None),
        open_metrics: false,
        proxies: Default::default(),
    };
    let app = app(AppState::new(pond.clone(), settings));
    let routes = endpoints();
    let routes: BTreeSet<String> = routes
        .iter()
        .map(|endpoint| format!("{} {}", endpoint.method_name(), endpoint.path))
        .collect();
    let known: BTreeSet<String> = TABLE.iter().map(|(route, _)| (*route).to_owned()).collect();
    assert_eq!(
        routes, known,
        "each route has a line in the table, and each line a route"
    );

    let body = json!({"definition": {"stages": [{"key": "a", "name": "A", "executor": {"kind": "noop"}}]}});
    let project = pond.projects().default_project();
    let run = pond.runs().submit(project, &body.to_string()).await.unwrap().head.id;
    pond.runs().wait(Scope::Org, run).await.unwrap();
    for caller in callers(&pond, &store).await {
        for (route, opens) in TABLE {
            let told = asked(&app, route, &run.to_string(), &caller).await;
            assert_eq!(
                told,
                expected(opens, caller.kind),
                "{route} by {:?} {:?}",
                caller.kind,
                caller.token
            );
        }
    }
}
