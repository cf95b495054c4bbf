//! Whether the server is well.

use axum::Json;
use axum::extract::State;
use pond_sdk::api::Health;

use crate::error::Answer;
use crate::state::{AppState, VERSION};

fn well(state: &AppState) -> Json<Health> {
    Json(Health {
        status: "ok".into(),
        label: state.label().to_owned(),
        version: VERSION.to_owned(),
    })
}

pub(super) async fn health(State(state): State<AppState>) -> Json<Health> {
    well(&state)
}

pub(super) async fn live(State(state): State<AppState>) -> Json<Health> {
    well(&state)
}

pub(super) async fn ready(State(state): State<AppState>) -> Answer<Json<Health>> {
    state.pond().ready().await?;
    Ok(well(&state))
}
