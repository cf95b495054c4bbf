//! `pond demo`: from nothing to a fixed bug, through the server's own API: durable store, ordinary sandbox, embedded pool.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use futures::{StreamExt, TryStreamExt};
use pond_sdk::api::{
    CreateRun, Definition, EventBody, HarnessFromPreset, LogSource, PutCredential, PutModel, RunStatus, Sandbox,
    Source, StageDefinition, Swarm,
};
use pond_sdk::cli::terminal;
use pond_sdk::{ArtifactPlace, Client, Secret};
use serde_json::Number;

use super::sample::{SAMPLE_PROMPT, Sample, fixing_script};
use super::scripted::ScriptedModel;
use crate::launch::Server;
use crate::program::{FAILED, OK, USAGE, announce, refused, told_to_stop};
use crate::settings::{Environment, Role, Settings};

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Failure>;

const SCRIPTED: &str = "scripted-1";

/// The model that the agent thinks with.
struct Mind {
    provider: &'static str,
    key_name: &'static str,
    key: Secret,
    model_id: String,
    /// The scripted one's address, and the price of its tokens.
    scripted: Option<ScriptedModel>,
}

impl Mind {
    /// A real one where the environment has a key, else the scripted one.
    async fn find(environment: &Environment) -> Result<Self> {
        for (provider, key_name, model) in [
            ("anthropic", "ANTHROPIC_API_KEY", "claude-sonnet-4-5"),
            ("openai", "OPENAI_API_KEY", "gpt-5-mini"),
        ] {
            if let Some(key) = environment.get(key_name).filter(|key| !key.is_empty()) {
                return Ok(Self {
                    provider,
                    key_name,
                    key: Secret::new(key),
                    model_id: model.into(),
                    scripted: None,
                });
            }
        }
        let model = ScriptedModel::start(fixing_script()).await?;
        Ok(Self {
            provider: "anthropic",
            key_name: "ANTHROPIC_API_KEY",
            key: Secret::new(model.key()),
            model_id: SCRIPTED.into(),
            scripted: Some(model),
        })
    }
}

/// Runs the demo. Gives the exit code.
pub async fn run(environment: &Environment, keep: bool) -> u8 {
    let mut out = Out::new();
    match show(environment, keep, &mut out).await {
        Ok(code) => code,
        Err(error) => {
            out.line(&format!("\nThe demo failed: {error}"));
            FAILED
        }
    }
}

async fn show(environment: &Environment, keep: bool, out: &mut Out) -> Result<u8> {
    let folder = tempfile::Builder::new().prefix("pond-demo-").tempdir()?;
    let sample = Sample::write(&folder.path().join("sources/sample"))?;
    out.title("A small repository with a failing test");
    let (passes, said) = test(&sample.path)?;
    out.quote(&said);
    if passes {
        return Err("the sample's test passes before it is fixed".into());
    }
    let mind = Mind::find(environment).await?;
    let settings = match Settings::read(&demo_settings(environment, folder.path(), &mind, keep), Role::Up) {
        Ok(settings) => settings,
        Err(bad) => {
            bad.iter().for_each(|setting| eprintln!("error: {setting}"));
            return Ok(USAGE);
        }
    };
    let server = match Server::start(settings).await {
        Ok(server) => server,
        Err(error) => return Ok(refused(&error)),
    };
    let client = Client::new(server.url(), Secret::new(server.service_token.expose()))?;
    if keep {
        announce(&server);
    }
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(server.run(async move {
        // A sender that is gone means the same.
        let _ = stopped.await;
    }));
    let shown = fix(&client, &sample, &mind, out).await;
    if keep && shown.is_ok() {
        out.line("\nThe server stays up; Ctrl-C ends it.");
        told_to_stop().await;
    }
    let _ = stop.send(());
    serving.await??;
    shown.map(|()| OK)
}

