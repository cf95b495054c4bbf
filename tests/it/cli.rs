//! The command line, whole: every verb is there, what it reads out in JSON is JSON, and its exit codes mean what they say.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::time::Duration;

use futures::TryStreamExt;
use pond_tests::orchestrator::{Keys, PlayedOrchestrator};
use pond_tests::process::{Up, anyone_runs, eventually, free_port, pond};
use pond_tests::server::TOKEN;
use pond_tests::world::{body, noop, shell, stage};
use pond_tests::{Backend, Server, World};
use serde_json::{Value, json};

/// How a verb is tried against a server that has something of everything.
enum Try {
    /// By its help alone: it serves, asks a person, or changes what the others read.
    Help,
    /// With `--json` and these words after it: it reads, and what it prints is JSON that has this field. `RUN` stands for a run.
    Reads(&'static [&'static str], &'static str),
}

use Try::{Help, Reads};

/// Every verb. One that is added to the program needs a line here.
#[rustfmt::skip]
const VERBS: &[(&str, Try)] = &[
    ("up", Help), ("server", Help), ("demo", Help),
    ("doctor", Reads(&[], "findings")),
    // `worker` alone runs jobs, as every story of pools does.
    ("orchestrator pair", Help), ("orchestrator serve", Help), ("worker attest", Help),
    ("swarm pair", Help), ("swarm serve", Help), ("swarm worker attest", Help),
    ("run submit", Help),
    ("run preflight", Reads(&["run.json"], "ok")),
    ("run list", Reads(&[], "runs")),
    ("run get", Reads(&["RUN"], "stages")),
    ("run logs", Reads(&["RUN"], "logs")),
    ("run usage", Reads(&["RUN"], "totals")),
    ("run artifacts", Reads(&["RUN"], "artifacts")),
    ("run egress", Reads(&["RUN"], "decisions")),
    ("run reach", Reads(&["RUN"], "hosts")),
    ("run cancel", Help), ("run retry", Help),
    ("credential set", Help), ("credential list", Reads(&[], "credentials")), ("credential delete", Help),
    ("egress set", Help), ("egress list", Reads(&[], "rules")), ("egress delete", Help),
    ("harness presets", Reads(&[], "presets")), ("harness from-preset", Help), ("harness create", Help),
    ("harness list", Reads(&[], "harnesses")), ("harness delete", Help),
    ("model create", Help), ("model list", Reads(&[], "models")), ("model delete", Help),
    ("variable set", Help), ("variable list", Reads(&[], "variables")), ("variable delete", Help),
    ("project create", Help), ("project list", Reads(&[], "projects")), ("project delete", Help),
    ("pool pairing-code", Help), ("pool enroll-code", Help), ("pool drain", Help), ("pool revoke", Help),
    ("pool orchestrators", Reads(&[], "orchestrators")),
    ("pool workers", Reads(&[], "workers")),
    ("keys create", Help), ("keys list", Reads(&[], "keys")), ("keys revoke", Help),
    ("audit list", Reads(&[], "entries")), ("audit verify", Reads(&[], "head")),
    ("whoami", Reads(&[], "principal")),
    ("completions", Reads(&["bash"], "script")),
    ("version", Reads(&[], "version")),
];

/// The verbs that a help text names.
fn named(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    lines
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|verb| *verb != "help")
        .map(ToOwned::to_owned)
        .collect()
}

/// All verbs below these words, by what the program itself says; each of their helps is there.
fn tree(words: &[String], found: &mut BTreeSet<String>) {
    let shown = pond(Path::new("/"))
        .args(words)
        .arg("--help")
        .output()
        .expect("pond runs");
    let help = String::from_utf8(shown.stdout).expect("text");
    assert!(
        shown.status.success() && help.contains("Usage: pond"),
        "{words:?} {help}"
    );
    let below = named(&help);
    if below.is_empty() {
        found.insert(words.join(" "));
    }
    for verb in below {
        tree(&[words, &[verb]].concat(), found);
    }
}

