//! A run in its middle, with a model that keeps its own bill, and what must hold of it in the end.

use std::time::{Duration, Instant};

use pond_server::demo::{Counts, Script, ScriptedModel, Turn};
use pond_tests::fleet::{Fleet, Program, text};
use pond_tests::world::{noop, shell, stage};
use serde_json::{Value, json};

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
pub(super) struct Midway {
    pub(super) fleet: Fleet,
    pub(super) orchestrator: Program,
    pub(super) workers: Vec<Program>,
    model: ScriptedModel,
    pub(super) run: String,
}

impl Midway {
    pub(super) async fn reached() -> Self {
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
    pub(super) async fn ends_well(&self, attempts: usize) {
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
