//! What a run can reach and what it reached, as the engine tells it: on every store, with a worker played by hand.

use futures::TryStreamExt;
use pond_core::config::{Credential, EgressRule, Harness, Model, Owner};
use pond_sdk::api::EgressVerdict;
use pond_tests::on_every_store;
use pond_tests::orchestrator::PlayedOrchestrator;
use pond_tests::world::{body, stage};
use serde_json::{Value, json};

fn agent(more: &Value) -> Value {
    let mut sandbox = json!({"profile": "untrusted-code-write"});
    for (name, value) in more.as_object().into_iter().flatten() {
        sandbox[name] = value.clone();
    }
    json!({"kind": "swarm", "harness": "own", "model": "m", "prompt": "go", "sandbox": sandbox})
}

fn decision(number: u32, host: &str, allowed: bool) -> Value {
    json!({
        "id": format!("00000000-0000-7000-8000-{number:012}"), "type": "egress.decision",
        "ts": "2026-01-02T03:04:05.678Z", "host": host, "port": 443,
        "ip": if allowed { json!("192.0.2.7") } else { Value::Null },
        "decision": if allowed { "allowed" } else { "denied" },
        "rule": if allowed { json!(host) } else { Value::Null },
        "reason": if allowed { Value::Null } else { json!(format!("no rule allows {host}")) },
        "bytesUp": 10, "bytesDown": 20,
    })
}

