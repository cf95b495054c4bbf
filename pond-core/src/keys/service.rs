//! Keys, as callers see them: made and shown once, listed, revoked; and whose token a token is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{ApiKey, KEY_PREFIX, KeyHolder, KeyScope, NewKey, Principal};
use crate::body::{Faults, Object};
use crate::clock::{Clock, Timestamp};
use crate::entropy::Entropy;
use crate::error::{Error, Result};
use crate::id::{KeyId, ProjectId};
use crate::page::{Page, PageRequest};
use crate::projects::{Projects, Slug};
use crate::scope::Scope;
use crate::secret::Secret;
use crate::store::SharedStore;

/// How coarsely the last use of a key is known.
const USE_GRAIN: Duration = Duration::from_secs(60);
/// Characters of a token that its record shows: the prefix and 24 of 256 random bits.
const SHOWN: usize = KEY_PREFIX.len() + 4;
const MAX_NAME: usize = 200;

/// Keys.
#[derive(Clone)]
pub struct Keys {
    store: SharedStore,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    projects: Projects,
}

/// A key that was just made, with the token that is never shown again.
#[derive(Debug, Clone)]
pub struct IssuedKey {
    /// The key.
    pub key: ApiKey,
    /// Its token.
    pub token: Secret,
}

/// The fields of a request body.
struct Wanted {
    place: Place,
    name: String,
    scopes: BTreeSet<KeyScope>,
    expires_at: Option<Timestamp>,
}

/// How a body names the project.
enum Place {
    Default,
    Project(ProjectId),
    Org(String),
}

impl Keys {
    pub(crate) fn new(
        store: SharedStore,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        projects: Projects,
    ) -> Self {
        Self {
            store,
            clock,
            entropy,
            projects,
        }
    }

    /// Makes a key from a request body. A project id that was never seen makes its project.
    ///
    /// # Errors
    /// [`Error::Invalid`] with all faults; [`Error::NotFound`] for an org that is not there.
    pub async fn create(&self, body: &Value) -> Result<IssuedKey> {
        let wanted = self.read(body)?;
        let project = match wanted.place {
            Place::Default => self.projects.default_project(),
            Place::Project(id) => self.projects.ensure(id).await?,
            Place::Org(slug) => self.org(&slug).await?,
        };
        let token = Secret::new(format!(
            "{KEY_PREFIX}{}",
            URL_SAFE_NO_PAD.encode(self.entropy.draw::<32>())
        ));
        let key = ApiKey {
            id: KeyId::mint(&*self.clock, &*self.entropy),
            project,
            name: wanted.name,
            prefix: token.expose().chars().take(SHOWN).collect(),
            scopes: wanted.scopes,
            created_at: self.clock.now(),
            expires_at: wanted.expires_at,
            last_used_at: None,
        };
        let new = NewKey {
            key: key.clone(),
            hash: hash(token.expose()),
        };
        if !self.store.create_key(new).await? {
            return Err(Error::NotFound("project"));
        }
        Ok(IssuedKey { key, token })
    }

    async fn org(&self, slug: &str) -> Result<ProjectId> {
        let slug = Slug::new(slug).map_err(|_| Error::NotFound("org"))?;
        let project = self.store.project_by_slug(&slug).await?;
        Ok(project.ok_or(Error::NotFound("org"))?.id)
    }

    fn read(&self, body: &Value) -> Result<Wanted> {
        let faults = Faults::new();
        let wanted = Object::read(body, "", &faults).and_then(|object| self.fields(object));
        match (wanted, faults.take()) {
            (Some(wanted), faults) if faults.is_empty() => Ok(wanted),
            (_, faults) => Err(Error::Invalid(faults)),
        }
    }

    fn fields(&self, mut object: Object<'_>) -> Option<Wanted> {
        let place = place(&mut object);
        let name = object.required_text("name").filter(|name| {
            let fits = (1..=MAX_NAME).contains(&name.chars().count()) && !name.contains(char::is_control);
            if !fits {
                object.fault("name", format!("expected 1 to {MAX_NAME} characters without controls"));
            }
            fits
        });
        let scopes = scopes(&mut object);
        let expires_at = object.text("expires_at").and_then(|text| {
            let at = Timestamp::parse(text).ok().filter(|at| *at > self.clock.now());
            if at.is_none() {
                object.fault("expires_at", "expected an RFC 3339 time in the future");
            }
            at
        });
        object.close();
        Some(Wanted {
            place,
            name: name?.to_owned(),
            scopes,
            expires_at,
        })
    }

    /// Keys in scope, oldest first.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn list(&self, scope: Scope, page: PageRequest<KeyId>) -> Result<Page<ApiKey, KeyId>> {
        Ok(self.store.keys(scope, page).await?)
    }

    /// Ends a key, at once and on every server.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn revoke(&self, scope: Scope, id: KeyId) -> Result<ApiKey> {
        self.store.revoke_key(scope, id).await?.ok_or(Error::NotFound("key"))
    }

    /// Whose token it is; none for one that is unknown, revoked or expired. The store is asked each time: what another
    /// server has revoked works nowhere.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn principal(&self, token: &str) -> Result<Option<Principal>> {
        if !token.starts_with(KEY_PREFIX) {
            return Ok(None);
        }
        let Some(known) = self.store.key_by_hash(hash(token)).await? else {
            return Ok(None);
        };
        let (key, now) = (known.key, self.clock.now());
        if key.expires_at.is_some_and(|end| end <= now) {
            return Ok(None);
        }
        if key.last_used_at.is_none_or(|used| now.since(used) >= USE_GRAIN) {
            let grain = i64::try_from(USE_GRAIN.as_micros()).unwrap_or(i64::MAX);
            let known_since = Timestamp::from_micros(now.micros().saturating_sub(grain));
            if let Err(error) = self.store.touch_key(key.id, now, known_since).await {
                tracing::warn!(key = %key.id, %error, "the use of a key could not be noted");
            }
        }
        Ok(Some(Principal::Key(Arc::new(KeyHolder {
            id: key.id,
            name: key.name,
            project: key.project,
            slug: known.slug,
            scopes: key.scopes,
        }))))
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn place(object: &mut Object<'_>) -> Place {
    let project = object.text("project_id").map(str::parse::<ProjectId>);
    let org = object.text("org");
    match (project, org) {
        (Some(_), Some(_)) => {
            object.fault("org", "goes without project_id");
            Place::Default
        }
        (Some(Ok(id)), None) => Place::Project(id),
        (Some(Err(_)), None) => {
            object.fault("project_id", "expected a UUID");
            Place::Default
        }
        (None, Some(slug)) => Place::Org(slug.to_owned()),
        (None, None) => Place::Default,
    }
}

fn scopes(object: &mut Object<'_>) -> BTreeSet<KeyScope> {
    let mut scopes = BTreeSet::new();
    if object.required("scopes").is_none() {
        return scopes;
    }
    let Some(names) = object.text_list("scopes") else {
        return scopes;
    };
    if names.is_empty() {
        object.fault("scopes", "name at least one");
    }
    for (index, name) in names.into_iter().enumerate() {
        match KeyScope::parse(name) {
            Some(scope) => _ = scopes.insert(scope),
            None => {
                let known: Vec<&str> = KeyScope::ALL.iter().map(|scope| scope.as_str()).collect();
                let pointer = format!("{}/{index}", object.pointer("scopes"));
                object
                    .faults()
                    .add(pointer, format!("is not a scope; known are {}", known.join(", ")));
            }
        }
    }
    scopes
}
