//! What a project sees of config, and what a stage's harness and model names mean in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::presets::Preset;
use super::{
    ConfigRevision, ConfigSnapshot, Credential, EgressRule, Entry, EntryKind, Harness, Model, Owner, Record, Stored,
    Variable,
};
use crate::id::ProjectId;
use crate::store::StoreError;

type ByName<T> = BTreeMap<(Owner, String), Stored<T>>;

/// All entries at one revision, read once.
#[derive(Debug)]
pub(super) struct Catalogue {
    pub(super) revision: ConfigRevision,
    pub(super) entries: Vec<Entry>,
    credentials: ByName<Credential>,
    egress: ByName<EgressRule>,
    harnesses: ByName<Harness>,
    models: ByName<Model>,
    variables: ByName<Variable>,
}

impl Catalogue {
    pub(super) fn read(snapshot: ConfigSnapshot) -> Result<Self, StoreError> {
        let ConfigSnapshot { revision, entries } = snapshot;
        Ok(Self {
            revision,
            credentials: by_name(&entries)?,
            egress: by_name(&entries)?,
            harnesses: by_name(&entries)?,
            models: by_name(&entries)?,
            variables: by_name(&entries)?,
            entries,
        })
    }
}

fn by_name<T: Record>(entries: &[Entry]) -> Result<ByName<T>, StoreError> {
    let own = entries.iter().filter(|entry| entry.kind == T::KIND);
    own.map(|entry| Ok(((entry.owner, entry.name.clone()), Stored::read(entry)?)))
        .collect()
}

/// Config as one project sees it.
#[derive(Debug, Clone)]
pub struct Effective {
    catalogue: Arc<Catalogue>,
    project: ProjectId,
}

/// What a stage's names mean.
#[derive(Debug, Clone)]
pub struct Resolution {
    /// How the agent is launched.
    pub harness: Stored<Harness>,
    /// The model, when the harness takes one.
    pub model: Option<Stored<Model>>,
    /// The model's credential.
    pub credential: Option<Stored<Credential>>,
}

/// How a name that a stage gives, or leaves out, was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named<T> {
    /// Found.
    Found(T),
    /// This name is not registered.
    Unregistered(String),
    /// No name was given, there is no default, and none is registered.
    NoneThere,
    /// No name was given, there is no default, and several are registered: these.
    Several(Vec<String>),
}

impl Effective {
    pub(super) fn new(catalogue: Arc<Catalogue>, project: ProjectId) -> Self {
        Self { catalogue, project }
    }

    /// The harness that a stage means; an alias means its preset's.
    pub fn harness(&self, name: Option<&str>, default: Option<&str>) -> Named<Stored<Harness>> {
        let named = self.named(&self.catalogue.harnesses, name, default);
        match named {
            Named::Unregistered(name) => match self.find(&self.catalogue.harnesses, Preset::key_of(&name)) {
                Some(found) => Named::Found(found.clone()),
                None => Named::Unregistered(name),
            },
            other => other,
        }
    }

    /// The model that a stage means.
    pub fn model(&self, name: Option<&str>, default: Option<&str>) -> Named<Stored<Model>> {
        self.named(&self.catalogue.models, name, default)
    }

    /// The credential of this name.
    pub fn credential(&self, name: &str) -> Option<&Stored<Credential>> {
        self.find(&self.catalogue.credentials, name)
    }

    /// The egress rules in scope, each with whose it is, ordered by host; a project's rule stands in for the org's of the same
    /// host.
    pub fn egress(&self) -> Vec<Stored<EgressRule>> {
        self.visible(&self.catalogue.egress).into_values().cloned().collect()
    }

    /// All models in scope.
    pub fn models(&self) -> impl Iterator<Item = &Stored<Model>> {
        self.visible(&self.catalogue.models).into_values()
    }

    /// All variables in scope, by name.
    pub fn variables(&self) -> BTreeMap<String, String> {
        let visible = self.visible(&self.catalogue.variables);
        visible
            .into_iter()
            .map(|(name, stored)| (name.to_owned(), stored.record.value.clone()))
            .collect()
    }

    fn named<T: Clone>(&self, all: &ByName<T>, name: Option<&str>, default: Option<&str>) -> Named<Stored<T>> {
        if let Some(name) = name.or(default) {
            return match self.find(all, name) {
                Some(found) => Named::Found(found.clone()),
                None => Named::Unregistered(name.to_owned()),
            };
        }
        let mut visible = self.visible(all);
        match visible.len() {
            0 => Named::NoneThere,
            1 => visible
                .pop_first()
                .map_or(Named::NoneThere, |(_, only)| Named::Found(only.clone())),
            _ => Named::Several(visible.into_keys().map(ToOwned::to_owned).collect()),
        }
    }

    /// The project's entry comes before the org's.
    fn find<'a, T>(&self, all: &'a ByName<T>, name: &str) -> Option<&'a Stored<T>> {
        let owners = [Owner::Project(self.project), Owner::Org];
        owners.into_iter().find_map(|owner| all.get(&(owner, name.to_owned())))
    }

    fn visible<'a, T>(&self, all: &'a ByName<T>) -> BTreeMap<&'a str, &'a Stored<T>> {
        let mut visible = BTreeMap::new();
        // `Owner::Org` sorts first, so that the project's entry replaces it.
        for ((owner, name), stored) in all {
            if matches!(owner, Owner::Org) || *owner == Owner::Project(self.project) {
                visible.insert(name.as_str(), stored);
            }
        }
        visible
    }
}

impl<T: Record> Stored<T> {
    pub(super) fn read(entry: &Entry) -> Result<Self, StoreError> {
        let record = serde_json::from_str(&entry.body).map_err(|_| StoreError::Corrupt {
            table: "config",
            column: "body",
            id: format!("{} {}", entry.kind.as_str(), entry.name),
        })?;
        Ok(Self {
            record,
            owner: entry.owner,
            updated_at: entry.updated_at,
        })
    }
}

/// Kinds whose entries name others, for [`super::Config::delete`].
pub(super) fn users_of_credential(catalogue: &Catalogue, owner: Owner, name: &str) -> Vec<crate::error::User> {
    let rest = |scope: Owner| {
        // Would the name still be found for a model of this owner, once this entry is gone?
        let others = [scope, Owner::Org].into_iter().filter(|&other| other != owner);
        others
            .into_iter()
            .any(|other| catalogue.credentials.contains_key(&(other, name.to_owned())))
    };
    let uses = |model: &Stored<Model>| {
        model.record.credential_name == name && (owner == Owner::Org || model.owner == owner) && !rest(model.owner)
    };
    let users = catalogue.models.values().filter(|model| uses(model));
    users
        .map(|model| crate::error::User {
            kind: EntryKind::Model.as_str(),
            key: model.record.key.clone(),
            project: match model.owner {
                Owner::Org => None,
                Owner::Project(project) => Some(project),
            },
        })
        .collect()
}
