//! The embedded pool: a worker in the server's own process.

use std::path::Path;

use pond_core::EngineSettings;
use pond_core::outbound::{AllowPrivate, Purpose};
use pond_worker::egress::EgressDefaults;
use pond_worker::sandbox::{BackendSettings, DockerSettings};
use pond_worker::work::WorkerSettings;

use super::Role;
use super::reader::Reader;
use super::sources::SourceSettings;

/// What the embedded worker is told beside its state folder.
#[derive(Debug, Clone)]
pub struct PoolSettings {
    /// Jobs at once.
    pub concurrency: u32,
    /// Private addresses of model providers.
    pub model_allow_private: AllowPrivate,
    /// Private places that sandboxes may reach.
    pub egress_allow_private: AllowPrivate,
    /// What sandboxes may reach beside their rules.
    pub egress_defaults: EgressDefaults,
    /// Whether jobs of profile `none` are taken.
    pub allow_unconfined: bool,
    docker: DockerSettings,
    dialer: pond_worker::net::DialerSettings,
    bundle: pond_core::sources::Limits,
}

pub(super) fn read(
    reader: &mut Reader<'_>,
    role: Role,
    sources: &SourceSettings,
    engine: &EngineSettings,
) -> Option<PoolSettings> {
    let on = reader.boolean("POND_EMBEDDED_POOL").unwrap_or(role == Role::Up);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let concurrency = reader.number("POND_EMBEDDED_CONCURRENCY", cores, 1..=1024);
    let model_allow_private = private(reader, "POND_MODEL_ALLOW_PRIVATE", Purpose::Model);
    let egress_allow_private = private(reader, "POND_EGRESS_ALLOW_PRIVATE", Purpose::Egress);
    let set = reader.text("POND_EGRESS_DEFAULTS").map(EgressDefaults::parse);
    let set = set.transpose().unwrap_or_else(|bad| {
        reader.bad("POND_EGRESS_DEFAULTS", bad.to_string());
        None
    });
    let usual = DockerSettings::default();
    let docker = DockerSettings {
        host: reader.text("DOCKER_HOST").map_or(usual.host, str::to_owned),
        image: reader.text("POND_DOCKER_IMAGE").map(str::to_owned),
        // A worker of its own may be told to.
        pull: false,
    };
    on.then(|| PoolSettings {
        concurrency: u32::try_from(concurrency).unwrap_or(1),
        model_allow_private,
        egress_allow_private,
        egress_defaults: set.unwrap_or_else(|| EgressDefaults::find(reader.environment(), Path::new("/"))),
        // A switch of its own, and not of the environment.
        allow_unconfined: false,
        docker,
        dialer: sources.dialer.clone(),
        bundle: engine.source_caps.bundle(),
    })
}

/// A list of private places for one purpose.
fn private(reader: &mut Reader<'_>, variable: &str, purpose: Purpose) -> AllowPrivate {
    let list = reader.text(variable).map(|text| AllowPrivate::parse_for(purpose, text));
    let bad = |bad: pond_core::outbound::BadEntry| {
        reader.bad(variable, bad.to_string());
        AllowPrivate::default()
    };
    list.transpose().map_or_else(bad, Option::unwrap_or_default)
}

impl PoolSettings {
    /// As the worker takes them.
    pub(crate) fn worker(&self, state_dir: std::path::PathBuf) -> WorkerSettings {
        WorkerSettings {
            name: "embedded".into(),
            concurrency: self.concurrency,
            backends: BackendSettings {
                docker: self.docker.clone(),
                ..BackendSettings::default()
            },
            allow_unconfined: self.allow_unconfined,
            model_allow_private: self.model_allow_private.clone(),
            egress_allow_private: self.egress_allow_private.clone(),
            egress_defaults: self.egress_defaults.clone(),
            resolver: self.dialer.resolver,
            extra_ca: self.dialer.extra_ca.clone(),
            bundle: self.bundle,
            ..WorkerSettings::new(state_dir)
        }
    }
}
