//! The body of a new run: read from a file, made from flags, or both.

use std::io::Read;
use std::path::{Component, Path, PathBuf};

use serde_json::{Value, json};
use url::Url;

use super::super::console::Console;
use super::super::exit::Fault;
use crate::api::{CreateRun, Definition, Sandbox, Source, StageDefinition, Swarm};

/// The longest body that a server takes.
const MAX_BODY: u64 = 4 << 20;
/// The longest label of a source.
const MAX_LABEL: usize = 60;

/// What flags add to a body, or make one of.
#[derive(Debug, Default)]
pub(super) struct Flags {
    pub(super) sources: Vec<String>,
    pub(super) reference: Option<String>,
    pub(super) harness: Option<String>,
    pub(super) model: Option<String>,
    pub(super) prompt: Option<String>,
}

/// Reads a create body from a file, or from standard input for `-`.
pub(super) async fn read(file: &Path, console: &mut Console) -> Result<Value, Fault> {
    let (name, bytes) = if file == Path::new("-") {
        ("standard input".to_owned(), console.stdin(MAX_BODY).await?)
    } else {
        let path = console.io.cwd.join(file);
        let mut bytes = Vec::new();
        let read = std::fs::File::open(&path).and_then(|open| open.take(MAX_BODY + 1).read_to_end(&mut bytes));
        read.map_err(|error| Fault::Usage(format!("cannot read {}: {error}", file.display())))?;
        (file.display().to_string(), bytes)
    };
    if bytes.len() as u64 > MAX_BODY {
        return Err(Fault::Usage(format!("{name} is longer than {MAX_BODY} bytes")));
    }
    let body: Value =
        serde_json::from_slice(&bytes).map_err(|error| Fault::Usage(format!("{name} is not JSON: {error}")))?;
    if !body.is_object() {
        return Err(Fault::Usage(format!(
            "{name} is not a JSON object, such as {{\"definition\": …}}"
        )));
    }
    Ok(body)
}

/// Puts the project named on the command line into the body, in place of the file's.
pub(super) fn put_project(body: &mut Value, project: Option<String>) -> Result<(), Fault> {
    put(body, "projectId", project.map(Value::String))
}

fn put(body: &mut Value, field: &str, value: Option<Value>) -> Result<(), Fault> {
    let fields = body
        .as_object_mut()
        .ok_or_else(|| Fault::usage("a create body is a JSON object"))?;
    if let Some(value) = value {
        fields.insert(field.to_owned(), value);
    }
    Ok(())
}

impl Flags {
    /// One stage `fix` that may change the code.
    pub(super) fn make(&self, cwd: &Path) -> Result<Value, Fault> {
        let prompt = self.prompt.as_ref().ok_or_else(|| {
            Fault::usage("nothing to run: give a file (or - for standard input), or --prompt with --source")
        })?;
        let mut swarm = Swarm::new(prompt, Sandbox::write());
        swarm.harness.clone_from(&self.harness);
        swarm.model.clone_from(&self.model);
        let mut run = CreateRun::new(Definition::new([StageDefinition::new("fix", swarm).name("Fix")]));
        run.sources = self.sources(cwd)?;
        serde_json::to_value(run).map_err(|error| Fault::Usage(format!("cannot write the body: {error}")))
    }

    /// Puts what the flags say into a body: sources in place of the file's, harness and model into every agent stage, the
    /// prompt into the only one.
    pub(super) fn apply(&self, body: &mut Value, cwd: &Path) -> Result<(), Fault> {
        let sources = self.sources(cwd)?.map(|sources| json!(sources));
        put(body, "sources", sources)?;
        if self.harness.is_none() && self.model.is_none() && self.prompt.is_none() {
            return Ok(());
        }
        let mut agents = agents(body);
        match agents.len() {
            0 => {
                return Err(Fault::usage(
                    "--harness, --model and --prompt need a stage of kind swarm in the file",
                ));
            }
            1 => {}
            _ if self.prompt.is_some() => {
                return Err(Fault::usage(
                    "--prompt needs exactly one stage of kind swarm in the file",
                ));
            }
            _ => {}
        }
        for agent in &mut agents {
            for (field, value) in [
                ("harness", &self.harness),
                ("model", &self.model),
                ("prompt", &self.prompt),
            ] {
                put(agent, field, value.clone().map(Value::String))?;
            }
        }
        Ok(())
    }

    fn sources(&self, cwd: &Path) -> Result<Option<Vec<Source>>, Fault> {
        let mut sources: Vec<Source> = Vec::new();
        for text in &self.sources {
            let mut source = source(text, cwd)?;
            let wanted = source.label.clone();
            let mut number = 1;
            while sources.iter().any(|other| other.label == source.label) {
                number += 1;
                source.label = format!("{wanted}-{number}");
            }
            if let (Some(reference), "git_https") = (&self.reference, source.kind.as_str()) {
                source = source.reference(reference);
            }
            sources.push(source);
        }
        if self.reference.is_some() && !sources.iter().any(|source| source.kind == "git_https") {
            return Err(Fault::usage(
                "--ref needs a --source that is the URL of a git repository",
            ));
        }
        Ok((!sources.is_empty()).then_some(sources))
    }
}

