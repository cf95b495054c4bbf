//! `swarm`: an agent in a sandbox, run by a worker of the pool.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Executor, Work};
use crate::artifacts::ArtifactName;
use crate::body::Object;
use crate::id::ProjectId;
use crate::outbound::{HostPattern, MAX_PATTERNS};
use crate::sandbox::{BackendKind, Limits, Profile};

/// Which workers may take a stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tier {
    /// The operator's own.
    #[default]
    Trusted,
    /// The project's own.
    Byo,
    /// Any.
    Any,
}

impl Tier {
    /// All of them, as definitions name them.
    pub const ALL: [(&'static str, Self); 3] = [("trusted", Self::Trusted), ("byo", Self::Byo), ("any", Self::Any)];

    /// The tags that a worker needs for it.
    pub fn tags(self, project: ProjectId) -> BTreeSet<String> {
        match self {
            Self::Trusted => BTreeSet::from(["pool:trusted".into()]),
            Self::Byo => BTreeSet::from(["pool:byo".into(), format!("tenant:{project}")]),
            Self::Any => BTreeSet::new(),
        }
    }
}

/// The `sandbox` block as submitted; whether it makes sense is preflight's to say, as `sandbox_invalid`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxBlock {
    /// How far it is confined.
    pub profile: Profile,
    /// Which workers may take it.
    pub tier: Tier,
    /// The backend, when one is named.
    pub backend: Option<BackendKind>,
    /// Hosts that it may reach, before the operator's list.
    pub allow_hosts: Vec<HostPattern>,
    /// What it may use.
    pub limits: Limits,
    /// Docker image.
    pub image: Option<String>,
}

/// What the records in a fenced block look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One JSON value a line.
    Jsonl,
    /// One JSON value a block.
    Json,
    /// Any text.
    Text,
}

impl Shape {
    /// All of them, as definitions name them.
    pub const ALL: [(&'static str, Self); 3] = [("jsonl", Self::Jsonl), ("json", Self::Json), ("text", Self::Text)];
}

/// Takes fenced blocks out of what the agent prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parse {
    /// Label of the blocks.
    pub fence: String,
    /// The artifact that their records go to.
    pub output: ArtifactName,
    /// What a record is.
    pub shape: Shape,
}

/// A list of areas that a stage before this one leaves; one job for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fanout {
    /// Key of the stage that leaves the list.
    pub source: String,
    /// Name of the list.
    pub artifact: ArtifactName,
    /// The most areas that are taken.
    pub max_areas: usize,
}

/// An agent stage.
#[derive(Debug, Clone)]
pub struct Swarm {
    /// Key of the harness; the default when absent.
    pub harness: Option<String>,
    /// Key of the model; the default when absent.
    pub model: Option<String>,
    /// What the agent is asked to do.
    pub prompt: String,
    /// The list that it has one job for each area of.
    pub fanout: Option<Fanout>,
    /// Records to take from fenced blocks of its output.
    pub parse: Option<Parse>,
    /// The file that it must leave.
    pub writes_artifact: Option<ArtifactName>,
    /// The sandbox, or why the block is none: a message and the pointer below `executor`.
    pub sandbox: Result<SandboxBlock, SandboxFault>,
}

/// What is wrong with a sandbox block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxFault {
    /// What, and what would be right.
    pub message: String,
    /// JSON pointer into the request body.
    pub pointer: String,
}

const MAX_PROMPT_BYTES: usize = 256 << 10;
const MAX_FENCE_BYTES: usize = 64;
const DEFAULT_MAX_AREAS: usize = 20;

pub(super) fn read(object: &mut Object<'_>) -> Option<Arc<dyn Executor>> {
    let harness = object.text("harness").map(ToOwned::to_owned);
    let model = object.text("model").map(ToOwned::to_owned);
    let prompt = object.required_text("prompt");
    if prompt.is_some_and(|prompt| prompt.len() > MAX_PROMPT_BYTES) {
        object.fault("prompt", format!("longer than {MAX_PROMPT_BYTES} bytes"));
    }
    let fanout = object.object("fanout").map(read_fanout);
    let parse = object.object("parse").map(read_parse);
    let writes_artifact = match object.optional("writesArtifact") {
        None => None,
        Some(_) => artifact(object, "writesArtifact"),
    };
    let sandbox = read_sandbox(object);
    Some(Arc::new(Swarm {
        harness,
        model,
        prompt: prompt?.to_owned(),
        // What is there and does not read has its fault, which keeps the whole definition from reading.
        fanout: fanout.flatten(),
        parse: parse.flatten(),
        writes_artifact,
        sandbox,
    }))
}

fn read_fanout(mut object: Object<'_>) -> Option<Fanout> {
    let source = object.required_text("source");
    let artifact = artifact(&mut object, "artifact");
    let max_areas = object
        .integer("maxAreas", 1..=100)
        .and_then(|max| usize::try_from(max).ok());
    object.close();
    Some(Fanout {
        source: source?.to_owned(),
        artifact: artifact?,
        max_areas: max_areas.unwrap_or(DEFAULT_MAX_AREAS),
    })
}