#[test]
fn c17_83_every_verb_is_there_and_no_other() {
    let mut found = BTreeSet::new();
    tree(&[], &mut found);
    let told: BTreeSet<String> = VERBS.iter().map(|(verb, _)| (*verb).to_owned()).collect();
    assert_eq!(found, told);
}

/// The id in what a verb printed.
fn id(printed: &Value) -> String {
    printed["id"].as_str().expect("an id").to_owned()
}

fn submitted(folder: &Path, up: &Up, stages: &[Value]) -> Value {
    std::fs::write(folder.join("run.json"), body(stages).to_string()).expect("a file can be written");
    up.json(&["run", "submit", "run.json"])
}

#[test]
fn c17_83_what_is_read_in_json_is_json() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("secret"), "sk-canary-cli-83").expect("a file can be written");
    let up = Up::start(folder.path(), &[]);
    for words in [
        "credential set c --provider anthropic --secret-file ANTHROPIC_API_KEY=secret",
        "model create m --provider anthropic --model-id x --credential c",
        "harness from-preset shell",
        "variable set NAME value",
        "egress set .example.com",
        "keys create ci --scope runs:read",
    ] {
        up.json(&words.split(' ').collect::<Vec<_>>());
    }
    let run = id(&submitted(folder.path(), &up, &[stage("a", &noop(1, 0.0))]));
    let ended = |run: &str| up.json(&["run", "get", run])["run"]["status"] == "done";
    assert!(eventually(Duration::from_secs(30), || ended(&run)));
    let mut lists = 0;
    for (verb, how) in VERBS {
        let Reads(more, field) = how else { continue };
        let more = more.iter().map(|word| if *word == "RUN" { run.as_str() } else { word });
        let words: Vec<&str> = verb.split(' ').chain(more).collect();
        let printed = up.json(&words);
        let found = printed
            .get(field)
            .unwrap_or_else(|| panic!("{verb} has no {field}: {printed}"));
        lists += usize::from(found.as_array().is_some_and(|list| !list.is_empty()));
        assert!(!printed.to_string().contains("sk-canary-cli-83"), "{verb}");
    }
    assert!(lists >= 14, "{lists} lists have entries");
    // An error is one line of JSON too, on the other stream.
    let refused = up.client(&["run", "get", "018f0000-0000-7000-8000-00000000beef", "--json"]);
    let told: Value = serde_json::from_slice(&refused.stderr).expect("a line of JSON");
    assert_eq!((&told["error"]["code"], refused.stdout.len()), (&json!("not_found"), 0));
}

