//! What a swarm stage needs of a worker, and what its harness and model names mean.

use std::collections::BTreeSet;

use super::Needs;
use crate::config::presets::Preset;
use crate::config::{Credential, Effective, Harness, Model, Named, Provider, Resolution, Stored};
use crate::engine::EngineSettings;
use crate::id::ProjectId;
use crate::runs::executors::{SandboxBlock, Swarm};
use crate::runs::{Failure, FailureCode};
use crate::sandbox::BackendKind;

/// Why a stage cannot be put in line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unplaced {
    /// Something is not registered that may still come.
    Later(Failure),
    /// Something is wrong that waiting does not mend.
    Never(Failure),
}

/// The needs of a stage.
pub(crate) fn needs_of(
    swarm: &Swarm,
    project: ProjectId,
    effective: &Effective,
    settings: &EngineSettings,
) -> Result<Needs, Unplaced> {
    let sandbox = sandbox_of(swarm, settings).map_err(Unplaced::Never)?;
    let harness = harness_of(swarm, effective, settings)?;
    let model = model_of(&harness.record, swarm, effective, settings).map_err(Unplaced::Never)?;
    Ok(needs(
        &sandbox,
        &harness.record.capability,
        model.and_then(|model| model.record.capability),
        project,
    ))
}

/// The needs of a sandbox, a harness's capability and a model's.
fn needs(sandbox: &SandboxBlock, harness: &str, model: Option<String>, project: ProjectId) -> Needs {
    let mut capabilities: BTreeSet<String> = model.into_iter().collect();
    capabilities.insert(harness.to_owned());
    let mut any_of = BTreeSet::new();
    match sandbox.backend {
        Some(backend) => {
            capabilities.insert(backend.capability().to_owned());
        }
        None if !sandbox.profile.is_confined() => {
            capabilities.insert(BackendKind::None.capability().to_owned());
        }
        None => {
            any_of.extend([BackendKind::Bubblewrap, BackendKind::Docker].map(|kind| kind.capability().to_owned()));
        }
    }
    Needs {
        tags: sandbox.tier.tags(project),
        capabilities,
        any_of,
        tenant: Some(project),
    }
}

/// All that a stage's names mean, at dispatch: what is missing now fails the stage.
pub(crate) fn resolve(
    swarm: &Swarm,
    effective: &Effective,
    settings: &EngineSettings,
) -> Result<(SandboxBlock, Resolution), Failure> {
    let sandbox = sandbox_of(swarm, settings)?;
    let harness = harness_of(swarm, effective, settings).map_err(|unplaced| match unplaced {
        Unplaced::Later(failure) | Unplaced::Never(failure) => failure,
    })?;
    let model = model_of(&harness.record, swarm, effective, settings)?;
    let credential = model
        .as_ref()
        .map(|model| credential_of(&model.record, effective))
        .transpose()?;
    Ok((
        sandbox,
        Resolution {
            harness,
            model,
            credential,
        },
    ))
}

/// The sandbox block; profile `none` is checked here again, as the setting may have changed since submit.
fn sandbox_of(swarm: &Swarm, settings: &EngineSettings) -> Result<SandboxBlock, Failure> {
    let block = swarm
        .sandbox
        .clone()
        .map_err(|fault| Failure::new(FailureCode::SandboxInvalid, fault.message))?;
    if !block.profile.is_confined() && settings.require_sandbox {
        let message = "profile 'none' is not allowed here: POND_REQUIRE_SANDBOX is on";
        return Err(Failure::new(FailureCode::UnconfinedSandbox, message));
    }
    Ok(block)
}

fn harness_of(swarm: &Swarm, effective: &Effective, settings: &EngineSettings) -> Result<Stored<Harness>, Unplaced> {
    let code = FailureCode::HarnessUnregistered;
    match effective.harness(swarm.harness.as_deref(), settings.default_harness.as_deref()) {
        Named::Found(harness) => Ok(harness),
        Named::Unregistered(name) => Err(Unplaced::Later(Failure::new(
            code,
            format!("harness '{name}' is not registered"),
        ))),
        Named::NoneThere => Err(Unplaced::Later(Failure::new(code, "no harness is registered"))),
        Named::Several(names) => {
            let message = format!(
                "the stage names no harness, and several are registered: {}",
                names.join(", ")
            );
            Err(Unplaced::Never(Failure::new(code, message)))
        }
    }
}

fn model_of(
    harness: &Harness,
    swarm: &Swarm,
    effective: &Effective,
    settings: &EngineSettings,
) -> Result<Option<Stored<Model>>, Failure> {
    if swarm.model.is_none() && !harness.needs_model() {
        return Ok(None);
    }
    let missing = |message: String| Failure::new(FailureCode::ModelUnregistered, message);
    match effective.model(swarm.model.as_deref(), settings.default_model.as_deref()) {
        Named::Found(model) => Ok(Some(model)),
        Named::Unregistered(name) => Err(missing(format!("model '{name}' is not registered"))),
        Named::NoneThere => Err(missing(format!(
            "harness '{}' needs a model, and none is registered",
            harness.key
        ))),
        Named::Several(names) => Err(missing(format!(
            "the stage names no model, and several are registered: {}",
            names.join(", ")
        ))),
    }
}

fn credential_of(model: &Model, effective: &Effective) -> Result<Stored<Credential>, Failure> {
    let missing = |message| Failure::new(FailureCode::CredentialMissing, message);
    let credential = effective.credential(&model.credential_name).ok_or_else(|| {
        missing(format!(
            "model '{}' names credential '{}', which is not there",
            model.key, model.credential_name
        ))
    })?;
    if let Some(fault) = provider_fault(model, &credential.record) {
        return Err(missing(fault));
    }
    match lacking_key(&credential.record) {
        None => Ok(credential.clone()),
        Some(keys) => Err(missing(format!(
            "credential '{}' has none of {}",
            credential.record.name,
            keys.join(", ")
        ))),
    }
}

/// What is wrong when a model's credential is for another provider: the broker would speak one's wire to the other.
pub(crate) fn provider_fault(model: &Model, credential: &Credential) -> Option<String> {
    (model.provider != credential.provider).then(|| {
        format!(
            "model '{}' is of provider '{}', and its credential '{}' is for '{}'",
            model.key, model.provider, credential.name, credential.provider
        )
    })
}

/// The names of the provider's key, when a credential has none of them.
pub(crate) fn lacking_key(credential: &Credential) -> Option<&'static [&'static str]> {
    let keys = Provider::find(&credential.provider)?.keys;
    let has = keys.iter().any(|key| credential.secret_keys.contains(*key));
    (!has).then_some(keys)
}

/// What a stage would need, as far as it can be told before its harness is registered.
pub(crate) fn likely_needs(
    swarm: &Swarm,
    project: ProjectId,
    effective: &Effective,
    settings: &EngineSettings,
) -> Option<Needs> {
    let sandbox = swarm.sandbox.as_ref().ok()?;
    let (harness, model) = match effective.harness(swarm.harness.as_deref(), settings.default_harness.as_deref()) {
        Named::Found(harness) => {
            let model = model_of(&harness.record, swarm, effective, settings).ok().flatten();
            (
                harness.record.capability,
                model.and_then(|model| model.record.capability),
            )
        }
        Named::Unregistered(name) => (format!("harness.{}", Preset::key_of(&name)), None),
        Named::NoneThere | Named::Several(_) => return None,
    };
    Some(needs(sandbox, &harness, model, project))
}