fn read_parse(mut object: Object<'_>) -> Option<Parse> {
    let fence = object.required_text("fence");
    let odd = |c: char| c.is_whitespace() || c == '`' || c.is_control();
    if fence.is_some_and(|fence| fence.is_empty() || fence.len() > MAX_FENCE_BYTES || fence.contains(odd)) {
        object.fault(
            "fence",
            format!("expected a label of 1 to {MAX_FENCE_BYTES} bytes without spaces and `"),
        );
    }
    let output = artifact(&mut object, "output");
    object.required("shape");
    let shape = one_of(&mut object, "shape", &Shape::ALL);
    object.close();
    Some(Parse {
        fence: fence?.to_owned(),
        output: output?,
        shape: shape?,
    })
}

/// A required name of an artifact.
fn artifact(object: &mut Object<'_>, field: &'static str) -> Option<ArtifactName> {
    let name = object.required_text(field)?;
    match ArtifactName::new(name) {
        Ok(name) => Some(name),
        Err(bad) => {
            object.fault(field, bad.to_string());
            None
        }
    }
}

fn read_sandbox(object: &mut Object<'_>) -> Result<SandboxBlock, SandboxFault> {
    let missing = |pointer: String| SandboxFault {
        message: "stage declares no sandbox profile; an agent is never unconfined by omission".into(),
        pointer,
    };
    let pointer = object.pointer("sandbox");
    let Some(value) = object.optional("sandbox") else {
        return Err(missing(pointer));
    };
    // Faults of the block are problems of preflight, which names them all `sandbox_invalid`.
    let faults = crate::body::Faults::new();
    let block = Object::read(value, pointer.clone(), &faults).and_then(|block| read_block(block));
    match (block, faults.take().into_iter().next()) {
        (Some(block), None) => Ok(block),
        (_, Some(fault)) => Err(SandboxFault {
            message: fault.message,
            pointer: fault.pointer,
        }),
        (None, None) => Err(missing(format!("{pointer}/profile"))),
    }
}

impl SandboxBlock {
    /// Reads the block as definitions and jobs spell it.
    pub(crate) fn read(block: Object<'_>) -> Option<Self> {
        read_block(block)
    }

    /// The block as definitions spell it, with every limit said.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let name = |found: Option<&'static str>| found.unwrap_or_default();
        let profile = name(
            Profile::ALL
                .iter()
                .find(|(_, profile)| *profile == self.profile)
                .map(|(name, _)| *name),
        );
        let tier = name(
            Tier::ALL
                .iter()
                .find(|(_, tier)| *tier == self.tier)
                .map(|(name, _)| *name),
        );
        let backend = self
            .backend
            .and_then(|own| BackendKind::ALL.iter().find(|(_, kind)| *kind == own));
        let mut overrides = serde_json::json!({
            "memory": self.limits.memory,
            "cpus": f64::from(self.limits.millicpus) / 1000.0,
            "pids_limit": self.limits.pids,
            "tmpfs_size": self.limits.tmpfs,
        });
        if let Some(image) = &self.image {
            overrides["image"] = image.as_str().into();
        }
        let mut block = serde_json::json!({
            "profile": profile, "tier": tier, "allow_hosts": self.allow_hosts, "overrides": overrides,
        });
        if let Some((name, _)) = backend {
            block["backend"] = (*name).into();
        }
        block
    }
}

fn read_block(mut block: Object<'_>) -> Option<SandboxBlock> {
    let profile = one_of(&mut block, "profile", &Profile::ALL);
    let tier = one_of(&mut block, "tier", &Tier::ALL).unwrap_or_default();
    let backend = one_of(&mut block, "backend", &BackendKind::ALL);
    let allow_hosts = read_hosts(&mut block);
    let (limits, image) = block.object("overrides").map(read_overrides).unwrap_or_default();
    if image.is_some() && backend != Some(BackendKind::Docker) {
        block.fault("overrides/image", "an image needs backend 'docker'");
    }
    if backend == Some(BackendKind::None) && profile.is_some_and(Profile::is_confined) {
        block.fault(
            "backend",
            "a confined profile needs a backend that confines: bubblewrap or docker",
        );
    }
    block.close();
    Some(SandboxBlock {
        profile: profile?,
        tier,
        backend,
        allow_hosts,
        limits,
        image,
    })
}

fn read_hosts(block: &mut Object<'_>) -> Vec<HostPattern> {
    let texts = block.text_list("allow_hosts").unwrap_or_default();
    if texts.len() > MAX_PATTERNS {
        block.fault("allow_hosts", format!("expected at most {MAX_PATTERNS} hosts"));
    }
    let mut hosts = Vec::new();
    for (index, text) in texts.into_iter().take(MAX_PATTERNS).enumerate() {
        match HostPattern::parse(text) {
            Ok(host) => hosts.push(host),
            Err(bad) => {
                let pointer = format!("{}/{index}", block.pointer("allow_hosts"));
                block.faults().add(pointer, bad.to_string());
            }
        }
    }
    hosts
}

