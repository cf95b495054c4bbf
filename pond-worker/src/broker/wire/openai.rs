//! The providers that speak OpenAI's wires: OpenAI itself, compatible servers, and OpenRouter.

use hyper::Method;
use pond_core::config;
use serde_json::{Value, json};

use super::chat::Chat;
use super::embeddings::Embeddings;
use super::responses::Responses;
use crate::broker::provider::{Auth, Betas, ClientBase, Provider, Route};
use crate::broker::refusal::Refusal;

const ROUTES: &[Route] = &[
    Route {
        method: Method::POST,
        path: "/v1/responses",
        alias: Some("/responses"),
        query: &[],
        wire: Some(&Responses),
        billed: true,
    },
    Route {
        method: Method::POST,
        path: "/v1/chat/completions",
        alias: Some("/chat/completions"),
        query: &[],
        wire: Some(&Chat),
        billed: true,
    },
    Route {
        method: Method::POST,
        path: "/v1/embeddings",
        alias: Some("/embeddings"),
        query: &[],
        wire: Some(&Embeddings),
        billed: true,
    },
    Route {
        method: Method::GET,
        path: "/v1/models",
        alias: Some("/models"),
        query: &[],
        wire: None,
        billed: false,
    },
];

/// `responses=experimental` is what clients of the Responses wire have sent since its preview.
const BETAS: &Betas = &Betas {
    header: "openai-beta",
    pass: &["responses=experimental", "responses=v1"],
    remote: &[],
};

/// OpenAI.
pub static OPENAI: Provider = Provider {
    name: config::OPENAI.name,
    keys: &[(config::OPENAI.keys[0], Auth::Bearer)],
    base_url_env: config::OPENAI.base_url,
    default_base: config::OPENAI.public_url,
    version_path: "/v1",
    client_base: ClientBase::Versioned,
    dummy_key: "sk-proj-pondDummyKeyThatOpensNothing000000000000T3BlbkFJ0000000000000000000000000000000000000000",
    routes: ROUTES,
    beta: Some(BETAS),
    error,
};

/// Any server that speaks OpenAI's wires.
pub static OPENAI_COMPATIBLE: Provider = Provider {
    name: config::OPENAI_COMPATIBLE.name,
    keys: &[(config::OPENAI_COMPATIBLE.keys[0], Auth::Bearer)],
    base_url_env: config::OPENAI_COMPATIBLE.base_url,
    default_base: config::OPENAI_COMPATIBLE.public_url,
    version_path: "/v1",
    client_base: ClientBase::Versioned,
    dummy_key: OPENAI.dummy_key,
    routes: ROUTES,
    beta: Some(BETAS),
    error,
};

/// OpenRouter.
pub static OPENROUTER: Provider = Provider {
    name: config::OPENROUTER.name,
    keys: &[(config::OPENROUTER.keys[0], Auth::Bearer)],
    base_url_env: config::OPENROUTER.base_url,
    default_base: config::OPENROUTER.public_url,
    version_path: "/v1",
    client_base: ClientBase::Versioned,
    dummy_key: "sk-or-v1-0000000000000000000000000000000000000000000000000000000000000000",
    routes: ROUTES,
    beta: Some(BETAS),
    error,
};

/// An error in the shape of this family.
pub(super) fn error(refusal: &Refusal) -> Value {
    json!({"error": {"message": refusal.message, "type": refusal.code, "param": null, "code": refusal.code}})
}
