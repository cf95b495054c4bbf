//! Broker, `mini`, scripted model and sample together: real HTTP on loopback, real programs in a folder of their own.

mod host;
mod world;

use std::time::Duration;

use pond_core::usage::{Price, Prices, Tokens};
use pond_worker::broker::ModelCall;
use pond_worker::mini::{MiniError, Tool};
use serde_json::json;

use super::*;
use world::{MODEL, WIRES, Wire, World};

fn counts() -> Counts {
    Counts {
        input: 101,
        output: 53,
        cache_read: 907,
        cache_write: 211,
    }
}

fn sum<'a>(calls: impl IntoIterator<Item = &'a ModelCall>) -> Bill {
    let mut bill = Bill::default();
    for call in calls {
        bill.calls += 1;
        bill.input += call.tokens.input;
        bill.output += call.tokens.output;
        bill.cache_read += call.tokens.cache_read;
        bill.cache_write += call.tokens.cache_write;
    }
    bill
}

#[tokio::test]
async fn c17_21_usage_equals_the_providers_own_bill_on_every_wire_streamed_and_not() {
    for wire in WIRES {
        let turns = vec![
            Turn::tool(
                "Let me look at that – \"quoted\", with ünïcode.",
                "shell",
                json!({"command": "ls \"a b\""}),
            )
            .billed(counts()),
            Turn::text("done").billed(Counts { output: 7, ..counts() }),
        ];
        let mut world = World::start(wire, Script { turns }).await;
        for stream in [false, true] {
            for body in [wire.asking("hello", stream), wire.asking_again(stream)] {
                let answer = world.post(wire.path(stream), &body).await;
                assert_eq!(answer.status, 200, "{}: {}", wire.provider, answer.text());
                assert_eq!(answer.is_stream(), stream, "{}", wire.provider);
            }
        }
        let calls = world.calls(4).await;
        assert_eq!(sum(&calls), world.model.bill(), "{}", wire.provider);
        assert!(
            calls
                .iter()
                .all(|call| !call.estimated && call.model == MODEL && call.status == 200)
        );
    }
}

#[tokio::test]
async fn c17_21_a_stream_that_is_an_array_is_counted_like_one_of_events() {
    let wire = Wire::named("gemini");
    let turn = Turn::text(&"word ".repeat(40)).billed(counts());
    let mut world = World::start(wire, Script { turns: vec![turn] }).await;
    let path = "/v1beta/models/scripted-1:streamGenerateContent";
    let answer = world.post(path, &wire.asking("hello", true)).await;
    let parts: Vec<serde_json::Value> = serde_json::from_slice(&answer.body).expect("an array");
    assert!(parts.len() > 3, "{}", answer.text());
    let calls = world.calls(1).await;
    assert_eq!(sum(&calls), world.model.bill());
    assert!(!calls[0].estimated);
}

#[tokio::test]
async fn chat_streams_show_usage_only_to_a_client_that_asked() {
    let wire = Wire::named("openai_compatible");
    let mut world = World::start(
        wire,
        Script {
            turns: vec![Turn::text("hello there").billed(counts())],
        },
    )
    .await;
    let mut asking = wire.asking("hi", true);
    let without = world.post(wire.path(true), &asking).await.text();
    asking["stream_options"] = json!({"include_usage": true});
    let with = world.post(wire.path(true), &asking).await.text();
    assert!(!without.contains("\"usage\":{"), "{without}");
    assert!(with.contains("\"usage\":{"), "{with}");
    assert!(without.ends_with("data: [DONE]\n\n") && with.ends_with("data: [DONE]\n\n"));
    let hidden = with
        .split_inclusive("\n\n")
        .find(|event| event.contains("\"choices\":[]"))
        .expect("the extra chunk");
    assert_eq!(with.replace(hidden, ""), without, "all else is the same, byte for byte");
    assert_eq!(sum(&world.calls(2).await), world.model.bill());
}

