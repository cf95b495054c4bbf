//! Admin config: credentials, egress rules, harnesses, models and variables. A POST replaces; `project_id` makes an entry that shadows
//! the org's of the same name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Number;

use super::open_enum::open_enum;
use crate::secret::{self, Secret};

open_enum! {
    /// Where an entry stands.
    Scope {
        /// Shared by all projects.
        Org = "org",
        /// In one project.
        Project = "project",
    }
}

/// The body of `POST /v1/admin/credentials`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PutCredential {
    /// Its name.
    pub name: String,
    /// `anthropic`, `openai`, `openai_compatible`, `openrouter`, `gemini`, `git`, `s3` …
    pub provider: String,
    /// Plain environment that goes with it, such as a base URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
    /// Secret values by name; left out on an update: kept, given: replaced as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "secret::wire_map")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<BTreeMap<String, String>>, write_only))]
    pub secrets: Option<BTreeMap<String, Secret>>,
    /// Hosts it may be sent to: `host[:port]` with an optional path; required for `git` and `s3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<String>>,
    /// Buckets it may be used for; required for `s3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buckets: Option<Vec<String>>,
    /// Features by which the provider itself may fetch, run or keep something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_features: Option<Vec<String>>,
    /// The project; left out: the org.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
}

/// A credential as reads show it: names of its secrets, never their values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Credential {
    /// Its name.
    pub name: String,
    /// Its provider.
    pub provider: String,
    /// Plain environment that goes with it.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Names of its secrets.
    #[serde(default)]
    pub secret_keys: Vec<String>,
    /// Hosts it may be sent to.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Buckets it may be used for.
    #[serde(default)]
    pub buckets: Vec<String>,
    /// Features by which the provider itself may fetch, run or keep something.
    #[serde(default)]
    pub remote_features: Vec<String>,
    /// Where it stands.
    pub scope: Scope,
    /// The project; null for the org.
    pub project_id: Option<String>,
    /// When it last changed.
    pub updated_at: String,
}

/// A page of credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CredentialList {
    /// The credentials.
    pub credentials: Vec<Credential>,
    /// Where the next page begins; null at the end.
    pub next_cursor: Option<String>,
}

open_enum! {
    /// What an egress rule says of its hosts.
    EgressAction {
        /// They may be reached.
        Allow = "allow",
        /// They may not.
        Deny = "deny",
    }
}

/// The body of `POST /v1/admin/egress`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PutEgressRule {
    /// A host, or `.suffix` for its sub-domains, with an optional `:port`; without one 443 and 80.
    pub host: String,
    /// `allow` or `deny`; left out: `allow`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<EgressAction>,
    /// Whether a plain connection may be turned into another protocol; left out: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<bool>,
    /// The project; left out: the org.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
}

/// A rule of where sandboxes may connect to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EgressRule {
    /// Its hosts, in the one spelling of the rule: lower case, IDNA-encoded, a suffix with its dot alone.
    pub host: String,
    /// What it says of them.
    pub action: EgressAction,
    /// Whether a plain connection may be turned into another protocol.
    #[serde(default)]
    pub upgrade: bool,
    /// Where it stands.
    pub scope: Scope,
    /// The project; null for the org.
    pub project_id: Option<String>,
    /// When it last changed.
    pub updated_at: String,
}

/// A page of egress rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EgressRuleList {
    /// The rules.
    pub rules: Vec<EgressRule>,
    /// Where the next page begins; null at the end.
    pub next_cursor: Option<String>,
}

/// A file laid into the job's home folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct HarnessFile {
    /// Path relative to the home folder.
    pub path: String,
    /// Its content, with placeholders.
    pub content: String,
}

