//! What would keep a run from running well.

use axum::extract::State;
use axum::{Extension, Json};
use pond_core::keys::Principal;
use pond_core::preflight::Severity;
use pond_core::runs::Reach;
use pond_sdk::api::Preflight;

use super::runs::project_of;
use crate::error::{Answer, found};
use crate::extract::{JsonText, Param, Query};
use crate::state::AppState;

pub(super) const QUERY: &[Param] = &[Param {
    name: "check",
    about: "`offline` leaves out the check that dials",
}];

pub(super) async fn preflight(
    State(state): State<AppState>,
    Extension(principal): Extension<Principal>,
    mut query: Query,
    JsonText(body): JsonText,
) -> Answer<Json<Preflight>> {
    let reach = match query.text("check") {
        None => Reach::Dial,
        Some("offline") => Reach::Offline,
        Some(_) => {
            query.fault("check", "expected offline");
            Reach::Offline
        }
    };
    query.done()?;
    let project = project_of(&state, &principal, &body)?;
    let runs = state.pond().runs().with_folders(principal.folders());
    let problems = runs.preflight(project, &body, reach).await?;
    Ok(Json(Preflight {
        ok: problems.iter().all(|problem| problem.severity != Severity::Error),
        problems: problems.iter().map(found).collect(),
    }))
}
