//! A reader of the guides, who types what they say into a shell.

use std::path::Path;

use pond_server::demo::{Sample, ScriptedModel, fixing_script};
use pond_tests::fleet::Fleet;
use pond_tests::process::bare;
use pond_tests::server::TOKEN;
use pond_worker::net::testing::{GitBehaviour, GitServer};
use serde_json::Value;

/// A project that the server has not seen.
pub(super) const PROJECT: &str = "0197a000-0000-7000-8000-00000000abcd";
pub(super) const JSON: &str = "-H 'content-type: application/json'";

/// A reader of the guides: a shell, a fresh server, and what stands for the places that the guides name.
pub(super) struct Reader {
    pub(super) fleet: Fleet,
    /// Stands for the provider of the model.
    pub(super) model: ScriptedModel,
    /// Stands for the host of the code.
    pub(super) git: GitServer,
    pub(super) sample: Sample,
    _sources: tempfile::TempDir,
}

impl Reader {
    pub(super) async fn new() -> Self {
        let sources = tempfile::tempdir().unwrap();
        let sample = Sample::write(&sources.path().join("app")).unwrap();
        let git = GitServer::start(sources.path(), GitBehaviour::default()).await;
        let allow = format!("git={}", git.address());
        Self {
            fleet: Fleet::start(&[("POND_OUTBOUND_ALLOW_PRIVATE", &allow)]).await,
            model: ScriptedModel::start(fixing_script()).await.unwrap(),
            git,
            sample,
            _sources: sources,
        }
    }

    /// Types into a shell in which the variables of the guides are set; what it prints.
    pub(super) async fn types(&self, script: &str) -> String {
        let head = format!(
            "POND={}\nPOND_SERVICE_TOKEN={TOKEN}\nTOKEN=$POND_SERVICE_TOKEN\nH=\"Authorization: Bearer $POND_SERVICE_TOKEN\"\n",
            self.fleet.url
        );
        let mut command = bare(Path::new("/bin/bash"), self.fleet.folder.path());
        command.args(["-c", &format!("{head}{script}")]);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{script}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Types one `curl`; its status and body, null where that is no JSON.
    pub(super) async fn curls(&self, script: &str) -> (u16, Value) {
        let with_status = "curl() { command curl -w '\\n%{http_code}' \"$@\"; }\n";
        let printed = self.types(&format!("{with_status}{script}")).await;
        let (body, status) = printed.rsplit_once('\n').unwrap();
        (
            status.parse().unwrap(),
            serde_json::from_str(body).unwrap_or(Value::Null),
        )
    }

    /// Types one `curl` that must be answered with `status`; the body.
    pub(super) async fn gets(&self, status: u16, script: &str) -> Value {
        let (answered, body) = self.curls(script).await;
        assert_eq!(answered, status, "{script}: {body:#}");
        body
    }

    /// The service token on a path.
    pub(super) async fn reads(&self, path: &str) -> Value {
        self.gets(200, &format!("curl -s \"$POND{path}\" -H \"$H\"")).await
    }
}

/// That `found` has each field of `expected`, with its value.
#[track_caller]
pub(super) fn has(found: &Value, expected: &Value) {
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&found[name], value, "{name} of {found:#}");
    }
}

/// That an object has fields of these names, none of them null.
#[track_caller]
pub(super) fn tells(found: &Value, names: &[&str]) {
    for name in names {
        assert!(
            found.get(name).is_some_and(|value| !value.is_null()),
            "{name} of {found:#}"
        );
    }
}
