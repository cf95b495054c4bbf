//! What a job behind an orchestrator uses of its models, and the slices of budgets that it draws.

use axum::Json;
use pond_core::Error;
use pond_core::clock::Timestamp;
use pond_core::dispatch::Telemetry;
use pond_core::usage::{Amounts, ModelCall, Pico, Slice, Tokens};
use pond_sdk::api;

use super::read::{Caller, Claimed, at_most, id, typed};
use crate::error::Answer;
use crate::extract::JsonBody;

pub(in crate::routes) async fn telemetry(
    Caller(remote): Caller,
    Claimed(claim): Claimed,
    JsonBody(body): JsonBody,
) -> Answer<Json<api::Acknowledged>> {
    let api::TelemetryBatch { events } = typed(&body)?;
    at_most("/events", events.len(), Telemetry::MOST)?;
    let calls = events
        .into_iter()
        .enumerate()
        .map(|(index, event)| model_call(index, event));
    let calls = calls.collect::<Result<Vec<_>, _>>()?;
    remote.telemetry(&claim, Telemetry { calls }).await?;
    Ok(Json(api::Acknowledged { ok: true }))
}

fn model_call(index: usize, event: api::TelemetryEvent) -> Result<ModelCall, Error> {
    let pointer = |field: &str| format!("/events/{index}/{field}");
    if event.kind != "model.call" {
        return Err(Error::invalid(pointer("type"), "expected model.call"));
    }
    Ok(ModelCall {
        id: id(&pointer("id"), &event.id)?,
        at: Timestamp::parse(&event.ts).map_err(|_| Error::invalid(pointer("ts"), "expected an RFC 3339 time"))?,
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
