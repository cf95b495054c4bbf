//! How a job is launched: arguments, files of its home folder, environment and input, out of templates and secrets.
//!
//! Under a confined profile no secret is among them: the brokered key is a dummy, the base URL is the broker's, and every
//! other secret is a sealed token.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use pond_core::config::presets::MINI;
use pond_core::dispatch::{Grant, Job, JobModel, Rendering, render};
use pond_core::egress::{SealedRule, SealedToken};
use pond_core::entropy::Entropy;
use pond_core::runs::{Failure, FailureCode};
use pond_core::sandbox::{Exec, HomeFile};
use pond_core::secret::Secret;

use crate::broker::{self, ClientBase, Feature, Provider, provider};
use crate::egress::SealedSecret;

/// Whether a name of a setting is a provider's address.
fn is_base_url(name: &str) -> bool {
    name.ends_with("_BASE_URL")
}

/// What runs in the sandbox.
#[derive(Debug)]
pub(crate) enum Agent {
    /// A program.
    Program(Exec),
    /// The built-in agent, with this environment for its tools.
    Mini {
        /// The model, as the provider names it.
        model: String,
        /// What it is asked to do.
        prompt: String,
        /// Environment of its tools.
        env: BTreeMap<String, Secret>,
    },
}

/// How a job is launched.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) agent: Agent,
    pub(crate) home: Vec<HomeFile>,
}

/// Where things are found inside.
#[derive(Debug, Clone)]
pub(crate) struct Inside {
    /// The output folder.
    pub(crate) output: String,
    /// The broker's origin; none when the job has no broker there.
    pub(crate) broker: Option<String>,
    /// What stands for secrets, by their names.
    pub(crate) tokens: BTreeMap<String, SealedToken>,
    /// What leads to the network, and says whom to trust there; nothing of the job's own comes before it.
    pub(crate) network: BTreeMap<String, String>,
}

/// Seals what a confined job may not hold, but for the key that its broker has: a fresh token for each secret. One without a
/// rule goes nowhere.
pub(crate) fn seal(job: &Job, grant: &Grant, entropy: &dyn Entropy) -> Result<Vec<SealedSecret>, Failure> {
    if !job.sandbox.profile.is_confined() {
        return Ok(Vec::new());
    }
    let provider = job.model.as_ref().map(known).transpose()?;
    let brokered = |name: &str| provider.is_some_and(|provider| provider.keys.iter().any(|(key, _)| *key == name));
    let rule = |name: &str| {
        let told = job.sealed.iter().find(|rule| rule.name == name);
        told.cloned().unwrap_or_else(|| SealedRule {
            name: name.to_owned(),
            hosts: Vec::new(),
            places: Vec::new(),
        })
    };
    let secrets = grant.secrets.iter().filter(|(name, _)| !brokered(name));
    Ok(secrets
        .map(|(name, value)| SealedSecret::seal(entropy, rule(name), value.clone()))
        .collect())
}

/// What the job's broker may do.
pub(crate) fn broker_grant(model: &JobModel, grant: &Grant) -> Result<broker::Grant, Failure> {
    let provider = known(model)?;
    let mut credential: BTreeMap<String, Secret> = grant.secrets.clone();
    for (name, value) in &grant.env {
        credential.insert(name.clone(), Secret::new(value.as_str()));
    }
    let invalid = |error: broker::GrantError| Failure::new(FailureCode::CredentialMissing, error.to_string());
    let features: Result<BTreeSet<Feature>, _> = model.remote_features.iter().map(|name| name.parse()).collect();
    let mut models = model.models.clone();
    models.entry(model.model_id.clone()).or_default();
    broker::Grant::new(provider, &credential, models, features.map_err(invalid)?).map_err(invalid)
}

fn known(model: &JobModel) -> Result<&'static Provider, Failure> {
    provider(&model.provider).ok_or_else(|| {
        let message = format!("this worker's broker does not know provider '{}'", model.provider);
        Failure::new(FailureCode::CredentialMissing, message)
    })
}

