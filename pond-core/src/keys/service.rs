//! Keys, as admins and callers see them.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use super::{ApiKey, KeyHolder, KeyOfProject, KeyScope, KeyScopes, Principal};
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
use crate::token;

/// What every key's token begins with.
const PREFIX: &str = "pond_pk_";
/// Characters after it that are kept and shown: 32 of the token's 256 bits.
const SHOWN: usize = 8;
/// Hexadecimal digits after it.
const DIGITS: usize = 64;
/// A use is noted at most once in so many microseconds.
const NOTED: i64 = 60_000_000;

/// Keys.
#[derive(Clone)]
pub struct Keys {
    store: SharedStore,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    projects: Projects,
}

/// A key that was just made. Its token is nowhere else.
#[derive(Debug)]
pub struct MintedKey {
    /// The record.
    pub key: ApiKey,
    /// The token, to be told once.
    pub token: Secret,
}

/// What a body asks for.
struct Wanted {
    owner: Owner,
    name: String,
    scopes: KeyScopes,
    expires_at: Option<Timestamp>,
}

enum Owner {
    Default,
    Id(ProjectId),
    Slug(Slug),
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

    /// Makes a key from a request body. Durable on return.
    ///
    /// # Errors
    /// [`Error::Invalid`] with all that is wrong; [`Error::NotFound`] when it names an org that is not there.
    pub async fn create(&self, body: &Value) -> Result<MintedKey> {
        // The whole body first: what is refused leaves no project behind.
        let Wanted {
            owner,
            name,
            scopes,
            expires_at,
        } = self.read(body)?;
        let project = self.owner(owner).await?;
        let token = token::make(PREFIX, &*self.entropy);
        let key = ApiKey {
            id: KeyId::mint(&*self.clock, &*self.entropy),
            project,
            name,
            prefix: token.expose()[..PREFIX.len() + SHOWN].to_owned(),
            hash: token::hash(&token),
            scopes,
            created_at: self.clock.now(),
            expires_at,
            last_used_at: None,
        };
        if !self.store.add_key(key.clone()).await? {
            // Deleted between the two calls.
            return Err(Error::NotFound("project"));
        }
        Ok(MintedKey { key, token })
    }

    /// Keys, newest first.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn list(&self, scope: Scope, page: PageRequest<KeyId>) -> Result<Page<ApiKey, KeyId>> {
        Ok(self.store.keys(scope, page).await?)
    }

    /// Drops a key: from now on it opens nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn revoke(&self, scope: Scope, id: KeyId) -> Result<()> {
        let revoked = self.store.revoke_key(scope, id).await?;
        revoked.then_some(()).ok_or(Error::NotFound("key"))
    }

    /// Whose token this is; none when it is unknown, revoked or expired, without a word on which.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn principal(&self, token: &Secret) -> Result<Option<Principal>> {
        if !is_key(token.expose()) {
            return Ok(None);
        }
        let found = self.store.key_by_hash(token::hash(token)).await?;
        let now = self.clock.now();
        let Some(KeyOfProject { key, slug }) = found.filter(|found| found.key.expires_at.is_none_or(|at| now < at))
        else {
            return Ok(None);
        };
        self.note_use(&key, now).await;
        Ok(Some(Principal::Key(KeyHolder {
            id: key.id,
            name: key.name,
            project: key.project,
            slug,
            scopes: key.scopes,
        })))
    }

    /// A use that cannot be noted is no reason to refuse the call.
    async fn note_use(&self, key: &ApiKey, now: Timestamp) {
        let but_since = Timestamp::from_micros(now.micros().saturating_sub(NOTED));
        if key.last_used_at.is_some_and(|used| used > but_since) {
            return;
        }
        if let Err(error) = self.store.touch_key(key.id, now, but_since).await {
            tracing::warn!(%error, key = %key.id, "the use of a key could not be noted");
        }
    }

    async fn owner(&self, owner: Owner) -> Result<ProjectId> {
        match owner {
            Owner::Default => Ok(self.projects.default_project()),
            Owner::Id(id) => self.projects.ensure(id).await,
            Owner::Slug(slug) => {
                let known = self.store.project_by_slug(&slug).await?;
                known.map(|project| project.id).ok_or(Error::NotFound("org"))
            }
        }
    }

    fn read(&self, body: &Value) -> Result<Wanted> {
        let faults = Faults::new();
        let wanted = Object::read(body, "", &faults).and_then(|object| self.wanted(object));
        match (wanted, faults.take()) {
            (Some(wanted), faults) if faults.is_empty() => Ok(wanted),
            (_, faults) => Err(Error::Invalid(faults)),
        }
    }

    fn wanted(&self, mut object: Object<'_>) -> Option<Wanted> {
        let owner = owner(&mut object);
        let name = object.required_text("name").filter(|name| {
            let fits = (1..=200).contains(&name.chars().count());
            if !fits {
                object.fault("name", "expected 1 to 200 characters");
            }
            fits
        });
        let scopes = scopes(&mut object);
        let expires_at = self.expiry(&mut object);
        object.close();
        Some(Wanted {
            owner: owner?,
            name: name?.to_owned(),
            scopes: scopes?,
            expires_at,
        })
    }

    fn expiry(&self, object: &mut Object<'_>) -> Option<Timestamp> {
        let text = object.text("expires_at")?;
        let Ok(at) = Timestamp::parse(text) else {
            object.fault("expires_at", "expected an RFC 3339 time, such as 2030-01-31T12:00:00Z");
            return None;
        };
        if at <= self.clock.now() {
            object.fault("expires_at", "is past: the key would open nothing");
        }
        Some(at)
    }
}

/// The one spelling that is ever looked up.
fn is_key(token: &str) -> bool {
    token.strip_prefix(PREFIX).is_some_and(|digits| {
        digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

/// A project by its id, an org by its slug, or neither.
fn owner(object: &mut Object<'_>) -> Option<Owner> {
    let (id, slug) = (object.text("project_id"), object.text("org"));
    match (id, slug) {
        (Some(_), Some(_)) => {
            object.fault("org", "goes without project_id: name the project once");
            None
        }
        (Some(id), None) => {
            let id = id.parse().ok();
            if id.is_none() {
                object.fault("project_id", "expected a UUID");
            }
            id.map(Owner::Id)
        }
        (None, Some(slug)) => {
            let slug = Slug::new(slug).ok();
            if slug.is_none() {
                object.fault("org", "expected the slug of a project: 1 to 63 of a-z 0-9 -");
            }
            slug.map(Owner::Slug)
        }
        (None, None) => Some(Owner::Default),
    }
}

fn scopes(object: &mut Object<'_>) -> Option<KeyScopes> {
    object.required("scopes")?;
    let words = object.array("scopes")?;
    let mut found = BTreeSet::new();
    for (index, word) in words.iter().enumerate() {
        if let Some(scope) = word.as_str().and_then(KeyScope::parse) {
            found.insert(scope);
        } else {
            let known = KeyScope::ALL.map(KeyScope::as_str).join(", ");
            let pointer = format!("{}/{index}", object.pointer("scopes"));
            object.faults().add(pointer, format!("is no scope; known are {known}"));
        }
    }
    if words.is_empty() {
        object.fault("scopes", "is empty: a key needs at least one");
    }
    KeyScopes::new(found)
}