fn code(output: &Output) -> (Option<i32>, String) {
    let said = [&output.stdout[..], &output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn c17_83_each_exit_code_has_its_meaning() {
    let folder = tempfile::tempdir().expect("a folder");
    let up = Up::start(folder.path(), &[("POND_CANCEL_GRACE_SEC", "1")]);
    up.json(&["harness", "from-preset", "shell"]);
    let file = |name: &str, body: &Value| {
        std::fs::write(folder.path().join(name), body.to_string()).expect("a file can be written");
    };
    file("well.json", &body(&[stage("a", &noop(1, 0.0))]));
    file("fails.json", &body(&[stage("a", &shell("exit 3"))]));
    let mut unconfined = shell("true");
    unconfined["sandbox"] = json!({"profile": "none"});
    file("refused.json", &body(&[stage("a", &unconfined)]));
    file("long.json", &body(&[stage("a", &noop(1000, 0.1))]));
    let nobody = format!("http://127.0.0.1:{}", free_port());
    for (exit, words) in [
        (0, "run submit well.json --wait"),
        (1, "run submit fails.json --wait"),
        (1, "run preflight refused.json"),
        (2, "run submit nowhere.json"),
        (2, "pool drain not-an-id"),
        (2, "no-such-verb"),
        (3, "whoami --token not-the-token"),
        (4, "run get 018f0000-0000-7000-8000-00000000beef"),
        (4, "pool drain 018f0000-0000-7000-8000-00000000beef"),
        (4, "pool revoke --orchestrator 018f0000-0000-7000-8000-00000000beef"),
        (4, "keys revoke 018f0000-0000-7000-8000-00000000beef"),
        (5, "run submit refused.json"),
        (5, "variable set PATH x"),
        (6, &format!("whoami --url {nobody}")),
    ] {
        let (found, said) = code(&up.client(&words.split(' ').collect::<Vec<_>>()));
        assert_eq!(found, Some(exit), "{words}: {said}");
    }
    // A refusal names the way out.
    let (_, said) = code(&up.client(&["run", "submit", "refused.json"]));
    assert!(said.contains("unconfined_sandbox") && said.contains("fix: "), "{said}");

    let mut waits = waiting(&up, folder.path(), &["run", "submit", "long.json", "--wait"]);
    let runs = || up.json(&["run", "list"])["runs"].clone();
    let live = || {
        runs()
            .as_array()
            .and_then(|runs| runs.iter().find(|run| run["status"] == "running").map(id))
    };
    assert!(eventually(Duration::from_secs(30), || live().is_some()));
    let live = live().expect("it was just there");
    assert_eq!(code(&up.client(&["run", "cancel", &live])).0, Some(0));
    assert_eq!(waits.wait().expect("it ends").code(), Some(7));
}

/// A client verb that runs on.
fn waiting(up: &Up, folder: &Path, words: &[&str]) -> Child {
    let mut command = pond(folder);
    command
        .env("POND_URL", &up.url)
        .env("POND_TOKEN_FILE", up.state("service-token"))
        .args(words);
    let command = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().expect("pond starts")
}

#[test]
fn c17_83_a_secret_is_in_no_process_list() {
    const SECRET: &str = "sk-canary-process-list-83";
    let folder = tempfile::tempdir().expect("a folder");
    let up = Up::start(folder.path(), &[]);
    let token = std::fs::read_to_string(up.state("service-token")).expect("a token");
    let words = "credential set c --provider anthropic --secret ANTHROPIC_API_KEY --secret SECOND_OF_TWO_83";
    let mut sets = waiting(&up, folder.path(), &words.split(' ').collect::<Vec<_>>());
    let mut stdin = sets.stdin.take().expect("piped");
    writeln!(stdin, "{SECRET}").expect("it reads");
    // It has the first one and waits for the second.
    assert!(eventually(Duration::from_secs(10), || anyone_runs("SECOND_OF_TWO_83")));
    std::thread::sleep(Duration::from_millis(200));
    let environment = std::fs::read(format!("/proc/{}/environ", sets.id())).expect("it still waits");
    let environment = String::from_utf8_lossy(&environment).into_owned();
    for clear in [SECRET, token.trim()] {
        assert!(!anyone_runs(clear) && !environment.contains(clear), "{clear}");
    }
    writeln!(stdin, "{SECRET}-2").expect("it reads");
    drop(stdin);
    assert!(sets.wait().expect("it ends").success());
    let listed = up.json(&["credential", "list"]);
    assert_eq!(
        listed["credentials"][0]["secret_keys"],
        json!(["ANTHROPIC_API_KEY", "SECOND_OF_TWO_83"])
    );
    assert!(!listed.to_string().contains(SECRET));
}

/// What a client verb prints in JSON.
fn printed(server: &Server, words: &[&str]) -> Value {
    let mut command = pond(Path::new("/"));
    command.env("POND_URL", &server.url).env("POND_TOKEN", TOKEN);
    let output = command.args(words).arg("--json").output().expect("pond runs");
    let (exit, said) = code(&output);
    assert_eq!(exit, Some(0), "{words:?}: {said}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{words:?} printed no JSON: {said}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c17_59_an_operator_drains_and_revokes_from_the_command_line() {
    let world = World::on(Backend::Memory).await.with_shell().await;
    let server = world.serve().await;
    let orchestrator = PlayedOrchestrator::pair(&server).await;
    let listed = printed(&server, &["pool", "orchestrators"]);
    assert_eq!(listed["orchestrators"][0]["orch_id"], json!(orchestrator.id));
    // A code of the command line lets in what it says, and no other keys.
    let keys = Keys::new(1);
    let (print, flags) = (keys.fingerprint(), "harness.shell,sandbox.bubblewrap");
    let words = [
        "pool",
        "enroll-code",
        "--tags",
        "pool:trusted",
        "--capabilities",
        flags,
        "--expected-fingerprint",
        &print,
    ];
    let minted = printed(&server, &words);
    let minted = minted["code"].as_str().expect("a code");
    let consume = "/v1/orch/enrollment/consume";
    assert_eq!(orchestrator.post(consume, &Keys::new(2).enrolment(minted)).await.0, 409);
    let (status, enrolled) = orchestrator.post(consume, &keys.enrolment(minted)).await;
    assert_eq!((status, &enrolled["tags"]), (200, &json!(["pool:trusted"])));
    let worker = orchestrator.enroll(&server, 3).await;
    assert_eq!(
        printed(&server, &["pool", "workers"])["workers"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );

    let run = body(&[stage("fix", &shell("true"))]);
    world.submit(&run).await;
    let job = orchestrator.job(&worker).await;
    assert_eq!(printed(&server, &["pool", "drain", &worker.id])["status"], "draining");
    world.submit(&run).await;
    assert_eq!(
        orchestrator.poll(&worker, 1, 200).await["jobs"],
        json!([]),
        "no new job"
    );
    let state = "/v1/orch/jobs/{id}/state";
    assert_eq!(
        orchestrator.of_job(&job, state, &json!({"state": "done"})).await.0,
        200,
        "the old one may end"
    );
    assert_eq!(
        printed(&server, &["pool", "drain", &worker.id, "--off"])["status"],
        "online"
    );
    let job = orchestrator.job(&worker).await;
    assert_eq!(
        printed(&server, &["pool", "revoke", &worker.id])["deleted"],
        json!(worker.id)
    );
    let late = orchestrator.of_job(&job, state, &json!({"state": "done"})).await;
    assert_eq!((late.0, &late.1["code"]), (409, &json!("stale_claim")));
    printed(&server, &["pool", "revoke", "--orchestrator", &orchestrator.id]);
    assert_eq!(orchestrator.post("/v1/orch/poll", &json!({})).await.0, 403);
    assert_eq!(printed(&server, &["pool", "workers"])["workers"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_of_the_pool_go_on_in_their_link() {
    let world = World::on(Backend::Memory).await;
    let server = world.serve().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(PlayedOrchestrator::pair(&server).await.id);
    }
    ids.sort();
    let (mut at, mut seen, mut pages) = ("/v1/admin/pool/orchestrators?limit=2".to_owned(), Vec::new(), 0);
    loop {
        let answer = server
            .request(reqwest::Method::GET, &at)
            .send()
            .await
            .expect("the server answers");
        let link = answer
            .headers()
            .get("link")
            .map(|link| link.to_str().expect("text").to_owned());
        let page: Vec<Value> = answer.json().await.expect("a bare array");
        seen.extend(
            page.iter()
                .map(|one| one["orch_id"].as_str().expect("an id").to_owned()),
        );
        pages += 1;
        let Some(link) = link else { break };
        let next = link
            .strip_prefix('<')
            .and_then(|rest| rest.strip_suffix(">; rel=\"next\""));
        at = next.expect("one link to the next page").to_owned();
    }
    assert_eq!((seen, pages), (ids.clone(), 3));
    let all: Vec<_> = server
        .sdk()
        .pool()
        .orchestrators()
        .try_collect()
        .await
        .expect("all pages");
    assert_eq!(all.into_iter().map(|one| one.orch_id).collect::<Vec<_>>(), ids);
}
