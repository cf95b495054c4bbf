//! Admin config and projects.

use serde_json::{Value, json};

use super::world::World;

const PROJECT: &str = "018f0000-0000-7000-8000-0000000000aa";
const SECRET: &str = "sk-canary-9f3b1d7e5a";

fn posts() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        (
            "credentials",
            "c1",
            json!({"name": "c1", "provider": "anthropic", "env": {"A": "1"}, "secrets": {"ANTHROPIC_API_KEY": SECRET}}),
        ),
        (
            "harnesses",
            "h1",
            json!({"key": "h1", "command_template": ["agent", "{{PROMPT}}"], "files": [{"path": "a/b", "content": "{{SECRET:X}}"}]}),
        ),
        (
            "models",
            "m1",
            json!({"key": "m1", "provider": "anthropic", "model_id": "x/y-1", "credential_name": "c1",
                "input_cost_per_mtok": 0.000001, "output_cost_per_mtok": 15, "cache_read_cost_per_mtok": 99999.999999}),
        ),
        ("variables", "V1", json!({"name": "V1", "value": "one"})),
    ]
}

#[tokio::test]
async fn c17_43_posts_are_idempotent_and_projects_shadow_the_org() {
    let world = World::start().await;
    for (kind, name, body) in posts() {
        let path = format!("/v1/admin/{kind}");
        let first = world.post(&path, &body).await;
        assert_eq!(first.status, 201, "{}", first.text());
        let second = world.post(&path, &body).await;
        assert_eq!((second.status, second.json()), (200, first.json()), "{kind}");
        assert_eq!(first.json()["scope"], "org");
        assert_eq!(first.json()["project_id"], Value::Null);
        let one = format!("{path}/{name}");
        assert_eq!(world.get(&one).await.json(), first.json());
        let mut own = body.clone();
        own["project_id"] = PROJECT.into();
        let shadow = world.post(&path, &own).await;
        assert_eq!((shadow.status, &shadow.json()["scope"]), (201, &json!("project")));
        let seen = async |query: &str| -> Vec<String> {
            let list = world.get(&format!("{path}{query}")).await.json();
            assert_eq!(list["next_cursor"], Value::Null);
            list[kind]
                .as_array()
                .expect("a list")
                .iter()
                .map(|one| one["scope"].as_str().expect("text").to_owned())
                .collect()
        };
        assert_eq!(seen("").await, ["org"]);
        assert_eq!(seen(&format!("?project_id={PROJECT}")).await, ["project"]);
        assert_eq!(seen("?project_id=018f0000-0000-7000-8000-0000000000bb").await, ["org"]);
        assert_eq!(seen("?scope=all").await, ["org", "project"]);
        let page = world.get(&format!("{path}?scope=all&limit=1")).await.json();
        let cursor = page["next_cursor"].as_str().expect("a cursor");
        assert_eq!(
            world
                .get(&format!("{path}?scope=all&limit=1&cursor={cursor}"))
                .await
                .json()[kind][0]["scope"],
            "project"
        );
    }
    for (kind, name, _) in posts().into_iter().rev() {
        let one = format!("/v1/admin/{kind}/{name}");
        let own = format!("{one}?project_id={PROJECT}");
        assert_eq!(world.delete(&own).await.status, 204);
        world.delete(&own).await.is(404, "not_found");
        assert_eq!(
            world.get(&own).await.json()["scope"],
            "org",
            "GET falls back, DELETE does not"
        );
        assert_eq!(world.delete(&one).await.status, 204);
        world.get(&one).await.is(404, "not_found");
    }
}

#[tokio::test]
async fn prices_come_back_as_they_were_sent() {
    let world = World::start().await;
    for (kind, _, body) in posts() {
        world.post(&format!("/v1/admin/{kind}"), &body).await;
    }
    let model = world.get("/v1/admin/models/m1").await.json();
    assert_eq!(model["input_cost_per_mtok"], json!(0.000001));
    assert_eq!(model["output_cost_per_mtok"], json!(15));
    assert_eq!(model["cache_read_cost_per_mtok"], json!(99999.999999));
    assert_eq!(model["cache_write_cost_per_mtok"], Value::Null);
    for bad in [json!(-1), json!(0.0000001), json!(100_001), json!("3")] {
        let body =
            json!({"key": "m2", "provider": "x", "model_id": "x", "credential_name": "c1", "input_cost_per_mtok": bad});
        assert_eq!(
            world.post("/v1/admin/models", &body).await.pointers(),
            ["/input_cost_per_mtok"]
        );
    }
}