/// Fills the templates of a job.
pub(crate) fn launch(job: &Job, grant: &Grant, inside: &Inside) -> Result<Launch, Failure> {
    let provider = job.model.as_ref().map(known).transpose()?;
    let confined = job.sandbox.profile.is_confined();
    let secret = |name: &str| match provider {
        // What stands for the brokered key opens nothing.
        Some(provider) if confined && provider.keys.iter().any(|(key, _)| *key == name) => {
            Some(provider.dummy_key.to_owned())
        }
        _ if confined => inside.tokens.get(name).map(|token| token.as_str().to_owned()),
        _ => grant.secrets.get(name).map(|secret| secret.expose().to_owned()),
    };
    let model = job.model.as_ref().map_or("", |model| model.model_id.as_str());
    let with = Rendering {
        model,
        prompt: &job.prompt,
        broker_url: inside.broker.as_deref().unwrap_or(""),
        secret: &secret,
    };
    let mut prompted = false;
    let mut fill = |template: &str| {
        let (text, has_prompt) = render(template, with).map_err(|name| unfilled(&name))?;
        prompted |= has_prompt;
        Ok::<_, Failure>(text)
    };
    let argv = job
        .command
        .iter()
        .map(|word| fill(word))
        .collect::<Result<Vec<_>, _>>()?;
    let home = job
        .files
        .iter()
        .map(|file| {
            Ok(HomeFile {
                path: file.path.clone().into(),
                content: Secret::new(fill(&file.content)?),
            })
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    let env = environment(job, grant, provider, inside);
    let agent = if argv.first().is_some_and(|word| word == MINI) {
        mini(job, &argv, env)?
    } else {
        let stdin = match prompted {
            true => Bytes::new(),
            false => Bytes::copy_from_slice(job.prompt.as_bytes()),
        };
        Agent::Program(Exec {
            argv,
            env,
            stdin,
            cwd: None,
        })
    };
    Ok(Launch { agent, home })
}

fn mini(job: &Job, argv: &[String], env: BTreeMap<String, Secret>) -> Result<Agent, Failure> {
    let Some(model) = &job.model else {
        let message = format!("harness '{}' is the built-in agent and needs a model", job.harness);
        return Err(Failure::new(FailureCode::ModelUnregistered, message));
    };
    let named = argv.get(1).filter(|word| !word.is_empty());
    Ok(Agent::Mini {
        model: named.unwrap_or(&model.model_id).clone(),
        prompt: job.prompt.clone(),
        env,
    })
}

fn unfilled(name: &str) -> Failure {
    let message = match name.strip_prefix("SECRET:") {
        Some(secret) => {
            format!("a file of the harness holds {{{{{name}}}}}, and the credential has no secret {secret}")
        }
        None => format!("the harness holds {{{{{name}}}}}, which is no placeholder"),
    };
    Failure::new(FailureCode::SandboxInvalid, message)
}

/// Variables, then the credential's settings, then what leads to the broker and to the network.
fn environment(
    job: &Job,
    grant: &Grant,
    provider: Option<&'static Provider>,
    inside: &Inside,
) -> BTreeMap<String, Secret> {
    let confined = job.sandbox.profile.is_confined();
    let mut env: BTreeMap<String, Secret> = BTreeMap::new();
    let mut set = |name: &str, value: &str| {
        env.insert(name.to_owned(), Secret::new(value));
    };
    for (name, value) in &job.env {
        set(name, value);
    }
    for (name, value) in &grant.env {
        if !(confined && is_base_url(name)) {
            set(name, value);
        }
    }
    if confined {
        for (name, token) in &inside.tokens {
            set(name, token.as_str());
        }
    } else {
        for (name, value) in &grant.secrets {
            set(name, value.expose());
        }
    }
    if let (Some(provider), Some(origin)) = (provider, &inside.broker) {
        set("BROKER_URL", origin);
        if confined {
            let base = match provider.client_base {
                ClientBase::Origin => origin.clone(),
                ClientBase::Versioned => format!("{origin}{}", provider.version_path),
            };
            set(provider.base_url_env, &base);
            if let Some((key, _)) = provider.keys.first() {
                set(key, provider.dummy_key);
            }
        }
    }
    for (name, value) in &inside.network {
        set(name, value);
    }
    set("POND_OUTPUT_DIR", &inside.output);
    env
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pond_core::clock::Timestamp;
    use pond_core::config::HarnessFile;
    use pond_core::entropy::SystemEntropy;
    use pond_core::id::{JobId, ProjectId, RunId, WorkerId};
    use pond_core::pool::ClaimToken;
    use pond_core::runs::executors::{SandboxBlock, Tier};
    use pond_core::sandbox::{Limits, Profile};
    use uuid::Uuid;

    use super::*;

    fn job(profile: Profile, command: &[&str], files: &[&str]) -> Job {
        let id = Uuid::from_u128(1);
        let file = |(number, content): (usize, &&str)| HarnessFile {
            path: format!("f{number}"),
            content: (*content).into(),
        };
        Job {
            id: JobId::from(id),
            run: RunId::from(id),
            project: ProjectId::from(id),
            stage: "a".into(),
            substage: None,
            attempt: 1,
            claim: ClaimToken::from_text("t"),
            lease_until: Timestamp::from_millis(0),
            worker: WorkerId::from(id),
            harness: "h".into(),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            prompt: "do it".into(),
            files: files.iter().enumerate().map(file).collect(),
            env: BTreeMap::from([
                ("VAR".to_owned(), "1".to_owned()),
                ("BASE".to_owned(), "v".to_owned()),
                ("HTTP_PROXY".to_owned(), "http://own".to_owned()),
            ]),
            sandbox: SandboxBlock {
                profile,
                tier: Tier::Trusted,
                backend: None,
                allow_hosts: Vec::new(),
                limits: Limits::default(),
                image: None,
            },
            egress: Vec::new(),
            sealed: Vec::new(),
            model: Some(JobModel {
                provider: "openrouter".into(),
                model_id: "m-1".into(),
                models: BTreeMap::from([("m-2".to_owned(), Default::default())]),
                remote_features: Vec::new(),
            }),
            cred_request: None,
            source_bundle: None,
            base: None,
            budget: Default::default(),
            parse: None,
            writes_artifact: None,
            timeout: Duration::from_secs(1),
            cancel_grace: Duration::from_secs(1),
            artifact_cap: 1,
        }
    }

    fn grant() -> Grant {
        Grant {
            env: BTreeMap::from([
                ("BASE".to_owned(), "own".to_owned()),
                ("OPENROUTER_BASE_URL".to_owned(), "https://real.test/v1".to_owned()),
            ]),
            secrets: BTreeMap::from([
                ("OPENROUTER_API_KEY".to_owned(), Secret::new("the-real-key")),
                ("OTHER".to_owned(), Secret::new("the-other-secret")),
            ]),
        }
    }

    fn inside(broker: bool) -> Inside {
        Inside {
            output: "/output".into(),
            broker: broker.then(|| "http://127.0.0.1:1".to_owned()),
            tokens: BTreeMap::new(),
            network: BTreeMap::from([("HTTP_PROXY".to_owned(), "http://127.0.0.1:2".to_owned())]),
        }
    }

    fn program(launch: Launch) -> (Exec, Vec<String>) {
        let home = launch
            .home
            .iter()
            .map(|file| file.content.expose().to_owned())
            .collect();
        match launch.agent {
            Agent::Program(exec) => (exec, home),
            Agent::Mini { .. } => panic!("a program"),
        }
    }

    #[test]
    fn c17_86_a_confined_job_gets_the_dummy_and_tokens_for_the_other_secrets() {
        let confined = job(
            Profile::UntrustedCodeRead,
            &["x", "{{MODEL}}"],
            &["{{SECRET:OPENROUTER_API_KEY}} {{BROKER_URL}} {{SECRET:OTHER}}"],
        );
        let sealed = seal(&confined, &grant(), &SystemEntropy).expect("sealed");
        let again = seal(&confined, &grant(), &SystemEntropy).expect("sealed");
        assert_eq!(sealed.len(), 1, "not the brokered key");
        assert!(sealed[0].rule.places.is_empty() && sealed[0].token != again[0].token);
        let mut inside = inside(true);
        inside.tokens = BTreeMap::from([("OTHER".to_owned(), sealed[0].token.clone())]);
        let token = sealed[0].token.as_str();
        let (exec, home) = program(launch(&confined, &grant(), &inside).expect("launched"));
        let dummy = provider("openrouter").expect("known").dummy_key;
        assert_eq!(home, [format!("{dummy} http://127.0.0.1:1 {token}")]);
        let env: BTreeMap<&str, &str> = exec
            .env
            .iter()
            .map(|(name, value)| (name.as_str(), value.expose()))
            .collect();
        assert_eq!(env["OPENROUTER_API_KEY"], dummy);
        assert_eq!(env["OPENROUTER_BASE_URL"], "http://127.0.0.1:1/v1");
        assert_eq!(
            (env["VAR"], env["BASE"], env["POND_OUTPUT_DIR"]),
            ("1", "own", "/output")
        );
        assert_eq!((env["OTHER"], env["HTTP_PROXY"]), (token, "http://127.0.0.1:2"));
        assert_eq!(
            (exec.argv, exec.stdin),
            (vec!["x".into(), "m-1".into()], Bytes::from("do it"))
        );
        let other = job(Profile::UntrustedCodeRead, &["x"], &["{{SECRET:NONE}}"]);
        let failure = launch(&other, &grant(), &inside).expect_err("refused");
        assert_eq!(failure.code, FailureCode::SandboxInvalid);
        assert!(!failure.message.contains("the-other-secret"));
    }

    #[test]
    fn c17_86_an_unconfined_job_gets_the_values() {
        let open = job(Profile::None, &["x", "{{PROMPT}}"], &["{{SECRET:OTHER}}"]);
        let (exec, home) = program(launch(&open, &grant(), &inside(false)).expect("launched"));
        assert_eq!(home, ["the-other-secret"]);
        assert_eq!(exec.env["OPENROUTER_API_KEY"].expose(), "the-real-key");
        assert_eq!(exec.env["OPENROUTER_BASE_URL"].expose(), "https://real.test/v1");
        assert_eq!(exec.stdin, Bytes::new(), "the prompt is among the arguments");
    }

    #[test]
    fn the_first_word_of_minis_command_runs_it_in_the_worker() {
        let built_in = job(Profile::UntrustedCodeWrite, &[MINI, "{{MODEL}}"], &[]);
        let launch = launch(&built_in, &grant(), &inside(true)).expect("launched");
        assert!(matches!(launch.agent, Agent::Mini { model, prompt, .. } if model == "m-1" && prompt == "do it"));
    }
}
