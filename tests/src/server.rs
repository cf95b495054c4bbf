//! A real server on loopback, over a world's engine.

use std::sync::Arc;

use futures::StreamExt;
use pond_core::Pond;
use pond_core::secret::Secret;
use pond_sdk::Client;
use pond_server::{AppSettings, AppState, HostRule, app, serve};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::World;

/// The service token of test servers.
pub const TOKEN: &str = "test-service-token-0123456789";

/// A server that answers on loopback until it is dropped.
pub struct Server {
    /// Its address, as a URL.
    pub url: String,
    /// Plain HTTP to it.
    pub http: reqwest::Client,
    stop: CancellationToken,
}

impl World {
    /// Serves this world's engine.
    pub async fn serve(&self) -> Server {
        Server::over(self.pond.clone()).await
    }
}

impl Server {
    /// Serves an engine.
    ///
    /// # Panics
    /// When there is no free port on loopback.
    pub async fn over(pond: Pond) -> Self {
        let settings = AppSettings {
            label: "test".into(),
            service_token: Secret::new(TOKEN),
            hosts: HostRule::Loopback(None),
            open_metrics: true,
            proxies: Default::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let url = format!("http://{}", listener.local_addr().expect("a bound port has an address"));
        let state = AppState::new(pond, settings);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let router = app(state.clone());
        tokio::spawn(async move {
            let shutdown = async move {
                stopped.cancelled().await;
                state.close_streams();
            };
            serve(listener, router, shutdown).await.expect("the server ends well");
        });
        Self {
            url,
            http: plain_client(),
            stop,
        }
    }
}

/// A client that keeps every answer as it is: no redirects, no compression.
pub fn plain_client() -> reqwest::Client {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring speaks the default versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let builder = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy();
    builder
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client can be built")
}

impl Server {
    /// A request with the service token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.request_as(TOKEN, method, path)
    }

    /// A request with another token.
    pub fn request_as(&self, token: &str, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(token)
    }

    /// A GET; its status and JSON body.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.request(Method::GET, path)).await
    }

    /// A POST of a JSON body; its status and JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        answer(self.request(Method::POST, path).json(body)).await
    }

    /// A DELETE; its status and JSON body.
    pub async fn delete(&self, path: &str) -> (u16, Value) {
        answer(self.request(Method::DELETE, path)).await
    }

    /// The typed client.
    pub fn sdk(&self) -> Client {
        Client::new(&self.url, pond_sdk::Secret::new(TOKEN)).expect("the URL is good")
    }

    /// The bytes of a GET, whole.
    pub async fn bytes(&self, path: &str) -> (u16, Vec<u8>) {
        let response = self
            .request(Method::GET, path)
            .send()
            .await
            .expect("the server answers");
        let status = response.status().as_u16();
        let mut stream = response.bytes_stream();
        let mut all = Vec::new();
        while let Some(piece) = stream.next().await {
            all.extend_from_slice(&piece.expect("the answer is whole"));
        }
        (status, all)
    }
}

/// Sends a request; its status and JSON body, null when there is none.
pub async fn answer(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.expect("the server answers");
    let status = response.status().as_u16();
    let bytes = response.bytes().await.expect("the answer is whole");
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
