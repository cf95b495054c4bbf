//! What a job gets of the config it was resolved against.

use std::collections::BTreeMap;

use crate::config::{Model, Provider, Resolution};
use crate::dispatch::JobModel;
use crate::egress::{Place, SealedRule};
use crate::runs::BundleRef;
use crate::runs::executors::SandboxBlock;
use crate::sandbox::Profile;
use crate::usage::Prices;

/// What the sources were: what the only one resolved to, or the digest of all together.
pub(super) fn base(bundle: &BundleRef) -> String {
    match &bundle.resolved[..] {
        [only] => only.as_str().to_owned(),
        _ => bundle.digest.clone(),
    }
}

/// The secrets that the job holds as tokens: those of its credential that no broker takes in hand. Of hosts with a path only
/// part may get the secret, and a token cannot tell the parts apart: it is not swapped there.
pub(crate) fn sealed(sandbox: &SandboxBlock, resolution: &Resolution) -> Vec<SealedRule> {
    let Some(credential) = resolution.credential.as_ref().map(|found| &found.record) else {
        return Vec::new();
    };
    if sandbox.profile != Profile::UntrustedCodeWrite {
        return Vec::new();
    }
    let hosts: Vec<_> = credential
        .hosts
        .iter()
        .filter_map(|host| host.whole().cloned())
        .collect();
    if hosts.is_empty() && !credential.hosts.is_empty() {
        return Vec::new();
    }
    let brokered = Provider::find(&credential.provider).map_or(&[][..], |provider| provider.keys);
    let names = credential
        .secret_keys
        .iter()
        .filter(|name| !brokered.contains(&name.as_str()));
    names
        .map(|name| SealedRule {
            name: name.clone(),
            hosts: hosts.clone(),
            places: vec![Place::Header],
        })
        .collect()
}

pub(super) fn job_model(resolution: &Resolution, models: &[Model]) -> Option<JobModel> {
    let model = &resolution.model.as_ref()?.record;
    let credential = resolution.credential.as_ref();
    Some(JobModel {
        provider: credential.map_or_else(|| model.provider.clone(), |found| found.record.provider.clone()),
        model_id: model.model_id.clone(),
        models: prices(resolution, models),
        remote_features: credential
            .into_iter()
            .flat_map(|c| c.record.remote_features.clone())
            .collect(),
    })
}

/// What the models of the job's credential cost. Two entries may stand for one model of the provider: the stage's own counts.
fn prices(resolution: &Resolution, models: &[Model]) -> BTreeMap<String, Prices> {
    let Some(own) = resolution.model.as_ref().map(|model| &model.record) else {
        return BTreeMap::new();
    };
    let same = models
        .iter()
        .filter(|model| model.credential_name == own.credential_name);
    let price = |model: &Model| (model.model_id.clone(), model.prices);
    same.map(price).chain([price(own)]).collect()
}
