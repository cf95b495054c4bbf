//! Keys: used, counted, and nowhere to be found.

use pond_core::scope::Scope;
use pond_server::demo::{SAMPLE_PROMPT, Sample, Script, ScriptedModel, Turn, fixing_script};
use serde_json::json;

use super::world::{Ended, World, allow, quick};

async fn world_with(model: &ScriptedModel, provider: &str) -> World {
    let address = model.addr;
    let world = World::with(quick(), |settings| settings.model_allow_private = allow(address)).await;
    let (key, base) = match provider {
        "anthropic" => ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"),
        "openrouter" => ("OPENROUTER_API_KEY", "OPENROUTER_BASE_URL"),
        _ => ("OPENAI_API_KEY", "OPENAI_BASE_URL"),
    };
    let credential = json!({"name": "c", "provider": provider, "env": {base: model.base_url()},
        "secrets": {key: model.key(), "OTHER_SECRET": "the-other-secret-of-it"}});
    let record = json!({"key": "m", "provider": provider, "model_id": "scripted-1", "credential_name": "c",
        "input_cost_per_mtok": 3, "output_cost_per_mtok": 15});
    world.model(credential, record).await;
    world.preset("mini").await;
    world
}

/// Nothing that the run left holds the key in any way.
fn no_key(ended: &Ended, key: &str) {
    for line in &ended.lines {
        assert!(!line.line.contains(key), "{}", line.line);
    }
    for (name, (bytes, _)) in &ended.artifacts {
        assert!(!String::from_utf8_lossy(bytes).contains(key), "{name}");
    }
}

