//! Config on every store: upserts, shadows, secrets.

use pond_core::config::{Credential, EntryKind, Harness, Listing, Model, Owner, Variable};
use pond_core::id::ProjectId;
use pond_core::{Conflict, Error};
use pond_tests::on_every_store;
use serde_json::json;

async fn project(world: &pond_tests::World) -> ProjectId {
    world
        .pond
        .projects()
        .create(&json!({"slug": "acme", "name": "Acme"}))
        .await
        .unwrap()
        .id
}

on_every_store! {
    async fn c17_43_upserts_are_idempotent_and_projects_shadow_the_org(world: World) {
        let (config, project) = (world.pond.config(), project(&world).await);
        let own = Owner::Project(project);
        let body = |value: &str| json!({"name": "LEVEL", "value": value});
        let first = config.put::<Variable>(Owner::Org, &body("org")).await.unwrap();
        assert!(first.created);
        let again = config.put::<Variable>(Owner::Org, &body("org")).await.unwrap();
        assert!(!again.created);
        assert_eq!(again.stored, first.stored, "the same body leaves the same state and time");
        config.put::<Variable>(own, &body("own")).await.unwrap();
        let seen = |stored: Vec<pond_core::config::Stored<Variable>>| -> Vec<String> {
            stored.into_iter().map(|stored| stored.record.value).collect()
        };
        assert_eq!(seen(config.list(Listing::Org).await.unwrap()), ["org"]);
        assert_eq!(seen(config.list(Listing::Seen(project)).await.unwrap()), ["own"]);
        assert_eq!(seen(config.list(Listing::Seen(world.project())).await.unwrap()), ["org"]);
        assert_eq!(seen(config.list(Listing::All).await.unwrap()), ["org", "own"]);
        assert_eq!(config.get::<Variable>(Some(project), "LEVEL").await.unwrap().record.value, "own");
        assert_eq!(config.effective(project).await.unwrap().variables()["LEVEL"], "own");
        config.delete(EntryKind::Variable, own, "LEVEL").await.unwrap();
        let gone = config.delete(EntryKind::Variable, own, "LEVEL").await;
        assert!(matches!(gone, Err(Error::NotFound(_))), "a project's delete never reaches the org entry");
        assert_eq!(config.get::<Variable>(Some(project), "LEVEL").await.unwrap().record.value, "org");
    }

    async fn c17_46_a_credential_in_use_is_not_deleted(world: World) {
        let (config, project) = (world.pond.config(), project(&world).await);
        let credential = json!({"name": "c", "provider": "anthropic", "secrets": {"ANTHROPIC_API_KEY": "sk-1234567"}});
        config.put::<Credential>(Owner::Org, &credential).await.unwrap();
        let model = json!({"key": "m", "provider": "anthropic", "model_id": "x", "credential_name": "c"});
        config.put::<Model>(Owner::Project(project), &model).await.unwrap();
        let refused = config.delete(EntryKind::Credential, Owner::Org, "c").await.unwrap_err();
        let Error::Conflict { kind: Conflict::InUse, users, .. } = refused else { panic!("{refused}") };
        assert_eq!((users[0].kind, users[0].key.as_str(), users[0].project), ("model", "m", Some(project)));
        // With a credential of its own the project no longer needs the org's.
        config.put::<Credential>(Owner::Project(project), &credential).await.unwrap();
        config.delete(EntryKind::Credential, Owner::Org, "c").await.unwrap();
        config.delete(EntryKind::Model, Owner::Project(project), "m").await.unwrap();
        config.delete(EntryKind::Credential, Owner::Project(project), "c").await.unwrap();
    }

    async fn c17_90_a_secret_is_never_drawn_to_a_new_place(world: World) {
        let config = world.pond.config();
        let body = |url: &str, provider: &str| json!({"name": "c", "provider": provider, "env": {"ANTHROPIC_BASE_URL": url}});
        let mut first = body("https://one.test", "anthropic");
        first["secrets"] = json!({"ANTHROPIC_API_KEY": "sk-1234567", "OTHER": "abc"});
        let put = config.put::<Credential>(Owner::Org, &first).await.unwrap();
        assert_eq!(put.too_short, ["OTHER"]);
        for changed in [body("https://two.test", "anthropic"), body("https://one.test", "openai")] {
            let refused = config.put::<Credential>(Owner::Org, &changed).await;
            assert!(matches!(refused, Err(Error::ResendRequired(_))), "{changed}");
        }
        assert_eq!(config.get::<Credential>(None, "c").await.unwrap(), put.stored, "nothing was changed");
        let mut label = body("https://one.test", "anthropic");
        label["env"]["LABEL"] = "x".into();
        let kept = config.put::<Credential>(Owner::Org, &label).await.unwrap();
        assert_eq!(kept.stored.record.secret_keys, put.stored.record.secret_keys, "secrets are kept where none are sent");
        assert_eq!(config.opened(Owner::Org, "c").await.unwrap().1["ANTHROPIC_API_KEY"].expose(), "sk-1234567");
        let mut moved = body("https://two.test", "anthropic");
        moved["secrets"] = json!({"ANTHROPIC_API_KEY": "sk-7654321"});
        config.put::<Credential>(Owner::Org, &moved).await.unwrap();
        let secrets = config.opened(Owner::Org, "c").await.unwrap().1;
        assert_eq!(secrets.len(), 1, "they are replaced whole");
        assert_eq!(secrets["ANTHROPIC_API_KEY"].expose(), "sk-7654321");
    }

    async fn c17_90_hosts_and_buckets_do_not_change_without_the_secrets(world: World) {
        let config = world.pond.config();
        let body = |hosts: &[&str], buckets: &[&str]| json!({"name": "s", "provider": "s3", "hosts": hosts, "buckets": buckets});
        let mut first = body(&["s3.test"], &["one"]);
        first["secrets"] = json!({"AWS_ACCESS_KEY_ID": "AKID-1234", "AWS_SECRET_ACCESS_KEY": "secret-1234"});
        let put = config.put::<Credential>(Owner::Org, &first).await.unwrap();
        for changed in [
            body(&["evil.test"], &["one"]),
            body(&["s3.test:8443"], &["one"]),
            body(&["s3.test/other"], &["one"]),
            body(&["s3.test", "evil.test"], &["one"]),
            body(&["s3.test"], &["two"]),
            body(&["s3.test"], &["one", "two"]),
        ] {
            let refused = config.put::<Credential>(Owner::Org, &changed).await;
            assert!(matches!(refused, Err(Error::ResendRequired("hosts" | "buckets"))), "{changed}");
        }
        assert_eq!(config.get::<Credential>(None, "s").await.unwrap(), put.stored, "nothing was changed");
        // Another spelling of the same place is no other place.
        let spelt = config.put::<Credential>(Owner::Org, &body(&["S3.Test./"], &["one"])).await.unwrap();
        assert_eq!(spelt.stored.record, put.stored.record);
        let secrets = config.opened(Owner::Org, "s").await.unwrap().1;
        assert_eq!(secrets["AWS_SECRET_ACCESS_KEY"].expose(), "secret-1234");
    }

    async fn c17_124_an_alias_means_its_preset_and_is_given_back_as_sent(world: World) {
        let config = world.pond.config();
        let put = config.put_preset(Owner::Org, "claude-code", None, None).await.unwrap();
        assert_eq!((put.stored.record.key.as_str(), put.stored.record.capability.as_str()), ("claude-code", "harness.claude"));
        config.put_preset(Owner::Org, "codex", None, None).await.unwrap();
        let effective = config.effective(world.project()).await.unwrap();
        let pond_core::config::Named::Found(found) = effective.harness(Some("codex-cli"), None) else { panic!("found") };
        assert_eq!(found.record.key, "codex");
        assert_eq!(config.get::<Harness>(None, "claude-code").await.unwrap().record.key, "claude-code");
        let unknown = config.put_preset(Owner::Org, "nobody", None, None).await.unwrap_err();
        let Error::Invalid(faults) = unknown else { panic!("{unknown}") };
        assert!(faults[0].message.contains("codex, claude, mini, opencode, gemini, qwen, aider, mini-swe-agent, goose, shell"), "{}", faults[0].message);
    }
}
