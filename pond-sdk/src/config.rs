//! Admin config: one set of calls for credentials, egress rules, harnesses, models and variables.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::{
    Credential, CredentialList, EgressRule, EgressRuleList, Harness, HarnessFromPreset, HarnessList, HarnessPreset,
    HarnessPresetList, Model, ModelList, PutCredential, PutEgressRule, PutHarness, PutModel, PutVariable, Variable,
    VariableList,
};
use crate::client::Client;
use crate::error::Result;
use crate::pages::{Page, Pages, pages};
use crate::request::Call;

/// A kind of admin config entry.
pub trait Entry: DeserializeOwned + Send + 'static {
    /// What is sent to make or replace one.
    type Put: Serialize + Sync;
    /// A page of them.
    type List: DeserializeOwned + Send;
    /// Its part of the path.
    const PATH: &'static str;
    /// Its entries, and where the next page begins.
    fn split(list: Self::List) -> (Vec<Self>, Option<String>);
}

macro_rules! entry {
    ($entry:ty, $put:ty, $list:ty, $path:literal, $field:ident) => {
        impl Entry for $entry {
            type Put = $put;
            type List = $list;
            const PATH: &'static str = $path;

            fn split(list: Self::List) -> (Vec<Self>, Option<String>) {
                (list.$field, list.next_cursor)
            }
        }
    };
}

entry!(Credential, PutCredential, CredentialList, "credentials", credentials);
entry!(EgressRule, PutEgressRule, EgressRuleList, "egress", rules);
entry!(Harness, PutHarness, HarnessList, "harnesses", harnesses);
entry!(Model, PutModel, ModelList, "models", models);
entry!(Variable, PutVariable, VariableList, "variables", variables);

/// Which entries to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Selection {
    /// The org's.
    #[default]
    Org,
    /// What this project sees: its own, and the org's that it does not shadow.
    Project(String),
    /// Every entry.
    All,
}

/// The calls on one kind of admin config.
#[derive(Debug, Clone)]
pub struct Entries<E> {
    client: Client,
    kind: PhantomData<fn() -> E>,
}

impl Client {
    /// The calls on credentials.
    pub fn credentials(&self) -> Entries<Credential> {
        self.entries()
    }

    /// The calls on egress rules.
    pub fn egress(&self) -> Entries<EgressRule> {
        self.entries()
    }

    /// The calls on harnesses.
    pub fn harnesses(&self) -> Entries<Harness> {
        self.entries()
    }

    /// The calls on models.
    pub fn models(&self) -> Entries<Model> {
        self.entries()
    }

    /// The calls on variables.
    pub fn variables(&self) -> Entries<Variable> {
        self.entries()
    }

    fn entries<E>(&self) -> Entries<E> {
        Entries {
            client: self.clone(),
            kind: PhantomData,
        }
    }
}

impl<E: Entry> Entries<E> {
    /// Makes or replaces an entry.
    pub async fn put(&self, entry: &E::Put) -> Result<E> {
        self.client
            .read("entry", Call::put_like(&["v1", "admin", E::PATH]).json(entry)?)
            .await
    }

    /// The entries selected.
    pub fn list(&self, selection: &Selection) -> Pages<E> {
        let client = self.client.clone();
        let (project, scope) = match selection {
            Selection::Org => (None, None),
            Selection::Project(id) => (Some(id.clone()), None),
            Selection::All => (None, Some("all")),
        };
        pages(move |cursor| {
            let call = Call::get(&["v1", "admin", E::PATH])
                .query("project_id", project.as_ref())
                .query("scope", scope)
                .query("cursor", cursor);
            let client = client.clone();
            async move {
                let (entries, next) = E::split(client.read("list", call).await?);
                Ok(Page { entries, next })
            }
        })
    }

    /// The entry of this name that a project sees; without one, the org's.
    pub async fn get(&self, name: &str, project_id: Option<&str>) -> Result<E> {
        self.client
            .read(
                "entry",
                Call::get(&["v1", "admin", E::PATH, name]).query("project_id", project_id),
            )
            .await
    }

    /// Removes the project's own entry of this name; without a project, the org's.
    pub async fn delete(&self, name: &str, project_id: Option<&str>) -> Result<()> {
        self.client
            .done(Call::delete(&["v1", "admin", E::PATH, name]).query("project_id", project_id))
            .await
    }
}

impl Entries<Harness> {
    /// The harnesses that Pond knows how to set up.
    pub fn presets(&self) -> Pages<HarnessPreset> {
        let client = self.client.clone();
        pages(move |cursor| {
            let client = client.clone();
            async move {
                let call = Call::get(&["v1", "admin", "harness-presets"]).query("cursor", cursor);
                let list: HarnessPresetList = client.read("list of presets", call).await?;
                Ok(Page {
                    entries: list.presets,
                    next: list.next_cursor,
                })
            }
        })
    }

    /// Makes or replaces a harness from a preset.
    pub async fn from_preset(&self, preset: &HarnessFromPreset) -> Result<Harness> {
        self.client
            .read(
                "harness",
                Call::put_like(&["v1", "admin", "harnesses", "from-preset"]).json(preset)?,
            )
            .await
    }
}
