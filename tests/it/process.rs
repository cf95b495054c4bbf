//! `pond up` and the client verbs, as their users run them.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use pond_core::sandbox::Profile;
use pond_server::demo::{SAMPLE_PROMPT, Sample, ScriptedModel, fixing_script};
use pond_tests::process::{Up, anyone_runs, eventually, pond};
use pond_worker::net::testing::{GitBehaviour, GitServer};
use serde_json::json;

const QUICK: (&str, &str) = ("POND_CANCEL_GRACE_SEC", "2");

fn shell_run(up: &Up, script: &str) -> String {
    let block = json!({"profile": Profile::UntrustedCodeWrite.as_str()});
    let executor = json!({"kind": "swarm", "harness": "shell", "prompt": script, "sandbox": block});
    let body = json!({"definition": {"stages": [{"key": "x", "name": "x", "executor": executor}]}});
    let mut child = pond(std::path::Path::new("/"));
    child
        .env("POND_URL", &up.url)
        .env("POND_TOKEN", token(up))
        .args(["run", "submit", "-", "--json"]);
    let mut child = child
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(body.to_string().as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let run: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    run["id"].as_str().unwrap().to_owned()
}

fn token(up: &Up) -> String {
    std::fs::read_to_string(up.state("service-token"))
        .unwrap()
        .trim()
        .to_owned()
}

fn status(up: &Up, id: &str) -> String {
    up.json(&["run", "get", id])["run"]["status"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn c17_89_an_entry_without_a_use_warns_at_start_once_there_are_two_projects() {
    const SAID: &str = "has an entry that names no use";
    let folder = tempfile::tempdir().unwrap();
    let bare = [QUICK, ("POND_OUTBOUND_ALLOW_PRIVATE", "127.0.0.1:1")];
    let up = Up::start(folder.path(), &bare);
    up.json(&["project", "create", "second"]);
    assert!(!up.said().contains(SAID), "one project at start: {}", up.said());
    drop(up);
    let up = Up::start(
        folder.path(),
        &[QUICK, ("POND_OUTBOUND_ALLOW_PRIVATE", "git=127.0.0.1:1")],
    );
    assert!(!up.said().contains(SAID), "it names its use: {}", up.said());
    drop(up);
    let up = Up::start(folder.path(), &bare);
    assert!(up.said().contains(SAID), "{}", up.said());
}

#[test]
fn c17_84_pond_up_needs_nothing_else_and_runs_an_agent_in_a_sandbox() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(folder.path(), &[]);
    println!("ready in {:?}", up.ready_in);
    up.json(&["harness", "from-preset", "shell"]);
    let submitted = up.client(&[
        "run",
        "submit",
        "--harness",
        "shell",
        "--prompt",
        "id -u; echo $HOME",
        "--wait",
    ]);
    let said = String::from_utf8_lossy(&submitted.stdout).into_owned();
    assert!(
        submitted.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&submitted.stderr)
    );
    assert!(said.contains("1000") && said.contains("/home/pond"), "{said}");
    assert!(up.stop().success());
}

#[test]
fn c17_97_a_generated_token_is_in_no_log_and_its_path_is() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(folder.path(), &[("POND_LOG", "trace"), ("RUST_LOG", "trace")]);
    up.json(&["whoami"]);
    let (said, token) = (up.said(), token(&up));
    assert!(token.len() >= 40 && !said.contains(&token));
    assert!(said.contains("service-token"), "{said}");
    assert_eq!(
        std::fs::metadata(up.state("service-token"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
}

#[test]
fn c17_81_a_second_server_on_the_same_state_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _up = Up::start(folder.path(), &[]);
    let second = pond(folder.path())
        .arg("up")
        .env("POND_BIND", "127.0.0.1:0")
        .output()
        .unwrap();
    assert_eq!(
        second.status.code(),
        Some(2),
        "{}",
        String::from_utf8_lossy(&second.stderr)
    );
}

#[test]
fn c17_82_killed_in_the_middle_of_a_run_it_goes_on_after_a_restart_and_ends_once() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(folder.path(), &[QUICK]);
    up.json(&["harness", "from-preset", "shell"]);
    let mark = format!("98{}", std::process::id());
    // The first attempt leaves a process in a session of its own and hangs; the second finds the first gone and ends.
    let id = shell_run(&up, &format!("setsid sleep {mark} & sleep {mark}"));
    assert!(
        eventually(Duration::from_secs(20), || anyone_runs(&format!("sleep\0{mark}"))),
        "{}",
        up.said()
    );
    up.kill();
    let up = Up::start(folder.path(), &[QUICK]);
    let gone = || !anyone_runs(&format!("sleep\0{mark}"));
    // It is run again by the restarted worker, so what is counted is the attempt.
    assert!(
        eventually(Duration::from_secs(20), || {
            up.json(&["run", "get", &id])["stages"][0]["attempt"] == 2
        }),
        "the second attempt starts long before the lease would have ended: {}",
        up.json(&["run", "get", &id])
    );
    up.client(&["run", "cancel", &id]);
    assert!(eventually(Duration::from_secs(20), || status(&up, &id) == "cancelled"));
    assert!(
        eventually(Duration::from_secs(5), gone),
        "nothing of either attempt is left"
    );
    let log = String::from_utf8(up.client(&["run", "logs", &id]).stdout).unwrap();
    assert!(log.contains("attempt 1 was lost"), "{log}");
    assert!(up.stop().success());
}

#[test]
fn c17_15_cancel_kills_grandchildren_in_sessions_of_their_own_that_ignore_term() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(folder.path(), &[QUICK]);
    up.json(&["harness", "from-preset", "shell"]);
    let mark = format!("97{}", std::process::id());
    let script = format!(
        "trap '' TERM; (setsid sh -c \"trap '' TERM; sleep {mark}; sleep {mark}\" &); sleep {mark}; sleep {mark}"
    );
    let id = shell_run(&up, &script);
    assert!(
        eventually(Duration::from_secs(20), || anyone_runs(&format!("sleep\0{mark}"))),
        "{}",
        up.said()
    );
    up.client(&["run", "cancel", &id]);
    assert!(eventually(Duration::from_secs(12), || status(&up, &id) == "cancelled"));
    assert!(
        !anyone_runs(&format!("sleep\0{mark}")),
        "no process of it is left when the run is cancelled"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_fixes_code_of_a_folder_and_of_a_git_source_over_http() {
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::write(&folder.path().join("sources/app")).unwrap();
    let model = ScriptedModel::start(fixing_script()).await.unwrap();
    let server = GitServer::start(&folder.path().join("sources"), GitBehaviour::default()).await;
    let (git, llm) = (format!("git={}", server.address()), model.addr.to_string());
    let root = folder.path().join("sources");
    let up = Up::start(
        folder.path(),
        &[
            ("POND_LOCAL_SOURCE_ROOT", root.to_str().unwrap()),
            ("POND_OUTBOUND_ALLOW_PRIVATE", &git),
            ("POND_MODEL_ALLOW_PRIVATE", &llm),
        ],
    );
    let key = folder.path().join("key");
    std::fs::write(&key, model.key()).unwrap();
    let (base, key) = (
        format!("ANTHROPIC_BASE_URL={}", model.base_url()),
        format!("ANTHROPIC_API_KEY={}", key.display()),
    );
    let credential = [
        "credential",
        "set",
        "llm",
        "--provider",
        "anthropic",
        "--env",
        &base,
        "--secret-file",
        &key,
    ];
    up.json(&credential);
    up.json(&["harness", "from-preset", "mini"]);
    let create =
        "model create m --provider anthropic --model-id scripted --credential llm --input-cost 3 --output-cost 15";
    let create: Vec<&str> = create.split(' ').collect();
    up.json(&create);
    let url = server.url("app");
    for (source, extra) in [
        (sample.path.to_str().unwrap(), vec![]),
        (url.as_str(), vec!["--ref", "main"]),
    ] {
        let submit = [
            "run",
            "submit",
            "--source",
            source,
            "--harness",
            "mini",
            "--prompt",
            SAMPLE_PROMPT,
            "--wait",
        ];
        let output = up.client(&[&submit[..], &extra].concat());
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{source}: {said}{}{}",
            String::from_utf8_lossy(&output.stderr),
            up.said()
        );
        let id = up.json(&["run", "list"])["runs"][0]["id"].as_str().unwrap().to_owned();
        let out = folder.path().join(format!("out-{id}"));
        up.client(&["run", "artifacts", &id, "--out", out.to_str().unwrap()]);
        let patch = std::fs::read_dir(&out)
            .unwrap()
            .flatten()
            .next()
            .unwrap()
            .path()
            .join("changes.patch");
        let clone = folder.path().join(format!("clone-{id}"));
        let git = |arguments: &[&str]| {
            let done = std::process::Command::new("git").args(arguments).output().unwrap();
            assert!(
                done.status.success(),
                "{arguments:?}: {}",
                String::from_utf8_lossy(&done.stderr)
            );
        };
        git(&["clone", "-q", sample.path.to_str().unwrap(), clone.to_str().unwrap()]);
        git(&["-C", clone.to_str().unwrap(), "apply", patch.to_str().unwrap()]);
        let test = std::process::Command::new("sh")
            .arg("test.sh")
            .current_dir(&clone)
            .status()
            .unwrap();
        assert!(test.success(), "the patch mends the test");
    }
    // The bill from the provider's own counters: both runs were the same, and tokens of the cache cost what input does.
    let bill = model.bill();
    let pico = ((bill.input + bill.cache_read + bill.cache_write) * 3 + bill.output * 15) / 2 * 1_000_000;
    let newest = up.json(&["run", "list"])["runs"][0]["id"].as_str().unwrap().to_owned();
    let totals = &up.json(&["run", "usage", &newest])["totals"];
    assert_eq!(totals["calls"].as_u64(), Some(bill.calls / 2));
    let cost = format!("0.{pico:012}");
    assert_eq!(totals["cost_usd"].as_str(), Some(cost.trim_end_matches('0')));
    let log = String::from_utf8(up.client(&["run", "logs", &newest]).stdout).unwrap();
    assert!(!log.contains(model.key()) && !up.said().contains(model.key()));
}

#[test]
fn c17_83_secrets_on_the_command_line_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(folder.path(), &[]);
    let refused = up.client(&[
        "credential",
        "set",
        "c",
        "--provider",
        "anthropic",
        "--secret",
        "ANTHROPIC_API_KEY=sk-clear",
    ]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(!String::from_utf8_lossy(&refused.stderr).contains("sk-clear"));
    assert_eq!(
        up.client(&["run", "get", "0197a000-0000-7000-8000-000000000001"])
            .status
            .code(),
        Some(4)
    );
    let wrong = pond(folder.path())
        .args(["whoami"])
        .env("POND_URL", &up.url)
        .env("POND_TOKEN", "wrong")
        .output()
        .unwrap();
    assert_eq!(wrong.status.code(), Some(3));
    let nobody = pond(folder.path())
        .args(["whoami", "--url", "http://127.0.0.1:9"])
        .env("POND_TOKEN", "x")
        .output()
        .unwrap();
    assert_eq!(nobody.status.code(), Some(6));
}
