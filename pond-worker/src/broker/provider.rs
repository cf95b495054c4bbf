//! What distinguishes one provider from another, as a value: names, key, address, paths, headers, error shape.

use std::fmt;

use hyper::Method;
use serde_json::Value;

use super::grant::Feature;
use super::refusal::Refusal;
use super::wire::{self, Wire};

/// Every provider. To add one: a file in `wire` and a line here. Names are those of [`pond_core::config::PROVIDERS`].
pub static PROVIDERS: [&Provider; 5] = [
    &wire::anthropic::ANTHROPIC,
    &wire::openai::OPENAI,
    &wire::openai::OPENAI_COMPATIBLE,
    &wire::openai::OPENROUTER,
    &wire::gemini::GEMINI,
];

/// The provider of this name.
pub fn provider(name: &str) -> Option<&'static Provider> {
    PROVIDERS.iter().copied().find(|provider| provider.name == name)
}

/// How a provider takes its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// `Authorization: Bearer …`.
    Bearer,
    /// Bare, in a header of this name.
    Header(&'static str),
}

/// One provider.
pub struct Provider {
    /// Its name in models and credentials.
    pub name: &'static str,
    /// The names under which a credential may hold its key, best first, and how that key is sent.
    pub keys: &'static [(&'static str, Auth)],
    /// The name under which a credential may hold its address.
    pub base_url_env: &'static str,
    /// Its public address, where it has one.
    pub default_base: Option<&'static str>,
    /// The path that its addresses may end with.
    pub version_path: &'static str,
    /// The base URL that its clients expect.
    pub client_base: ClientBase,
    /// A key of its shape that opens nothing.
    pub dummy_key: &'static str,
    /// The paths that may be asked for.
    pub routes: &'static [Route],
    /// Its header of beta values.
    pub beta: Option<&'static Betas>,
    /// Its error shape.
    pub error: fn(&Refusal) -> Value,
}

impl Provider {
    /// The names of its key, for people.
    pub fn key_names(&self) -> String {
        self.keys.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" or ")
    }

    /// The route of a request, by exact path alone: nothing is decoded or normalised, so there is nothing to trick.
    pub fn route<'p>(&self, method: &Method, path: &'p str) -> Option<Found<'p>> {
        let routes = self.routes.iter().filter(|route| route.method == *method);
        routes.into_iter().find_map(|route| {
            let model = route.takes(path)?;
            Some(Found { route, model })
        })
    }

    /// The paths, for the text of a refusal.
    pub fn paths(&self) -> String {
        self.routes
            .iter()
            .map(|route| format!("{} {}", route.method, route.path))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Provider").field(&self.name).finish()
    }
}

/// Whether the base URL that a provider's clients are given holds the version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientBase {
    /// The origin alone: clients add the version themselves.
    Origin,
    /// The origin and the version.
    Versioned,
}

/// The route of a request.
pub struct Found<'p> {
    /// The route.
    pub route: &'static Route,
    /// The model that the path names, of one that does.
    pub model: Option<&'p str>,
}

/// Stands for the model in the path of a [`Route`].
const MODEL: &str = "{model}";

/// A path that may be asked for.
pub struct Route {
    /// Its method.
    pub method: Method,
    /// Its path at the broker, and behind the base URL; `{model}` in it stands for the model's name.
    pub path: &'static str,
    /// The same path as clients send it whose base URL holds no version.
    pub alias: Option<&'static str>,
    /// Query parameters that pass: a name, or `name=value` for one that passes with this value alone.
    pub query: &'static [&'static str],
    /// How its bodies are checked and read; none where there is no body.
    pub wire: Option<&'static dyn Wire>,
    /// Whether the provider bills it.
    pub billed: bool,
}

impl Route {
    /// Whether it takes this path, and the model that the path names.
    fn takes<'p>(&self, path: &'p str) -> Option<Option<&'p str>> {
        let Some((before, after)) = self.path.split_once(MODEL) else {
            return (self.path == path || self.alias == Some(path)).then_some(None);
        };
        let model = path.strip_prefix(before)?.strip_suffix(after)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
        // One plain segment, and none that a server may take for a step upwards.
        let fits = !model.is_empty() && model.bytes().all(plain) && !matches!(model, "." | "..");
        fits.then_some(Some(model))
    }

    /// The path behind the base URL.
    pub(super) fn path(&self, model: Option<&str>) -> String {
        self.path.replace(MODEL, model.unwrap_or(""))
    }

    /// Whether a query parameter passes.
    pub(super) fn passes(&self, name: &str, value: &str) -> bool {
        self.query.iter().any(|known| match known.split_once('=') {
            Some((known, only)) => known == name && only == value,
            None => *known == name,
        })
    }
}

/// The beta header of a provider: what passes, and what stands for a remote feature. Any other value is left out.
pub struct Betas {
    /// The header's name, in lower case.
    pub header: &'static str,
    /// Values that let the provider neither fetch nor run nor keep anything.
    pub pass: &'static [&'static str],
    /// Values that do, with a prefix of them.
    pub remote: &'static [(&'static str, Feature)],
}