fn one_of<T: Copy>(block: &mut Object<'_>, name: &'static str, choices: &[(&'static str, T)]) -> Option<T> {
    let text = block.text(name)?;
    let choice = choices
        .iter()
        .find(|(known, _)| *known == text)
        .map(|(_, value)| *value);
    if choice.is_none() {
        let known: Vec<&str> = choices.iter().map(|(known, _)| *known).collect();
        block.fault(name, format!("expected one of {}", known.join(", ")));
    }
    choice
}

fn read_overrides(mut object: Object<'_>) -> (Limits, Option<String>) {
    let mut limits = Limits::default();
    if let Some(memory) = size(&mut object, "memory") {
        limits.memory = memory;
    }
    if let Some(tmpfs) = size(&mut object, "tmpfs_size") {
        limits.tmpfs = tmpfs;
    }
    if let Some(pids) = object.integer("pids_limit", 1..=1 << 20) {
        limits.pids = u32::try_from(pids).unwrap_or(u32::MAX);
    }
    if let Some(value) = object.optional("cpus") {
        match value.as_f64().filter(|cpus| (0.01..=1024.0).contains(cpus)) {
            Some(cpus) => limits.millicpus = (cpus * 1000.0).round() as u32,
            None => object.fault("cpus", "expected a number of cores from 0.01 to 1024"),
        }
    }
    let image = object.text("image").map(ToOwned::to_owned);
    object.close();
    (limits, image)
}

/// `512m`, `4g` or a number of bytes; at least 1 MiB.
fn size(object: &mut Object<'_>, name: &'static str) -> Option<u64> {
    let value = object.optional(name)?;
    let bytes = match value {
        serde_json::Value::String(text) => parse_size(text),
        other => other.as_u64(),
    };
    let bytes = bytes.filter(|bytes| (1 << 20..=1 << 44).contains(bytes));
    if bytes.is_none() {
        object.fault(name, "expected bytes from 1 MiB, as a number or like 512m or 4g");
    }
    bytes
}

fn parse_size(text: &str) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let text = text.strip_suffix('b').unwrap_or(&text);
    let (digits, shift) = match text.chars().last()? {
        'k' => (&text[..text.len() - 1], 10),
        'm' => (&text[..text.len() - 1], 20),
        'g' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

impl Executor for Swarm {
    fn kind(&self) -> &'static str {
        "swarm"
    }

    fn work(&self) -> Work<'_> {
        Work::Pool(self)
    }

    fn leaves(&self, _name: &ArtifactName) -> bool {
        // Beside what it is asked for, every file of its output folder is kept.
        true
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::body::Faults;

    fn pointers(fields: &Value) -> Vec<String> {
        let mut body = json!({"prompt": "x", "sandbox": {"profile": "untrusted-code-read"}});
        for (name, value) in fields.as_object().unwrap() {
            body[name] = value.clone();
        }
        let faults = Faults::new();
        let mut object = Object::read(&body, "", &faults).unwrap();
        read(&mut object);
        object.close();
        faults.take().into_iter().map(|fault| fault.pointer).collect()
    }

    #[test]
    fn fan_out_parse_and_the_file_to_leave_are_closed_and_bounded() {
        let parse = json!({"fence": "findings", "output": "f.jsonl", "shape": "jsonl"});
        let with = |name: &str, value: Value| {
            let mut parse = parse.clone();
            parse[name] = value;
            json!({ "parse": parse })
        };
        let fanout = |max: u64| json!({"fanout": {"source": "map", "artifact": "map.json", "maxAreas": max}});
        let table = [
            (json!({"parse": parse, "writesArtifact": "map.json"}), vec![]),
            (fanout(100), vec![]),
            (fanout(0), vec!["/fanout/maxAreas"]),
            (fanout(101), vec!["/fanout/maxAreas"]),
            (json!({"fanout": {}}), vec!["/fanout/source", "/fanout/artifact"]),
            (
                json!({"fanout": {"source": "a", "artifact": "../x", "max": 1}}),
                vec!["/fanout/artifact", "/fanout/max"],
            ),
            (
                json!({"parse": {}}),
                vec!["/parse/fence", "/parse/output", "/parse/shape"],
            ),
            (with("shape", json!("xml")), vec!["/parse/shape"]),
            (with("fence", json!("a b")), vec!["/parse/fence"]),
            (with("output", json!(".x")), vec!["/parse/output"]),
            (with("max", json!(1)), vec!["/parse/max"]),
            (json!({"writesArtifact": "a/b"}), vec!["/writesArtifact"]),
            (json!({"writesArtifact": 1}), vec!["/writesArtifact"]),
        ];
        for (fields, expected) in table {
            assert_eq!(pointers(&fields), expected, "{fields}");
        }
    }
}
