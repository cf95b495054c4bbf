//! Config, as callers see it: upsert, read, list, delete, and what a run's project sees.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::credential::read_secrets;
use super::presets::{PRESETS, Preset};
use super::resolve::{Catalogue, users_of_credential};
use super::{
    ConfigChange, ConfigCommitted, Credential, CredentialSecrets, Effective, Entry, EntryKind, Harness, Owner,
};
use crate::body::{Faults, Object};
use crate::clock::{Clock, Timestamp};
use crate::error::{Conflict, Error, Result};
use crate::id::ProjectId;
use crate::sealing::{Place, Sealed, Sealer};
use crate::secret::Secret;
use crate::sources::{KeyRefused, Source, SourceKey};
use crate::store::SharedStore;

/// How often a change is tried again when config changes meanwhile.
const TRIES: usize = 16;

/// A kind of entry.
pub trait Record: Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The kind.
    const KIND: EntryKind;

    /// Its name.
    fn name(&self) -> &str;

    /// Reads the fields of a request body, faulting what is wrong.
    fn read(object: &mut Object<'_>) -> Option<Self>;
}

/// An entry as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored<T> {
    /// Its fields.
    pub record: T,
    /// Whose it is.
    pub owner: Owner,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// What an upsert did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put<T> {
    /// The entry as it is now.
    pub stored: Stored<T>,
    /// Whether it is new.
    pub created: bool,
    /// Names of secrets that are too short to be redacted.
    pub too_short: Vec<String>,
}

/// Which entries a list shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// The org's.
    Org,
    /// What one project sees.
    Seen(ProjectId),
    /// Every one.
    All,
}

/// Config.
#[derive(Clone)]
pub struct Config {
    store: SharedStore,
    sealer: Arc<dyn Sealer>,
    clock: Arc<dyn Clock>,
    known: Arc<Mutex<Option<Arc<Catalogue>>>>,
}

