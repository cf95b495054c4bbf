//! What a run used.

use axum::extract::State;
use axum::{Extension, Json};
use pond_core::keys::Principal;
use pond_core::usage::UsageTotals;
use pond_sdk::api;

use crate::error::Answer;
use crate::extract::RunPath;
use crate::state::AppState;

pub(in crate::routes) async fn usage(
    State(state): State<AppState>,
    Extension(principal): Extension<Principal>,
    RunPath(id): RunPath,
) -> Answer<Json<api::Usage>> {
    let report = state.pond().runs().usage(principal.scope(), id).await?;
    let totals = report.totals();
    let stages = report.by(|entry| Some(entry.stage.clone()));
    let substages = report.by(|entry| Some((entry.stage.clone(), entry.substage.clone()?)));
    let models = report.by(|entry| Some(entry.model.clone()));
    Ok(Json(api::Usage {
        run_id: id.to_string(),
        totals: counts(&totals),
        stages: stages
            .into_iter()
            .map(|(stage, sum)| api::StageUsage {
                stage,
                counts: counts(&sum),
            })
            .collect(),
        substages: substages
            .into_iter()
            .map(|((stage, substage), sum)| api::SubstageUsage {
                stage,
                substage,
                counts: counts(&sum),
            })
            .collect(),
        models: models
            .into_iter()
            .map(|(model, sum)| api::ModelUsage {
                model,
                counts: counts(&sum),
            })
            .collect(),
        unpriced_calls: totals.unpriced_calls,
        estimated: totals.estimated_calls > 0,
    }))
}

/// Sums as the API shows them.
pub(super) fn counts(totals: &UsageTotals) -> api::UsageCounts {
    api::UsageCounts {
        calls: totals.calls,
        input_tokens: totals.tokens.input,
        output_tokens: totals.tokens.output,
        cache_read_tokens: totals.tokens.cache_read,
        cache_write_tokens: totals.tokens.cache_write,
        cost_usd: totals.cost.to_string(),
    }
}
