//! Who the caller is.

use axum::extract::State;
use axum::{Extension, Json};
use pond_sdk::api::{self, Whoami};

use crate::auth::Principal;
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
            project_id: None,
            scopes: None,
            key_id: None,
            name: None,
        },
        Principal::Key(key) => api::Principal {
            kind: api::PrincipalKind::Key,
            project_id: Some(key.project.to_string()),
            scopes: Some(key.scopes.iter().map(|scope| scope.as_str().to_owned()).collect()),
            key_id: Some(key.id.to_string()),
            name: Some(key.name.clone()),
        },
    }
}
