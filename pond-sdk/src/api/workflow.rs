//! Workflows as Rust values, for programs that write them. On the wire a definition is plain JSON, which is taken as well.
//!
//! ```
//! use pond_sdk::api::{CreateRun, Definition, Sandbox, Source, StageDefinition, Swarm};
//!
//! let fix = Swarm::new("Find and fix the failing test.", Sandbox::write()).harness("mini").model("sonnet");
//! let run = CreateRun::new(Definition::new([StageDefinition::new("fix", fix)]))
//!     .source(Source::git("app", "https://git.example/acme/app"));
//! assert_eq!(run.definition["stages"][0]["executor"]["kind"], "swarm");
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value, json};

use super::Budget;
use super::open_enum::open_enum;

/// A workflow.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Its stages; 1 to 500.
    pub stages: Vec<StageDefinition>,
    /// Which stage comes before which; none: one after another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edges: Vec<Edge>,
}

impl Definition {
    /// These stages, one after another.
    pub fn new(stages: impl IntoIterator<Item = StageDefinition>) -> Self {
        Self {
            stages: stages.into_iter().collect(),
            edges: Vec::new(),
        }
    }

    /// Makes `to` wait for `from`. With the first edge, array order means nothing any more.
    #[must_use]
    pub fn edge(mut self, from: impl Into<String>, to: impl Into<String>) -> Self {
        self.edges.push(Edge {
            from: from.into(),
            to: to.into(),
        });
        self
    }
}

impl From<Definition> for Value {
    fn from(definition: Definition) -> Self {
        serde_json::to_value(definition).expect("a definition holds texts and numbers under text keys only")
    }
}

/// One stage waits for another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Edge {
    /// The stage that ends first.
    pub from: String,
    /// The stage that waits.
    pub to: String,
}

/// A stage of a workflow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct StageDefinition {
    /// Its key, unique in the workflow.
    pub key: String,
    /// Its name for people.
    pub name: String,
    /// The author's own grouping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// What it does.
    pub executor: Executor,
    /// Seconds an attempt may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_sec: Option<u32>,
    /// How often and after which wait it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<Retries>,
    /// The condition under which it runs; none: `success()`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Whether its failure counts as success for what follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continue_on_error: Option<bool>,
    /// Limits on this stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
}

impl StageDefinition {
    /// A stage of this key, which is its name too.
    pub fn new(key: impl Into<String>, executor: impl Into<Executor>) -> Self {
        let key = key.into();
        Self {
            name: key.clone(),
            key,
            category: None,
            executor: executor.into(),
            timeout_sec: None,
            retries: None,
            when: None,
            continue_on_error: None,
            budget: None,
        }
    }

    /// Names it for people.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Bounds an attempt in seconds.
    #[must_use]
    pub fn timeout_sec(mut self, seconds: u32) -> Self {
        self.timeout_sec = Some(seconds);
        self
    }

    /// Tries again after a failure.
    #[must_use]
    pub fn retries(mut self, max: u32, backoff_sec: u32) -> Self {
        self.retries = Some(Retries { max, backoff_sec });
        self
    }

    /// Runs only where this holds.
    #[must_use]
    pub fn when(mut self, condition: impl Into<String>) -> Self {
        self.when = Some(condition.into());
        self
    }

    /// Uses at most this.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }
}

/// How often and after which wait a stage is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Retries {
    /// Further attempts; 0 to 10.
    pub max: u32,
    /// Seconds before the first of them, doubled each time; 0 to 3600.
    pub backoff_sec: u32,
}

