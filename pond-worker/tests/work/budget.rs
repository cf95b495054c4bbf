//! Budgets from end to end: a job that crosses one is stopped, and its stage says why.

use pond_core::scope::Scope;
use pond_server::demo::{Script, ScriptedModel, Turn};
use serde_json::{Value, json};

use super::secrets::world_with;

/// A model that calls a tool for ever; each answer is 120 tokens in and 35 out.
async fn restless() -> ScriptedModel {
    let turns = vec![Turn::tool("again", "shell", json!({"command": "true"}))];
    ScriptedModel::start(Script { turns }).await.expect("a port")
}

fn executor() -> Value {
    json!({"harness": "mini", "model": "m"})
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_74_each_kind_of_budget_stops_a_job_between_calls() {
    let rows = [
        (json!({"calls": 2}), "the budget of the stage: 2 calls of 2"),
        (
            json!({"tokens": 300}),
            "the budget of the stage: 310 tokens were used of 300",
        ),
        (
            json!({"usd": 0.001}),
            "the budget of the stage: 0.00177 USD were spent of 0.001 USD",
        ),
    ];
    for (budget, message) in rows {
        let model = restless().await;
        let world = world_with(&model, "gemini").await;
        let run = world.submit_with("go", executor(), json!({"budget": budget})).await;
        let ended = world.ended(run).await;
        assert_eq!(ended.failure(), ("budget_exceeded", message));
        assert_eq!(
            (model.bill().calls, ended.attempt()),
            (2, 1),
            "{budget}: no call more, no attempt more"
        );
        let usage = world.pond.runs().usage(Scope::Org, run).await.expect("usage").totals();
        assert_eq!(usage.calls, 2, "every call is counted before the end");
        world.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_that_is_not_crossed_changes_nothing() {
    let model = ScriptedModel::start(Script::saying("done")).await.expect("a port");
    let world = world_with(&model, "anthropic").await;
    let budget = json!({"budget": {"calls": 1, "tokens": 155, "usd": "0.000885"}});
    let run = world.submit_with("go", executor(), budget).await;
    world.ended(run).await.is_done();
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_in_usd_on_a_model_without_prices_starts_no_job() {
    let model = restless().await;
    let world = world_with(&model, "openai").await;
    let credential = json!({"name": "c2", "provider": "openai", "env": {"OPENAI_BASE_URL": model.base_url()},
        "secrets": {"OPENAI_API_KEY": model.key()}});
    let record = json!({"key": "free", "provider": "openai", "model_id": "scripted-1", "credential_name": "c2"});
    world.model(credential, record).await;
    let executor = json!({"harness": "mini", "model": "free"});
    let refused = world.try_submit("go", executor, json!({"budget": {"usd": 1}})).await;
    let Err(pond_core::Error::Preflight { problems, .. }) = refused else {
        panic!("{refused:?}");
    };
    let codes: Vec<&str> = problems.iter().map(|problem| problem.code).collect();
    assert!(codes.contains(&"budget_unenforceable"), "{codes:?}");
    assert_eq!(model.bill().calls, 0);
    world.close().await;
}
