//! Keys: used, counted, and nowhere to be found.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use pond_core::scope::Scope;
use pond_server::demo::{SAMPLE_PROMPT, Sample, Script, ScriptedModel, Turn, fixing_script};
use serde_json::json;

use super::world::{Ended, World, allow, napping, own_naps, processes_with, quick};

pub(super) async fn world_with(model: &ScriptedModel, provider: &str) -> World {
    let address = model.addr;
    let world = World::with(quick(), |settings| settings.model_allow_private = allow(address)).await;
    let (key, base) = match provider {
        "anthropic" => ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"),
        "openrouter" => ("OPENROUTER_API_KEY", "OPENROUTER_BASE_URL"),
        "gemini" => ("GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL"),
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
async fn mini_fixes_the_sample_by_gemini() {
    mini_fixes_the_sample("gemini").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_111_mini_fixes_the_sample_by_a_router_with_its_own_key() {
    mini_fixes_the_sample("openrouter").await;
}

/// Shows all of what a job can see of itself and its like, and then waits to be looked at.
const LOOK: &str = r#"env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' '\n'
find $HOME /tmp /run /work /output /etc -type f -exec cat {} + 2>/dev/null
echo "base $ANTHROPIC_BASE_URL key ${ANTHROPIC_API_KEY:-none}"
echo all seen; sleep @801"#;

/// Whether the memory, environment or arguments of a process of a job's uid hold these bytes; and how many there were.
fn found_in_processes_of_jobs(wanted: &str) -> (bool, usize) {
    let (mut found, mut seen) = (false, 0);
    for entry in std::fs::read_dir("/proc").expect("proc").flatten() {
        let process = entry.path();
        let is_jobs = std::fs::metadata(&process).is_ok_and(|meta| (200_000..=265_535).contains(&meta.uid()));
        let is_process = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.parse::<u32>().is_ok());
        if !is_process || !is_jobs {
            continue;
        }
        seen += 1;
        for part in ["environ", "cmdline"] {
            found |= holds(&std::fs::read(process.join(part)).unwrap_or_default(), wanted);
        }
        found |= memory_holds(&process, wanted);
    }
    (found, seen)
}

fn memory_holds(process: &Path, wanted: &str) -> bool {
    let maps = std::fs::read_to_string(process.join("maps")).unwrap_or_default();
    let Ok(memory) = std::fs::File::open(process.join("mem")) else {
        return false;
    };
    maps.lines().any(|line| {
        let (range, rest) = line.split_once(' ').expect("a map");
        let (start, end) = range.split_once('-').expect("a range");
        let [start, end] = [start, end].map(|at| u64::from_str_radix(at, 16).expect("hex"));
        if !rest.starts_with("rw") || end - start > 64 << 20 {
            return false;
        }
        let mut bytes = vec![0; usize::try_from(end - start).expect("small")];
        let read = memory.read_at(&mut bytes, start).unwrap_or(0);
        holds(&bytes[..read], wanted)
    })
}

fn holds(bytes: &[u8], wanted: &str) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_72_the_key_is_nowhere_in_a_confined_sandbox() {
    let model = ScriptedModel::start(Script::saying("hello")).await.expect("a port");
    let world = world_with(&model, "anthropic").await;
    let harness = json!({"key": "looker", "command_template": ["/bin/sh", "-s"], "capability": "harness.shell", "wire": "anthropic",
        "files": [{"path": ".agent/settings", "content": "key={{SECRET:ANTHROPIC_API_KEY}} at={{BROKER_URL}} model={{MODEL}}"}]});
    world.harness(harness).await;
    let run = world.submit(LOOK, json!({"harness": "looker", "model": "m"})).await;
    world.said(run, "all seen").await;
    let (dummy, seen) = found_in_processes_of_jobs("pond-dummy-key-that-opens-nothing");
    assert!(dummy && seen >= 2, "the search finds what is there: {seen} processes");
    let (real, _) = found_in_processes_of_jobs(model.key());
    assert!(!real, "the key is in the memory of a job");
    assert_eq!(
        processes_with(model.key()),
        Vec::<u32>::new(),
        "the host's process list"
    );
    world.pond.runs().cancel(Scope::Org, run).await.expect("cancelled");
    let ended = world.ended(run).await;
    no_key(&ended, model.key());
    // Had the real key been there, its mark would be here.
    assert!(!ended.said("[redacted:"), "a secret was there: {:?}", ended.lines);
    assert!(ended.said("OTHER_SECRET=pond_sealed_"));
    no_key(&ended, "the-other-secret-of-it");
    assert!(ended.said("base http://127.0.0.1:") && ended.said("key sk-ant-"));
    assert!(ended.said("at=http://127.0.0.1:") && ended.said("model=scripted-1"));
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_72_the_tools_of_mini_see_no_key_either() {
    let look = json!({"command": "env; cat /proc/[0-9]*/environ | tr '\\0' '\\n'; env > seen.txt; env > $POND_OUTPUT_DIR/env.txt"});
    let turns = vec![Turn::tool("", "shell", look), Turn::text("done")];
    let model = ScriptedModel::start(Script { turns }).await.expect("a port");
    let world = world_with(&model, "anthropic").await;
    let ended = world.run("look", json!({"harness": "mini", "model": "m"})).await;
    ended.is_done();
    no_key(&ended, model.key());
    assert!(ended.text("env.txt").contains("ANTHROPIC_API_KEY=sk-ant-") && !ended.artifacts["env.txt"].1);
    assert!(ended.text("changes.patch").contains("ANTHROPIC_API_KEY=sk-ant-"));
    let asked = model.requests();
    assert!(
        asked
            .iter()
            .all(|request| !request.body.to_string().contains(model.key())),
        "nor was it told to the model"
    );
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
    assert_eq!(open.artifacts["copy.txt"], (b"<[redacted]>".to_vec(), true));
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_71_a_broker_that_dies_ends_the_job_with_a_clear_error() {
    let model = ScriptedModel::start(Script {
        turns: vec![
            Turn::tool("", "shell", json!({"command": own_naps("echo ready; sleep @701")})),
            Turn::text("done"),
        ],
    })
    .await
    .expect("a port");
    let world = world_with(&model, "anthropic").await;
    let run = world.submit("x", json!({"harness": "mini", "model": "m"})).await;
    world.said(run, &own_naps("sleep @701")).await;
    std::fs::remove_file(world.job_folder().join("broker.sock")).expect("the broker's address");
    let ended = world.ended(run).await;
    let (code, message) = ended.failure();
    assert_eq!(code, "internal");
    assert!(message.contains("broker"), "{message}");
    assert_eq!(napping("701"), Vec::<u32>::new());
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