/// What a stage does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
#[non_exhaustive]
pub enum Executor {
    /// Nothing but ticks, to try a workflow's shape.
    Noop {
        /// Log lines to write.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ticks: Option<u32>,
        /// Seconds between them; may be fractional.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(value_type = Option<f64>))]
        interval_sec: Option<Number>,
    },
    /// A program of the engine's own.
    Builtin {
        /// `file_inventory` or `todo_scan`.
        name: String,
    },
    /// A command on the engine's host, where the operator allows it.
    Shell {
        /// The program and its arguments.
        argv: Vec<String>,
        /// Seconds it may take.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout_sec: Option<u32>,
        /// Its environment.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        env: BTreeMap<String, String>,
    },
    /// A coding agent in a sandbox of a worker.
    Swarm(Box<Swarm>),
    /// A session of an agent of the Agents family.
    Agent {
        /// The agent's id.
        agent: String,
        /// What it is asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input: Option<Value>,
    },
    /// A dispatch to an external agent.
    Http {
        /// The agent's id or name.
        agent: String,
        /// What it is asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input: Option<Value>,
        /// A seed for agents that take one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seed: Option<i64>,
        /// Models it may use, by the names it knows them by.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        models: Option<Value>,
        /// Whether an answer that does not pass fails the stage.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        require_pass: Option<bool>,
    },
}

impl Executor {
    /// One tick and no more.
    pub fn noop() -> Self {
        Self::Noop {
            ticks: None,
            interval_sec: None,
        }
    }

    /// A program of the engine's own.
    pub fn builtin(name: impl Into<String>) -> Self {
        Self::Builtin { name: name.into() }
    }

    /// A command on the engine's host.
    pub fn shell<I: IntoIterator<Item = S>, S: Into<String>>(argv: I) -> Self {
        Self::Shell {
            argv: argv.into_iter().map(Into::into).collect(),
            timeout_sec: None,
            env: BTreeMap::new(),
        }
    }
}

/// A coding agent in a sandbox of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Swarm {
    /// Key of the harness; none: the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub harness: Option<String>,
    /// Key of the model; none: the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What the agent is asked, with placeholders.
    pub prompt: String,
    /// One job per area of a list that a predecessor made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fanout: Option<Fanout>,
    /// Records to take from its output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parse: Option<Parse>,
    /// The file it must leave.
    #[serde(rename = "writesArtifact", default, skip_serializing_if = "Option::is_none")]
    pub writes_artifact: Option<String>,
    /// What it may do.
    pub sandbox: Sandbox,
}

impl Swarm {
    /// An agent with this prompt in this sandbox.
    pub fn new(prompt: impl Into<String>, sandbox: Sandbox) -> Self {
        Self {
            harness: None,
            model: None,
            prompt: prompt.into(),
            fanout: None,
            parse: None,
            writes_artifact: None,
            sandbox,
        }
    }

    /// Started by this harness.
    #[must_use]
    pub fn harness(mut self, key: impl Into<String>) -> Self {
        self.harness = Some(key.into());
        self
    }

    /// Thinking with this model.
    #[must_use]
    pub fn model(mut self, key: impl Into<String>) -> Self {
        self.model = Some(key.into());
        self
    }

    /// Once per area of this list.
    #[must_use]
    pub fn fanout(mut self, source: impl Into<String>, artifact: impl Into<String>) -> Self {
        self.fanout = Some(Fanout {
            source: source.into(),
            artifact: artifact.into(),
            max_areas: None,
        });
        self
    }

    /// Taking records from its output.
    #[must_use]
    pub fn parse(mut self, fence: impl Into<String>, output: impl Into<String>, shape: ParseShape) -> Self {
        self.parse = Some(Parse {
            fence: fence.into(),
            output: output.into(),
            shape,
        });
        self
    }

    /// Leaving this file.
    #[must_use]
    pub fn writes_artifact(mut self, name: impl Into<String>) -> Self {
        self.writes_artifact = Some(name.into());
        self
    }
}

impl From<Swarm> for Executor {
    fn from(swarm: Swarm) -> Self {
        Self::Swarm(Box::new(swarm))
    }
}

/// One job per area of a list that a predecessor made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Fanout {
    /// The predecessor.
    pub source: String,
    /// Its artifact.
    pub artifact: String,
    /// The most areas to take; 1 to 100, 20 if left out.
    #[serde(rename = "maxAreas", default, skip_serializing_if = "Option::is_none")]
    pub max_areas: Option<u32>,
}

/// Records to take from an agent's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Parse {
    /// The label of the fenced blocks.
    pub fence: String,
    /// The artifact they go to.
    pub output: String,
    /// What they hold.
    pub shape: ParseShape,
}

