//! An agent fixes a failing test, in a sandbox, from inside a program: no server, no other process.
use std::sync::Arc;

use pond_core::outbound::{AllowPrivate, Purpose};
use pond_core::{Pond, config::Credential, config::Model, config::Owner, scope::Scope};
use pond_server::demo::{SAMPLE_PROMPT, Sample, ScriptedModel, fixing_script};
use pond_worker::{net::Fetcher, work::WorkerSettings, work::embed};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let app = Sample::write(&dir.path().join("app"))?.path;
    let llm = ScriptedModel::start(fixing_script()).await?;
    let store = pond_store::open(&pond_store::StoreUrl::Sqlite(dir.path().join("pond.db"))).await?;
    let blobs = pond_store::blobs_in_folder(&dir.path().join("blobs"))?;
    let builder = Pond::builder(store, blobs).sources(Arc::new(Fetcher::with_folders(dir.path())?));
    let pond = builder.root_key_file(&dir.path().join("key"))?.start().await?;
    let mut worker = WorkerSettings::new(dir.path().join("worker"));
    worker.model_allow_private = AllowPrivate::parse_for(Purpose::Model, &llm.addr.to_string())?;
    let pool = embed(&pond, worker).await?;

    let credential = json!({"name": "llm", "provider": "anthropic", "env": {"ANTHROPIC_BASE_URL": llm.base_url()},
        "secrets": {"ANTHROPIC_API_KEY": llm.key()}});
    let model = json!({"key": "m", "provider": "anthropic", "model_id": "scripted", "credential_name": "llm"});
    pond.config().put::<Credential>(Owner::Org, &credential).await?;
    pond.config().put::<Model>(Owner::Org, &model).await?;
    pond.config().put_preset(Owner::Org, "mini", None, None).await?;

    let agent = json!({"kind": "swarm", "prompt": SAMPLE_PROMPT, "sandbox": {"profile": "untrusted-code-write"}});
    let body = json!({"definition": {"stages": [{"key": "fix", "name": "Fix", "executor": agent}]},
        "sources": [{"label": "app", "kind": "folder", "config": {"path": app}}]});
    let (runs, project) = (pond.runs(), pond.projects().default_project());
    let id = runs.submit(project, &body.to_string()).await?.head.id;
    runs.wait(Scope::Org, id).await?;
    print!("{}", runs.text(Scope::Org, id, "changes.patch").await?);
    pool.shutdown().await;
    pond.shutdown().await;
    Ok(())
}