async fn mini_fixes_the_sample(provider: &str) {
    let model = ScriptedModel::start(fixing_script()).await.expect("a port");
    let world = world_with(&model, provider).await;
    let app = world.folder.path().join("sources/app");
    std::fs::remove_dir_all(&app).expect("removed");
    Sample::write(&app).expect("the sample");
    let ended = world.run(SAMPLE_PROMPT, json!({"harness": "mini", "model": "m"})).await;
    ended.is_done();
    assert!(ended.text("changes.patch").contains("+  total=$((total + number))"));
    assert!(ended.said("All tests pass now"));
    no_key(&ended, model.key());
    let usage = world
        .pond
        .runs()
        .usage(Scope::Org, ended.run.head.id)
        .await
        .expect("usage")
        .totals();
    let bill = model.bill();
    assert_eq!(usage.calls, bill.calls);
    let counted = usage.tokens;
    assert_eq!(
        [counted.input, counted.output, counted.cache_read, counted.cache_write]
            .iter()
            .sum::<u64>(),
        bill.input + bill.output + bill.cache_read + bill.cache_write
    );
    assert_eq!((counted.output, counted.cache_read), (bill.output, bill.cache_read));
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mini_fixes_the_sample_by_messages() {
    mini_fixes_the_sample("anthropic").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mini_fixes_the_sample_by_responses() {
    mini_fixes_the_sample("openai").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_111_mini_fixes_the_sample_by_a_router_with_its_own_key() {
    mini_fixes_the_sample("openrouter").await;
}

/// Shows all of what a job can see of itself and its like, and asks the broker.
const LOOK: &str = r#"env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' '\n'
find $HOME /tmp /run /work /output /etc -type f -exec cat {} + 2>/dev/null
grep -a -c . /proc/self/maps
exec 2>&1
echo "base $ANTHROPIC_BASE_URL key ${ANTHROPIC_API_KEY:-none}""#;

#[tokio::test(flavor = "multi_thread")]
async fn c17_72_the_key_is_nowhere_in_a_confined_sandbox() {
    let model = ScriptedModel::start(Script::saying("hello")).await.expect("a port");
    let world = world_with(&model, "anthropic").await;
    let harness = json!({"key": "looker", "command_template": ["/bin/sh", "-s"], "capability": "harness.shell", "wire": "anthropic",
        "files": [{"path": ".agent/settings", "content": "key={{SECRET:ANTHROPIC_API_KEY}} at={{BROKER_URL}} model={{MODEL}}"}]});
    world.harness(harness).await;
    // Said before the output is redacted: had the real key been there, the mark would be.
    let ended = world.run(LOOK, json!({"harness": "looker", "model": "m"})).await;
    ended.is_done();
    no_key(&ended, model.key());
    assert!(!ended.said("[redacted:"), "a secret was there: {:?}", ended.lines);
    assert!(!ended.said("OTHER_SECRET"));
    assert!(ended.said("base http://127.0.0.1:") && ended.said("key sk-ant-"));
    assert!(ended.said("at=http://127.0.0.1:") && ended.said("model=scripted-1"));
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_86_an_unconfined_job_has_the_values_and_its_output_does_not() {
    let model = ScriptedModel::start(Script::saying("hello")).await.expect("a port");
    let address = model.addr;
    let world = World::with(quick(), |settings| {
        settings.model_allow_private = allow(address);
        settings.allow_unconfined = true;
    })
    .await;
    let credential = json!({"name": "c", "provider": "openai", "secrets": {"OPENAI_API_KEY": "sk-the-real-key-0001",
        "OTHER_SECRET": "the-other-secret-of-it"}});
    let record = json!({"key": "m", "provider": "openai", "model_id": "scripted-1", "credential_name": "c"});
    world.model(credential, record).await;
    let harness = json!({"key": "h", "command_template": ["/bin/sh", "-s"], "capability": "harness.shell", "wire": "chat",
        "files": [{"path": "f", "content": "<{{SECRET:OTHER_SECRET}}>"}]});
    world.harness(harness).await;
    let script = "cat $HOME/f; echo; echo $OPENAI_API_KEY; cp $HOME/f $POND_OUTPUT_DIR/copy.txt; base64 $HOME/f";
    let open = json!({"harness": "h", "model": "m", "sandbox": {"profile": "none"}});
    let open = world.run(script, open).await;
    open.is_done();
    assert!(open.said("<[redacted:OTHER_SECRET]>"), "{:?}", open.lines);
    assert!(open.said("[redacted:OPENAI_API_KEY]"), "{:?}", open.lines);
    no_key(&open, "sk-the-real-key-0001");
    no_key(&open, "the-other-secret-of-it");
    assert_eq!(
        open.artifacts["copy.txt"],
        (b"<[redacted:OTHER_SECRET]>".to_vec(), true)
    );
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_71_a_broker_that_dies_ends_the_job_with_a_clear_error() {
    let model = ScriptedModel::start(Script {
        turns: vec![
            Turn::tool("", "shell", json!({"command": "echo ready; sleep 71701"})),
            Turn::text("done"),
        ],
    })
    .await
    .expect("a port");
    let world = world_with(&model, "anthropic").await;
    let run = world.submit("x", json!({"harness": "mini", "model": "m"})).await;
    world.said(run, "sleep 71701").await;
    std::fs::remove_file(world.job_folder().join("broker.sock")).expect("the broker's address");
    let ended = world.ended(run).await;
    let (code, message) = ended.failure();
    assert_eq!(code, "internal");
    assert!(message.contains("broker"), "{message}");
    assert_eq!(super::world::processes_with("71701"), Vec::<u32>::new());
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_cannot_be_reached_fails_the_agent() {
    let model = ScriptedModel::start(Script::saying("hello")).await.expect("a port");
    let world = world_with(&model, "anthropic").await;
    let record = json!({"key": "m", "provider": "anthropic", "model_id": "other-1", "credential_name": "c"});
    world
        .pond
        .config()
        .put::<pond_core::config::Model>(pond_core::config::Owner::Org, &record)
        .await
        .expect("a model");
    let bad = json!({"name": "c", "provider": "anthropic", "env": {"ANTHROPIC_BASE_URL": model.base_url()},
        "secrets": {"ANTHROPIC_API_KEY": "sk-wrong-key-000000000"}});
    world
        .pond
        .config()
        .put::<pond_core::config::Credential>(pond_core::config::Owner::Org, &bad)
        .await
        .expect("changed");
    let ended = world.run("x", json!({"harness": "mini", "model": "m"})).await;
    let (code, message) = ended.failure();
    assert_eq!(code, "agent_failed");
    assert!(message.contains("authentication_error"), "{message}");
    no_key(&ended, "sk-wrong-key-000000000");
    world.close().await;
}
