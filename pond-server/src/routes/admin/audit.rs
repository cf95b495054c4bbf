//! The audit log: read and verified, never changed.

use axum::Json;
use axum::extract::State;
use pond_core::audit::{AuditFilter, AuditRow, SignedHead};
use pond_core::page::PageRequest;
use pond_sdk::api;

use crate::error::Answer;
use crate::extract::{Param, Query, write_cursor};
use crate::state::AppState;

/// Rows of a page where the query says nothing.
const PAGE: u32 = 100;

pub(in crate::routes) const AUDIT: &[Param] = &[
    Param {
        name: "since",
        about: "Rows written at this time (RFC 3339) or later",
    },
    Param {
        name: "actor",
        about: "Rows of this actor: `service`, or `key:<id>`",
    },
    Param {
        name: "action",
        about: "Rows of this action, such as `key.create`",
    },
    Param {
        name: "limit",
        about: "Rows of a page, 1 to 500; 100 when left out",
    },
    Param {
        name: "cursor",
        about: "Where the page starts: the last answer's next_cursor",
    },
];

pub(in crate::routes) const VERIFY: &[Param] = &[Param {
    name: "head",
    about: "A signed head that the chain must lead past, as it stands in the log or in POND_AUDIT_HEAD_FILE",
}];

pub(in crate::routes) async fn audit(State(state): State<AppState>, mut query: Query) -> Answer<Json<api::AuditList>> {
    let filter = AuditFilter {
        since: query.time("since"),
        actor: query.text("actor").map(ToOwned::to_owned),
        action: query.text("action").map(ToOwned::to_owned),
    };
    let (limit, after) = (query.limit(PAGE), query.cursor::<i64>());
    query.done()?;
    let page = state.pond().audit().list(&filter, PageRequest { limit, after }).await?;
    Ok(Json(api::AuditList {
        entries: page.items.into_iter().map(shown).collect(),
        next_cursor: page.next.as_ref().map(write_cursor),
    }))
}

pub(in crate::routes) async fn verify(
    State(state): State<AppState>,
    mut query: Query,
) -> Answer<Json<api::AuditVerification>> {
    let head = query.text("head").map(SignedHead::parse);
    if head == Some(None) {
        query.fault(
            "head",
            "is no signed head; send one as the log or the file of heads tells it",
        );
    }
    query.done()?;
    let found = state.pond().audit().verify(head.flatten()).await?;
    Ok(Json(api::AuditVerification {
        ok: found.flaw.is_none(),
        rows: count(found.head.head.id),
        head: found.head.to_string(),
        flaw: found.flaw.map(|(id, flaw)| api::AuditFlaw {
            id: count(id),
            kind: flaw.as_str().to_owned(),
        }),
    }))
}

fn count(id: i64) -> u64 {
    u64::try_from(id).unwrap_or_default()
}

fn shown(row: AuditRow) -> api::AuditEntry {
    let AuditRow {
        id,
        at,
        entry,
        prev_hash,
        hash,
        mac,
    } = row;
    api::AuditEntry {
        id: count(id),
        ts: at.to_string(),
        actor: entry.actor,
        action: entry.action,
        target: entry.target,
        project_id: entry.project.map(|project| project.to_string()),
        changed: entry.changed,
        request_id: entry.request_id,
        prev_hash: hex::encode(prev_hash),
        hash: hex::encode(hash),
        mac: hex::encode(mac),
    }
}
