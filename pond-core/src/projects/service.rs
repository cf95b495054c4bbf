//! Projects, as callers see them.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::{Project, ProjectDeleted, Slug};
use crate::body::{Faults, Object};
use crate::clock::Clock;
use crate::entropy::Entropy;
use crate::error::{Conflict, Error, Result};
use crate::id::ProjectId;
use crate::store::SharedStore;

/// Projects known to be there, kept so that a submit need not look.
const MAX_KNOWN: usize = 10_000;

/// Projects.
#[derive(Clone)]
pub struct Projects {
    store: SharedStore,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    known: Arc<Mutex<HashSet<ProjectId>>>,
    default: Arc<Mutex<Option<ProjectId>>>,
}

impl Projects {
    pub(crate) fn new(store: SharedStore, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            store,
            clock,
            entropy,
            known: Arc::default(),
            default: Arc::default(),
        }
    }

    pub(crate) async fn ensure_default(&self) -> Result<()> {
        let slug = Slug::default_project();
        let project = match self.store.project_by_slug(&slug).await? {
            Some(project) => project,
            None => {
                let id = ProjectId::mint(&*self.clock, &*self.entropy);
                let new = Project {
                    id,
                    slug: slug.clone(),
                    name: "Default".into(),
                    created_at: self.clock.now(),
                };
                match self.store.create_project(new).await? {
                    Some(project) => project,
                    // Another server was first.
                    None => self
                        .store
                        .project_by_slug(&slug)
                        .await?
                        .ok_or(Error::NotFound("project"))?,
                }
            }
        };
        *self.default.lock().expect("no holder of this lock panics") = Some(project.id);
        Ok(())
    }

    /// The project `default`.
    pub fn default_project(&self) -> ProjectId {
        let default = *self.default.lock().expect("no holder of this lock panics");
        default.expect("an engine starts only when the default project is there")
    }

    /// The project of this id, made when it was never seen: for creates by the service token.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn ensure(&self, id: ProjectId) -> Result<ProjectId> {
        if self.known.lock().expect("no holder of this lock panics").contains(&id) {
            return Ok(id);
        }
        if self.store.project(id).await?.is_none() {
            let (slug, created_at) = (Slug::of_id(id), self.clock.now());
            let name = slug.to_string();
            let new = Project {
                id,
                slug,
                name: name.clone(),
                created_at,
            };
            if self.store.create_project(new.clone()).await?.is_none() {
                // The short slug is another's: the whole id is not.
                let slug = Slug::new(format!("p-{id}")).map_err(Error::internal)?;
                self.store
                    .create_project(Project { slug, ..new })
                    .await?
                    .ok_or(Error::internal("a project's slug"))?;
            }
        }
        let mut known = self.known.lock().expect("no holder of this lock panics");
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(id);
        Ok(id)
    }

    /// Whether the project is there.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn is_there(&self, id: ProjectId) -> Result<bool> {
        let known = self.known.lock().expect("no holder of this lock panics").contains(&id);
        Ok(known || self.store.project(id).await?.is_some())
    }

    /// Creates a project from a request body.
    ///
    /// # Errors
    /// [`Error::Invalid`]; [`Conflict::Taken`] when its slug or id is there.
    pub async fn create(&self, body: &Value) -> Result<Project> {
        let faults = Faults::new();
        let read = Object::read(body, "", &faults).and_then(|object| self.read(object));
        let project = match (read, faults.take()) {
            (Some(project), faults) if faults.is_empty() => project,
            (_, faults) => return Err(Error::Invalid(faults)),
        };
        match self.store.create_project(project.clone()).await? {
            Some(there) if there == project => Ok(project),
            _ => Err(Error::conflict(
                Conflict::Taken,
                "a project with this slug or id is there",
            )),
        }
    }

    fn read(&self, mut object: Object<'_>) -> Option<Project> {
        let slug = object.required_text("slug").and_then(|text| match Slug::new(text) {
            Ok(slug) => Some(slug),
            Err(fault) => {
                object.fault("slug", fault);
                None
            }
        });
        let name = object.required_text("name").filter(|name| {
            let fits = (1..=200).contains(&name.chars().count());
            if !fits {
                object.fault("name", "expected 1 to 200 characters");
            }
            fits
        });
        let id = match object.text("id").map(str::parse::<ProjectId>) {
            None => Some(ProjectId::mint(&*self.clock, &*self.entropy)),
            Some(Ok(id)) => Some(id),
            Some(Err(_)) => {
                object.fault("id", "expected a UUID");
                None
            }
        };
        object.close();
        Some(Project {
            id: id?,
            slug: slug?,
            name: name?.to_owned(),
            created_at: self.clock.now(),
        })
    }

    /// A project.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, id: ProjectId) -> Result<Project> {
        self.store.project(id).await?.ok_or(Error::NotFound("project"))
    }

    /// All projects, by slug.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn list(&self) -> Result<Vec<Project>> {
        Ok(self.store.projects().await?)
    }

    /// Deletes a project that has no runs, no config and no keys. The default one stays.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Conflict::InUse`].
    pub async fn delete(&self, id: ProjectId) -> Result<()> {
        if id == self.default_project() {
            return Err(Error::conflict(Conflict::InUse, "the default project stays"));
        }
        self.known.lock().expect("no holder of this lock panics").remove(&id);
        match self.store.delete_project(id).await? {
            ProjectDeleted::Gone => Ok(()),
            ProjectDeleted::InUse => Err(Error::conflict(
                Conflict::InUse,
                "the project has runs, config entries or keys",
            )),
            ProjectDeleted::Unknown => Err(Error::NotFound("project")),
        }
    }
}
