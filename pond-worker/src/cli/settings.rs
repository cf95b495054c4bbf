//! What orchestrator and worker read from the environment. A bad value is told by its variable, never by itself.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use pond_core::outbound::{AllowPrivate, Purpose};
use pond_core::secret::Secret;
use pond_core::sources::{Caps, Limits};
use zeroize::Zeroizing;

use super::exit::Exit;
use crate::egress::EgressDefaults;
use crate::link::peer::Tls;
use crate::net::{DialerSettings, read_ca_file};
use crate::orchestrator::TrustedProxies;
use crate::sandbox::{BackendSettings, DockerSettings};

/// An environment.
pub type Environment = BTreeMap<String, String>;

/// The longest file that holds a secret.
const MAX_SECRET: u64 = 64 << 10;

/// A setting or flag that is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bad(pub(super) String);

impl Bad {
    pub(super) fn of(name: &str, why: impl std::fmt::Display) -> Self {
        Self(format!("{name}: {why}"))
    }

    pub(super) fn exit(self) -> Exit {
        Exit::Usage.told(self.0)
    }
}

/// Reads an environment.
#[derive(Clone, Copy)]
pub(super) struct Settings<'e>(pub(super) &'e Environment);

impl Settings<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|text| text.trim()).filter(|text| !text.is_empty())
    }

    fn parsed<T>(&self, name: &str, read: impl Fn(&str) -> Option<T>, expected: &str) -> Result<Option<T>, Bad> {
        let Some(text) = self.text(name) else { return Ok(None) };
        read(text)
            .map(Some)
            .ok_or_else(|| Bad::of(name, format!("expected {expected}")))
    }

    /// The state folder: the flag, the variable, or the usual one.
    pub(super) fn state_dir(&self, flag: Option<PathBuf>, usual: &str) -> PathBuf {
        flag.or_else(|| self.text("POND_STATE_DIR").map(PathBuf::from))
            .unwrap_or_else(|| usual.into())
    }

    /// Whether peers may be dialled, and workers listened to, without TLS off this host.
    pub(super) fn tls(&self, flag: bool) -> Result<Tls, Bad> {
        let read = |text: &str| match text {
            "true" | "1" => Some(Tls::Waived),
            "false" | "0" => Some(Tls::Required),
            _ => None,
        };
        let set = self.parsed("POND_INSECURE_NO_TLS", read, "true or false")?;
        Ok(if flag {
            Tls::Waived
        } else {
            set.unwrap_or(Tls::Required)
        })
    }

    /// Proxies whose word on a client's address counts.
    pub(super) fn proxies(&self) -> Result<TrustedProxies, Bad> {
        let found = self.parsed("POND_TRUSTED_PROXIES", TrustedProxies::parse, "a list of networks")?;
        Ok(found.unwrap_or_default())
    }

    /// Resolver and certificates.
    pub(super) fn network(&self) -> Result<DialerSettings, Bad> {
        let resolver = self.parsed("POND_RESOLVER", |text| text.parse().ok(), "address:port")?;
        let extra_ca = match self.text("POND_EXTRA_CA_FILE") {
            None => Vec::new(),
            Some(path) => read_ca_file(Path::new(path)).map_err(|error| Bad::of("POND_EXTRA_CA_FILE", error))?,
        };
        Ok(DialerSettings {
            resolver,
            extra_ca,
            allow: AllowPrivate::default(),
        })
    }

    /// Private addresses of model providers.
    pub(super) fn model_allow_private(&self) -> Result<AllowPrivate, Bad> {
        const NAME: &str = "POND_MODEL_ALLOW_PRIVATE";
        let Some(text) = self.text(NAME) else {
            return Ok(AllowPrivate::default());
        };
        AllowPrivate::parse_for(Purpose::Model, text).map_err(|bad| Bad::of(NAME, bad))
    }

    /// Private addresses that sandboxes may reach.
    pub(super) fn egress_allow_private(&self) -> Result<AllowPrivate, Bad> {
        const NAME: &str = "POND_EGRESS_ALLOW_PRIVATE";
        let Some(text) = self.text(NAME) else {
            return Ok(AllowPrivate::default());
        };
        AllowPrivate::parse_for(Purpose::Egress, text).map_err(|bad| Bad::of(NAME, bad))
    }

    /// What sandboxes may reach beside their rules: as it is set, or what this host's own tools are set up with.
    pub(super) fn egress_defaults(&self) -> Result<EgressDefaults, Bad> {
        const NAME: &str = "POND_EGRESS_DEFAULTS";
        match self.text(NAME) {
            None => Ok(EgressDefaults::find(self.0, Path::new("/"))),
            Some(text) => EgressDefaults::parse(text).map_err(|bad| Bad::of(NAME, bad)),
        }
    }

    /// How sandboxes are made: the engine by the variable that every Docker client reads.
    pub(super) fn backends(&self, pull: bool) -> BackendSettings {
        let usual = DockerSettings::default();
        let docker = DockerSettings {
            host: self.text("DOCKER_HOST").map_or(usual.host, str::to_owned),
            image: self.text("POND_DOCKER_IMAGE").map(str::to_owned),
            pull,
        };
        BackendSettings {
            docker,
            ..BackendSettings::default()
        }
    }

    /// What the sources of one job may hold.
    pub(super) fn bundle(&self) -> Result<Limits, Bad> {
        let usual = Caps::default().bundle();
        let number = |name: &str, usual: u64| {
            let read = |text: &str| text.parse::<u64>().ok().filter(|number| (1..=1 << 50).contains(number));
            Ok::<_, Bad>(self.parsed(name, read, "a positive whole number")?.unwrap_or(usual))
        };
        Ok(Limits {
            bytes: number("POND_BUNDLE_MAX_BYTES", usual.bytes)?,
            files: number("POND_SOURCE_MAX_FILES", usual.files)?,
        })
    }

    /// The pool secret of the environment.
    pub(super) fn pool_secret(&self) -> Result<Option<Secret>, Bad> {
        const NAME: &str = "POND_POOL_SECRET";
        const FILE: &str = "POND_POOL_SECRET_FILE";
        match (self.text(NAME), self.text(FILE)) {
            (Some(_), Some(_)) => Err(Bad::of(NAME, format!("is set, and so is {FILE}: set one of them"))),
            (Some(text), None) => Ok(Some(Secret::new(text))),
            (None, Some(path)) => secret_file(FILE, Path::new(path)).map(Some),
            (None, None) => Ok(None),
        }
    }
}