/// The body of `POST /v1/admin/harnesses`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PutHarness {
    /// Its key.
    pub key: String,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The capability a worker must have; left out: `harness.<key>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<String>,
    /// The arguments that start the agent, with placeholders.
    pub command_template: Vec<String>,
    /// Files for the job's home folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<HarnessFile>>,
    /// The model API it speaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wire: Option<String>,
    /// The project; left out: the org.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
}

/// A harness: how an agent's command line is started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Harness {
    /// Its key.
    pub key: String,
    /// A name for people.
    pub label: Option<String>,
    /// The capability a worker must have.
    pub capability: String,
    /// The arguments that start the agent, with placeholders.
    #[serde(default)]
    pub command_template: Vec<String>,
    /// Files for the job's home folder.
    #[serde(default)]
    pub files: Vec<HarnessFile>,
    /// The model API it speaks.
    pub wire: Option<String>,
    /// Where it stands.
    pub scope: Scope,
    /// The project; null for the org.
    pub project_id: Option<String>,
    /// When it last changed.
    pub updated_at: String,
}

/// A page of harnesses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HarnessList {
    /// The harnesses.
    pub harnesses: Vec<Harness>,
    /// Where the next page begins; null at the end.
    pub next_cursor: Option<String>,
}

/// A harness that Pond knows how to set up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HarnessPreset {
    /// Its key.
    pub key: String,
    /// A name for people.
    pub label: String,
    /// The model API it speaks; null for one that calls no model.
    pub wire: Option<String>,
    /// Whether it was tried with the program itself.
    pub verified: bool,
}

/// The answer of `GET /v1/admin/harness-presets`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HarnessPresetList {
    /// The presets.
    pub presets: Vec<HarnessPreset>,
    /// Where the next page begins; null at the end.
    pub next_cursor: Option<String>,
}

/// The body of `POST /v1/admin/harnesses/from-preset`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct HarnessFromPreset {
    /// The preset's key, or an alias of it.
    pub preset: String,
    /// The harness's key; left out: the preset's name as sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// A name for people; left out: the preset's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The project; left out: the org.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
}

/// The body of `POST /v1/admin/models`. Prices are USD per million tokens, up to 6 places.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PutModel {
    /// Its key.
    pub key: String,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Its provider.
    pub provider: String,
    /// The model as the provider names it.
    pub model_id: String,
    /// The credential it is called with.
    pub credential_name: String,
    /// A capability a worker must have for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<String>,
    /// Price of input tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<f64>))]
    pub input_cost_per_mtok: Option<Number>,
    /// Price of output tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<f64>))]
    pub output_cost_per_mtok: Option<Number>,
    /// Price of input tokens read from the provider's cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<f64>))]
    pub cache_read_cost_per_mtok: Option<Number>,
    /// Price of input tokens written to the provider's cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<f64>))]
    pub cache_write_cost_per_mtok: Option<Number>,
    /// The project; left out: the org.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
}

/// A model: what a provider calls it, its credential and its prices in USD per million tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Model {
    /// Its key.
    pub key: String,
    /// A name for people.
    pub label: Option<String>,
    /// Its provider.
    pub provider: String,
    /// The model as the provider names it.
    pub model_id: String,
    /// The credential it is called with.
    pub credential_name: String,
    /// A capability a worker must have for it.
    pub capability: Option<String>,
    /// Price of input tokens.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<f64>))]
    pub input_cost_per_mtok: Option<Number>,
    /// Price of output tokens.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<f64>))]
    pub output_cost_per_mtok: Option<Number>,
    /// Price of input tokens read from the provider's cache.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<f64>))]
    pub cache_read_cost_per_mtok: Option<Number>,
    /// Price of input tokens written to the provider's cache.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<f64>))]
    pub cache_write_cost_per_mtok: Option<Number>,
    /// Where it stands.
    pub scope: Scope,
    /// The project; null for the org.
    pub project_id: Option<String>,
    /// When it last changed.
    pub updated_at: String,
}

/// A page of models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ModelList {
    /// The models.
    pub models: Vec<Model>,
    /// Where the next page begins; null at the end.
    pub next_cursor: Option<String>,
}

/// The body of `POST /v1/admin/variables`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PutVariable {
    /// Its name in the environment.
    pub name: String,
    /// Its value; not for secrets.
    pub value: String,
    /// The project; left out: the org.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
}

/// A variable that every stage in its scope sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Variable {
    /// Its name in the environment.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Where it stands.
    pub scope: Scope,
    /// The project; null for the org.
    pub project_id: Option<String>,
    /// When it last changed.
    pub updated_at: String,
}

/// A page of variables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VariableList {
    /// The variables.
    pub variables: Vec<Variable>,
    /// Where the next page begins; null at the end.
    pub next_cursor: Option<String>,
}
