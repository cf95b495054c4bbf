//! A pool of processes of their own, and what befalls it: programs that are killed, several servers, no worker, TLS on the way.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pond_core::clock::{Clock, SystemClock, Timestamp};
use pond_server::demo::{Counts, Script, ScriptedModel, Turn};
use pond_tests::fleet::{Fleet, Program, text};
use pond_tests::process::{bare, eventually, program};
use pond_tests::world::{noop, shell, stage};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use reqwest::Method;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

/// Turns of the scripted conversation, and the one whose tool takes long.
const TURNS: usize = 8;
const LONG: usize = 4;
/// Lines that the other agent prints, ten a second.
const LINES: usize = 70;

/// A conversation that says its turn each time. Every turn costs something else.
fn conversation() -> Script {
    let turn = |n: usize| {
        let pause = if n == LONG { "sleep 4" } else { "sleep 0.2" };
        let counts = Counts {
            input: 100 + n as u64,
            output: 7 * n as u64,
            cache_read: 3,
            cache_write: 2,
        };
        let said = format!("turn {n}");
        match n {
            TURNS => Turn::text(&said),
            _ => Turn::tool(&said, "shell", json!({"command": pause})),
        }
        .billed(counts)
    };
    Script {
        turns: (1..=TURNS).map(turn).collect(),
    }
}

/// A run in its middle: one agent talks to a model, another prints, each on a worker of its own.
struct Midway {
    fleet: Fleet,
    orchestrator: Program,
    workers: Vec<Program>,
    model: ScriptedModel,
    run: String,
}

impl Midway {
    async fn reached() -> Self {
        let model = ScriptedModel::start(conversation()).await.unwrap();
        let mut fleet = Fleet::start(&[]).await;
        let url = fleet.url.clone();
        let orchestrator = fleet.orchestrator(&url, &[]).await;
        let mut workers = Vec::new();
        for name in ["w1", "w2"] {
            let worker = fleet
                .worker(name, &["harness.mini", "harness.shell", "sandbox.bubblewrap"])
                .await;
            let allowed = model.addr.to_string();
            workers.push(worker.with("POND_MODEL_ALLOW_PRIVATE", &allowed).up());
        }
        with_model(&fleet, &model).await;
        let talk = json!({"kind": "swarm", "harness": "mini", "model": "m", "prompt": "talk",
            "sandbox": {"profile": "untrusted-code-write"}});
        // Each life of the agent has a name of its own.
        let print = format!(
            "life=$(cat /proc/sys/kernel/random/uuid); for n in $(seq 1 {LINES}); do echo $life $n; sleep 0.1; done"
        );
        let stages = [
            stage("talk", &talk),
            stage("print", &shell(&print)),
            stage("end", &noop(1, 0.0)),
        ];
        let edges = json!([{"from": "talk", "to": "end"}, {"from": "print", "to": "end"}]);
        let run = fleet
            .made("/v1/runs", &json!({"definition": {"stages": stages, "edges": edges}}))
            .await;
        let midway = Self {
            run: text(&run["id"]).to_owned(),
            fleet,
            orchestrator,
            workers,
            model,
        };
        midway.until_in_the_middle().await;
        midway
    }

