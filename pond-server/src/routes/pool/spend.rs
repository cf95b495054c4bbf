//! What a job behind an orchestrator uses of its models, and the slices of budgets that it draws.

use axum::Json;
use pond_core::Error;
use pond_core::clock::Timestamp;
use pond_core::dispatch::Telemetry;
use pond_core::egress::{EgressDecision, MAX_HOST, Verdict};
use pond_core::usage::{Amounts, ModelCall, Pico, Slice, Tokens};
use pond_sdk::api;

use super::read::{Caller, Claimed, at_most, id, typed};
use crate::error::Answer;
use crate::extract::JsonBody;

/// Bytes of a decision's rule, and of its reason.
const MAX_RULE: usize = 512;
const MAX_REASON: usize = 1024;

pub(in crate::routes) async fn telemetry(
    Caller(remote): Caller,
    Claimed(claim): Claimed,
    JsonBody(body): JsonBody,
) -> Answer<Json<api::Acknowledged>> {
    let api::TelemetryBatch { events } = typed(&body)?;
    at_most("/events", events.len(), Telemetry::MOST)?;
    let mut telemetry = Telemetry::default();
    for (index, event) in events.into_iter().enumerate() {
        let pointer = |field: &str| format!("/events/{index}/{field}");
        match event {
            api::TelemetryEvent::ModelCall(event) => telemetry.calls.push(model_call(pointer, event)?),
            api::TelemetryEvent::EgressDecision(event) => telemetry.decisions.push(decision(pointer, event)?),
        }
    }
    remote.telemetry(&claim, telemetry).await?;
    Ok(Json(api::Acknowledged { ok: true }))
}

fn time(pointer: String, text: &str) -> Result<Timestamp, Error> {
    Timestamp::parse(text).map_err(|_| Error::invalid(pointer, "expected an RFC 3339 time"))
}

fn model_call(pointer: impl Fn(&str) -> String, event: api::ModelCallEvent) -> Result<ModelCall, Error> {
    Ok(ModelCall {
        id: id(&pointer("id"), &event.id)?,
        at: time(pointer("ts"), &event.ts)?,
        provider: event.provider,
        model: event.model,
        status: event.status,
        latency_ms: event.latency_ms,
        tokens: Tokens {
            input: event.input_tokens,
            output: event.output_tokens,
            cache_read: event.cache_read_tokens,
            cache_write: event.cache_write_tokens,
        },
        estimated: event.estimated,
    })
}

fn decision(pointer: impl Fn(&str) -> String, event: api::EgressDecisionEvent) -> Result<EgressDecision, Error> {
    let short = |field: &str, text: &str, most: usize| match text.len() <= most {
        true => Ok(()),
        false => Err(Error::invalid(pointer(field), format!("expected at most {most} bytes"))),
    };
    short("host", &event.host, MAX_HOST)?;
    short("rule", event.rule.as_deref().unwrap_or_default(), MAX_RULE)?;
    short("reason", event.reason.as_deref().unwrap_or_default(), MAX_REASON)?;
    let ip = event.ip.as_deref().map(str::parse).transpose();
    Ok(EgressDecision {
        id: id(&pointer("id"), &event.id)?,
        at: time(pointer("ts"), &event.ts)?,
        host: event.host,
        port: event.port,
        ip: ip.map_err(|_| Error::invalid(pointer("ip"), "expected an IP address"))?,
        verdict: match event.decision {
            api::EgressVerdict::Allowed => Verdict::Allowed,
            api::EgressVerdict::Denied => Verdict::Denied,
            _ => return Err(Error::invalid(pointer("decision"), "expected allowed or denied")),
        },
        rule: event.rule,
        reason: event.reason,
        bytes_up: event.bytes_up,
        bytes_down: event.bytes_down,
    })
}

pub(in crate::routes) async fn budget(
    Caller(remote): Caller,
    Claimed(claim): Claimed,
    JsonBody(body): JsonBody,
) -> Answer<Json<api::DrawnBudget>> {
    let api::DrawBudget { want } = typed(&body)?;
    let drawn = remote.draw(&claim, amounts("/want", &want)?).await?;
    Ok(Json(api::DrawnBudget {
        granted: shown(&drawn.granted),
        remaining: shown(&drawn.remaining),
    }))
}

/// Amounts in a body.
pub(super) fn amounts(pointer: &str, want: &api::Spend) -> Result<Amounts, Error> {
    let usd = want.usd.as_deref().map(str::parse::<Pico>).transpose();
    Ok(Amounts {
        usd: usd
            .map_err(|error| Error::invalid(format!("{pointer}/usd"), error.to_string()))?
            .unwrap_or_default(),
        tokens: want.tokens.unwrap_or_default(),
        calls: want.calls.unwrap_or_default(),
    })
}

fn shown(slice: &Slice) -> api::Spend {
    api::Spend {
        usd: slice.usd.map(|usd| usd.to_string()),
        tokens: slice.tokens,
        calls: slice.calls,
    }
}