/// The secret of a flag, or of the file that another flag names.
pub(super) fn secret_of(flag: Option<Secret>, name: &str, file: Option<&Path>) -> Result<Option<Secret>, Bad> {
    match (flag, file) {
        (Some(secret), _) if secret.expose().trim().is_empty() => Err(Bad::of(name, "is empty")),
        (Some(secret), _) => Ok(Some(Secret::new(secret.expose().trim()))),
        (None, Some(file)) => secret_file(name, file).map(Some),
        (None, None) => Ok(None),
    }
}

/// A secret that a file holds; `-` is standard input.
fn secret_file(name: &str, path: &Path) -> Result<Secret, Bad> {
    let mut text = Zeroizing::new(String::new());
    let read = match path == Path::new("-") {
        true => std::io::stdin().take(MAX_SECRET).read_to_string(&mut text),
        false => std::fs::File::open(path).and_then(|file| file.take(MAX_SECRET).read_to_string(&mut text)),
    };
    read.map_err(|error| Bad::of(name, format!("the file cannot be read: {}", error.kind())))?;
    match text.trim() {
        "" => Err(Bad::of(name, "the file is empty")),
        text => Ok(Secret::new(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_values_are_told_by_their_variable_alone() {
        let bad = |name: &str, value: &str| {
            let environment = Environment::from([(name.to_owned(), value.to_owned())]);
            let settings = Settings(&environment);
            let all = [
                settings.tls(false).err(),
                settings.proxies().err(),
                settings.network().err(),
                settings.model_allow_private().err(),
                settings.egress_allow_private().err(),
                settings.egress_defaults().err(),
                settings.bundle().err(),
                settings.pool_secret().err(),
            ];
            let told: Vec<String> = all.into_iter().flatten().map(|bad| bad.0).collect();
            assert!(
                told.len() == 1 && told[0].starts_with(name) && !told[0].contains("sekret"),
                "{told:?}"
            );
        };
        bad("POND_INSECURE_NO_TLS", "sekret");
        bad("POND_TRUSTED_PROXIES", "sekret");
        bad("POND_RESOLVER", "sekret");
        bad("POND_EXTRA_CA_FILE", "/none/sekret");
        bad("POND_MODEL_ALLOW_PRIVATE", "sekret");
        bad("POND_EGRESS_ALLOW_PRIVATE", "sekret");
        bad("POND_EGRESS_DEFAULTS", "https://sekret");
        bad("POND_BUNDLE_MAX_BYTES", "0");
        bad("POND_POOL_SECRET_FILE", "/none/sekret");
    }

    #[test]
    fn the_engine_is_where_every_docker_client_looks() {
        let set = Environment::from([
            ("DOCKER_HOST".to_owned(), "unix:///run/user/1000/docker.sock".to_owned()),
            ("POND_DOCKER_IMAGE".to_owned(), "debian:12".to_owned()),
        ]);
        let docker = Settings(&set).backends(true).docker;
        assert_eq!(docker.host, "unix:///run/user/1000/docker.sock");
        assert!(docker.image.as_deref() == Some("debian:12") && docker.pull);
        let docker = Settings(&Environment::new()).backends(false).docker;
        assert_eq!(docker.host, "unix:///var/run/docker.sock");
        assert!(docker.image.is_none() && !docker.pull);
    }

    #[test]
    fn c17_100_tls_is_waived_by_flag_or_variable() {
        let set = Environment::from([("POND_INSECURE_NO_TLS".to_owned(), "1".to_owned())]);
        let none = Environment::new();
        assert_eq!(Settings(&none).tls(false), Ok(Tls::Required));
        assert_eq!(Settings(&none).tls(true), Ok(Tls::Waived));
        assert_eq!(Settings(&set).tls(false), Ok(Tls::Waived));
    }
}
