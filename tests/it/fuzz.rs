//! Random JSON against every route: whatever a client sends, no answer is a 500.

use std::time::{Duration, Instant};

use pond_core::entropy::Entropy;
use pond_core::testing::SeededEntropy;
use pond_tests::world::{body, noop, stage};
use pond_tests::{Backend, Server, World};
use reqwest::Method;
use serde_json::{Map, Value, json};

/// Words that parsers look for, and those that they trip over.
const WORDS: [&str; 44] = [
    "definition",
    "stages",
    "key",
    "name",
    "executor",
    "kind",
    "noop",
    "builtin",
    "swarm",
    "sandbox",
    "profile",
    "untrusted-code-write",
    "edges",
    "from",
    "to",
    "sources",
    "label",
    "config",
    "folder",
    "path",
    "git_https",
    "url",
    "context",
    "trigger",
    "projectId",
    "project_id",
    "sha",
    "provider",
    "anthropic",
    "secrets",
    "env",
    "command_template",
    "files",
    "content",
    "model_id",
    "credential_name",
    "value",
    "slug",
    "preset",
    "mini",
    "",
    "\u{0}",
    "é\u{202e}",
    "-1e999",
];

struct Dice(SeededEntropy);

impl Dice {
    fn below(&self, bound: usize) -> usize {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        usize::try_from(u64::from_le_bytes(bytes) % bound as u64).expect("below a usize")
    }

    fn word(&self) -> String {
        match self.below(12) {
            0 => "x".repeat(self.below(70_000)),
            1 => "0197a000-0000-7000-8000-000000000001".into(),
            _ => WORDS[self.below(WORDS.len())].into(),
        }
    }

    fn value(&self, depth: usize) -> Value {
        match self.below(if depth == 0 { 6 } else { 9 }) {
            0 => Value::Null,
            1 => json!(self.below(2) == 0),
            2 => json!(self.below(100_000) as i64 - 50_000),
            3 => json!(self.below(1000) as f64 * 1e300),
            4 | 5 => json!(self.word()),
            6 => (0..self.below(4)).map(|_| self.value(depth - 1)).collect(),
            _ => Value::Object(self.object(depth - 1)),
        }
    }

    fn object(&self, depth: usize) -> Map<String, Value> {
        (0..self.below(7)).map(|_| (self.word(), self.value(depth))).collect()
    }

    /// A good body with one place of it replaced, so that checks behind the first are reached too.
    fn mutated(&self) -> Value {
        let mut seed = match self.below(5) {
            0 => body(&[
                stage("a", &noop(1, 0.0)),
                stage("b", &json!({"kind": "builtin", "name": "todo_scan"})),
            ]),
            1 => {
                json!({"name": "c", "provider": "anthropic", "env": {"A": "b"}, "secrets": {"K": "v"}, "hosts": ["h"]})
            }
            2 => {
                json!({"key": "h", "command_template": ["x", "{{MODEL}}"], "files": [{"path": "a/b", "content": "c"}]})
            }
            3 => {
                json!({"key": "m", "provider": "openai", "model_id": "x", "credential_name": "c", "input_cost_per_mtok": 3})
            }
            _ => {
                json!({"definition": {"stages": [{"key": "s", "name": "s", "executor": {"kind": "swarm", "prompt": "p",
                "sandbox": {"profile": "untrusted-code-read", "overrides": {"memory": "1g"}}}}]}, "context": {"a": 1}})
            }
        };
        self.mutate(&mut seed, self.below(6));
        seed
    }

    /// Replaces a place some steps down.
    fn mutate(&self, at: &mut Value, steps: usize) {
        match at {
            Value::Object(map) if steps > 0 && !map.is_empty() => {
                let place = self.below(map.len());
                self.mutate(map.values_mut().nth(place).expect("within"), steps - 1);
            }
            Value::Array(items) if steps > 0 && !items.is_empty() => {
                let place = self.below(items.len());
                self.mutate(&mut items[place], steps - 1);
            }
            other => *other = self.value(3),
        }
    }
}

/// Every method and path of the document.
async fn routes(server: &Server) -> Vec<(Method, String)> {
    let (_, document) = server.get("/openapi.json").await;
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().expect("a document has paths") {
        for method in item.as_object().expect("a path has methods").keys() {
            if let Ok(method) = method.to_uppercase().parse::<Method>() {
                routes.push((method, path.clone()));
            }
        }
    }
    assert!(routes.len() > 30, "{routes:?}");
    routes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c17_08_random_json_against_every_route_gives_no_500() {
    let world = World::on(Backend::Sqlite).await.with_shell().await;
    let server = world.serve().await;
    let run = world
        .submit(&body(&[stage("a", &noop(1, 0.0))]))
        .await
        .head
        .id
        .to_string();
    let routes = routes(&server).await;
    let seed = u64::from(std::process::id());
    let dice = Dice(SeededEntropy::new(seed));
    let (started, mut sent, mut taken, mut cut) = (Instant::now(), 0u32, 0u32, 0u32);
    while started.elapsed() < Duration::from_secs(20) {
        let (method, path) = &routes[dice.below(routes.len())];
        let id = if dice.below(2) == 0 { run.clone() } else { dice.word() };
        let encode =
            |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        let short: String = id.chars().take(300).collect();
        let path = path.replace("{id}", &encode(&short)).replace("{name}", &encode(&short));
        let query = if dice.below(3) == 0 {
            let (name, value): (String, String) = (
                dice.word().chars().take(200).collect(),
                dice.word().chars().take(200).collect(),
            );
            format!("?{}={}", encode(&name), encode(&value))
        } else {
            String::new()
        };
        // A stream of a live run would not end; this one's has.
        let mut request = server.request(method.clone(), &format!("{path}{query}"));
        if *method != Method::GET {
            let value = if dice.below(3) == 0 {
                dice.value(4)
            } else {
                dice.mutated()
            };
            let mut text = value.to_string();
            if dice.below(10) == 0 {
                let cut = (0..=dice.below(text.len() + 1))
                    .rev()
                    .find(|&at| text.is_char_boundary(at))
                    .unwrap_or(0);
                text.truncate(cut);
            }
            let kinds = [
                "application/json",
                "application/x-www-form-urlencoded",
                "text/plain",
                "application/problem+json",
            ];
            request = request
                .header("content-type", kinds[dice.below(kinds.len())])
                .body(text);
        }
        let Ok(response) = request.timeout(Duration::from_secs(30)).send().await else {
            // A body that is refused unread ends its connection, perhaps while it is still being sent. The server goes on.
            cut += 1;
            assert_eq!(
                server.get("/health/live").await.0,
                200,
                "seed {seed}: {method} {path}{query}"
            );
            continue;
        };
        let status = response.status().as_u16();
        let problem = response.text().await.unwrap_or_default();
        assert!(status < 500, "seed {seed}: {method} {path}{query}: {status} {problem}");
        sent += 1;
        taken += u32::from(status < 300);
    }
    println!("{sent} requests, {taken} taken, {cut} cut off");
    assert!(
        sent > 200 && taken > 20 && cut <= sent / 20,
        "{sent} requests, {taken} taken, {cut} cut off"
    );
}
