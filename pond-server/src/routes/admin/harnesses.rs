//! Harnesses, and the presets that they can be made of.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use pond_core::Error;
use pond_core::body::{Faults, Object};
use pond_core::config::presets::PRESETS;
use pond_core::config::{Harness, Stored};
use pond_sdk::api;
use serde::Serialize;
use serde_json::Value;

use super::{Shown, owner_of, scope, told};
use crate::error::Answer;
use crate::extract::JsonBody;
use crate::state::AppState;

impl Shown for api::Harness {
    type Record = Harness;
    type Put = api::PutHarness;
    type List = api::HarnessList;
    const ABOUT: [&'static str; 4] = [
        "Lists harnesses",
        "Shows a harness",
        "Deletes a harness",
        "Creates or replaces a harness",
    ];

    fn shown(stored: Stored<Harness>) -> Self {
        let (scope, project_id) = scope(stored.owner);
        let Harness {
            key,
            label,
            capability,
            command_template,
            files,
            wire,
        } = stored.record;
        let files = files.into_iter().map(|file| api::HarnessFile {
            path: file.path,
            content: file.content,
        });
        Self {
            key,
            label,
            capability,
            command_template,
            files: files.collect(),
            wire,
            scope,
            project_id,
            updated_at: stored.updated_at.to_string(),
        }
    }

    fn page(harnesses: Vec<Self>, next_cursor: Option<String>) -> api::HarnessList {
        api::HarnessList { harnesses, next_cursor }
    }
}

pub(in crate::routes) async fn presets() -> Json<api::HarnessPresetList> {
    let presets = PRESETS.iter().map(|preset| api::HarnessPreset {
        key: preset.key.to_owned(),
        label: preset.label.to_owned(),
        wire: preset.wire.map(ToOwned::to_owned),
        verified: preset.verified,
    });
    Json(api::HarnessPresetList {
        presets: presets.collect(),
        next_cursor: None,
    })
}

pub(in crate::routes) async fn from_preset(
    State(state): State<AppState>,
    JsonBody(body): JsonBody,
) -> Answer<(StatusCode, Json<impl Serialize>)> {
    let (preset, key, label) = read(&body)?;
    let owner = owner_of(&state, &body).await?;
    let put = state.pond().config().put_preset(owner, preset, key, label).await?;
    Ok(told::<api::Harness>(put))
}

/// Preset, key and label of a body.
fn read(body: &Value) -> Answer<(&str, Option<&str>, Option<&str>)> {
    let faults = Faults::new();
    let (mut preset, mut key, mut label) = (None, None, None);
    if let Some(mut object) = Object::read(body, "", &faults) {
        object.optional("project_id");
        (preset, key, label) = (object.required_text("preset"), object.text("key"), object.text("label"));
        object.close();
    }
    match (preset, faults.take()) {
        (Some(preset), faults) if faults.is_empty() => Ok((preset, key, label)),
        (_, faults) => Err(Error::Invalid(faults).into()),
    }
}
