//! Harnesses, and the presets that they can be made of.

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use pond_core::Error;
use pond_core::body::{Faults, Object};
use pond_core::config::presets::PRESETS;
use pond_core::config::{Harness, Stored, project_field};
use pond_core::id::ProjectId;
use pond_sdk::api;
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
) -> Answer<impl IntoResponse> {
    let wanted = Wanted::read(&body)?;
    let (preset, key) = (&wanted.preset, wanted.key.as_deref());
    state.pond().config().check_preset(preset, key)?;
    let owner = owner_of(&state, wanted.project).await?;
    let put = state
        .pond()
        .config()
        .put_preset(owner, preset, key, wanted.label.as_deref())
        .await?;
    Ok(told::<api::Harness>(put, &body))
}

/// What a preset is registered as.
struct Wanted {
    project: Option<ProjectId>,
    preset: String,
    key: Option<String>,
    label: Option<String>,
}

impl Wanted {
    fn read(body: &Value) -> Answer<Self> {
        let faults = Faults::new();
        let wanted = Object::read(body, "", &faults).and_then(|mut object| {
            let project = project_field(&mut object);
            let preset = object.required_text("preset").map(ToOwned::to_owned);
            let key = object.text("key").map(ToOwned::to_owned);
            let label = object.text("label").map(ToOwned::to_owned);
            object.close();
            Some(Self {
                project,
                preset: preset?,
                key,
                label,
            })
        });
        match (wanted, faults.take()) {
            (Some(wanted), faults) if faults.is_empty() => Ok(wanted),
            (_, faults) => Err(Error::Invalid(faults).into()),
        }
    }
}