impl Config {
    pub(crate) fn new(store: SharedStore, sealer: Arc<dyn Sealer>, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            sealer,
            clock,
            known: Arc::default(),
        }
    }

    /// Config as a project sees it now.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn effective(&self, project: ProjectId) -> Result<Effective> {
        Ok(Effective::new(self.catalogue().await?, project))
    }

    /// Creates or replaces an entry from a request body (without `project_id`, which the caller has read as `owner`).
    ///
    /// # Errors
    /// [`Error::Invalid`] with all faults; [`Error::ResendRequired`] when a secret would be drawn to a new place.
    pub async fn put<T: Record>(&self, owner: Owner, body: &Value) -> Result<Put<T>> {
        let (record, secrets, _) = read_body::<T>(body)?;
        self.write(owner, record, secrets).await
    }

    /// Checks the body of a put alone. Gives the project that it names.
    ///
    /// # Errors
    /// [`Error::Invalid`] with all faults.
    pub fn check<T: Record>(&self, body: &Value) -> Result<Option<ProjectId>> {
        read_body::<T>(body).map(|(_, _, project)| project)
    }

    /// Registers a preset as a harness.
    ///
    /// # Errors
    /// [`Error::Invalid`] listing the known presets.
    pub async fn put_preset(
        &self,
        owner: Owner,
        preset: &str,
        key: Option<&str>,
        label: Option<&str>,
    ) -> Result<Put<Harness>> {
        let harness = preset_harness(preset, key, label)?;
        self.write(owner, harness, None).await
    }

    /// Checks what [`Config::put_preset`] is told.
    ///
    /// # Errors
    /// As there.
    pub fn check_preset(&self, preset: &str, key: Option<&str>) -> Result<()> {
        preset_harness(preset, key, None).map(|_| ())
    }

    /// An entry; the org's when the project has none of this name.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get<T: Record>(&self, project: Option<ProjectId>, name: &str) -> Result<Stored<T>> {
        let catalogue = self.catalogue().await?;
        let (owners, name) = ([project.map(Owner::Project), Some(Owner::Org)], T::KIND.spelling(name));
        let entry = owners
            .into_iter()
            .flatten()
            .find_map(|owner| find(&catalogue, T::KIND, owner, &name));
        Ok(Stored::read(entry.ok_or(Error::NotFound(T::KIND.as_str()))?)?)
    }

    /// Entries by name.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn list<T: Record>(&self, listing: Listing) -> Result<Vec<Stored<T>>> {
        let catalogue = self.catalogue().await?;
        let shadowed = |entry: &Entry| match listing {
            Listing::Seen(project) => {
                entry.owner == Owner::Org
                    && find(&catalogue, entry.kind, Owner::Project(project), &entry.name).is_some()
            }
            Listing::Org | Listing::All => false,
        };
        let shown = |entry: &&Entry| {
            entry.kind == T::KIND
                && !shadowed(entry)
                && match listing {
                    Listing::Org => entry.owner == Owner::Org,
                    Listing::Seen(project) => [Owner::Org, Owner::Project(project)].contains(&entry.owner),
                    Listing::All => true,
                }
        };
        let mut stored: Vec<Stored<T>> = catalogue
            .entries
            .iter()
            .filter(shown)
            .map(Stored::read)
            .collect::<Result<_, _>>()?;
        stored.sort_by(|one, other| (one.record.name(), one.owner).cmp(&(other.record.name(), other.owner)));
        Ok(stored)
    }

    /// Deletes exactly the entry of this owner.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Conflict::InUse`] when a model would no longer find its credential.
    pub async fn delete(&self, kind: EntryKind, owner: Owner, name: &str) -> Result<()> {
        let name = &*kind.spelling(name);
        for _ in 0..TRIES {
            let catalogue = self.catalogue().await?;
            find(&catalogue, kind, owner, name).ok_or(Error::NotFound(kind.as_str()))?;
            let users = match kind {
                EntryKind::Credential => users_of_credential(&catalogue, owner, name),
                _ => Vec::new(),
            };
            if !users.is_empty() {
                let message = format!("{} {name} is used by {} models", kind.as_str(), users.len());
                return Err(Error::Conflict {
                    kind: Conflict::InUse,
                    message,
                    users,
                });
            }
            let change = ConfigChange::Delete {
                kind,
                owner,
                name: name.to_owned(),
            };
            if let ConfigCommitted::At(_) = self.store.commit_config(catalogue.revision, change).await? {
                return Ok(());
            }
        }
        Err(contended())
    }

    /// A credential with its secrets, opened; both from one revision.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the credential is gone; internal when it does not open.
    pub async fn opened(&self, owner: Owner, name: &str) -> Result<(Credential, CredentialSecrets)> {
        let catalogue = self.catalogue().await?;
        let entry = find(&catalogue, EntryKind::Credential, owner, name).ok_or(Error::NotFound("credential"))?;
        let stored: Stored<Credential> = Stored::read(entry)?;
        Ok((stored.record, self.open(entry)?))
    }

    /// What a project's source is to be fetched with, opened: none where it names no credential.
    ///
    /// # Errors
    /// When its credential may not be used for it; when the store does not answer.
    pub async fn source_key(
        &self,
        project: ProjectId,
        source: &Source,
    ) -> Result<Result<Option<SourceKey>, KeyRefused>> {
        let Some(name) = source.credential() else {
            return Ok(Ok(None));
        };
        let effective = self.effective(project).await?;
        let Some(found) = effective.credential(name) else {
            return Ok(Err(KeyRefused::Missing));
        };
        // Judged once more over what is opened: both of one revision.
        match self.opened(found.owner, name).await {
            Ok((credential, secrets)) => Ok(SourceKey::open(source, &credential, secrets).map(Some)),
            Err(Error::NotFound(_)) => Ok(Err(KeyRefused::Missing)),
            Err(error) => Err(error),
        }
    }

    async fn write<T: Record>(&self, owner: Owner, record: T, secrets: Option<CredentialSecrets>) -> Result<Put<T>> {
        for _ in 0..TRIES {
            let catalogue = self.catalogue().await?;
            let before = find(&catalogue, T::KIND, owner, record.name());
            let entry = self.entry(owner, &record, secrets.as_ref(), before)?;
            let too_short = secrets.as_ref().map(too_short).unwrap_or_default();
            let created = before.is_none();
            if let Some(entry) = entry {
                let stored = Stored::read(&entry)?;
                let change = ConfigChange::Put(entry);
                if let ConfigCommitted::At(_) = self.store.commit_config(catalogue.revision, change).await? {
                    return Ok(Put {
                        stored,
                        created,
                        too_short,
                    });
                }
            } else if let Some(same) = before {
                return Ok(Put {
                    stored: Stored::read(same)?,
                    created,
                    too_short,
                });
            }
        }
        Err(contended())
    }

    /// The entry to write, or none when it is there already just so.
    fn entry<T: Record>(
        &self,
        owner: Owner,
        record: &T,
        secrets: Option<&CredentialSecrets>,
        before: Option<&Entry>,
    ) -> Result<Option<Entry>> {
        let mut body = serde_json::to_value(record).map_err(|error| Error::internal(error.to_string()))?;
        let mut sealed = before.and_then(|before| before.sealed.clone());
        let mut same_secrets = true;
        if T::KIND == EntryKind::Credential {
            let known = before.map(|before| self.open(before)).transpose()?;
            if let (Some(before), None) = (before, secrets) {
                refuse_new_place(&body, before)?;
            }
            let now = secrets.or(known.as_ref());
            body["secret_keys"] = now
                .into_iter()
                .flatten()
                .map(|(name, _)| Value::from(name.as_str()))
                .collect();
            if let Some(secrets) = secrets {
                same_secrets = known.as_ref().is_some_and(|known| same(known, secrets));
                if !same_secrets {
                    sealed = Some(self.seal(owner, record.name(), secrets)?);
                }
            }
        }
        let body = body.to_string();
        if same_secrets && before.is_some_and(|before| before.body == body) {
            return Ok(None);
        }
        let (kind, name, updated_at) = (T::KIND, record.name().to_owned(), self.clock.now());
        Ok(Some(Entry {
            kind,
            owner,
            name,
            body,
            sealed,
            updated_at,
        }))
    }

    fn seal(&self, owner: Owner, name: &str, secrets: &CredentialSecrets) -> Result<Sealed> {
        let clear: std::collections::BTreeMap<&str, &str> = secrets
            .iter()
            .map(|(name, secret)| (name.as_str(), secret.expose()))
            .collect();
        let clear = zeroize::Zeroizing::new(serde_json::to_vec(&clear).map_err(|_| Error::internal("sealing"))?);
        let scope = scope_text(owner);
        self.sealer
            .seal(place(&scope, name), &clear)
            .map_err(|error| Error::internal(error.to_string()))
    }

    fn open(&self, entry: &Entry) -> Result<CredentialSecrets> {
        let Some(sealed) = &entry.sealed else {
            return Ok(CredentialSecrets::new());
        };
        let scope = scope_text(entry.owner);
        let clear = self.sealer.open(place(&scope, &entry.name), sealed);
        let clear = clear.map_err(|error| Error::internal(format!("credential {}: {error}", entry.name)))?;
        let texts: std::collections::BTreeMap<String, String> =
            serde_json::from_slice(clear.expose()).map_err(|_| Error::internal("a sealed credential is no JSON"))?;
        Ok(texts
            .into_iter()
            .map(|(name, text)| (name, Secret::new(text)))
            .collect())
    }

    async fn catalogue(&self) -> Result<Arc<Catalogue>> {
        let revision = self.store.config_revision().await?;
        let known = self.known.lock().expect("no holder of this lock panics").clone();
        if let Some(known) = known.filter(|known| known.revision == revision) {
            return Ok(known);
        }
        let fresh = Arc::new(Catalogue::read(self.store.config().await?)?);
        *self.known.lock().expect("no holder of this lock panics") = Some(fresh.clone());
        Ok(fresh)
    }
}

