//! Who the caller is.

use axum::extract::State;
use axum::{Extension, Json};
use pond_sdk::api::Whoami;

use crate::auth::Principal;
use crate::state::{AppState, VERSION};

pub(super) async fn whoami(State(state): State<AppState>, Extension(principal): Extension<Principal>) -> Json<Whoami> {
    Json(Whoami {
        principal: principal.shown(),
        version: VERSION.to_owned(),
        label: state.label().to_owned(),
    })
}
