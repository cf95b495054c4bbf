//! Admin config. The kinds of entries share one set of handlers; a kind says in its own file how it is shown.

mod audit;
mod credentials;
mod egress;
mod harnesses;
mod models;
mod variables;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::{Extension, Json};
use pond_core::Error;
use pond_core::config::{Listing, Owner, Put, Record, Stored};
use pond_core::id::ProjectId;
use pond_core::page::Page;
use pond_sdk::api;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

pub(super) use self::audit::{AUDIT, VERIFY, audit, verify};
pub(super) use self::harnesses::{from_preset, presets};
use super::carry::Audited;
use super::endpoint::{Endpoint, Routes};
use crate::auth::Access::Admin;
use crate::error::{Answer, no_such};
use crate::extract::{EntryName, JsonBody, Param, Query, write_cursor};
use crate::state::AppState;

/// Entries of a page where the query says nothing.
const PAGE: u32 = 500;

const PROJECT: Param = Param {
    name: "project_id",
    about: "The project; the org when left out",
};
const LIST: &[Param] = &[
    Param {
        name: "project_id",
        about: "What this project sees; the org's entries when left out",
    },
    Param {
        name: "scope",
        about: "`all`: every entry",
    },
    Param {
        name: "limit",
        about: "Entries of a page, 1 to 500; 500 when left out",
    },
    Param {
        name: "cursor",
        about: "Where the page starts: the last answer's next_cursor",
    },
];
const ONE: &[Param] = &[PROJECT];

/// A kind of entry as the API shows it.
pub(super) trait Shown: ToSchema + Serialize + Send + 'static {
    /// As the engine knows it.
    type Record: Record;
    /// What is sent to make or replace one.
    type Put: ToSchema + 'static;
    /// A page of them.
    type List: ToSchema + Serialize + Send + 'static;
    /// What is said of listing, showing, deleting and putting one.
    const ABOUT: [&'static str; 4];

    /// An entry.
    fn shown(stored: Stored<Self::Record>) -> Self;

    /// A page.
    fn page(entries: Vec<Self>, next_cursor: Option<String>) -> Self::List
    where
        Self: Sized;
}

/// The endpoints of one kind. Gives the line of its POST.
pub(super) fn entries<'r, E: Shown>(r: &'r mut Routes, all: &'static str, one: &'static str) -> &'r mut Endpoint {
    let [list_about, get_about, delete_about, put_about] = E::ABOUT;
    r.get(all, Admin, list::<E>)
        .query(LIST)
        .gives::<E::List>(200)
        .about(list_about);
    r.get(one, Admin, get::<E>).query(ONE).gives::<E>(200).about(get_about);
    r.delete(one, Admin, delete::<E>).query(ONE).about(delete_about);
    r.post(all, Admin, put::<E>)
        .creates()
        .takes::<E::Put>()
        .gives::<E>(201)
        .about(put_about)
}

/// An entry that was put, with what is to be said of it.
#[derive(Serialize)]
struct Told<E> {
    #[serde(flatten)]
    entry: E,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<&'static str>,
}

async fn put<E: Shown>(State(state): State<AppState>, JsonBody(body): JsonBody) -> Answer<impl IntoResponse> {
    // The whole body first: what is refused leaves no project behind.
    let project = state.pond().config().check::<E::Record>(&body)?;
    let owner = owner_of(&state, project).await?;
    let put = state.pond().config().put::<E::Record>(owner, &body).await?;
    Ok(told::<E>(put, &body))
}

fn told<E: Shown>(put: Put<E::Record>, body: &Value) -> (StatusCode, Extension<Audited>, Json<Told<E>>) {
    let kind = E::Record::KIND.as_str();
    let audited = Audited::new(format!("{kind}.put"), put.stored.record.name())
        .of(project_of(put.stored.owner))
        .fields(body);
    let status = if put.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let warnings = if put.too_short.is_empty() {
        Vec::new()
    } else {
        vec!["too_short_to_redact"]
    };
    let entry = E::shown(put.stored);
    (status, Extension(audited), Json(Told { entry, warnings }))
}

/// Whose the entry of a good body is. A project that was never seen is made: this is a create.
async fn owner_of(state: &AppState, project: Option<ProjectId>) -> Answer<Owner> {
    match project {
        None => Ok(Owner::Org),
        Some(id) => Ok(Owner::Project(state.pond().projects().ensure(id).await?)),
    }
}

/// Place in a list: name, then the org's before those of projects.
type Place = (String, Option<String>);

fn place<R: Record>(stored: &Stored<R>) -> Place {
    let project = match stored.owner {
        Owner::Org => None,
        Owner::Project(id) => Some(id.to_string()),
    };
    (stored.record.name().to_owned(), project)
}

async fn list<E: Shown>(State(state): State<AppState>, mut query: Query) -> Answer<Json<E::List>> {
    let project = query.parsed::<ProjectId>("project_id", "expected a UUID");
    let (limit, after) = (query.limit(PAGE), query.cursor::<Place>());
    let listing = match (query.text("scope"), project) {
        (None, None) => Listing::Org,
        (None, Some(project)) => Listing::Seen(project),
        (Some("all"), None) => Listing::All,
        (Some("all"), Some(_)) => {
            query.fault("scope", "goes without project_id");
            Listing::All
        }
        (Some(_), _) => {
            query.fault("scope", "expected all");
            Listing::Org
        }
    };
    query.done()?;
    let mut entries = state.pond().config().list::<E::Record>(listing).await?;
    entries.sort_by_key(place);
    entries.retain(|entry| after.as_ref().is_none_or(|after| place(entry) > *after));
    let page = Page::cut(entries, limit, place);
    let next_cursor = page.next.as_ref().map(write_cursor);
    Ok(Json(E::page(
        page.items.into_iter().map(E::shown).collect(),
        next_cursor,
    )))
}

async fn get<E: Shown>(State(state): State<AppState>, EntryName(name): EntryName, mut query: Query) -> Answer<Json<E>> {
    let project = query.parsed("project_id", "expected a UUID");
    query.done()?;
    let stored = state.pond().config().get::<E::Record>(project, &name).await;
    let stored = stored.map_err(|error| match error {
        Error::NotFound(_) => no_such(E::Record::KIND),
        error => error.into(),
    })?;
    Ok(Json(E::shown(stored)))
}

async fn delete<E: Shown>(
    State(state): State<AppState>,
    EntryName(name): EntryName,
    mut query: Query,
) -> Answer<impl IntoResponse> {
    let project = query.parsed("project_id", "expected a UUID");
    query.done()?;
    let owner = project.map_or(Owner::Org, Owner::Project);
    let kind = E::Record::KIND;
    state.pond().config().delete(kind, owner, &name).await?;
    let audited = Audited::new(format!("{}.delete", kind.as_str()), name).of(project);
    Ok((Extension(audited), StatusCode::NO_CONTENT))
}

fn project_of(owner: Owner) -> Option<ProjectId> {
    match owner {
        Owner::Org => None,
        Owner::Project(id) => Some(id),
    }
}

/// How the API shows whose an entry is.
fn scope(owner: Owner) -> (api::Scope, Option<String>) {
    match owner {
        Owner::Org => (api::Scope::Org, None),
        Owner::Project(id) => (api::Scope::Project, Some(id.to_string())),
    }
}