/// The executors of kind `swarm` in a body.
fn agents(body: &mut Value) -> Vec<&mut Value> {
    let stages = body.pointer_mut("/definition/stages").and_then(Value::as_array_mut);
    let executors = stages
        .into_iter()
        .flatten()
        .filter_map(|stage| stage.get_mut("executor"));
    executors.filter(|executor| executor["kind"] == "swarm").collect()
}

/// A URL is a git repository, anything else a folder of the server's host.
fn source(text: &str, cwd: &Path) -> Result<Source, Fault> {
    if text.contains("://") {
        // The text is not repeated: it may hold a password.
        let url = Url::parse(text).map_err(|_| Fault::usage("--source is not a URL that can be read"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Fault::usage(
                "a --source must not hold a user or password: keep them with `pond credential set --provider git`, and \
                 name the credential in a file's source",
            ));
        }
        let name = url.path().trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        return Ok(Source::git(label(name.strip_suffix(".git").unwrap_or(name)), text));
    }
    let path = absolute(&cwd.join(text));
    let Some(shown) = path.to_str() else {
        return Err(Fault::usage("--source is a path that is not UTF-8"));
    };
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    Ok(Source::folder(label(name), shown))
}

/// The real path, where there is one here; else the path without its `.` and `..`.
fn absolute(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| {
        let mut clean = PathBuf::new();
        for part in path.components() {
            match part {
                Component::CurDir => {}
                Component::ParentDir => drop(clean.pop()),
                part => clean.push(part),
            }
        }
        clean
    })
}

/// A label as the API takes it, as close to the name as can be.
fn label(name: &str) -> String {
    let good = |c: char| {
        if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') {
            c
        } else {
            '-'
        }
    };
    let label: String = name
        .chars()
        .map(good)
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take(MAX_LABEL)
        .collect();
    if label.is_empty() { "source".to_owned() } else { label }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn flags() -> Flags {
        Flags {
            prompt: Some("go".into()),
            harness: Some("mini".into()),
            ..Flags::default()
        }
    }

    #[test]
    fn flags_alone_make_one_stage_that_may_write() {
        let flags = Flags {
            sources: vec!["https://git.example/acme/app.git".into()],
            ..flags()
        };
        assert_eq!(
            flags.make(Path::new("/w")).expect("a body"),
            json!({
                "definition": {"stages": [{"key": "fix", "name": "Fix", "executor": {
                    "kind": "swarm", "harness": "mini", "prompt": "go", "sandbox": {"profile": "untrusted-code-write"},
                }}]},
                "sources": [{"label": "app", "kind": "git_https", "config": {"url": "https://git.example/acme/app.git"}}],
            })
        );
        assert!(matches!(Flags::default().make(Path::new("/w")), Err(Fault::Usage(_))));
    }

    #[test]
    fn flags_change_the_agents_of_a_file() {
        let mut body = json!({"definition": {"stages": [
            {"key": "a", "executor": {"kind": "noop"}},
            {"key": "b", "executor": {"kind": "swarm", "prompt": "old"}},
        ]}});
        flags().apply(&mut body, Path::new("/w")).expect("one agent");
        assert_eq!(body["definition"]["stages"][1]["executor"]["prompt"], "go");
        assert_eq!(body["definition"]["stages"][0]["executor"], json!({"kind": "noop"}));
        let mut none = json!({"definition": {"stages": []}});
        assert!(matches!(
            flags().apply(&mut none, Path::new("/w")),
            Err(Fault::Usage(_))
        ));
    }

    #[test]
    fn sources_are_folders_or_repositories() {
        let cwd = Path::new("/nowhere/here");
        for (text, kind, label) in [
            ("https://git.example/acme/app.git/", "git_https", "app.git"),
            ("https://git.example/acme/app.git", "git_https", "app"),
            ("../there", "folder", "there"),
            ("./x y", "folder", "x-y"),
            ("/", "folder", "source"),
        ] {
            let source = source(text, cwd).expect(text);
            assert_eq!(
                (source.kind.as_str(), source.label.trim_end_matches(".git")),
                (kind, label.trim_end_matches(".git"))
            );
        }
        assert_eq!(
            source("../there", cwd).expect("a path").config["path"],
            "/nowhere/there"
        );
        let Err(Fault::Usage(text)) = source("https://u:p4ss@git.example/x", cwd) else {
            panic!("a password passed")
        };
        assert!(!text.contains("p4ss"));
    }

    #[test]
    fn labels_are_unique() {
        let flags = Flags {
            sources: vec!["/a/x".into(), "/b/x".into(), "/c/x".into()],
            ..flags()
        };
        let labels: Vec<String> = flags
            .sources(Path::new("/"))
            .expect("paths")
            .expect("some")
            .into_iter()
            .map(|s| s.label)
            .collect();
        assert_eq!(labels, ["x", "x-2", "x-3"]);
    }

    #[test]
    fn a_reference_needs_a_repository() {
        let flags = Flags {
            sources: vec!["/a".into()],
            reference: Some("main".into()),
            ..flags()
        };
        assert!(matches!(flags.sources(Path::new("/")), Err(Fault::Usage(_))));
    }

    proptest! {
        #[test]
        fn any_name_makes_a_label(name in any::<String>()) {
            let label = label(&name);
            prop_assert!(label.len() <= MAX_LABEL && label.starts_with(|c: char| c.is_ascii_alphanumeric()));
            prop_assert!(label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')));
        }
    }
}