/// The operator's settings with the demo's own: its state folder, its sample, its model.
fn demo_settings(environment: &Environment, folder: &Path, mind: &Mind, keep: bool) -> Environment {
    let kept = ["POND_RESOLVER", "POND_EXTRA_CA_FILE", "POND_MODEL_ALLOW_PRIVATE"];
    let mut settings: Environment = environment
        .iter()
        .filter(|(name, _)| kept.contains(&name.as_str()) || (keep && *name == "POND_BIND"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut set = |name: &str, value: String| settings.insert(name.to_owned(), value);
    set("POND_STATE_DIR", folder.join("state").display().to_string());
    set("POND_LOCAL_SOURCE_ROOT", folder.join("sources").display().to_string());
    set("POND_ENV_LABEL", "demo".into());
    if let Some(model) = &mind.scripted {
        set("POND_MODEL_ALLOW_PRIVATE", model.addr.to_string());
    }
    if !keep {
        set("POND_BIND", "127.0.0.1:0".into());
    }
    settings
}

async fn fix(client: &Client, sample: &Sample, mind: &Mind, out: &mut Out) -> Result<()> {
    configure(client, mind).await?;
    out.title("An agent fixes it, in a sandbox without network; the key stays with the broker");
    let stage = Swarm::new(SAMPLE_PROMPT, Sandbox::write())
        .harness("mini")
        .model("demo");
    let definition = Definition::new([StageDefinition::new("fix", stage).name("Fix the failing test")]);
    let run = CreateRun::new(definition)
        .trigger("cli")
        .source(Source::folder("sample", sample.path.display().to_string()));
    let started = Instant::now();
    let run = client.runs().create(&run).await?;
    let mut events = client.runs().events(&run.id, None);
    while let Some(event) = events.next().await {
        if let EventBody::Log(line) = event?.body
            && line.source != LogSource::Preflight
        {
            out.quote(&line.line);
        }
    }
    let detail = client.runs().get(&run.id).await?;
    if detail.run.status != RunStatus::Done {
        let why = detail
            .run
            .error
            .map_or_else(|| detail.run.status.to_string(), |error| error.message);
        return Err(format!("the run did not end well: {why}").into());
    }
    let patch = client
        .runs()
        .download(&run.id, "changes.patch", &ArtifactPlace::default())
        .await?;
    let patch = patch.bytes.try_fold(Vec::new(), async |mut all, piece| {
        all.extend_from_slice(&piece);
        Ok(all)
    });
    let patch = patch.await?;
    out.title("The patch");
    out.patch(&String::from_utf8_lossy(&patch));
    prove(sample, &patch, out)?;
    let usage = client.runs().usage(&run.id).await?;
    let (calls, tokens) = (usage.totals.calls, usage.totals.tokens());
    let seconds = started.elapsed().as_secs_f64();
    out.title("The bill");
    let cost = match &mind.scripted {
        Some(_) => format!("{} USD", usage.totals.cost_usd),
        None => "at your provider's prices".into(),
    };
    out.line(&format!("{calls} model calls, {tokens} tokens, {cost}, {seconds:.1} s"));
    if mind.scripted.is_some() {
        out.line("The model was scripted: set ANTHROPIC_API_KEY or OPENAI_API_KEY to see a real one.");
    }
    Ok(())
}

async fn configure(client: &Client, mind: &Mind) -> Result<()> {
    let base = mind
        .scripted
        .as_ref()
        .map(|model| ("ANTHROPIC_BASE_URL".to_owned(), model.base_url()));
    let credential = PutCredential {
        name: "demo".into(),
        provider: mind.provider.into(),
        env: base.map(|base| [base].into()),
        secrets: Some([(mind.key_name.to_owned(), mind.key.clone())].into()),
        ..PutCredential::default()
    };
    client.credentials().put(&credential).await?;
    // What a real model costs is its provider's to say: a made-up price would be shown as a bill.
    let price = |usd: u32| mind.scripted.as_ref().map(|_| Number::from(usd));
    let model = PutModel {
        key: "demo".into(),
        provider: mind.provider.into(),
        model_id: mind.model_id.clone(),
        credential_name: "demo".into(),
        input_cost_per_mtok: price(3),
        output_cost_per_mtok: price(15),
        ..PutModel::default()
    };
    client.models().put(&model).await?;
    let preset = HarnessFromPreset {
        preset: "mini".into(),
        ..HarnessFromPreset::default()
    };
    client.harnesses().from_preset(&preset).await?;
    Ok(())
}

/// Applies the patch to a clean clone and runs the test there.
fn prove(sample: &Sample, patch: &[u8], out: &mut Out) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let clone = folder.path().join("clone");
    git(
        Command::new("git")
            .args(["clone", "-q", "--no-hardlinks"])
            .arg(&sample.path)
            .arg(&clone),
        &[],
    )?;
    git(Command::new("git").arg("-C").arg(&clone).args(["apply", "-"]), patch)?;
    let (passes, said) = test(&clone)?;
    out.title("The test on a clean clone with the patch applied");
    out.quote(&said);
    if passes {
        Ok(())
    } else {
        Err("the test still fails".into())
    }
}

fn git(command: &mut Command, input: &[u8]) -> Result<()> {
    command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("LC_ALL", "C");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input))?;
    let output = child.wait_with_output()?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned().into())
    }
}

/// Runs the sample's test; the sample is ours, and nothing of an agent's is in it but the patch that was shown.
fn test(folder: &Path) -> Result<(bool, String)> {
    let output = Command::new("sh")
        .arg("test.sh")
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()?;
    Ok((
        output.status.success(),
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned(),
    ))
}

/// What is shown: colours on a terminal alone, and nothing of an agent's that a terminal would obey.
struct Out {
    terminal: bool,
}

impl Out {
    fn new() -> Self {
        Self {
            terminal: io::stdout().is_terminal(),
        }
    }

    fn line(&self, text: &str) {
        // Where nobody reads there is nobody to show.
        let _ = writeln!(io::stdout(), "{text}");
    }

    fn title(&self, text: &str) {
        self.line(&if self.terminal {
            format!("\n\u{1b}[1m{text}\u{1b}[0m")
        } else {
            format!("\n{text}")
        });
    }

    fn quote(&self, text: &str) {
        for line in text.lines() {
            let line = terminal::line(line);
            self.line(&if self.terminal {
                format!("\u{1b}[2m│\u{1b}[0m {line}")
            } else {
                format!("  {line}")
            });
        }
    }

    fn patch(&self, text: &str) {
        for line in text.lines() {
            let colour = match line.as_bytes().first() {
                Some(b'+') => "32",
                Some(b'-') => "31",
                _ => "0",
            };
            let line = terminal::cell(line);
            self.line(&if self.terminal {
                format!("  \u{1b}[{colour}m{line}\u{1b}[0m")
            } else {
                format!("  {line}")
            });
        }
    }
}