open_enum! {
    /// What fenced blocks hold.
    ParseShape {
        /// One JSON record per line.
        Jsonl = "jsonl",
        /// One JSON value.
        Json = "json",
        /// Text.
        Text = "text",
    }
}

open_enum! {
    /// What an agent may do with the code, and what it can reach.
    Profile {
        /// Everything; refused unless server and worker allow it.
        None = "none",
        /// Read the checkout; no network but the broker.
        Read = "untrusted-code-read",
        /// Change a throw-away copy; broker and egress proxy.
        Write = "untrusted-code-write",
    }
}

/// The sandbox that a stage asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Sandbox {
    /// What the agent may do.
    pub profile: Profile,
    /// Which workers may serve it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// `bubblewrap`, `docker` or `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Hosts to reach, where no operator's list says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_hosts: Option<Vec<String>>,
    /// Limits other than the usual ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overrides: Option<SandboxOverrides>,
}

impl Sandbox {
    /// A sandbox of this profile.
    pub fn new(profile: Profile) -> Self {
        Self {
            profile,
            tier: None,
            backend: None,
            allow_hosts: None,
            overrides: None,
        }
    }

    /// For agents that only read.
    pub fn read() -> Self {
        Self::new(Profile::Read)
    }

    /// For agents that change the code.
    pub fn write() -> Self {
        Self::new(Profile::Write)
    }

    /// On workers of this tier.
    #[must_use]
    pub fn tier(mut self, tier: impl Into<String>) -> Self {
        self.tier = Some(tier.into());
        self
    }

    /// By this backend.
    #[must_use]
    pub fn backend(mut self, backend: impl Into<String>) -> Self {
        self.backend = Some(backend.into());
        self
    }

    /// Reaching these hosts.
    #[must_use]
    pub fn allow_hosts<I: IntoIterator<Item = S>, S: Into<String>>(mut self, hosts: I) -> Self {
        self.allow_hosts = Some(hosts.into_iter().map(Into::into).collect());
        self
    }
}

/// Limits of a sandbox other than the usual ones, up to the worker's own caps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SandboxOverrides {
    /// Memory, such as `4g`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// Processors; may be fractional.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<f64>))]
    pub cpus: Option<Number>,
    /// Processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids_limit: Option<u32>,
    /// Size of `/tmp`, such as `512m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tmpfs_size: Option<String>,
    /// Image, for docker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// What a run works on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its name in the run, and its folder when there are several.
    pub label: String,
    /// `git_https`, `folder`, `tarball` or `s3`.
    pub kind: String,
    /// Where it is, by kind.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub config: Value,
}

impl Source {
    /// A source of any kind.
    pub fn new(label: impl Into<String>, kind: impl Into<String>, config: Value) -> Self {
        Self {
            label: label.into(),
            kind: kind.into(),
            config,
        }
    }

    /// A git repository.
    pub fn git(label: impl Into<String>, url: impl Into<String>) -> Self {
        Self::new(label, "git_https", json!({ "url": url.into() }))
    }

    /// A folder of the server's host.
    pub fn folder(label: impl Into<String>, path: impl Into<String>) -> Self {
        Self::new(label, "folder", json!({ "path": path.into() }))
    }

    /// An archive.
    pub fn tarball(label: impl Into<String>, url: impl Into<String>) -> Self {
        Self::new(label, "tarball", json!({ "url": url.into() }))
    }

    /// A prefix of a bucket.
    pub fn s3(label: impl Into<String>, bucket: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self::new(label, "s3", json!({ "bucket": bucket.into(), "prefix": prefix.into() }))
    }

    /// At this branch, tag or commit, for git.
    #[must_use]
    pub fn reference(self, reference: impl Into<String>) -> Self {
        self.with("ref", reference)
    }

    /// With this credential, by name.
    #[must_use]
    pub fn credential(self, name: impl Into<String>) -> Self {
        self.with("credential", name)
    }

    fn with(mut self, field: &str, value: impl Into<String>) -> Self {
        if let Value::Object(config) = &mut self.config {
            config.insert(field.to_owned(), Value::String(value.into()));
        }
        self
    }
}