#[tokio::test]
async fn c17_44_no_answer_tells_a_secret() {
    let world = World::start().await;
    let long = format!("{SECRET}{}", "x".repeat(9000));
    let bodies = [
        json!({"name": "c", "provider": "anthropic", "secrets": {"KEY": SECRET}}).to_string(),
        json!({"name": "-", "provider": "A", "secrets": {"KEY": SECRET, "1": SECRET}}).to_string(),
        json!({"name": "c", "provider": "anthropic", "secrets": {"KEY": long}}).to_string(),
        json!({"name": "c", "provider": "anthropic", "secrets": {"KEY": format!("{SECRET}\0")}}).to_string(),
        json!({"name": "c", "provider": "anthropic", "secrets": {"KEY": [SECRET]}}).to_string(),
        json!({"name": "c", "provider": "anthropic", "secrets": SECRET}).to_string(),
        json!({"name": "c", "provider": "openai"}).to_string(),
        format!("{{\"name\": \"c\", \"secrets\": {{\"KEY\": \"{SECRET}\"}}"),
        format!("{{\"secrets\": {{\"KEY\": \"{SECRET}"),
    ];
    for body in bodies {
        let answer = world.call("POST", "/v1/admin/credentials", body.clone()).await;
        assert!(!answer.text().contains(SECRET), "{}", answer.text());
        assert!(answer.status < 500, "{body}: {}", answer.text());
    }
    for path in ["/v1/admin/credentials", "/v1/admin/credentials/c"] {
        let answer = world.get(path).await;
        assert!(
            !answer.text().contains(SECRET) && answer.text().contains("\"KEY\""),
            "{}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn short_secrets_warn_and_new_places_need_the_secrets_again() {
    let world = World::start().await;
    let post = async |body: Value| world.post("/v1/admin/credentials", &body).await;
    let short = post(json!({"name": "c", "provider": "openai", "secrets": {"OPENAI_API_KEY": "abc"}})).await;
    assert_eq!(
        (short.status, &short.json()["warnings"]),
        (201, &json!(["too_short_to_redact"]))
    );
    let moved = post(json!({"name": "c", "provider": "openai", "env": {"OPENAI_BASE_URL": "https://elsewhere"}})).await;
    moved.is(422, "credential_resend_required");
    assert_eq!(moved.pointers(), ["/env"]);
    let kept = post(json!({"name": "c", "provider": "openai", "env": {"X": "1"}})).await;
    assert_eq!(
        (kept.status, &kept.json()["secret_keys"]),
        (200, &json!(["OPENAI_API_KEY"]))
    );
}

#[tokio::test]
async fn c17_45_harness_files_stay_in_home_and_secrets_out_of_argv() {
    let world = World::start().await;
    for path in ["/x", "~/x", "a/../../x", "a\0"] {
        let body = json!({"key": "h", "command_template": ["x"], "files": [{"path": path, "content": ""}]});
        let refused = world.post("/v1/admin/harnesses", &body).await;
        assert_eq!(
            (refused.status, refused.pointers()),
            (422, vec!["/files/0/path".to_owned()]),
            "{path:?}"
        );
    }
    let body = json!({"key": "h", "command_template": ["x", "{{SECRET:X}}"]});
    assert_eq!(
        world.post("/v1/admin/harnesses", &body).await.pointers(),
        ["/command_template/1"]
    );
}

#[tokio::test]
async fn c17_46_a_used_credential_stays() {
    let world = World::start().await;
    for (kind, _, body) in posts() {
        world.post(&format!("/v1/admin/{kind}"), &body).await;
    }
    let refused = world.delete("/v1/admin/credentials/c1").await;
    refused.is(409, "in_use");
    assert_eq!(
        refused.json()["users"],
        json!([{"kind": "model", "key": "m1", "project_id": null}])
    );
    assert_eq!(world.delete("/v1/admin/models/m1").await.status, 204);
    assert_eq!(world.delete("/v1/admin/credentials/c1").await.status, 204);
}

#[tokio::test]
async fn presets_register_as_harnesses() {
    let world = World::start().await;
    let presets = world.get("/v1/admin/harness-presets").await.json();
    let keys: Vec<&str> = presets["presets"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["key"].as_str())
        .collect();
    assert!(keys.contains(&"mini") && keys.contains(&"shell"), "{keys:?}");
    let made = world
        .post(
            "/v1/admin/harnesses/from-preset",
            &json!({"preset": "mini", "key": "own"}),
        )
        .await;
    assert_eq!((made.status, &made.json()["capability"]), (201, &json!("harness.mini")));
    assert_eq!(world.get("/v1/admin/harnesses/own").await.json(), made.json());
    let unknown = world
        .post("/v1/admin/harnesses/from-preset", &json!({"preset": "nope"}))
        .await;
    assert_eq!(unknown.pointers(), ["/preset"]);
    assert!(unknown.text().contains("mini"));
    let odd = world
        .post("/v1/admin/harnesses/from-preset", &json!({"presets": "mini"}))
        .await;
    assert_eq!(odd.pointers(), ["/preset", "/presets"]);
}

#[tokio::test]
async fn names_are_percent_decoded_and_projects_have_ids() {
    let world = World::start().await;
    world
        .post("/v1/admin/variables", &json!({"name": "A_B", "value": "x"}))
        .await;
    assert_eq!(world.get("/v1/admin/variables/A%5FB").await.status, 200);
    world.get("/v1/admin/variables/A%2FB").await.is(404, "not_found");
    let refused = world
        .post(
            "/v1/admin/variables",
            &json!({"name": "A", "value": "x", "project_id": "mine"}),
        )
        .await;
    assert_eq!(refused.pointers(), ["/project_id"]);
    let made = world
        .post(
            "/v1/admin/projects",
            &json!({"slug": "team", "name": "Team", "id": PROJECT}),
        )
        .await;
    assert_eq!((made.status, &made.json()["id"]), (201, &json!(PROJECT)));
    world
        .post("/v1/admin/projects", &json!({"slug": "team", "name": "Other"}))
        .await
        .is(409, "taken");
    assert_eq!(
        world.post("/v1/admin/projects", &json!({"slug": "-"})).await.pointers(),
        ["/slug", "/name"]
    );
    let list = world.get("/v1/admin/projects").await.json();
    let slugs: Vec<&str> = list["projects"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["slug"].as_str())
        .collect();
    assert_eq!(slugs, ["default", "team"]);
    assert_eq!(world.delete(&format!("/v1/admin/projects/{PROJECT}")).await.status, 204);
    world
        .delete(&format!("/v1/admin/projects/{PROJECT}"))
        .await
        .is(404, "not_found");
}

#[tokio::test]
async fn what_is_refused_leaves_no_project_behind() {
    let world = World::start().await;
    let known = world.get("/v1/admin/projects").await.json();
    let run = json!({"projectId": PROJECT, "definition": {"stages": [
        {"key": "x", "name": "x", "executor": {"kind": "agent", "harness": "none", "model": "none", "prompt": "p"}}]}});
    let refused = [
        ("/v1/admin/variables", json!({"name": "1", "value": "v"})),
        ("/v1/admin/credentials", json!({"name": "c", "provider": "git"})),
        ("/v1/admin/harnesses", json!({"key": "h", "command_template": []})),
        ("/v1/admin/models", json!({"key": "m"})),
        ("/v1/admin/harnesses/from-preset", json!({"preset": "none"})),
        (
            "/v1/admin/harnesses/from-preset",
            json!({"preset": "codex", "key": "a b"}),
        ),
        ("/v1/runs", json!({"definition": {"stages": []}})),
        ("/v1/runs", run),
    ];
    for (path, mut body) in refused {
        let field = if path == "/v1/runs" { "projectId" } else { "project_id" };
        body[field] = PROJECT.into();
        let answer = world.post(path, &body).await;
        assert_eq!(answer.status, 422, "{path} {body}: {}", answer.text());
        assert_eq!(world.get("/v1/admin/projects").await.json(), known, "{path} {body}");
    }
}

#[tokio::test]
async fn a_bad_project_is_told_with_the_other_faults() {
    let world = World::start().await;
    for (path, body, other) in [
        ("/v1/admin/variables", json!({"name": "1", "value": "v"}), "/name"),
        ("/v1/admin/models", json!({"key": "m", "provider": "x"}), "/model_id"),
        ("/v1/admin/harnesses/from-preset", json!({"label": "x"}), "/preset"),
    ] {
        for bad in [json!("mine"), json!(7)] {
            let mut body = body.clone();
            body["project_id"] = bad;
            let answer = world.post(path, &body).await;
            assert_eq!(answer.status, 422);
            let pointers = answer.pointers();
            let both = ["/project_id", other];
            assert!(
                both.iter().all(|one| pointers.iter().any(|told| told == one)),
                "{path}: {pointers:?}"
            );
        }
    }
}

#[tokio::test]
async fn no_harness_has_a_key_that_is_an_address() {
    let world = World::start().await;
    let body = json!({"key": "from-preset", "command_template": ["agent"]});
    assert_eq!(world.post("/v1/admin/harnesses", &body).await.pointers(), ["/key"]);
    let preset = world.get("/v1/admin/harness-presets").await.json()["presets"][0]["key"].clone();
    let body = json!({"preset": preset, "key": "from-preset"});
    let answer = world.post("/v1/admin/harnesses/from-preset", &body).await;
    assert_eq!((answer.status, answer.pointers()), (422, vec!["/key".to_owned()]));
}