on_every_store! {
    async fn c17_116_reach_names_each_host_with_its_origin_and_each_secret_with_its_hosts(world: World) {
        let server = world.serve().await;
        let config = world.pond.config();
        let own = Owner::Project(world.project());
        let credential = json!({"name": "c", "provider": "anthropic",
            "secrets": {"ANTHROPIC_API_KEY": "sk-ant-not-shown", "TRACKER_TOKEN": "tracker-not-shown"},
            "remote_features": ["web_search"], "hosts": ["tracker.test", "scoped.test/only"]});
        config.put::<Credential>(Owner::Org, &credential).await.unwrap();
        let model = json!({"key": "m", "provider": "anthropic", "model_id": "m-1", "credential_name": "c"});
        config.put::<Model>(Owner::Org, &model).await.unwrap();
        let harness = json!({"key": "own", "command_template": ["run", "{{MODEL}}"]});
        config.put::<Harness>(Owner::Org, &harness).await.unwrap();

        let path = |id: &str| format!("/v1/runs/{id}/reach");
        let allow = json!({"allow_hosts": ["asked.test"]});
        let submitted = body(&[stage("a", &agent(&allow)), stage("b", &agent(&json!({"profile": "untrusted-code-read"})))]);
        let id = world.submit(&submitted).await.head.id.to_string();
        let secrets = json!([
            {"name": "ANTHROPIC_API_KEY", "hosts": ["api.anthropic.com"], "in": ["broker"]},
            {"name": "TRACKER_TOKEN", "hosts": ["tracker.test"], "in": ["header"]},
        ]);
        let (status, before) = server.get(&path(&id)).await;
        assert_eq!((status, &before["hosts"]), (200, &json!([{"rule": "asked.test", "from": "run"}])), "{before}");
        assert_eq!((&before["secrets"], &before["remote_features"]), (&secrets, &json!(["web_search"])));
        assert!(!before.to_string().contains("not-shown"));

        // An operator's rule comes: nothing was handed out yet, so it holds.
        config.put::<EgressRule>(Owner::Org, &json!({"host": ".listed.test"})).await.unwrap();
        config.put::<EgressRule>(own, &json!({"host": "bad.listed.test", "action": "deny"})).await.unwrap();
        let ruled = json!([{"rule": ".listed.test", "from": "org"}]);
        let (_, changed) = server.get(&path(&id)).await;
        assert_eq!(changed["hosts"], ruled, "{changed}");
        assert_eq!(changed["denied"], json!([{"rule": "bad.listed.test", "from": "project"}]));

        let orchestrator = PlayedOrchestrator::pair(&server).await;
        let worker = orchestrator.enroll_as(&server, 1, json!({"tags": ["pool:trusted"], "capabilities": ["harness.own", "sandbox.bubblewrap"]})).await;
        let snapshot = json!({"generation": 0, "workers": [{"worker_id": worker.id, "status": "online", "running": 0,
            "concurrency": 4, "version": "1", "egress_defaults": ["registry.test"]}]});
        let told = orchestrator.post("/v1/orch/workers/snapshot", &snapshot).await;
        assert_eq!(told.0, 200, "{}", told.1);
        let (_, likely) = server.get(&path(&id)).await;
        let with_default = json!([{"rule": ".listed.test", "from": "org"}, {"rule": "registry.test", "from": "default"}]);
        assert_eq!(likely["hosts"], with_default, "what an online worker that fits would add");

        let job = orchestrator.job(&worker).await;
        assert_eq!(job["stage"], "a");
        assert_eq!(job["egress"], json!([
            {"host": ".listed.test", "action": "allow", "upgrade": false, "from": "org"},
            {"host": "bad.listed.test", "action": "deny", "upgrade": false, "from": "project"},
        ]));
        assert_eq!(job["sealed"], json!([{"name": "TRACKER_TOKEN", "hosts": ["tracker.test"], "in": ["header"]}]));
        // What was handed out keeps its rules, and says so also when it is over.
        config.put::<EgressRule>(Owner::Org, &json!({"host": "late.test"})).await.unwrap();
        let (_, during) = server.get(&path(&id)).await;
        assert_eq!((&during["hosts"], &during["secrets"]), (&with_default, &secrets));
        let failed = json!({"state": "failed", "rc": 1, "error": {"code": "exit_nonzero", "message": "no"}});
        assert_eq!(orchestrator.of_job(&job, "/v1/orch/jobs/{id}/state", &failed).await.0, 200);
        world.ended(id.parse().unwrap()).await;
        let (_, after) = server.get(&path(&id)).await;
        assert_eq!(after["hosts"], with_default);
        assert_eq!(server.sdk().runs().reach(&id).await.unwrap().hosts.len(), 2);
    }

    async fn c17_70_decisions_are_told_once_with_their_rule_and_are_read_by_the_page(world: World) {
        let world = world.with_shell().await;
        let server = world.serve().await;
        let orchestrator = PlayedOrchestrator::pair(&server).await;
        let worker = orchestrator.enroll(&server, 1).await;
        let id = world.submit(&body(&[stage("fix", &pond_tests::world::shell("true"))])).await.head.id;
        let job = orchestrator.job(&worker).await;
        let telemetry = "/v1/orch/jobs/{id}/telemetry";
        let events: Vec<Value> = (0..7).map(|n| decision(n, &format!("h{n}.test"), n % 2 == 0)).collect();
        let sent = orchestrator.of_job(&job, telemetry, &json!({"events": events[..4]})).await;
        assert_eq!(sent.0, 200, "{}", sent.1);
        // Told again, and with others: each counts once.
        let again = orchestrator.of_job(&job, telemetry, &json!({"events": events[2..]})).await;
        assert_eq!(again.0, 200, "{}", again.1);
        let logs = json!({"stream": "stdout", "source": "agent", "seq": 0, "lines": [[0, "between"]]});
        assert_eq!(orchestrator.of_job(&job, "/v1/orch/jobs/{id}/chunk", &logs).await.0, 200);
        let call = json!({"events": [{"id": "00000000-0000-7000-8000-0000000000ff", "type": "model.call",
            "ts": "2026-01-02T03:04:05Z", "provider": "p", "model": "m", "status": 200, "latency_ms": 1,
            "input_tokens": 1, "output_tokens": 1, "cache_read_tokens": 0, "cache_write_tokens": 0, "estimated": false},
            decision(7, "h7.test", false)]});
        assert_eq!(orchestrator.of_job(&job, telemetry, &call).await.0, 200);

        let mut pages = Vec::new();
        let mut cursor = String::new();
        loop {
            let (status, page) = server.get(&format!("/v1/runs/{id}/egress?limit=3{cursor}")).await;
            assert_eq!(status, 200, "{page}");
            pages.extend(page["decisions"].as_array().unwrap().clone());
            match page["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        let hosts: Vec<&str> = pages.iter().map(|told| told["host"].as_str().unwrap()).collect();
        assert_eq!(hosts, ["h0.test", "h1.test", "h2.test", "h3.test", "h4.test", "h5.test", "h6.test", "h7.test"]);
        let first = &pages[0];
        assert_eq!((&first["decision"], &first["rule"], &first["ip"]), (&json!("allowed"), &json!("h0.test"), &json!("192.0.2.7")));
        assert_eq!((&first["stage"], &first["bytesUp"], &first["bytesDown"]), (&json!("fix"), &json!(10), &json!(20)));
        assert_eq!((&pages[1]["reason"], &pages[1]["rule"]), (&json!("no rule allows h1.test"), &Value::Null));

        for (field, value) in [("host", json!("x".repeat(256))), ("ip", json!("nowhere")), ("decision", json!("maybe")), ("id", json!("1"))] {
            let mut bad = decision(9, "x.test", true);
            bad[field] = value;
            let (status, told) = orchestrator.of_job(&job, telemetry, &json!({"events": [bad]})).await;
            assert_eq!((status, &told["errors"][0]["pointer"]), (422, &json!(format!("/events/0/{field}"))), "{told}");
        }
        let unknown = json!({"events": [{"id": "00000000-0000-7000-8000-00000000000a", "type": "model.dream"}]});
        assert_eq!(orchestrator.of_job(&job, telemetry, &unknown).await.0, 422);

        let done = json!({"state": "done", "rc": 0});
        assert_eq!(orchestrator.of_job(&job, "/v1/orch/jobs/{id}/state", &done).await.0, 200);
        world.ended(id).await;
        let sdk = server.sdk();
        let told: Vec<_> = sdk.runs().egress(id.to_string()).try_collect().await.unwrap();
        assert_eq!(told.iter().filter(|one| one.decision == EgressVerdict::Denied).count(), 4);
        let live: Vec<_> = sdk.runs().events(id.to_string(), None).try_collect().await.unwrap();
        let live = live.iter().filter(|event| event.body.kind() == "egress").count();
        assert_eq!(live, 8, "the stream of events tells them too");
    }
}
