//! `shell`: a program on the engine's own host, where the operator allows it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{EngineWork, Executor, Replay, StageContext, Work};
use crate::artifacts::ArtifactName;
use crate::body::Object;
use crate::config::{env_name_fault, env_value_fault};
use crate::runs::{Failure, FailureCode, ShellRun, StageOutcome};

const MAX_ARGUMENTS: usize = 256;
const MAX_ARGV_BYTES: usize = 128 << 10;
const MAX_VARIABLES: usize = 256;

#[derive(Debug)]
struct Shell {
    argv: Vec<String>,
    env: BTreeMap<String, String>,
    timeout: Option<Duration>,
}

pub(super) fn read(object: &mut Object<'_>) -> Option<Arc<dyn Executor>> {
    let argv = read_argv(object);
    let timeout = object.integer("timeout_sec", 1..=86_400).map(Duration::from_secs);
    let env = read_env(object);
    Some(Arc::new(Shell {
        argv: argv?,
        env,
        timeout,
    }))
}

fn read_argv(object: &mut Object<'_>) -> Option<Vec<String>> {
    object.required("argv");
    let argv = object.text_list("argv")?;
    let bytes: usize = argv.iter().map(|argument| argument.len() + 1).sum();
    if !(1..=MAX_ARGUMENTS).contains(&argv.len()) || bytes > MAX_ARGV_BYTES {
        object.fault(
            "argv",
            format!("expected 1 to {MAX_ARGUMENTS} arguments of at most {MAX_ARGV_BYTES} bytes together"),
        );
        return None;
    }
    if argv[0].is_empty() {
        object
            .faults()
            .add(format!("{}/0", object.pointer("argv")), "expected a program");
    }
    for (index, argument) in argv.iter().enumerate() {
        if argument.contains('\0') {
            let pointer = format!("{}/{index}", object.pointer("argv"));
            object.faults().add(pointer, "holds a NUL character");
        }
    }
    Some(argv.into_iter().map(ToOwned::to_owned).collect())
}

fn read_env(object: &mut Object<'_>) -> BTreeMap<String, String> {
    let entries = object.texts("env").unwrap_or_default();
    if entries.len() > MAX_VARIABLES {
        object.fault("env", format!("more than {MAX_VARIABLES} variables"));
    }
    for (name, value) in &entries {
        if let Some(fault) = env_name_fault(name).or_else(|| env_value_fault(value)) {
            let pointer = format!("{}/{}", object.pointer("env"), crate::body::escape(name));
            object.faults().add(pointer, fault);
        }
    }
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    entries.into_iter().map(owned).collect()
}

impl Executor for Shell {
    fn kind(&self) -> &'static str {
        "shell"
    }

    fn work(&self) -> Work<'_> {
        Work::Engine(self)
    }

    fn leaves(&self, _name: &ArtifactName) -> bool {
        true
    }
}

#[async_trait]
impl EngineWork for Shell {
    fn replay(&self) -> Replay {
        Replay::Once
    }

    fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    async fn run(&self, stage: &StageContext) -> StageOutcome {
        let refused = |what: &str| StageOutcome::Failed(Failure::new(FailureCode::SandboxInvalid, what));
        let Some(host) = &stage.host else {
            return refused(
                "no program runs on this host: POND_ALLOW_SHELL is off, or the engine was built without its tools",
            );
        };
        let bundle = match &stage.bundle {
            None => None,
            Some(bundle) => match bundle.open().await {
                Ok(bytes) => Some(bytes),
                Err(error) => {
                    let what = format!("the fetched sources could not be read: {error}");
                    return StageOutcome::Failed(Failure::new(FailureCode::SourceFailed, what));
                }
            },
        };
        let run = ShellRun {
            argv: self.argv.clone(),
            env: self.env.clone(),
            bundle,
            timeout: stage.timeout,
            grace: stage.grace,
            sink: stage.sink.clone(),
            clock: stage.clock.clone(),
            artifact_cap: stage.artifact_cap,
        };
        host.shell(run).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::body::Faults;

    fn pointers(body: &Value) -> Vec<String> {
        let faults = Faults::new();
        let mut object = Object::read(body, "", &faults).unwrap();
        read(&mut object);
        object.close();
        faults.take().into_iter().map(|fault| fault.pointer).collect()
    }

    #[test]
    fn a_program_its_arguments_and_its_variables_are_checked() {
        let table = [
            (
                json!({"argv": ["/bin/true", ""], "timeout_sec": 5, "env": {"A": "b"}}),
                vec![],
            ),
            (json!({}), vec!["/argv"]),
            (json!({"argv": []}), vec!["/argv"]),
            (json!({"argv": vec!["x"; 257]}), vec!["/argv"]),
            (json!({"argv": ["x".repeat(MAX_ARGV_BYTES)]}), vec!["/argv"]),
            (json!({"argv": ["", "a\0b"]}), vec!["/argv/0", "/argv/1"]),
            (json!({"argv": ["x"], "timeout_sec": 0}), vec!["/timeout_sec"]),
            (json!({"argv": ["x"], "env": {"1A": "x"}}), vec!["/env/1A"]),
            (
                json!({"argv": ["x"], "env": {"LD_PRELOAD": "x"}}),
                vec!["/env/LD_PRELOAD"],
            ),
            (json!({"argv": ["x"], "env": {"A": "a\0"}}), vec!["/env/A"]),
            (json!({"argv": ["x"], "cwd": "/"}), vec!["/cwd"]),
        ];
        for (body, expected) in table {
            assert_eq!(pointers(&body), expected, "{body}");
        }
    }
}
