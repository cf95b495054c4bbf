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

#[cfg(test)]
mod tests {
    use super::super::{Presence, Serves};
    use super::*;
    use crate::clock::Timestamp;
    use crate::dispatch::WorkerInfo;
    use crate::runs::executors::Tier;
    use crate::sandbox::{Limits, Profile};

    const OWN: &str = "018f0000-0000-7000-8000-000000000001";
    const OTHER: &str = "018f0000-0000-7000-8000-000000000002";
    const TRUSTED: &str = "pool:trusted";
    const BYO: &str = "pool:byo";
    const MINE: &str = "tenant:018f0000-0000-7000-8000-000000000001";
    const THEIRS: &str = "tenant:018f0000-0000-7000-8000-000000000002";

    fn project(text: &str) -> ProjectId {
        text.parse().unwrap()
    }

    fn block(tier: Tier, profile: Profile, backend: Option<BackendKind>) -> SandboxBlock {
        SandboxBlock {
            profile,
            tier,
            backend,
            allow_hosts: Vec::new(),
            limits: Limits::default(),
            image: None,
        }
    }

    fn set(items: &[&str]) -> BTreeSet<String> {
        items.iter().map(|&item| item.to_owned()).collect()
    }

    /// Whether a worker gets a job of `of`: what the claim asks of the store, and what is told of those that are online.
    fn gets(tags: &[&str], capabilities: &[&str], needs: &Needs, of: ProjectId) -> bool {
        let (tags, capabilities) = (set(tags), set(capabilities));
        let gets = Serves::of(&tags).admits(of) && needs.fit(&tags, &capabilities);
        let (presence, now) = (Presence::default(), Timestamp::from_micros(1));
        let worker = WorkerInfo {
            id: uuid::Uuid::nil().into(),
            boot: uuid::Uuid::nil().into(),
            name: "w".into(),
            tags,
            capabilities,
            problems: std::collections::BTreeMap::new(),
            egress_defaults: Vec::new(),
            concurrency: 1,
        };
        presence.seen(&worker, now);
        let missing = presence.missing(needs, of, now, std::time::Duration::from_secs(1));
        assert_eq!(missing.is_none(), gets, "{worker:?} {needs:?}");
        gets
    }

    /// Tags of the worker; whether it gets a job of its tenant's project, and of another one, for trusted, byo and any.
    type TierRow = (&'static [&'static str], [[bool; 2]; 3]);

    #[test]
    fn c17_60_tiers_and_tags() {
        const NONE: [bool; 2] = [false, false];
        const BOTH: [bool; 2] = [true, true];
        const FIRST: [bool; 2] = [true, false];
        let table: [TierRow; 10] = [
            (&[], [NONE, NONE, BOTH]),
            (&[TRUSTED], [BOTH, NONE, BOTH]),
            (&[TRUSTED, "gpu"], [BOTH, NONE, BOTH]),
            // Without a tenant it is nobody's own.
            (&[BYO], [NONE, NONE, BOTH]),
            (&[TRUSTED, BYO], [BOTH, NONE, BOTH]),
            // A tenant's worker gets that one's jobs alone, also of tier `any`.
            (&[MINE], [NONE, NONE, FIRST]),
            (&[BYO, MINE], [NONE, FIRST, FIRST]),
            (&[TRUSTED, MINE], [FIRST, NONE, FIRST]),
            (&[TRUSTED, BYO, MINE, THEIRS], [NONE, NONE, NONE]),
            (&[TRUSTED, BYO, "tenant:acme"], [NONE, NONE, NONE]),
        ];
        for (tags, expected) in table {
            for (tier, expected) in [Tier::Trusted, Tier::Byo, Tier::Any].into_iter().zip(expected) {
                for (of, expected) in [OWN, OTHER].into_iter().zip(expected) {
                    let of = project(of);
                    let needs = needs(&block(tier, Profile::UntrustedCodeRead, None), "harness.mini", None, of);
                    let got = gets(tags, &["harness.mini", "sandbox.docker"], &needs, of);
                    assert_eq!(got, expected, "{tags:?} {tier:?} {of}");
                }
            }
        }
    }

    #[test]
    fn c17_60_capabilities() {
        let confined = |backend| block(Tier::Trusted, Profile::UntrustedCodeWrite, backend);
        let blocks = [
            confined(None),
            confined(Some(BackendKind::Bubblewrap)),
            confined(Some(BackendKind::Docker)),
            block(Tier::Trusted, Profile::None, None),
        ];
        // For each block without a model's capability, then with one.
        type Row = (&'static [&'static str], [bool; 4], [bool; 4]);
        const NEVER: [bool; 4] = [false; 4];
        let table: [Row; 8] = [
            (&[], NEVER, NEVER),
            (&["harness.mini"], NEVER, NEVER),
            (&["sandbox.bubblewrap", "sandbox.docker", "model.m"], NEVER, NEVER),
            (
                &["harness.mini", "sandbox.bubblewrap"],
                [true, true, false, false],
                NEVER,
            ),
            (&["harness.mini", "sandbox.docker"], [true, false, true, false], NEVER),
            (&["harness.mini", "sandbox.none"], [false, false, false, true], NEVER),
            (
                &["harness.mini", "sandbox.docker", "model.m"],
                [true, false, true, false],
                [true, false, true, false],
            ),
            (
                &[
                    "harness.mini",
                    "harness.codex",
                    "sandbox.bubblewrap",
                    "sandbox.docker",
                    "sandbox.none",
                    "model.m",
                ],
                [true; 4],
                [true; 4],
            ),
        ];
        let of = project(OWN);
        for (capabilities, without, with) in table {
            for (model, expected) in [(None, without), (Some("model.m".to_owned()), with)] {
                for (block, expected) in blocks.iter().zip(expected) {
                    let needs = needs(block, "harness.mini", model.clone(), of);
                    let got = gets(&[TRUSTED], capabilities, &needs, of);
                    assert_eq!(got, expected, "{capabilities:?} {block:?} {model:?}");
                }
            }
        }
    }

    #[test]
    fn needs_of_tiers_that_are_not_ones_own_are_the_same_for_all_projects() {
        for (tier, same) in [(Tier::Trusted, true), (Tier::Any, true), (Tier::Byo, false)] {
            let of = |of: &str| {
                needs(
                    &block(tier, Profile::UntrustedCodeRead, None),
                    "harness.mini",
                    None,
                    project(of),
                )
            };
            assert_eq!(of(OWN).key() == of(OTHER).key(), same, "{tier:?}");
        }
    }
}
