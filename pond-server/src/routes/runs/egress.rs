//! What a run can reach, and what it reached.

use axum::extract::State;
use axum::{Extension, Json};
use pond_core::egress::{Origin, ReachHost, RunReach, Verdict};
use pond_core::event::{EventBody, EventNumber, NumberedEvent};
use pond_core::keys::Principal;
use pond_sdk::api;

use super::view::View;
use crate::error::Answer;
use crate::extract::{Param, Query, RunPath, write_cursor};
use crate::state::AppState;

/// Decisions of a page where the query says nothing.
const PAGE: u32 = 100;

pub(in crate::routes) const EGRESS: &[Param] = &[
    Param {
        name: "limit",
        about: "Decisions of a page, 1 to 500; 100 when left out",
    },
    Param {
        name: "cursor",
        about: "Where the page starts: the last answer's nextCursor",
    },
];

pub(in crate::routes) async fn egress(
    State(state): State<AppState>,
    Extension(principal): Extension<Principal>,
    RunPath(id): RunPath,
    mut query: Query,
) -> Answer<Json<api::EgressDecisionList>> {
    let limit = query.limit(PAGE);
    let since: Option<EventNumber> = query.cursor();
    query.done()?;
    let runs = state.pond().runs();
    let events = runs.decisions(principal.scope(), id, since.unwrap_or(0), limit).await?;
    let full = events.len() == limit as usize;
    let next_cursor = events.last().filter(|_| full).map(|event| write_cursor(&event.id));
    let view = View::of(&principal);
    Ok(Json(api::EgressDecisionList {
        decisions: events.iter().filter_map(|event| decision(event, view)).collect(),
        next_cursor,
    }))
}

/// A decision as the API shows it; none for other events.
pub(super) fn decision(event: &NumberedEvent, view: View) -> Option<api::EgressDecision> {
    let EventBody::Egress(told) = &event.event.body else {
        return None;
    };
    let decision = &told.decision;
    Some(api::EgressDecision {
        id: u64::try_from(event.id).unwrap_or_default(),
        ts: decision.at.to_string(),
        stage: told.stage.clone(),
        substage: told.substage.clone(),
        host: view.text(&decision.host),
        port: decision.port,
        ip: decision.ip.map(|ip| ip.to_string()),
        decision: match decision.verdict {
            Verdict::Allowed => api::EgressVerdict::Allowed,
            Verdict::Denied => api::EgressVerdict::Denied,
        },
        rule: decision.rule.clone(),
        reason: decision.reason.as_deref().map(|reason| view.text(reason)),
        bytes_up: decision.bytes_up,
        bytes_down: decision.bytes_down,
    })
}

pub(in crate::routes) async fn reach(
    State(state): State<AppState>,
    Extension(principal): Extension<Principal>,
    RunPath(id): RunPath,
) -> Answer<Json<api::Reach>> {
    let reach = state.pond().runs().reach(principal.scope(), id).await?;
    Ok(Json(shown(reach)))
}

fn shown(reach: RunReach) -> api::Reach {
    let host = |host: ReachHost| api::ReachHost {
        rule: host.rule,
        from: match host.from {
            Origin::Org => api::RuleOrigin::Org,
            Origin::Project => api::RuleOrigin::Project,
            Origin::Run => api::RuleOrigin::Run,
            Origin::Default => api::RuleOrigin::Default,
        },
    };
    api::Reach {
        hosts: reach.hosts.into_iter().map(host).collect(),
        denied: reach.denied.into_iter().map(host).collect(),
        secrets: reach
            .secrets
            .into_iter()
            .map(|secret| api::ReachSecret {
                name: secret.name,
                hosts: secret.hosts,
                places: secret.places,
            })
            .collect(),
        remote_features: reach.remote_features.into_iter().collect(),
    }
}
