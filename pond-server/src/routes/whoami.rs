//! Who the caller is.

use axum::extract::State;
use axum::{Extension, Json};
use pond_core::keys::Principal;
use pond_sdk::api::{self, Whoami};

use crate::state::{AppState, VERSION};

pub(super) async fn whoami(State(state): State<AppState>, Extension(principal): Extension<Principal>) -> Json<Whoami> {
    Json(Whoami {
        principal: shown(&principal),
        version: VERSION.to_owned(),
        label: state.label().to_owned(),
    })
}

fn shown(principal: &Principal) -> api::Principal {
    match principal {
        Principal::Service => api::Principal {
            kind: api::PrincipalKind::Service,
            key_id: None,
            name: None,
            project_id: None,
            scopes: None,
        },
        Principal::Key(key) => api::Principal {
            kind: api::PrincipalKind::Key,
            key_id: Some(key.id.to_string()),
            name: Some(key.name.clone()),
            project_id: Some(key.project.to_string()),
            scopes: Some(key.scopes.words()),
        },
    }
}
