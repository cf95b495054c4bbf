//! What a job may ask of which provider, and with whose key.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use hyper::Uri;
use pond_core::secret::Secret;
use pond_core::usage::{Pico, Prices, Tokens};

use super::provider::{Auth, Provider};

/// Something that the provider itself would fetch, run or keep: a way out of the sandbox, closed unless the credential
/// names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// Servers of tools that the provider calls.
    Mcp,
    /// Search of the web by the provider.
    WebSearch,
    /// Pages fetched by the provider.
    WebFetch,
    /// Programs run at the provider.
    CodeExecution,
    /// Search in files kept at the provider.
    FileSearch,
    /// Images, documents or files that the provider fetches by URL, or has kept under an id.
    RemoteUrl,
    /// Answers made after the connection has ended.
    Background,
    /// Conversations kept at the provider.
    Store,
}

impl Feature {
    /// All of them, as the API spells them.
    pub const ALL: [(&'static str, Self); 8] = [
        ("mcp", Self::Mcp),
        ("web_search", Self::WebSearch),
        ("web_fetch", Self::WebFetch),
        ("code_execution", Self::CodeExecution),
        ("file_search", Self::FileSearch),
        ("remote_url", Self::RemoteUrl),
        ("background", Self::Background),
        ("store", Self::Store),
    ];

    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, feature)| *feature == self)
            .map_or("", |(name, _)| name)
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Feature {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        let known = Self::ALL.iter().find(|(name, _)| *name == text);
        known
            .map(|(_, feature)| *feature)
            .ok_or_else(|| GrantError::UnknownFeature(text.to_owned()))
    }
}

/// A credential from which no grant can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// None of the provider's key names has a value.
    #[error("the credential has no {0}")]
    MissingKey(String),
    /// A key with a byte that no header can carry.
    #[error("{0} holds a character that no key has")]
    BadKey(&'static str),
    /// A provider without a public address of its own, and none was given.
    #[error("the credential has no {0}")]
    MissingBaseUrl(&'static str),
    /// Not an http or https origin with an optional plain path.
    #[error("{0} is no http(s) URL without user, query and fragment")]
    BadBaseUrl(&'static str),
    /// A remote feature that nobody knows.
    #[error("unknown remote feature `{0}`")]
    UnknownFeature(String),
}

/// What one job's broker may do.
#[derive(Debug, Clone)]
pub struct Grant {
    pub(super) provider: &'static Provider,
    pub(super) auth: Auth,
    pub(super) key: Secret,
    /// Scheme, authority and path prefix without a slash at its end.
    pub(super) base: String,
    /// The models that may be asked for, with their prices.
    pub models: BTreeMap<String, Prices>,
    /// What the provider may do by itself.
    pub remote_features: BTreeSet<Feature>,
}

impl Grant {
    /// Reads key and base URL from a credential's values (environment and secrets together), by the provider's names for
    /// them.
    ///
    /// # Errors
    /// When the key or a base URL that is needed is missing or cannot be used.
    pub fn new(
        provider: &'static Provider,
        credential: &BTreeMap<String, Secret>,
        models: BTreeMap<String, Prices>,
        remote_features: BTreeSet<Feature>,
    ) -> Result<Self, GrantError> {
        let value = |name: &str| credential.get(name).filter(|value| !value.is_empty());
        let found = provider
            .keys
            .iter()
            .find_map(|(name, auth)| Some((*name, *auth, value(name)?)));
        let (name, auth, key) = found.ok_or_else(|| GrantError::MissingKey(provider.key_names()))?;
        if !key.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(GrantError::BadKey(name));
        }
        let base = match value(provider.base_url_env) {
            Some(url) => url.expose(),
            None => provider
                .default_base
                .ok_or(GrantError::MissingBaseUrl(provider.base_url_env))?,
        };
        let base = base_url(base, provider.version_path).ok_or(GrantError::BadBaseUrl(provider.base_url_env))?;
        Ok(Self {
            provider,
            auth,
            key: key.clone(),
            base,
            models,
            remote_features,
        })
    }

    /// The provider.
    pub fn provider(&self) -> &'static Provider {
        self.provider
    }

    /// What a call to a model costs; none when it has no price for what was used.
    pub fn cost(&self, model: &str, tokens: &Tokens) -> Option<Pico> {
        self.models.get(model).and_then(|prices| prices.cost(tokens))
    }

    /// Whether the provider may do this by itself.
    pub fn allows(&self, feature: Feature) -> bool {
        self.remote_features.contains(&feature)
    }
}

/// Makes base URLs alike: people write them with and without the version path, and libraries expect either.
fn base_url(text: &str, version_path: &str) -> Option<String> {
    let uri: Uri = text.trim().parse().ok()?;
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?.as_str());
    let plain = matches!(scheme, "http" | "https") && !authority.contains('@') && !text.contains(['?', '#', '%']);
    let path = uri.path().trim_end_matches('/');
    let path = path.strip_suffix(version_path).unwrap_or(path);
    let odd = path.contains("//") || path.split('/').any(|segment| matches!(segment, "." | ".."));
    (plain && !odd).then(|| format!("{scheme}://{authority}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::provider;

    fn grant(name: &str, values: &[(&str, &str)]) -> Result<Grant, GrantError> {
        let credential = values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Secret::new(*value)))
            .collect();
        Grant::new(
            provider(name).expect("a known provider"),
            &credential,
            BTreeMap::new(),
            BTreeSet::new(),
        )
    }

    #[test]
    fn base_urls_with_and_without_version_path_are_the_same() {
        for base in [
            "https://x.test",
            "https://x.test/",
            "https://x.test/v1",
            "https://x.test/v1/",
        ] {
            let openai = grant("openai", &[("OPENAI_API_KEY", "k"), ("OPENAI_BASE_URL", base)]);
            assert_eq!(openai.expect("a grant").base, "https://x.test", "{base}");
        }
        let router = grant("openrouter", &[("OPENROUTER_API_KEY", "k")]).expect("a grant");
        assert_eq!(router.base, "https://openrouter.ai/api");
    }

    #[test]
    fn a_credential_that_cannot_serve_is_told_why() {
        assert_eq!(
            grant("anthropic", &[]).expect_err("no key"),
            GrantError::MissingKey("ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN".into())
        );
        assert_eq!(
            grant("openai_compatible", &[("OPENAI_API_KEY", "k")]).expect_err("no base"),
            GrantError::MissingBaseUrl("OPENAI_BASE_URL")
        );
        assert_eq!(
            grant("openai", &[("OPENAI_API_KEY", "k\r\nx: y")]).expect_err("a split header"),
            GrantError::BadKey("OPENAI_API_KEY")
        );
        for bad in [
            "ftp://x",
            "x",
            "https://u:p@x",
            "https://x/?a=b",
            "https://x/../y",
            "https://x/%2e%2e",
            "/v1",
        ] {
            let made = grant("openai", &[("OPENAI_API_KEY", "k"), ("OPENAI_BASE_URL", bad)]);
            assert_eq!(made.expect_err(bad), GrantError::BadBaseUrl("OPENAI_BASE_URL"));
        }
    }

    #[test]
    fn features_are_spelt_as_the_api_spells_them() {
        for (name, feature) in Feature::ALL {
            assert_eq!(name.parse(), Ok(feature));
            assert_eq!(feature.to_string(), name);
        }
        assert_eq!("web".parse::<Feature>(), Err(GrantError::UnknownFeature("web".into())));
    }
}