fn find<'a>(catalogue: &'a Catalogue, kind: EntryKind, owner: Owner, name: &str) -> Option<&'a Entry> {
    catalogue
        .entries
        .iter()
        .find(|entry| entry.kind == kind && entry.owner == owner && entry.name == name)
}

fn refuse_new_place(body: &Value, before: &Entry) -> Result<()> {
    let now: Credential = serde_json::from_value(body.clone()).map_err(|error| Error::internal(error.to_string()))?;
    let before: Stored<Credential> = Stored::read(before)?;
    match now.drawn_elsewhere(&before.record) {
        Some(field) if !before.record.secret_keys.is_empty() => Err(Error::ResendRequired(field)),
        _ => Ok(()),
    }
}

fn same(known: &CredentialSecrets, sent: &CredentialSecrets) -> bool {
    known.len() == sent.len()
        && sent
            .iter()
            .all(|(name, secret)| known.get(name).is_some_and(|known| known.expose() == secret.expose()))
}

fn too_short(secrets: &CredentialSecrets) -> Vec<String> {
    let short = secrets
        .iter()
        .filter(|(_, secret)| secret.expose().len() < super::MIN_REDACTABLE);
    short.map(|(name, _)| name.clone()).collect()
}

fn scope_text(owner: Owner) -> String {
    match owner {
        Owner::Org => "org".into(),
        Owner::Project(project) => project.to_string(),
    }
}