#[tokio::test]
async fn an_openrouter_credential_with_its_key_alone_is_served_and_counted() {
    let wire = Wire::named("openrouter");
    let mut world = World::start(
        wire,
        Script {
            turns: vec![Turn::text("hi").billed(counts())],
        },
    )
    .await;
    assert_eq!(
        world.post(wire.path(false), &wire.asking("hi", false)).await.status,
        200
    );
    assert_eq!(sum(&world.calls(1).await), world.model.bill());
}

#[tokio::test]
async fn embeddings_and_listings_are_answered_and_only_what_bills_is_counted() {
    let wire = Wire::named("openai");
    let mut world = World::start(wire, Script::saying("hi")).await;
    assert_eq!(world.get("/v1/models?limit=5").await.status, 200);
    let answer = world
        .post("/embeddings", &json!({"model": MODEL, "input": "some text"}))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let calls = world.calls(1).await;
    assert_eq!(
        calls[0].tokens,
        Tokens {
            input: world.model.bill().input,
            ..Tokens::default()
        }
    );
    assert_eq!(world.close().await, []);
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_estimated_and_broken_for_the_client_too() {
    for wire in WIRES {
        let turn = Turn::text(&"word ".repeat(200))
            .billed(counts())
            .faulty(Fault::Cut { events: 12 });
        let mut world = World::start(wire, Script { turns: vec![turn] }).await;
        let answer = world.post(wire.path(true), &wire.asking("hello", true)).await;
        assert!(answer.broken, "{}", wire.provider);
        let call = world.calls(1).await.remove(0);
        assert!(
            call.estimated && call.tokens.output > 0 && call.tokens.input > 0,
            "{}: {call:?}",
            wire.provider
        );
    }
}

#[tokio::test]
async fn answers_that_are_no_json_pass_and_are_estimated() {
    for wire in WIRES {
        let mut world = World::start(
            wire,
            Script {
                turns: vec![Turn::text("x").faulty(Fault::Malformed)],
            },
        )
        .await;
        for stream in [false, true] {
            assert_eq!(
                world
                    .post(wire.path(stream), &wire.asking("hello", stream))
                    .await
                    .status,
                200
            );
        }
        assert!(
            world.calls(2).await.iter().all(|call| call.estimated),
            "{}",
            wire.provider
        );
    }
}

#[tokio::test]
async fn an_endless_answer_ends_with_the_client_and_is_estimated() {
    for wire in WIRES {
        let mut world = World::start(
            wire,
            Script {
                turns: vec![Turn::text("on").faulty(Fault::Endless)],
            },
        )
        .await;
        world
            .hang_up_after(wire.path(true), &wire.asking("hello", true), 4096)
            .await;
        let call = world.calls(1).await.remove(0);
        assert!(call.estimated && call.tokens.output > 20, "{}: {call:?}", wire.provider);
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_before_the_answer_is_recorded() {
    let wire = Wire::named("anthropic");
    let turn = Turn::text("late").faulty(Fault::Delay(Duration::from_secs(600)));
    let mut world = World::start(wire, Script { turns: vec![turn] }).await;
    world
        .hang_up_once_asked(wire.path(false), &wire.asking("hello", false))
        .await;
    let call = world.calls(1).await.remove(0);
    assert_eq!((call.status, call.estimated), (499, true));
}

#[tokio::test]
async fn a_providers_refusal_passes_in_its_own_shape_and_is_not_billed() {
    for wire in WIRES {
        let turn = Turn::text("x").faulty(Fault::Status { status: 429, times: 1 });
        let mut world = World::start(wire, Script { turns: vec![turn] }).await;
        let answer = world.post(wire.path(true), &wire.asking("hello", true)).await;
        assert_eq!(
            (answer.status, answer.json()["error"]["type"].as_str()),
            (429, Some("scripted_error"))
        );
        let call = world.calls(1).await.remove(0);
        assert_eq!(
            (call.status, call.tokens, call.estimated),
            (429, Tokens::default(), false)
        );
    }
}

#[tokio::test]
async fn the_scripted_model_takes_its_own_key_alone() {
    let model = ScriptedModel::start(Script::saying("hi")).await.expect("a port");
    assert_eq!(post_with(&model, "wrong").await, 401);
    assert_eq!(post_with(&model, model.key()).await, 200);
    assert_eq!(model.bill().calls, 1);
}

#[tokio::test]
async fn a_beta_that_shapes_the_request_alone_reaches_the_provider() {
    let wire = Wire::named("anthropic");
    let world = World::start(wire, Script::saying("hi")).await;
    let mut body = wire.asking("hello", false);
    let told = body["messages"].as_array_mut().expect("messages");
    told.push(json!({"role": "system", "content": "the rules have changed"}));
    for (betas, status) in [
        ("interleaved-thinking-2025-05-14", 400),
        ("effort-2025-11-24,mid-conversation-system-2026-04-07", 200),
    ] {
        let answer = world
            .post_with(wire.path(false), &[("anthropic-beta", betas)], &body)
            .await;
        assert_eq!(answer.status, status, "{betas}: {}", answer.text());
    }
}

async fn post_with(model: &ScriptedModel, key: &str) -> u16 {
    let body = json!({"model": "m", "messages": []}).to_string();
    world::post_tcp(model.addr, "/v1/messages", &[("x-api-key", key)], &body).await
}

#[tokio::test]
async fn mini_fixes_the_sample_on_every_wire() {
    for wire in WIRES {
        let mut world = World::start(wire, fixing_script()).await;
        let folder = tempfile::tempdir().expect("a folder");
        let sample = Sample::write(folder.path()).expect("the sample");
        assert!(!passes(&sample), "the sample's test fails before");
        let end = world
            .mini(folder.path(), &Tool::ALL, SAMPLE_PROMPT)
            .await
            .expect("an end");
        assert!(passes(&sample), "{}", wire.provider);
        assert!(end.text.starts_with("Fixed:"), "{}", end.text);
        assert_eq!(end.turns, 5);
        let log = world.log();
        assert!(log.iter().any(|line| line.contains("expected 6, got -6")), "{log:#?}");
        assert!(log.iter().any(|line| line.contains("all tests pass")), "{log:#?}");
        assert_eq!(sum(&world.calls(5).await), world.model.bill(), "{}", wire.provider);
    }
}

fn passes(sample: &Sample) -> bool {
    let test = std::process::Command::new("sh")
        .arg("test.sh")
        .current_dir(&sample.path)
        .output();
    test.expect("sh is there").status.success()
}

#[tokio::test]
async fn mini_uses_no_tool_that_it_was_not_given() {
    let wire = Wire::named("anthropic");
    let turns = vec![
        Turn::tool("", "shell", json!({"command": "touch ran"})),
        Turn::tool("", "rm_rf", json!({})),
        Turn::text("sorry"),
    ];
    let world = World::start(wire, Script { turns }).await;
    let folder = tempfile::tempdir().expect("a folder");
    let end = world
        .mini(folder.path(), &[Tool::ReadFile], "go")
        .await
        .expect("an end");
    assert_eq!(end.text, "sorry");
    assert!(!folder.path().join("ran").exists());
    let last = world.model.requests().pop().expect("requests").body;
    assert_eq!(last["tools"].as_array().map(Vec::len), Some(1));
    assert!(
        last["messages"][2]["content"][0]["content"]
            .as_str()
            .expect("a result")
            .contains("no tool `shell`")
    );
    assert_eq!(last["messages"][2]["content"][0]["is_error"], true);
}

#[tokio::test]
async fn mini_stops_at_its_bounds() {
    let wire = Wire::named("openai");
    let world = World::start(
        wire,
        Script {
            turns: vec![Turn::tool("again", "shell", json!({"command": "true"}))],
        },
    )
    .await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut mini = world.agent(&Tool::ALL);
    mini.limits.turns = 3;
    let error = world.run(mini, folder.path(), "go").await.expect_err("it never ends");
    assert!(matches!(error, MiniError::MaxTurns(3)), "{error}");
    assert_eq!(world.model.bill().calls, 3);

    let mut mini = world.agent(&Tool::ALL);
    mini.limits.context = 600;
    let error = world
        .run(mini, folder.path(), &"long ".repeat(200))
        .await
        .expect_err("too long");
    assert!(matches!(error, MiniError::ContextFull(600)), "{error}");
}

#[tokio::test]
async fn mini_waits_out_a_busy_provider_and_not_a_refusal() {
    let wire = Wire::named("anthropic");
    let busy = Turn::text("at last").faulty(Fault::Status { status: 529, times: 3 });
    let mut world = World::start(wire, Script { turns: vec![busy] }).await;
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(
        world.mini(folder.path(), &Tool::ALL, "go").await.expect("an end").text,
        "at last"
    );
    assert_eq!(
        world.calls(4).await.iter().map(|call| call.status).collect::<Vec<_>>(),
        [529, 529, 529, 200]
    );

    let mut mini = world.agent(&Tool::ALL);
    mini.model = "another".into();
    match world.run(mini, folder.path(), "go").await.expect_err("not granted") {
        MiniError::Refused { status, code, .. } => assert_eq!((status, code.as_str()), (403, "model_not_allowed")),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn mini_bounds_what_its_tools_give_and_take() {
    let wire = Wire::named("openai_compatible");
    let turns = vec![
        Turn::tool("", "shell", json!({"command": "yes | head -c 1000000; exit 3"})),
        Turn::tool(
            "",
            "shell",
            json!({"command": "sleep 100 & echo $! > pid; wait", "timeout_sec": 1}),
        ),
        Turn::tool("", "read_file", json!({"path": "lines", "offset": 3, "limit": 2})),
        Turn::tool("", "write_file", json!({"path": "a b/-c/d", "content": "$(touch x)\n"})),
        Turn::tool("", "read_file", json!({"path": "missing"})),
        Turn::text("ok"),
    ];
    let world = World::start(wire, Script { turns }).await;
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("lines"), "1\n2\n3\n4\n5\n").expect("a file");
    world.mini(folder.path(), &Tool::ALL, "go").await.expect("an end");
    let messages = world.model.requests().pop().expect("requests").body["messages"].clone();
    let results: Vec<&str> = (messages.as_array().expect("messages").iter())
        .filter(|message| message["role"] == "tool")
        .map(|message| message["content"].as_str().expect("text"))
        .collect();
    assert!(
        results[0].starts_with("exit code 3\ny\n") && results[0].contains("bytes left out"),
        "{}",
        results[0]
    );
    assert!(results[0].len() < 40_000);
    assert!(results[1].starts_with("stopped after 1 s"), "{}", results[1]);
    assert_eq!(results[2], "3\n4\n");
    assert_eq!(results[3], "wrote 11 bytes");
    assert_eq!(
        std::fs::read_to_string(folder.path().join("a b/-c/d")).expect("written"),
        "$(touch x)\n"
    );
    assert!(!folder.path().join("x").exists());
    assert!(results[4].contains("no such file: missing"), "{}", results[4]);
}

#[test]
fn the_sample_is_the_same_everywhere() {
    let folders = [
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    ];
    let samples = folders
        .each_ref()
        .map(|folder| Sample::write(folder.path()).expect("the sample"));
    assert_eq!(samples[0].commit, samples[1].commit);
    assert_eq!(samples[0].commit.len(), 40);
}

#[tokio::test]
async fn a_call_costs_what_its_tokens_cost() {
    let wire = Wire::named("anthropic");
    let mut world = World::start(
        wire,
        Script {
            turns: vec![Turn::text("x").billed(counts())],
        },
    )
    .await;
    world.post(wire.path(true), &wire.asking("hello", true)).await;
    let call = world.calls(1).await.remove(0);
    let price = |price| Price::parse(price).ok();
    let prices = Prices {
        input: price("3"),
        output: price("15"),
        cache_read: price("0.3"),
        cache_write: price("3.75"),
    };
    assert_eq!(call.cost, prices.cost(&call.tokens));
    assert_eq!(call.cost.expect("priced").to_string(), "0.00216135");
}