    /// Waits for the long turn, with the call that led to it accounted for, and for some lines of the other agent.
    async fn until_in_the_middle(&self) {
        let started = Instant::now();
        loop {
            let (_, usage) = self.fleet.get(&format!("/v1/runs/{}/usage", self.run)).await;
            let printed = self.fleet.lines(&self.run, "print").await.len();
            let said = self.fleet.lines(&self.run, "talk").await;
            if usage["totals"]["calls"] == LONG && printed > 5 && said.contains(&format!("turn {LONG}")) {
                assert_eq!(self.model.bill().calls, LONG as u64);
                return;
            }
            let late = started.elapsed() > Duration::from_secs(30);
            assert!(!late, "{usage} {printed} {:#}", self.fleet.run(&self.run).await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What must hold of the whole when it has ended, after this many attempts of both agents.
    async fn ends_well(&self, attempts: usize) {
        let ended = self.fleet.ended(&self.run).await;
        assert_eq!(
            ended["run"]["status"],
            "done",
            "{ended:#}\n{}",
            self.fleet.server.said()
        );
        for (stage, attempts) in [(0, attempts), (1, attempts), (2, 1)] {
            assert_eq!(ended["stages"][stage]["status"], "done");
            assert_eq!(ended["stages"][stage]["attempt"], attempts, "{ended:#}");
        }
        self.one_end_each().await;
        self.lines_are_whole(attempts).await;
        self.usage_is_the_bill().await;
    }

    async fn one_end_each(&self) {
        let events = self.fleet.events(&self.run).await;
        assert!(events.is_sorted_by(|one, next| one.0 < next.0), "numbers rise");
        let logged: Vec<Value> = events
            .iter()
            .filter(|event| event.1 == "log")
            .map(|event| event.2.clone())
            .collect();
        assert_eq!(
            logged,
            self.fleet.log(&self.run).await,
            "stream and pages tell the same"
        );
        let ends = |scope: &str, key: &Value| {
            let of_it = events
                .iter()
                .filter(|(_, kind, data)| kind == "status" && data["scope"] == scope && &data["key"] == key);
            let ends = of_it.filter(|event| ["done", "failed", "cancelled", "skipped"].contains(&text(&event.2["to"])));
            ends.count()
        };
        assert_eq!(ends("run", &Value::Null), 1);
        for stage in ["talk", "print", "end"] {
            assert_eq!(ends("stage", &json!(stage)), 1, "{stage}");
        }
    }

    /// The last life's lines are all there, once and in order; an earlier one's up to where it was cut off.
    async fn lines_are_whole(&self, attempts: usize) {
        let printed = self.fleet.lines(&self.run, "print").await;
        let mut lives: Vec<(String, Vec<usize>)> = Vec::new();
        for line in &printed {
            let Some((life, Ok(n))) = line.split_once(' ').map(|(life, n)| (life, n.parse())) else {
                continue;
            };
            match lives.last_mut() {
                Some((last, numbers)) if last == life => numbers.push(n),
                _ => lives.push((life.to_owned(), vec![n])),
            }
        }
        assert_eq!(lives.len(), attempts, "{printed:#?}");
        let (_, whole) = lives.pop().unwrap();
        assert_eq!(whole, (1..=LINES).collect::<Vec<_>>());
        for (_, cut) in lives {
            assert!(cut.len() > 5 && cut.iter().copied().eq(1..=cut.len()), "{cut:?}");
        }
        let said = self.fleet.lines(&self.run, "talk").await;
        let turns = said.iter().filter_map(|line| line.strip_prefix("turn ")?.parse().ok());
        let expected = (1..attempts).flat_map(|_| 1..=LONG).chain(1..=TURNS);
        assert_eq!(turns.collect::<Vec<usize>>(), expected.collect::<Vec<_>>(), "{said:#?}");
    }

    /// The provider's own counters, and the parts, equal the totals.
    async fn usage_is_the_bill(&self) {
        let (_, usage) = self.fleet.get(&format!("/v1/runs/{}/usage", self.run)).await;
        let (totals, bill) = (&usage["totals"], self.model.bill());
        let counted = [
            "calls",
            "input_tokens",
            "output_tokens",
            "cache_read_tokens",
            "cache_write_tokens",
        ];
        let billed = [bill.calls, bill.input, bill.output, bill.cache_read, bill.cache_write];
        assert_eq!(counted.map(|name| totals[name].as_u64().unwrap()), billed, "{usage:#}");
        let pico = (bill.input + bill.cache_read + bill.cache_write) * 3_000_000 + bill.output * 15_000_000;
        assert_eq!(totals["cost_usd"], format!("0.{pico:012}").trim_end_matches('0'));
        for (list, name, key) in [("stages", "stage", "talk"), ("models", "model", "scripted")] {
            let with_calls: Vec<&Value> = usage[list]
                .as_array()
                .unwrap()
                .iter()
                .filter(|part| part["calls"] != 0)
                .collect();
            let [part] = with_calls[..] else { panic!("{usage:#}") };
            assert_eq!(part[name], key);
            assert!(
                totals
                    .as_object()
                    .unwrap()
                    .iter()
                    .all(|(name, value)| &part[name] == value),
                "{usage:#}"
            );
        }
    }
}

async fn with_model(fleet: &Fleet, model: &ScriptedModel) {
    let credential = json!({"name": "llm", "provider": "anthropic", "env": {"ANTHROPIC_BASE_URL": model.base_url()},
        "secrets": {"ANTHROPIC_API_KEY": model.key()}});
    fleet.made("/v1/admin/credentials", &credential).await;
    let model = json!({"key": "m", "provider": "anthropic", "model_id": "scripted", "credential_name": "llm",
        "input_cost_per_mtok": 3.0, "output_cost_per_mtok": 15.0});
    fleet.made("/v1/admin/models", &model).await;
    for preset in ["mini", "shell"] {
        fleet
            .made("/v1/admin/harnesses/from-preset", &json!({"preset": preset}))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c17_57_the_engine_killed_in_the_middle_of_remote_jobs_loses_and_doubles_nothing() {
    let mut midway = Midway::reached().await;
    midway.fleet.server.kill();
    tokio::time::sleep(Duration::from_secs(1)).await;
    midway.fleet.server.again();
    midway.ends_well(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c17_57_the_orchestrator_killed_in_the_middle_of_remote_jobs_loses_and_doubles_nothing() {
    let mut midway = Midway::reached().await;
    midway.orchestrator.kill();
    tokio::time::sleep(Duration::from_secs(1)).await;
    midway.orchestrator.again();
    midway.ends_well(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c17_106_workers_killed_in_the_middle_of_remote_jobs_do_them_again_at_once() {
    let mut midway = Midway::reached().await;
    for worker in &mut midway.workers {
        worker.kill();
    }
    for worker in &mut midway.workers {
        worker.again();
    }
    let back = Instant::now();
    let both_again = |run: &Value| run["stages"][0]["attempt"] == 2 && run["stages"][1]["attempt"] == 2;
    midway.fleet.until(&midway.run, both_again).await;
    assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
    midway.ends_well(2).await;
}

/// The abilities of a worker that runs the shell harness.
const SHELL: [&str; 2] = ["harness.shell", "sandbox.bubblewrap"];

/// A server, an orchestrator and workers, for the shell harness.
async fn pool(settings: &[(&str, &str)], workers: &[&str]) -> (Fleet, Program, Vec<Program>) {
    let mut fleet = Fleet::start(settings).await;
    let url = fleet.url.clone();
    let orchestrator = fleet.orchestrator(&url, &[]).await;
    let mut started = Vec::new();
    for name in workers {
        started.push(fleet.worker(name, &SHELL).await.up());
    }
    fleet
        .made("/v1/admin/harnesses/from-preset", &json!({"preset": "shell"}))
        .await;
    (fleet, orchestrator, started)
}

fn script(script: &str) -> Value {
    json!({"definition": {"stages": [stage("fix", &shell(script))]}})
}

/// Waits until the agent of a run has said something.
async fn said(fleet: &Fleet, run: &str, line: &str) -> Value {
    let started = Instant::now();
    loop {
        let log = fleet.log(run).await;
        if let Some(found) = log.iter().find(|found| found["line"] == line) {
            return found.clone();
        }
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "{log:#?} {:#}",
            fleet.run(run).await
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c17_15_a_cancel_sent_to_another_server_reaches_the_job_within_a_second() {
    let (fleet, _orchestrator, _workers) = pool(&[], &["w1"]).await;
    let (other, _server) = fleet.another_server("other");
    // Submitted to the server that the orchestrator does not know, it is taken all the same.
    let agent = "trap 'echo told to stop; exit 1' TERM; echo up; while :; do sleep 0.05; done";
    let (status, run) = fleet.call(&other, Method::POST, "/v1/runs", Some(&script(agent))).await;
    assert_eq!(status, 201, "{run}");
    let id = text(&run["id"]);
    said(&fleet, id, "up").await;
    let before = SystemClock.now();
    let (status, cancelled) = fleet
        .call(&other, Method::POST, &format!("/v1/runs/{id}/cancel"), None)
        .await;
    assert_eq!(status, 202, "{cancelled}");
    assert_eq!(fleet.ended(id).await["run"]["status"], "cancelled");
    // The worker's time of the line; it is the same clock.
    let told = said(&fleet, id, "told to stop").await;
    let took = Timestamp::parse(text(&told["ts"])).unwrap().since(before);
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c17_59_a_worker_revoked_at_another_server_is_refused_and_its_job_requeued() {
    let (fleet, _orchestrator, mut workers) = pool(&[], &["w1", "w2"]).await;
    let (other, _server) = fleet.another_server("other");
    let run = fleet.made("/v1/runs", &script("echo up; sleep 4; echo kept")).await;
    let id = text(&run["id"]);
    said(&fleet, id, "up").await;
    let first = fleet.run(id).await["stages"][0]["workerId"].clone();
    let (_, list) = fleet.get("/v1/admin/pool/workers").await;
    let revoked = list
        .as_array()
        .unwrap()
        .iter()
        .find(|worker| worker["worker_id"] == first)
        .unwrap();
    let index = usize::from(revoked["name"] == "w2");
    let path = format!("/v1/admin/pool/workers/{}", text(&first));
    let (status, answer) = fleet.call(&other, Method::DELETE, &path, None).await;
    assert_eq!(status, 204, "{answer}");
    let again = |run: &Value| run["stages"][0]["attempt"] == 2 && run["stages"][0]["workerId"] != first;
    let since = Instant::now();
    fleet.until(id, again).await;
    assert!(
        since.elapsed() < Duration::from_secs(3),
        "requeued after {:?}",
        since.elapsed()
    );
    let refused = eventually(Duration::from_secs(5), || workers[index].exit() == Some(3));
    assert!(refused, "{}", workers[index].said());
    assert_eq!(fleet.ended(id).await["run"]["status"], "done");
    let kept = fleet.lines(id, "fix").await;
    assert_eq!(kept.iter().filter(|line| *line == "kept").count(), 1, "{kept:?}");
    // Nor does it come in again with what it has.
    workers[index].spawn();
    assert!(
        eventually(Duration::from_secs(5), || workers[index].exit() == Some(3)),
        "{}",
        workers[index].said()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c17_62_remote_jobs_fail_after_the_grace_with_preflights_words_unless_a_worker_appears_before() {
    let (fleet, _orchestrator, _nobody) = pool(&[("POND_DISPATCH_NO_WORKER_GRACE_SEC", "8")], &[]).await;
    let trusted = script("echo done");
    let mut theirs = script("echo done");
    theirs["definition"]["stages"][0]["executor"]["sandbox"]["tier"] = json!("byo");
    let told = async |body: &Value| {
        let preflight = fleet.made("/v1/runs/preflight", body).await;
        let problems = preflight["problems"].as_array().unwrap().iter();
        let mut messages = problems.filter(|problem| problem["code"] == "no_capable_worker");
        text(&messages.next().unwrap()["message"]).to_owned()
    };
    let mut runs = Vec::new();
    for body in [&theirs, &trusted] {
        assert!(told(body).await.contains("no worker is online"));
        runs.push(text(&fleet.made("/v1/runs", body).await["id"]).to_owned());
    }
    let since = Instant::now();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let _worker = fleet.worker("w1", &SHELL).await.up();
    let ended = fleet.ended(&runs[1]).await;
    assert_eq!(ended["run"]["status"], "done", "{ended:#}");
    let ended = fleet.ended(&runs[0]).await;
    assert!(
        (Duration::from_secs(7)..Duration::from_secs(15)).contains(&since.elapsed()),
        "{:?}",
        since.elapsed()
    );
    assert_eq!(ended["run"]["status"], "failed");
    assert_eq!(ended["stages"][0]["error"]["code"], "no_capable_worker");
    // As preflight says it now that somebody is online who does not fit.
    assert_eq!(text(&ended["stages"][0]["error"]["message"]), told(&theirs).await);
}

/// Something that ends TLS before a server, as an operator's proxy does, and the certificate of the CA that it goes by.
async fn tls_before(server: &str) -> (SocketAddr, String) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let server = server.trim_start_matches("http://").to_owned();
    tokio::spawn(async move {
        while let Ok((outer, _)) = listener.accept().await {
            let (acceptor, server) = (acceptor.clone(), server.clone());
            tokio::spawn(async move {
                // Whoever does not trust the certificate hangs up.
                let Ok(mut outer) = acceptor.accept(outer).await else {
                    return;
                };
                let mut inner = TcpStream::connect(server).await.expect("the server listens");
                let _cut = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
            });
        }
    });
    (at, authority.pem())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orchestrator_reaches_an_engine_behind_tls_by_the_operators_ca_alone() {
    let mut fleet = Fleet::start(&[]).await;
    let (at, pem) = tls_before(&fleet.url).await;
    let (engine, ca) = (format!("https://{at}"), fleet.path("ca.pem"));
    std::fs::write(&ca, pem).unwrap();
    // Without the CA nothing is told to whoever answers there, and the operator reads why.
    let code = fleet.made("/v1/admin/pool/pairing-codes", &json!({})).await;
    let pair = [
        "orchestrator",
        "pair",
        "--pond",
        &engine,
        "--code",
        text(&code["code"]),
        "--state-dir",
        "stranger",
    ];
    let refused = bare(&program("pond"), fleet.folder.path()).args(pair).output().unwrap();
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(6), "{why}");
    assert!(
        why.contains("TLS certificate") && why.contains("POND_EXTRA_CA_FILE"),
        "{why}"
    );
    // With it the orchestrator pairs and relays.
    let mut orchestrator = fleet.orchestrator(&engine, &[("POND_EXTRA_CA_FILE", &ca)]).await;
    fleet
        .made("/v1/admin/harnesses/from-preset", &json!({"preset": "shell"}))
        .await;
    let _worker = fleet.worker("w1", &SHELL).await.up();
    let run = fleet.made("/v1/runs", &script("echo through TLS")).await;
    let id = text(&run["id"]);
    assert_eq!(fleet.ended(id).await["run"]["status"], "done");
    assert!(fleet.lines(id, "fix").await.contains(&"through TLS".to_owned()));
    // Started again without it, it says why it does not reach the engine.
    orchestrator.kill();
    let (address, state) = (fleet.orchestrator_at.clone(), fleet.path("orchestrator"));
    let serve = [
        "pond",
        "orchestrator",
        "serve",
        "--bind",
        &address,
        "--state-dir",
        &state,
    ];
    let mut without = Program::new(fleet.folder.path(), "without", &serve);
    without.spawn();
    let told = || without.said().contains("TLS certificate") && without.said().contains("POND_EXTRA_CA_FILE");
    assert!(eventually(Duration::from_secs(10), told), "{}", without.said());
}