fn place<'a>(scope: &'a str, name: &'a str) -> Place<'a> {
    Place {
        scope,
        kind: "credential",
        record: name,
        field: "secrets",
    }
}

/// The project that the body of an entry names, if any; one that is no UUID is a fault.
pub fn project_field(object: &mut Object<'_>) -> Option<ProjectId> {
    let named = object.text("project_id")?.parse();
    if named.is_err() {
        object.fault("project_id", "expected a UUID");
    }
    named.ok()
}

fn read_body<T: Record>(body: &Value) -> Result<(T, Option<CredentialSecrets>, Option<ProjectId>)> {
    let faults = Faults::new();
    let read = Object::read(body, "", &faults).map(|mut object| {
        let project = project_field(&mut object);
        let record = T::read(&mut object);
        let secrets = match T::KIND {
            EntryKind::Credential => read_secrets(&mut object),
            _ => None,
        };
        object.close();
        (record, secrets, project)
    });
    match (read, faults.take()) {
        (Some((Some(record), secrets, project)), faults) if faults.is_empty() => Ok((record, secrets, project)),
        (_, faults) => Err(Error::Invalid(faults)),
    }
}

fn preset_harness(preset: &str, key: Option<&str>, label: Option<&str>) -> Result<Harness> {
    let Some(found) = Preset::find(preset) else {
        let known: Vec<&str> = PRESETS.iter().map(|preset| preset.key).collect();
        return Err(Error::invalid(
            "/preset",
            format!("no such preset; known are {}", known.join(", ")),
        ));
    };
    let key = key.unwrap_or(preset);
    if !super::name::is_name(key) {
        return Err(Error::invalid(
            "/key",
            "expected 1 to 64 of A-Z a-z 0-9 . _ -, starting with a letter or digit",
        ));
    }
    if key == super::harness::TAKEN_KEY {
        return Err(Error::invalid("/key", super::harness::TAKEN));
    }
    Ok(found.harness(key, label.map(ToOwned::to_owned)))
}

fn contended() -> Error {
    Error::Busy {
        message: "config is being changed by others".into(),
        retry_after: std::time::Duration::from_secs(1),
    }
}
